"""Why no node takes a pod: which resource, how much of it is asked for, and what the nodes offer. Pure.

The scheduler tells it in one sentence (`0/3 nodes are available: 2 Insufficient cpu, 1 node(s) had untolerated taint
{gpu: true}. preemption: ...`), which is read here and always shown as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from provider.condition import Cause, Condition
from provider.kubernetes.objects import (
    GRACE_SECONDS,
    Event,
    Object,
    Verdict,
    amount,
    latest,
    moment,
    name_of,
    part,
    quantity,
    seconds_since,
    status_of,
)

_SCALING_SECONDS = 600.0
"""How long a node that an autoscaler has asked for may take."""
_INSUFFICIENT = re.compile(r"Insufficient ([^\s,.]+(?:\.[^\s,.]+)*(?:/[^\s,.]+)?)")
_REASONS = {"cpu": "NotEnoughCpus", "memory": "NotEnoughMemory", "ephemeral-storage": "NotEnoughStorage"}
_LESS = {"cpu": "ask for less in the deployment's cpu", "memory": "ask for less in memoryInGB"}
_SHOWN_NODES = 4


@dataclass(frozen=True)
class _Obstacle:
    """Something else than a resource that keeps a pod from nodes."""

    words: str
    reason: str
    hint: str


# Of two that keep it from as many nodes, the first one counts: some nodes are tainted for good.
_OBSTACLES = (
    _Obstacle("Too many pods", "TooManyPods", "the nodes run as many pods as they may: add a node"),
    _Obstacle(
        "node affinity/selector",
        "NoMatchingNode",
        "label a node as the deployment's node selector asks, or mend the selector",
    ),
    _Obstacle(
        "untolerated taint",
        "TaintsNotTolerated",
        "give the deployment a toleration for the taint, or choose other nodes",
    ),
    _Obstacle(
        "topology spread",
        "TopologySpread",
        "there are too few nodes to spread the pods over: add one, or ask for fewer replicas",
    ),
    _Obstacle("anti-affinity", "TopologySpread", "there are too few nodes for pods that may not be on the same one"),
    _Obstacle("volume", "VolumeNotAvailable", "see the volume claim: kubectl describe persistentvolumeclaims"),
    _Obstacle("free ports", "PortsTaken", "a port of the node's is taken: do without the host port"),
    _Obstacle("were unschedulable", "NodesCordoned", "the nodes take no pods now: kubectl uncordon NODE"),
    _Obstacle("no nodes available", "NoNodes", "the cluster has no node that is ready: kubectl get nodes"),
)


def unschedulable(
    pod: Object, events: Sequence[Event], nodes: Sequence[Object] | None, now: datetime
) -> Verdict | None:
    """Why no node takes the pod; None where one did, or the scheduler has not tried. `nodes` None: they may not be
    listed."""
    scheduled = status_of(pod, "PodScheduled")
    if scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    # What follows the first sentence is about preemption.
    said = re.split(r"\.(?:\s|$)", str(scheduled.get("message") or "no node takes it"), maxsplit=1)[0]
    since = moment(scheduled.get("lastTransitionTime"))
    reason, what, hint = _why(pod, said, nodes)
    message = f"no node takes the pod {name_of(pod)}: {what}"
    scaling, in_vain = _autoscaler(events)
    if scaling is not None and in_vain is None:
        message += f"; a node was asked for: {scaling.message}"
    if in_vain is not None:
        message += f"; the cluster's autoscaler has no answer: {in_vain.message}"
    grace = GRACE_SECONDS if scaling is None or in_vain is not None else _SCALING_SECONDS
    hopeless = seconds_since(since, now) > grace and not part(pod, "status", "nominatedNodeName")
    return Verdict(
        Condition("Unschedulable", reason, message, Cause(reason, message, hint=hint)),
        hopeless or in_vain is not None,
        since,
    )


def _autoscaler(events: Sequence[Event]) -> tuple[Event | None, Event | None]:
    """That an autoscaler makes a node for the pod (Cluster Autoscaler's word, and Karpenter's); that it cannot."""
    scaling, in_vain = latest(events, "TriggeredScaleUp", "Nominated"), latest(events, "NotTriggerScaleUp")
    if scaling is not None and in_vain is not None and scaling.last and in_vain.last and scaling.last >= in_vain.last:
        return scaling, None
    return scaling, in_vain


def _why(pod: Object, said: str, nodes: Sequence[Object] | None) -> tuple[str, str, str]:
    """The reason code, what it is in words, and what to do."""
    missing = list(dict.fromkeys(_INSUFFICIENT.findall(said)))
    # Devices first: a pod that wants one cannot do with another node's processors.
    missing.sort(key=lambda resource: resource in _REASONS)
    if missing:
        resource = missing[0]
        facts = "; ".join(_shortage(pod, one, nodes) for one in missing)
        return _REASONS.get(resource, "DeviceMissing"), f"{facts}. The scheduler says: {said}", _more(resource)
    obstacle = max(_OBSTACLES, key=lambda one: _nodes_with(one, said))
    if _nodes_with(obstacle, said):
        selector = part(pod, "spec", "nodeSelector") or {}
        asked = ", ".join(f"{key}={value}" for key, value in sorted(selector.items()))
        about = f"its node selector is {asked}. " if obstacle.reason == "NoMatchingNode" and asked else ""
        return obstacle.reason, f"{about}{'The' if about else 'the'} scheduler says: {said}", obstacle.hint
    return "Unschedulable", f"the scheduler says: {said}", "see what the nodes offer: kubectl describe nodes"


def _nodes_with(obstacle: _Obstacle, said: str) -> int:
    """How many nodes it keeps the pod from; the first one that a node has is told of each."""
    if obstacle.words not in said:
        return 0
    counted = re.search(rf"(\d+) [^,]*{re.escape(obstacle.words)}", said.rpartition("available: ")[2])
    return 1 if counted is None else max(1, int(counted[1]))


def _more(resource: str) -> str:
    if resource not in _REASONS:
        return f"add a node that has {resource}, with its device plugin, or take it out of the deployment"
    less = _LESS.get(resource, "ask for less of it")
    return f"{less}, or add a node; a rolling update needs room for one more pod"


def _shortage(pod: Object, resource: str, nodes: Sequence[Object] | None) -> str:
    asked = amount(resource, _asked(pod, resource))
    if nodes is None:
        return f"{resource} {asked} is asked for"
    offers = {name_of(node): quantity((part(node, "status", "allocatable") or {}).get(resource, 0)) for node in nodes}
    if not any(offers.values()):
        return f"{resource} {asked} is asked for, and no node offers any"
    largest = sorted(offers.items(), key=lambda item: (-item[1], item[0]))
    told = ", ".join(f"{name} {amount(resource, offer)}" for name, offer in largest[:_SHOWN_NODES])
    more = f" and {len(largest) - _SHOWN_NODES} more nodes less" if len(largest) > _SHOWN_NODES else ""
    taken = ", part of it taken by other pods" if largest[0][1] >= _asked(pod, resource) else ""
    return f"{resource} {asked} is asked for, and the nodes offer: {told}{more}{taken}"


def _asked(pod: Object, resource: str) -> float:
    """What a pod asks for: its containers' requests together, or that of the largest of its init containers."""

    def of(container: Object) -> float:
        return quantity((part(container, "resources", "requests") or {}).get(resource, 0))

    main = sum(of(container) for container in part(pod, "spec", "containers") or ())
    return max([main, *(of(container) for container in part(pod, "spec", "initContainers") or ())])
