"""The condition of one pod. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from provider.condition import Cause, Condition
from provider.container.facts import traceback_of
from provider.kubernetes.containers import Seen, not_set_up, trouble
from provider.kubernetes.objects import (
    Event,
    Object,
    Verdict,
    latest,
    moment,
    name_of,
    part,
    revision_of,
    status_of,
    worst,
)
from provider.kubernetes.scheduling import unschedulable


@dataclass(frozen=True)
class Details:
    """What is read of a pod that is not ready, beside the pod itself."""

    events: Sequence[Event] = ()
    logs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The last lines of each container that ended or hangs."""
    unread: str = ""
    """Why logs could not be read."""
    answer: str = ""
    """What its server says of itself, or why it does not answer."""


NOTHING = Details()

SAMPLE_REFUSED = "the sample request was answered with"
"""What a startup probe that asks the sample request says where the answer is none."""
_OFTEN_ENOUGH = 3


def ready(pod: Object) -> bool:
    """Whether requests are sent to it."""
    return status_of(pod, "Ready").get("status") == "True" and not leaving(pod)


def leaving(pod: Object) -> bool:
    """Whether it is being ended."""
    return part(pod, "metadata", "deletionTimestamp") is not None


def over(pod: Object) -> bool:
    """Whether all of its containers have ended for good."""
    return part(pod, "status", "phase") in ("Failed", "Succeeded")


def ended_containers(pod: Object) -> list[tuple[str, bool]]:
    """The containers that are not ready and of which a process ended, and whether another has begun since then."""
    return [
        (str(status["name"]), part(status, "state", "terminated") is None)
        for status in _statuses(pod)
        if not status.get("ready") and (part(status, "state", "terminated") or part(status, "lastState", "terminated"))
    ]


def running_containers(pod: Object) -> list[str]:
    """The containers that run and are not ready."""
    return [
        str(status["name"])
        for status in part(pod, "status", "containerStatuses") or ()
        if not status.get("ready") and part(status, "state", "running") is not None
    ]


