"""Whether a HorizontalPodAutoscaler can see what it goes by: what the cluster lacks, or what the controller says.

An autoscaler that cannot adds no pod under any load, and Kubernetes tells that in a condition of it alone. The service
serves all the same, so this makes no other state: it is told beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from provider.condition import Cause
from provider.kubernetes.cluster import AwayError, Cluster
from provider.kubernetes.objects import Object, moment, seconds_since, status_of

REASON: Final = "NotScaling"
_LATE_SECONDS: Final = 90.0
"""How long figures of new pods may be missing: they are gathered each 15 to 60 s."""
LOOK_SECONDS: Final = 20.0
"""How soon an autoscaler has looked again: it does so every 15 s."""
_ANSWER_SECONDS: Final = 10.0
_SWITCHED_OFF: Final = "ScalingDisabled"
"""What the controller says of a service without pods, which has a state of its own."""
_MISSING: Final[Mapping[str, str]] = {
    "custom.metrics.k8s.io": (
        "have the stack bring an adapter (metricsAdapter: true on the compute target), install another one that serves "
        'slipway_requests_in_flight of pods (docs/kubernetes.md, "Scaling by requests in flight"), or scale by CPU'
    ),
    "metrics.k8s.io": "install metrics-server in the cluster (https://github.com/kubernetes-sigs/metrics-server)",
}


@dataclass(frozen=True)
class Api:
    """A part of the API that others than the API server itself answer for."""

    group: str
    version: str | None = None
    """The one that clients take; None: nobody answers for the group."""
    failure: str = ""
    """Why it does not answer."""


def look(cluster: Cluster, group: str) -> Api | None:
    """Whether a part of the API is there; None where that cannot be told. It may be away for long: nothing waits."""
    try:
        found = cluster.attempt("GET", f"/apis/{group}", seconds=_ANSWER_SECONDS)
        if found.status == 404:
            return Api(group)
        preferred = found.document().get("preferredVersion")
        version = preferred.get("version") if isinstance(preferred, dict) else None
        if not found.by_the_server and found.status == 200 and isinstance(version, str):
            answer = cluster.attempt("GET", f"/apis/{group}/{version}", seconds=_ANSWER_SECONDS)
            # 404: the group is known, and what is to answer for it is not there.
            failed = answer.status == 404 or answer.status >= 500
            return Api(group, version, answer.message if failed else "")
    except AwayError:
        return None
    return None


def missing(api: Api) -> Cause | None:
    """Why nobody can scale by what this part of the API tells; None where it answers."""
    if api.version is None:
        what = f"this cluster does not serve {api.group}, from which an autoscaler knows the load"
        return _cause(what, _MISSING.get(api.group, "install what serves it"))
    if api.failure:
        what = f"what serves {api.group} in this cluster, from which an autoscaler knows the load, does not answer"
        hint = f"see why: kubectl describe apiservice {api.version}.{api.group}"
        return _cause(f"{what}: {api.failure}", hint)
    return None


def blind(scaler: Object, now: datetime) -> Cause | None:
    """What the controller says that it cannot read; None where it can, or has not looked for long."""
    active = status_of(scaler, "ScalingActive")
    since = moment(active.get("lastTransitionTime"))
    if active.get("status") != "False" or active.get("reason") == _SWITCHED_OFF:
        return None
    if seconds_since(since, now) < _LATE_SECONDS:
        return None
    name = scaler.get("metadata", {}).get("name")
    return _cause(
        f"the autoscaler cannot read the load ({active.get('reason')}): {active.get('message')}",
        f"see that these figures come: kubectl describe horizontalpodautoscaler {name}",
    )


def _cause(what: str, hint: str) -> Cause:
    return Cause(REASON, f"no pods are added under load: {what}", hint=hint)
