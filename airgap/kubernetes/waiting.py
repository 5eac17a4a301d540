"""Waits until an object is ready, or gone. Asks again and again: a watch would save little, and can break."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from airgap.kubernetes import readiness, rollout
from airgap.kubernetes.connection import ApiError, Connection, UnreachableError
from airgap.kubernetes.objects import Kind, Object, annotation, id_of, metadata, name_of, namespace_of
from airgap.kubernetes.readiness import Check, Failed, Verdict, Waiting
from provider.resource import Context, ResourceError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
_DEFAULT_SECONDS: Mapping[str, float] = {"PersistentVolumeClaim": 300, "PersistentVolume": 300, "ResourceQuota": 60}
_ELSE_SECONDS = 600.0
_DELETE_SECONDS = 600.0
_SLICES = Kind("discovery.k8s.io/v1", "EndpointSlice")
_REPLICA_SETS, _PODS = Kind("apps/v1", "ReplicaSet"), Kind("v1", "Pod")
_CLASSES = Kind("storage.k8s.io/v1", "StorageClass")


class CancelledError(ResourceError):
    """The engine asked to stop."""


def seconds(inputs: Mapping[str, Any], custom: float, default: float) -> float:
    """How long an operation may take: the annotation's, else that of the resource's options, else `default`."""
    annotated = annotation(inputs, "timeoutSeconds")
    if annotated:
        return _duration(annotated)
    return custom or default


def _duration(text: str) -> float:
    """`90`, or `1m30s`. Raises `ResourceError`."""
    if re.fullmatch(r"\d+", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|m(?!s)|s|ms)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ResourceError(f"the annotation pulumi.com/timeoutSeconds has {text!r}; it takes seconds: '90'")
    return sum(float(number) * {"h": 3600, "m": 60, "s": 1, "ms": 0.001}[unit] for number, unit in parts)


def until_ready(
    connection: Connection, context: Context, kind: Kind, inputs: Object, obj: Object, custom: float
) -> tuple[Object, str | None]:
    """Waits until `obj` is ready. Returns it as it is then, and why it is not where it is not."""
    check = checker(connection, kind, inputs, obj)
    if check is None:
        return obj, None
    limit = seconds(inputs, custom, _DEFAULT_SECONDS.get(kind.name, _ELSE_SECONDS))
    latest, verdict, said = obj, check(obj), ""

    def settled() -> bool:
        nonlocal latest, verdict, said
        found = connection.get(kind, namespace_of(obj), name_of(obj))
        if found is None:
            verdict = Failed("it was deleted meanwhile")
            return True
        latest, verdict = found, check(found)
        if isinstance(verdict, Waiting) and verdict.message != said:
            said = verdict.message
            context.log.status(said)
        return not isinstance(verdict, Waiting)

    if isinstance(verdict, Waiting) and not _until(settled, limit, context) and isinstance(verdict, Waiting):
        verdict = Failed(f"timed out after {limit:g} s: {verdict.message}")
    return latest, verdict.message if verdict is not None else None


def checker(connection: Connection, kind: Kind, inputs: Object, before: Object | None = None) -> Check | None:
    """What tells whether an object is ready, also by what else is in the cluster, and by how it was when the waiting
    began."""
    if annotation(inputs, "skipAwait") == "true" or annotation(inputs, "waitFor"):
        return readiness.check_for(kind, inputs)
    if kind == Kind("v1", "Service"):
        return lambda obj: _service(connection, obj)
    if kind.name == "Deployment" and kind.group == "apps":
        return lambda obj: _deployment(connection, obj, before)
    found = readiness.check_for(kind, inputs)
    if kind == Kind("v1", "PersistentVolumeClaim") and found is not None:
        bound = found
        return lambda obj: None if _waits_for_a_pod(connection, obj) else bound(obj)
    return found


def _deployment(connection: Connection, obj: Object, before: Object | None) -> Verdict:
    """A rollout that is not done, with what its newest pods wait for."""
    verdict = readiness.deployment(obj, before)
    if verdict is None or not readiness.observed(obj):
        return verdict
    cause = _cause(connection, obj)
    return replace(verdict, message=f"{verdict.message}; {cause}") if cause else verdict


def _cause(connection: Connection, obj: Object) -> str:
    selector = rollout.selector(obj)
    if selector is None:
        return ""
    query = [("labelSelector", selector)]
    try:
        replica_sets, pods = (connection.list(kind, namespace_of(obj), query) for kind in (_REPLICA_SETS, _PODS))
    except (ApiError, UnreachableError):
        return ""  # whoever may deploy need not be allowed to look at pods
    return rollout.told(obj, replica_sets, pods)


def _service(connection: Connection, obj: Object) -> Verdict:
    """A service is ready when it has somebody to send requests to, and an address where it asked for one."""
    spec = obj.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return None
    if spec.get("type") == "LoadBalancer" and not ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress"):
        return Waiting("no load balancer has given it an address")
    if not spec.get("selector") or spec.get("clusterIP") == "None":
        return None
    label = f"kubernetes.io/service-name={name_of(obj)}"
    slices = connection.list(_SLICES, namespace_of(obj), [("labelSelector", label)])
    ready = any(
        (endpoint.get("conditions") or {}).get("ready") is not False
        for one in slices
        for endpoint in one.get("endpoints") or ()
    )
    return None if ready else Waiting("no pod that its selector finds is ready")


def _waits_for_a_pod(connection: Connection, obj: Object) -> bool:
    """Whether a claim gets its volume only when a pod uses it."""
    name = (obj.get("spec") or {}).get("storageClassName")
    found = connection.get(_CLASSES, "", name) if name else None
    return found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"


def until_gone(
    connection: Connection, context: Context, kind: Kind, obj: Object, inputs: Object, custom: float
) -> None:
    """Waits until `obj` is gone, or its name is another object's. Raises `ResourceError` where it stays."""
    uid = metadata(obj).get("uid")
    limit = seconds(inputs, custom, _DELETE_SECONDS)
    latest: Object | None = obj

    def gone() -> bool:
        nonlocal latest
        latest = connection.get(kind, namespace_of(obj), name_of(obj))
        return latest is None or metadata(latest).get("uid") != uid

    if not _until(gone, limit, context):
        raise ResourceError(
            f"{kind} {id_of(obj)} is still there {limit:g} s after it was deleted; {_held(latest or {})}. "
            "Run the same command again, or see what holds it: kubectl describe"
        )


def _held(obj: Object) -> str:
    """What keeps a deleted object from going, in its own words."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    said = [c["message"] for c in conditions if c.get("status") == "True" and c.get("message")]
    finalizers = metadata(obj).get("finalizers") or ()
    return f"its finalizers: {', '.join(finalizers) or 'none'}" + "".join(f"; {message}" for message in said)


def _until(condition: Callable[[], bool], limit: float, context: Context) -> bool:
    """Whether `condition` came to hold. Raises `CancelledError`."""
    deadline, pause = time.monotonic() + limit, _FIRST_PAUSE
    while True:
        try:
            if condition():
                return True
        except UnreachableError as error:
            # The API server may be starting again; the object goes on without it.
            context.log.status(str(error))
        if time.monotonic() + pause > deadline:
            return False
        if context.cancelled.wait(pause):
            raise CancelledError("stopped, as asked")
        pause = min(pause * 1.5, _LONGEST_PAUSE)