def _statuses(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def verdict(pod: Object, details: Details, nodes: Sequence[Object] | None, now: datetime) -> Verdict:
    """The condition of a pod that is not leaving."""
    if ready(pod):
        return Verdict(Condition("Healthy", "Ready", f"the pod {name_of(pod)} answers"))
    if over(pod):
        return _over(pod)
    kept_out = unschedulable(pod, details.events, nodes, now)
    if kept_out is not None:
        return kept_out
    troubles = [found for one in _seen(pod, details, now) if (found := trouble(one)) is not None]
    if troubles:
        return worst(troubles)
    return _lost(pod, details) or _starting(pod, details, now)


def _seen(pod: Object, details: Details, now: datetime) -> list[Seen]:
    spec = pod.get("spec") or {}
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    statuses = {status.get("name"): status for status in _statuses(pod)}
    return [
        Seen(
            pod=name_of(pod),
            spec=container,
            status=statuses.get(container["name"], {}),
            log=details.logs.get(container["name"], ()),
            events=details.events,
            began=moment(part(pod, "metadata", "creationTimestamp")),
            now=now,
            alone=len(containers) == 1,
            unread=details.unread,
        )
        for container in containers
    ]


def _over(pod: Object) -> Verdict:
    """A pod that was put off its node, or whose node went; the controller makes another one."""
    status = pod.get("status") or {}
    reason, said = str(status.get("reason") or "PodFailed"), str(status.get("message") or "its containers ended")
    cause = Cause(
        reason,
        f"the pod {name_of(pod)} was ended on its node: {said}",
        hint="see what the node is short of: kubectl describe node"
        if reason == "Evicted"
        else "another pod takes its place",
    )
    ends = [moment(part(one, "state", "terminated", "finishedAt")) for one in _statuses(pod)]
    at = max((end for end in ends if end is not None), default=moment(part(pod, "metadata", "creationTimestamp")))
    return Verdict(Condition("Transitioning", reason, cause.message, cause), False, at)


def _lost(pod: Object, details: Details) -> Verdict | None:
    """A pod that was ready once in the life of its containers, and no longer is."""
    condition = status_of(pod, "Ready")
    since = moment(condition.get("lastTransitionTime"))
    starts = [moment(part(status, "state", "running", "startedAt")) for status in _statuses(pod)]
    started = [start for start in starts if start is not None]
    if since is None or not started or since <= max(started):
        return None
    node = str(part(pod, "spec", "nodeName") or "its node")
    gone = latest(details.events, "NodeNotReady")
    if gone is not None and gone.last is not None and (gone.last >= since or (since - gone.last).total_seconds() < 60):
        cause = Cause(
            "NodeNotReady",
            f"the node {node} of the pod {name_of(pod)} does not answer any more",
            hint=f"see what became of the node: kubectl describe node {node}. Its pods are made anew on other nodes "
            "after five minutes",
        )
        return Verdict(Condition("Unhealthy", cause.reason, cause.message, cause), False, since)
    event = latest(details.events, "Unhealthy", containing="Readiness probe failed")
    said = event.message if event is not None else details.answer or "it does not answer"
    cause = Cause(
        "ProbeFailed",
        f"the pod {name_of(pod)} was ready and no longer is: {said}",
        log=tuple(line for lines in details.logs.values() for line in lines),
        hint="the process hangs or is overloaded: look for a deadlock or an endless loop in run()",
    )
    return Verdict(Condition("Unhealthy", cause.reason, cause.message, cause), False, since)


def _starting(pod: Object, details: Details, now: datetime) -> Verdict:
    name = name_of(pod)
    if not part(pod, "spec", "nodeName"):
        gated = status_of(pod, "PodScheduled").get("reason") == "SchedulingGated"
        held = " and is held back by a scheduling gate" if gated else ""
        return Verdict(Condition("Transitioning", "Scheduling", f"the pod {name} waits for a node{held}"))
    statuses = part(pod, "status", "containerStatuses") or ()
    if not any(part(status, "state", "running") for status in statuses):
        began = moment(part(pod, "metadata", "creationTimestamp"))
        kept = not_set_up(name, details.events, began, now)
        if kept is not None:
            return kept
        pulling = latest(details.events, "Pulling", "Pulled")
        what = "pulls its image" if pulling is not None and pulling.reason == "Pulling" else "is being made"
        return Verdict(Condition("Transitioning", "Starting", f"the pod {name} {what}"))
    if all(status.get("ready") for status in statuses):
        return Verdict(Condition("Transitioning", "Starting", f"the pod {name} answers, and is about to be ready"))
    refused = _refused_sample(name, details)
    if refused is not None:
        return refused
    probe = latest(details.events, "Unhealthy")
    said = details.answer or (probe.message if probe is not None else "it does not answer yet")
    # Beside the state that may get better: what is known when the time is up.
    cause = Cause(
        "NotReady",
        f"the pod {name} is not ready: {said}",
        log=tuple(line for lines in details.logs.values() for line in lines),
        hint="the last log lines say what the server did" if details.logs else "",
    )
    return Verdict(Condition("Transitioning", "Starting", f"the pod {name} starts: {said}", cause))


def _refused_sample(name: str, details: Details) -> Verdict | None:
    """The verdict on a pod whose startup probe asks the sample request, and is not given it. It was ready by then: what
    it answers several times it will always answer."""
    told = [event for event in details.events if event.reason == "Unhealthy" and SAMPLE_REFUSED in event.message]
    if sum(event.count for event in told) < _OFTEN_ENOUGH:
        return None
    last = max(told, key=lambda event: event.count)
    said = last.message.partition(SAMPLE_REFUSED)[2].strip()
    log = [line for lines in details.logs.values() for line in lines]
    cause = Cause(
        "SampleRequestFailed",
        f"in the pod {name} {SAMPLE_REFUSED} {said}",
        traceback=traceback_of(log),
        log=tuple(log),
        hint="mend run() in the entry script, or the file of the sample request",
    )
    return Verdict(Condition("Failed", cause.reason, cause.message, cause), True, last.last)


def revisions(pods: Sequence[Object]) -> dict[str | None, int]:
    """How many of these pods are ready, by the revision that they run."""
    found: dict[str | None, int] = {}
    for pod in pods:
        if ready(pod):
            found[revision_of(pod)] = found.get(revision_of(pod), 0) + 1
    return found
