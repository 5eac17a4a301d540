"""What a Deployment's newest pods wait for, in the words of the cluster. Pure.

The rollout itself says no more than that it makes no progress; why, only its pods know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airgap.kubernetes.objects import Object, metadata, name_of
from airgap.kubernetes.readiness import pod_messages

_NUMBER = "deployment.kubernetes.io/revision"
_TOLD = 3
"""Where many pods wait, they wait for the same."""


def selector(deployment: Object) -> str | None:
    """What finds the pods of a Deployment, as a query has it; None where that takes more than labels."""
    found = (deployment.get("spec") or {}).get("selector") or {}
    labels = found.get("matchLabels") or {}
    if not labels or found.get("matchExpressions"):
        return None
    return ",".join(f"{label}={value}" for label, value in sorted(labels.items()))


def told(deployment: Object, replica_sets: Sequence[Object], pods: Sequence[Object]) -> str:
    """What keeps the pods of a Deployment's newest ReplicaSet from running; empty where nothing is known to."""
    newest = next(
        (one for one in replica_sets if _owned(one, deployment) and _number(one) == _number(deployment)), None
    )
    if newest is None:
        return ""
    mine = [pod for pod in pods if _owned(pod, newest) and not metadata(pod).get("deletionTimestamp")]
    said: dict[str, str] = {}
    for pod in sorted(mine, key=name_of):
        for message in pod_messages(pod):
            said.setdefault(message, f"the pod {name_of(pod)}: {message}")
    return "; ".join(list(said.values())[:_TOLD])


def _number(obj: Object) -> Any:
    return (metadata(obj).get("annotations") or {}).get(_NUMBER)


def _owned(obj: Object, owner: Object) -> bool:
    uid = metadata(owner).get("uid")
    return any(one.get("controller") and one.get("uid") == uid for one in metadata(obj).get("ownerReferences") or ())
