"""Why no pod is made at all: a quota, an admission webhook, pod security. Pure, from the controller's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from provider.condition import Cause, Condition, State
from provider.kubernetes.objects import GRACE_SECONDS, Event, Object, Verdict, latest, moment, seconds_since, status_of


@dataclass(frozen=True)
class _Refusal:
    """A kind of refusal: what its message has in it."""

    words: str
    reason: str
    hint: str
    passes: bool = False
    """Whether it may pass by itself, so that it is given a short while."""


_REFUSALS = (
    _Refusal(
        "being terminated",
        "NamespaceTerminating",
        "wait until the namespace is gone (kubectl get namespaces), then run `pulumi up --refresh`",
    ),
    _Refusal(
        "exceeded quota",
        "QuotaExceeded",
        "ask for less or for fewer replicas, raise the quota, or free some of it; a rolling update needs room for one "
        "more pod",
        passes=True,
    ),
    _Refusal(
        "failed quota",
        "QuotaExceeded",
        "the quota wants each pod to say what it needs: give the deployment cpu and memoryInGB, and their limits",
    ),
    _Refusal(
        "violates PodSecurity",
        "PodSecurity",
        "take what it names out of the pods, or lower the namespace's label pod-security.kubernetes.io/enforce",
    ),
    _Refusal(
        "denied the request",
        "AdmissionDenied",
        "mend what the admission webhook objects to, or ask who runs the cluster to except these pods",
    ),
    _Refusal(
        "denied request",
        "AdmissionDenied",
        "mend what the admission policy objects to (kubectl describe validatingadmissionpolicies), or ask who runs the "
        "cluster to except these pods",
    ),
    _Refusal(
        "failed calling webhook",
        "WebhookFailed",
        "the cluster asks an admission webhook that does not answer: see its service, or ask who runs the cluster; "
        "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations shows all of them",
        passes=True,
    ),
    _Refusal(
        "usage per",
        "LimitRange",
        "ask for what the namespace's limit range allows: kubectl describe limitranges",
    ),
    _Refusal("service account", "ServiceAccountMissing", "run `pulumi up --refresh`: it is made again", passes=True),
    _Refusal("serviceaccount", "ServiceAccountMissing", "run `pulumi up --refresh`: it is made again", passes=True),
    _Refusal(
        "PriorityClass", "PriorityClassMissing", "name a priority that the cluster has: kubectl get priorityclasses"
    ),
)
_OTHER = _Refusal("", "PodsRefused", "mend what the API server objects to", passes=True)


def refused(replica_set: Object, events: Sequence[Event], now: datetime) -> Verdict | None:
    """Why the pods of a ReplicaSet cannot be made; None where they can. `events` are those of the ReplicaSet."""
    condition = status_of(replica_set, "ReplicaFailure")
    if condition.get("status") != "True" or condition.get("reason") == "FailedDelete":
        return None
    # The condition keeps the first message; what is wrong may have become something else.
    event = latest(events, "FailedCreate")
    said = (event.message if event is not None else "") or str(condition.get("message") or "")
    since = moment(condition.get("lastTransitionTime"))
    kind = next((one for one in _REFUSALS if one.words in said), _OTHER)
    message = f"no pod can be made: {plain(said)}"
    cause = Cause(kind.reason, message, hint=kind.hint)
    last = event.last if event is not None and event.last is not None else since
    hopeless = not kind.passes or seconds_since(since, now) > GRACE_SECONDS
    if not hopeless:
        return Verdict(Condition("Transitioning", kind.reason, message, cause), False, last)
    return Verdict(Condition("Failed", kind.reason, message, cause), True, last)


def refused_one(events: Sequence[Event], since: datetime, now: datetime) -> Verdict | None:
    """Why the pod of a StatefulSet cannot be made, which it tells by events alone. What was before `since` is old."""
    event = latest(events, "FailedCreate")
    if event is None or event.last is None or event.last < since:
        return None
    kind = next((one for one in _REFUSALS if one.words in event.message), _OTHER)
    message = f"no pod can be made: {plain(event.message)}"
    cause = Cause(kind.reason, message, hint=kind.hint)
    hopeless = not kind.passes or seconds_since(max(since, event.first or since), now) > GRACE_SECONDS
    state: State = "Failed" if hopeless else "Transitioning"
    return Verdict(Condition(state, kind.reason, message, cause), hopeless, event.last)


def plain(said: str) -> str:
    """The controller's words without the names that it makes up."""
    text = re.sub(r"^(?:Error creating|create Pod \S+ in StatefulSet \S+ failed error): ", "", said)
    return re.sub(r'^pods "[^"]*" is forbidden: ', "", text)
