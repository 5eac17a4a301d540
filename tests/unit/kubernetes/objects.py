"""Objects as the API server gives them, cut down to what matters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from provider.kubernetes.facts import Rollout

NOW = datetime(2026, 11, 28, 1, 0, tzinfo=UTC)
Object = dict[str, Any]


def ago(seconds: float) -> str:
    """A time as the API writes it."""
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def deployment(
    *, wanted: int | None = 1, updated: int = 1, available: int = 0, old: int = 0, revision: str = "r2", **more: Any
) -> Object:
    """A Deployment in the midst of a rollout; `more` are types of conditions with their (status, reason, message)."""
    conditions = {
        "Available": ("True" if available else "False", "MinimumReplicasUnavailable", ""),
        "Progressing": ("True", "ReplicaSetUpdated", ""),
        **{key: value for key, value in more.items() if key[0].isupper()},
    }
    spec: Object = {
        "selector": {"matchLabels": {"app": "mnist"}},
        "template": {"metadata": {"annotations": {"slipway/revision": revision}}},
        "progressDeadlineSeconds": 600,
        **more.get("spec", {}),
    }
    if wanted is not None:
        spec["replicas"] = wanted
    return {
        "metadata": {
            "name": "mnist",
            "uid": "d",
            "generation": 2,
            "annotations": {"deployment.kubernetes.io/revision": "2"},
            **more.get("metadata", {}),
        },
        "spec": spec,
        "status": {
            "observedGeneration": more.get("observed", 2),
            "replicas": updated + old,
            "updatedReplicas": updated,
            "availableReplicas": available,
            "conditions": [
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": message,
                    "lastTransitionTime": ago(30),
                    "lastUpdateTime": ago(30),
                }
                for kind, (status, reason, message) in conditions.items()
            ],
        },
    }


def replica_set(number: int = 2, uid: str = "rs", *, refusal: str = "", since: float = 1) -> Object:
    found: Object = {
        "metadata": {
            "name": f"mnist-{number}",
            "uid": uid,
            "annotations": {"deployment.kubernetes.io/revision": str(number)},
            "ownerReferences": [{"uid": "d", "controller": True}],
        },
        "status": {},
    }
    if refusal:
        found["status"]["conditions"] = [
            {
                "type": "ReplicaFailure",
                "status": "True",
                "reason": "FailedCreate",
                "message": refusal,
                "lastTransitionTime": ago(since),
            }
        ]
    return found


def container(name: str = "server", **resources: Object) -> Object:
    return {"name": name, "image": "registry.local/mnist:1", "resources": resources}


def status(
    name: str = "server", *, restarts: int = 0, ready: bool = False, last: Object | None = None, **state: Object
) -> Object:
    """A container's status: `status(waiting={...})`, `status(running={...}, restarts=1, last={...})`."""
    found: Object = {"name": name, "restartCount": restarts, "ready": ready, "state": state}
    if last is not None:
        found["lastState"] = {"terminated": last}
    return found


def pod(
    *statuses: Object,
    name: str = "mnist-2-a",
    owner: str = "rs",
    revision: str = "r2",
    ready: bool | float = False,
    node: str | None = "node-1",
    made: float = 20,
    spec: Object | None = None,
    **more: Any,
) -> Object:
    """A pod; `ready` may be since how many seconds it is not."""
    conditions = [
        {
            "type": "Ready",
            "status": "True" if ready is True else "False",
            "lastTransitionTime": ago(made if isinstance(ready, bool) else ready),
        },
        *more.pop("conditions", []),
    ]
    return {
        "metadata": {
            "name": name,
            "uid": name,
            "creationTimestamp": ago(made),
            "annotations": {"slipway/revision": revision},
            "ownerReferences": [{"uid": owner, "controller": True}],
            **more.pop("metadata", {}),
        },
        "spec": {
            "containers": [container(one["name"]) for one in statuses] or [container()],
            **({} if node is None else {"nodeName": node}),
            **(spec or {}),
        },
        "status": {"phase": "Running", "containerStatuses": list(statuses), "conditions": conditions, **more},
    }


def unscheduled(message: str, *, since: float = 30, spec: Object | None = None) -> Object:
    """A pod that no node takes."""
    scheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": ago(since),
    }
    return pod(node=None, conditions=[scheduled], spec=spec, phase="Pending")


def event(
    reason: str, message: str, *, first: float = 2, last: float = 1, field: str = "spec.containers{server}"
) -> Object:
    return {
        "reason": reason,
        "message": message,
        "firstTimestamp": ago(first),
        "lastTimestamp": ago(last),
        "count": 2,
        "involvedObject": {"fieldPath": field},
    }


def node(name: str, **allocatable: str) -> Object:
    return {"metadata": {"name": name}, "status": {"allocatable": allocatable}}


def rollout(of: Object, *pods: Object, **more: Any) -> Rollout:
    """A rollout of which the newest ReplicaSet is `rs`."""
    return Rollout(
        deployment=of,
        replica_set=more.pop("replica_set", replica_set()),
        pods=[one for one in pods if one["metadata"]["ownerReferences"][0]["uid"] == "rs"],
        others=[one for one in pods if one["metadata"]["ownerReferences"][0]["uid"] != "rs"],
        now=NOW,
        **more,
    )
