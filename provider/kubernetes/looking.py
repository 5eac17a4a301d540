"""What is read of pods and of whoever makes them, beside the objects themselves: events, logs, nodes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from provider.kubernetes import pods
from provider.kubernetes.cluster import ApiError, Cluster, ClusterError, ForbiddenError, path_in
from provider.kubernetes.objects import Event, Object, Verdict, name_of, part

_STARTED = datetime.now(UTC)
_LOG_LINES = 40


def began(cluster: Cluster) -> datetime:
    """When this process began, by the API server's clock: what failed before then failed in an earlier run."""
    return cluster.now() - (datetime.now(UTC) - _STARTED)


def is_of_an_earlier_run(cluster: Cluster, found: Verdict) -> bool:
    return found.at is not None and found.at < began(cluster)


def look(cluster: Cluster, namespace: str, pod: Object, answer: Callable[[str], str]) -> pods.Details:
    """What there is to be known of a pod that is not ready. `answer`: what the server in the pod of that name says."""
    logs: dict[str, list[str]] = {}
    unread = said = ""
    ended = dict(pods.ended_containers(pod))
    running = pods.running_containers(pod)
    for container in [*ended, *(one for one in running if one not in ended)]:
        try:
            logs[container] = _log(cluster, namespace, name_of(pod), container, previous=ended.get(container, False))
        except ClusterError as error:
            unread = str(error)
    if running and not ended:
        said = answer(name_of(pod))
    return pods.Details(events(cluster, namespace, pod), logs, unread, said)


def events(cluster: Cluster, namespace: str, obj: Object) -> list[Event]:
    """The events of an object; none where they may not be listed."""
    query = [("fieldSelector", f"involvedObject.uid={part(obj, 'metadata', 'uid')}")]
    try:
        return [Event.of(event) for event in cluster.items(path_in(namespace, "events"), query)]
    except ForbiddenError:
        return []  # the conditions tell the most of it


def nodes(cluster: Cluster) -> list[dict[str, Any]] | None:
    """The cluster's nodes; None where they may not be listed."""
    try:
        return cluster.items("/api/v1/nodes")
    except ForbiddenError:
        return None


def _log(cluster: Cluster, namespace: str, pod: str, container: str, *, previous: bool) -> list[str]:
    path = path_in(namespace, "pods", pod, "log")
    query = [("container", container), ("tailLines", str(_LOG_LINES))]
    if previous:
        try:
            return cluster.text(path, [*query, ("previous", "true")]).splitlines()
        except ApiError:
            pass  # it is gone already; what runs now says the same, in time
    return cluster.text(path, query).splitlines()
