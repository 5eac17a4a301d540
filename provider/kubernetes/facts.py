"""The condition of a rollout: a Deployment with its newest ReplicaSet, its pods, and what else was read of them. Pure.

Healthy is what `kubectl rollout status` waits for: all that is wanted runs the newest template, is available, and what
was before is gone. What is known to be wrong is told at once, since Kubernetes itself waits for the progress deadline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from provider.condition import Cause, Condition, State
from provider.kubernetes.objects import (
    Event,
    Object,
    Verdict,
    moment,
    name_of,
    number,
    owned_by,
    part,
    revision_of,
    status_of,
    worst,
)
from provider.kubernetes.pods import NOTHING, Details, leaving, over, ready, revisions, verdict
from provider.kubernetes.refusals import refused

_NUMBER = "deployment.kubernetes.io/revision"
_EVICTIONS = 3
"""Pods put off their nodes one after the other from which on it goes on like that."""
_SCALING = timedelta(seconds=15)
"""How long after an autoscaler changed the number of replicas the pods are made that it asked for."""


@dataclass(frozen=True)
class Rollout:
    """A Deployment and what belongs to it, at one moment."""

    deployment: Object
    replica_set: Object | None
    """The newest one; None before it is made."""
    pods: Sequence[Object]
    """Those of the newest ReplicaSet."""
    others: Sequence[Object]
    """Those of the ReplicaSets before."""
    now: datetime
    """By the API server's clock."""
    details: Mapping[str, Details] = field(default_factory=dict)
    """Of pods that are not ready, by their names."""
    events: Sequence[Event] = ()
    """Those of the newest ReplicaSet, where pods are missing."""
    nodes: Sequence[Object] | None = None
    """None: they may not be listed, or nobody wanted to know."""

    @property
    def name(self) -> str:
        return name_of(self.deployment)

    @property
    def desired(self) -> str | None:
        """The revision that the Deployment asks for."""
        return revision_of(part(self.deployment, "spec", "template") or {})

    @property
    def wanted(self) -> int:
        """How many pods there should be."""
        replicas = part(self.deployment, "spec", "replicas")
        return 1 if replicas is None else int(replicas)

    @property
    def seen(self) -> bool:
        """Whether the controller knows the Deployment as it is now."""
        told = number(self.deployment, "status", "observedGeneration")
        return told >= number(self.deployment, "metadata", "generation")

    @property
    def rolled_out(self) -> bool:
        """Whether the newest revision was wholly there at some time."""
        return self.seen and status_of(self.deployment, "Progressing").get("reason") == "NewReplicaSetAvailable"

    @property
    def living(self) -> list[Object]:
        """The newest ReplicaSet's pods that are not leaving."""
        return [pod for pod in self.pods if not leaving(pod) and not over(pod)]

    @property
    def unready(self) -> list[Object]:
        """Those that are not ready, the most interesting ones first."""
        found = [pod for pod in self.living if not ready(pod)]
        return sorted(found, key=lambda pod: (-_restarts(pod), name_of(pod)))


def _restarts(pod: Object) -> int:
    return sum(int(one.get("restartCount") or 0) for one in part(pod, "status", "containerStatuses") or ())


def newest(deployment: Object, replica_sets: Sequence[Object]) -> Object | None:
    """The ReplicaSet of a Deployment's present template."""
    mine = [one for one in replica_sets if owned_by(one, deployment)]
    number_now = (part(deployment, "metadata", "annotations") or {}).get(_NUMBER)
    exact = [one for one in mine if (part(one, "metadata", "annotations") or {}).get(_NUMBER) == number_now]
    return exact[0] if number_now is not None and exact else None


