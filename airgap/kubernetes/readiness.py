"""When an object counts as ready, kind by kind: pure functions of the object as the server shows it.

What they give is None (ready), `Waiting` with what is missing, or `Failed` where waiting brings nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airgap.kubernetes.objects import Kind, Object, annotation
from provider.resource import ResourceError


@dataclass(frozen=True)
class Waiting:
    """Not ready yet."""

    message: str


@dataclass(frozen=True)
class Failed:
    """Will not be ready by itself."""

    message: str


Verdict = Waiting | Failed | None
Check = Callable[[Object], Verdict]


def check_for(kind: Kind, inputs: Mapping[str, Any]) -> Check | None:
    """What tells whether an object made from `inputs` is ready; None where it is as soon as it is there."""
    if annotation(inputs, "skipAwait") == "true":
        return None
    expressions = annotation(inputs, "waitFor")
    if expressions:
        return _all_of([_expression(text) for text in _expressions(expressions)])
    return _CHECKS.get((kind.group, kind.name))


def _part(obj: Any, *steps: str) -> Any:
    for step in steps:
        obj = obj.get(step) if isinstance(obj, dict) else None
    return obj


def _condition(obj: Object, kind: str) -> dict[str, Any]:
    return next((c for c in _part(obj, "status", "conditions") or () if c.get("type") == kind), {})


def observed(obj: Object) -> bool:
    """Whether the controller has seen the object as it is now."""
    return int(_part(obj, "status", "observedGeneration") or 0) >= int(_part(obj, "metadata", "generation") or 0)


def deployment(obj: Object, before: Object | None = None) -> Verdict:
    """Of a Deployment that was like `before` when the waiting began: what had failed by then is nothing new. The
    condition that tells of it stays, through another template too, until a pod has come or gone."""
    progressing, available = _condition(obj, "Progressing"), _condition(obj, "Available")
    if not observed(obj):
        return Waiting("the rollout has not begun")
    if progressing.get("reason") == "ProgressDeadlineExceeded" and not _same(progressing, before):
        return Failed(progressing.get("message") or "the rollout made no progress in time")
    wanted = _wanted(obj)
    updated, ready = (int(_part(obj, "status", name) or 0) for name in ("updatedReplicas", "availableReplicas"))
    old = int(_part(obj, "status", "replicas") or 0) - updated
    if updated < wanted or ready < wanted or available.get("status") != "True" or old > 0:
        failure = _condition(obj, "ReplicaFailure")
        detail = f": {failure['message']}" if failure.get("status") == "True" else ""
        return Waiting(
            f"{updated} of {wanted} replicas updated, {ready} available, {max(old, 0)} old ones left{detail}"
        )
    return None


def _same(condition: Mapping[str, Any], before: Object | None) -> bool:
    """Whether an object had that very condition before."""
    earlier = _condition(before or {}, str(condition.get("type")))
    return all(earlier.get(member) == condition.get(member) for member in ("status", "reason", "lastUpdateTime"))


def stateful_set(obj: Object) -> Verdict:
    status, wanted = _part(obj, "status") or {}, _wanted(obj)
    updated, ready = (int(status.get(name) or 0) for name in ("updatedReplicas", "readyReplicas"))
    rolling = _part(obj, "spec", "updateStrategy", "type") != "OnDelete"
    if not observed(obj) or ready < wanted or (rolling and updated < wanted):
        return Waiting(f"{updated} of {wanted} replicas updated, {ready} ready")
    return None


def daemon_set(obj: Object) -> Verdict:
    status = _part(obj, "status") or {}
    wanted = int(status.get("desiredNumberScheduled") or 0)
    updated, ready = (int(status.get(name) or 0) for name in ("updatedNumberScheduled", "numberReady"))
    if not observed(obj) or updated < wanted or ready < wanted:
        return Waiting(f"{updated} of {wanted} pods updated, {ready} ready")
    return None


def replication(obj: Object) -> Verdict:
    ready, wanted = int(_part(obj, "status", "readyReplicas") or 0), _wanted(obj)
    return None if observed(obj) and ready >= wanted else Waiting(f"{ready} of {wanted} replicas ready")


def _wanted(obj: Object) -> int:
    replicas = _part(obj, "spec", "replicas")
    return 1 if replicas is None else int(replicas)


def job(obj: Object) -> Verdict:
    failed = _condition(obj, "Failed")
    if failed.get("status") == "True":
        return Failed(failed.get("message") or "the job failed")
    if _condition(obj, "Complete").get("status") == "True" or _part(obj, "spec", "suspend"):
        return None
    return Waiting(f"{int(_part(obj, 'status', 'active') or 0)} pods at work")


def pod(obj: Object) -> Verdict:
    phase = _part(obj, "status", "phase")
    if phase == "Succeeded" or _condition(obj, "Ready").get("status") == "True":
        return None
    said = "; ".join(pod_messages(obj))
    if phase == "Failed":
        return Failed(said or _part(obj, "status", "message") or "the pod failed")
    return Waiting(said or f"the pod is {phase or 'not scheduled'}")


def pod_messages(obj: Object) -> list[str]:
    """What keeps a pod from running, in the words of its conditions and containers."""
    messages = [
        f"{c.get('reason')}: {c.get('message')}"
        for c in _part(obj, "status", "conditions") or ()
        if c.get("type") == "PodScheduled" and c.get("status") == "False"
    ]
    status = _part(obj, "status") or {}
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        for state in ("waiting", "terminated"):
            found = _part(container, "state", state) or {}
            if found.get("reason") not in (None, "ContainerCreating", "PodInitializing", "Completed"):
                code = f" (exit code {found['exitCode']})" if "exitCode" in found else ""
                messages.append(
                    f"{container.get('name')}: {found['reason']}{code} {found.get('message') or ''}".strip()
                )
    return messages


def ingress(obj: Object) -> Verdict:
    if _part(obj, "status", "loadBalancer", "ingress"):
        return None
    return Waiting("no ingress controller has given it an address")


def volume(obj: Object) -> Verdict:
    phase = _part(obj, "status", "phase")
    if phase == "Failed":
        return Failed(_part(obj, "status", "message") or "the volume failed")
    return None if phase in ("Available", "Bound") else Waiting(f"the volume is {phase or 'pending'}")


def claim(obj: Object) -> Verdict:
    phase = _part(obj, "status", "phase")
    if phase == "Lost":
        return Failed("the volume of the claim is gone")
    return None if phase == "Bound" else Waiting(f"the claim is {phase or 'pending'}")


def quota(obj: Object) -> Verdict:
    same = _part(obj, "spec", "hard") == _part(obj, "status", "hard")
    return None if same else Waiting("the quota is not in force yet")


_CHECKS: Mapping[tuple[str, str], Check] = {
    ("apps", "Deployment"): deployment,
    ("apps", "StatefulSet"): stateful_set,
    ("apps", "DaemonSet"): daemon_set,
    ("batch", "Job"): job,
    ("networking.k8s.io", "Ingress"): ingress,
    ("", "Pod"): pod,
    ("", "ReplicationController"): replication,
    ("", "PersistentVolume"): volume,
    ("", "PersistentVolumeClaim"): claim,
    ("", "ResourceQuota"): quota,
}


def _all_of(checks: list[Check]) -> Check:
    def check(obj: Object) -> Verdict:
        verdicts = [verdict for verdict in (one(obj) for one in checks) if verdict is not None]
        return verdicts[0] if verdicts else None

    return check


def _expressions(annotated: str) -> list[str]:
    """One expression, or several as a JSON list."""
    try:
        several = json.loads(annotated)
    except ValueError:
        return [annotated]
    return [str(item) for item in several] if isinstance(several, list) else [annotated]


def _expression(text: str) -> Check:
    """`condition=Ready`, `condition=Ready=False`, `jsonpath={.status.phase}=Running`, `jsonpath={.status.address}`."""
    kind, _, rest = text.partition("=")
    if kind == "condition" and rest:
        name, _, value = rest.partition("=")
        wanted = value or "True"
        return lambda obj: (
            None
            if _condition(obj, name).get("status", "").lower() == wanted.lower()
            else Waiting(f"waiting for {text}")
        )
    match = re.fullmatch(r"jsonpath=\{(.*)\}(?:=(.*))?", text, re.DOTALL)
    if match is None:
        raise ResourceError(
            f'the annotation pulumi.com/waitFor has {text!r}; it takes "condition=NAME[=VALUE]", '
            '"jsonpath={.path}[=VALUE]", or a JSON list of such'
        )
    steps, value = _steps(match[1], text), match[2]

    def check(obj: Object) -> Verdict:
        found = _found([obj], steps)
        met = bool(found) if value is None else any(_shown(item) == value.strip("'\"") for item in found)
        return None if met else Waiting(f"waiting for {text}")

    return check


_STEP = re.compile(
    r"""\.([\w-]+(?:\\\.[\w-]+)*)            # .name, with dots inside as \.
    | \[['"]([^'"]+)['"]\]                    # ['name']
    | \[(\d+)\]                               # [0]
    | \[(\*)\]                                # [*]
    | \[\?\(\s*@\.([\w.-]+)\s*==\s*['"]([^'"]*)['"]\s*\)\]   # [?(@.type=="Ready")]
    """,
    re.VERBOSE,
)

Step = Callable[[Any], list[Any]]


def _steps(path: str, text: str) -> list[Step]:
    steps: list[Step] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise ResourceError(f"the annotation pulumi.com/waitFor has {text!r}: {path[at:]!r} is not understood")
        steps.append(_step(*match.groups()))
        at = match.end()
    return steps


def _step(
    name: str | None, quoted: str | None, index: str | None, star: str | None, field: str | None, value: str | None
) -> Step:
    if index is not None:
        number = int(index)
        return lambda item: item[number : number + 1] if isinstance(item, list) else []
    if star is not None:
        return lambda item: item if isinstance(item, list) else []
    if field is not None:
        steps = field.split(".")
        return lambda item: [i for i in item if _shown(_part(i, *steps)) == value] if isinstance(item, list) else []
    key = name.replace("\\.", ".") if name is not None else str(quoted)
    return lambda item: [item[key]] if isinstance(item, dict) and item.get(key) is not None else []


def _found(items: list[Any], steps: list[Step]) -> list[Any]:
    for step in steps:
        items = [inner for item in items for inner in step(item)]
    return items


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