def condition(rollout: Rollout) -> Verdict:
    """The condition of a rollout."""
    deployment = rollout.deployment
    if leaving(deployment):
        return _plain("Transitioning", "Removing", f"the deployment {rollout.name} is being deleted")
    if part(deployment, "spec", "paused"):
        return _held("Paused", "is paused", f"kubectl rollout resume deployment/{rollout.name}")
    if not rollout.seen:
        return _plain("Transitioning", "RollingOut", "the rollout has not begun")
    if rollout.wanted == 0:
        return _held(
            "ScaledToZero", "is asked for no pod at all", f"kubectl scale --replicas=1 deployment/{rollout.name}"
        )
    if _complete(rollout):
        return _plain("Healthy", "Ready", f"{_pods(rollout.wanted)} of revision {rollout.desired} answer")
    if _growing(rollout):
        have = len([pod for pod in rollout.living if ready(pod)])
        return _plain("Healthy", "Scaling", f"{have} of {_pods(rollout.wanted)} answer; the autoscaler adds pods")
    return _overdue(rollout, _incomplete(rollout))


def _plain(state: State, reason: str, message: str) -> Verdict:
    return Verdict(Condition(state, reason, message))


def _held(reason: str, what: str, hint: str) -> Verdict:
    cause = Cause(reason, f"the deployment {what}", hint=hint)
    return Verdict(Condition("Unhealthy", reason, cause.message, cause), hopeless=True)


def _pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"


def _complete(rollout: Rollout) -> bool:
    status = part(rollout.deployment, "status") or {}
    updated, available = number(status, "updatedReplicas"), number(status, "availableReplicas")
    return (
        updated >= rollout.wanted
        and number(status, "replicas") <= updated
        and available >= updated
        and status_of(rollout.deployment, "Available").get("status") == "True"
    )


def _growing(rollout: Rollout) -> bool:
    """Whether all that is missing is what an autoscaler has just asked for."""
    if not rollout.rolled_out or not any(ready(pod) for pod in rollout.living):
        return False
    scaled = max(
        (
            at
            for entry in part(rollout.deployment, "metadata", "managedFields") or ()
            if entry.get("subresource") == "scale" and (at := moment(entry.get("time"))) is not None
        ),
        default=None,
    )
    if scaled is None:
        return False
    return all(
        (made := moment(part(pod, "metadata", "creationTimestamp"))) is not None
        and timedelta() <= made - scaled <= _SCALING
        and _comes_up(verdict(pod, rollout.details.get(name_of(pod), NOTHING), None, rollout.now).condition)
        for pod in rollout.unready
    )


def _comes_up(found: Condition) -> bool:
    """Whether nothing is known to be wrong with a pod that is not ready. Of one that starts, the cause says how far."""
    return found.cause is None or found.reason == "Starting"


def _incomplete(rollout: Rollout) -> Verdict:
    """What is wrong, or still to be done."""
    found = [
        verdict(pod, rollout.details.get(name_of(pod), NOTHING), rollout.nodes, rollout.now) for pod in rollout.living
    ]
    if rollout.replica_set is not None:
        refusal = refused(rollout.replica_set, rollout.events, rollout.now)
        found += [] if refusal is None else [refusal]
    found += [*_evicted(rollout), *_no_replica_set(rollout)]
    troubles = [one for one in found if one.condition.state != "Healthy"]
    bad = worst(troubles) if troubles else None
    if bad is not None and (bad.condition.cause is not None or bad.condition.state != "Transitioning"):
        return _still_serving(rollout, bad)
    return Verdict(Condition("Transitioning", "RollingOut", _progress(rollout, bad)))


def _still_serving(rollout: Rollout, found: Verdict) -> Verdict:
    """A revision that was rolled out and of which some pods serve is not failed as a whole."""
    serving = len([pod for pod in rollout.living if ready(pod)])
    if found.condition.state != "Failed" or not rollout.rolled_out or not serving:
        return found
    message = f"{found.condition.message} ({serving} of {_pods(rollout.wanted)} answer)"
    return replace(found, condition=replace(found.condition, state="Unhealthy", message=message))


def _evicted(rollout: Rollout) -> list[Verdict]:
    """Pods that were put off their nodes."""
    gone = [pod for pod in rollout.pods if over(pod) and not leaving(pod)]
    if not gone:
        return []
    found = max((verdict(pod, NOTHING, None, rollout.now) for pod in gone), key=lambda one: str(one.at or ""))
    if len(gone) >= _EVICTIONS and not any(ready(pod) for pod in rollout.living):
        cause = found.condition.cause
        return [
            replace(
                found,
                condition=Condition("Failed", found.condition.reason, found.condition.message, cause),
                hopeless=True,
            )
        ]
    return [found] if len(rollout.living) < rollout.wanted else []


def _no_replica_set(rollout: Rollout) -> list[Verdict]:
    """That the controller cannot even begin."""
    progressing = status_of(rollout.deployment, "Progressing")
    if progressing.get("status") != "False" or progressing.get("reason") != "ReplicaSetCreateError":
        return []
    message = f"the rollout cannot begin: {progressing.get('message')}"
    cause = Cause("PodsRefused", message, hint="mend what the API server objects to")
    at = moment(progressing.get("lastUpdateTime"))
    return [Verdict(Condition("Failed", cause.reason, message, cause), True, at)]


def _progress(rollout: Rollout, pending: Verdict | None) -> str:
    status = part(rollout.deployment, "status") or {}
    old = number(status, "replicas") - number(status, "updatedReplicas")
    have = len([pod for pod in rollout.living if ready(pod)])
    parts = [f"{have} of {_pods(rollout.wanted)} ready"]
    if have >= rollout.wanted and number(status, "availableReplicas") < rollout.wanted:
        parts.append("they must stay so for a while")
    if old > 0:
        parts.append(f"{_pods(old)} of the revision before left")
    if pending is not None:
        parts.append(pending.condition.message)
    return "; ".join(parts)


def _overdue(rollout: Rollout, found: Verdict) -> Verdict:
    """What was to be waited for, once the Deployment's progress deadline has passed."""
    progressing = status_of(rollout.deployment, "Progressing")
    if progressing.get("reason") != "ProgressDeadlineExceeded" or found.hopeless:
        return found
    seconds = part(rollout.deployment, "spec", "progressDeadlineSeconds") or 600
    late = f"the rollout made no progress for {seconds} s"
    cause = found.condition.cause or Cause("", found.condition.message)
    hint = cause.hint or "see what the pods wait for: kubectl describe pods; or raise the deployment's startup timeout"
    message = f"{late}: {found.condition.message}"
    cause = replace(cause, reason="ProgressDeadlineExceeded", message=message, hint=hint)
    state = found.condition.state if found.condition.state == "Unschedulable" else "Failed"
    # Since when: the last time that there was progress, and the deadline.
    at = moment(progressing.get("lastUpdateTime"))
    return Verdict(Condition(state, cause.reason, message, cause), True, at)


def serving(rollout: Rollout, revision: str) -> str:
    """Who answers requests, as a sentence; `revision` is the one that is asked about."""
    if revision != rollout.desired and (left := revisions(rollout.others).get(revision, 0)):
        return f"{_pods(left)} of revision {revision} {'goes' if left == 1 else 'go'} on serving."
    new = revisions(rollout.pods).get(revision, 0)
    # Where only the place of the image changed, the pods before are of the same revision.
    old = revisions([*rollout.others, *(pod for pod in rollout.pods if revision_of(pod) != revision)])
    if not new and not old:
        return "No pod is ready: no revision answers requests now."
    before = " and ".join(
        f"{_pods(count)} of {_named(name, revision)}"
        for name, count in sorted(old.items(), key=lambda item: str(item[0]))
    )
    if not new:
        return f"{before}, the one before, {'goes' if sum(old.values()) == 1 else 'go'} on serving."
    if not old:
        return f"{_pods(new)} of the revision {'serves' if new == 1 else 'serve'}."
    return f"{_pods(new)} of the revision {'serves' if new == 1 else 'serve'} beside {before}, the one before."


def _named(old: str | None, revision: str) -> str:
    if old is None:
        return "an unnamed revision"
    return "the same revision" if old == revision else f"revision {old}"
