"""From `pulumi up` of a changed script until it is Healthy, beside kubectl with the same manifests.

The node has pulled the image by the time that kubectl is asked for it: that pull is counted against `up`, and stands in
a row of its own.
"""

from __future__ import annotations

import functools
import re
import resource
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from kubernetes import client, watch

from benchmarks._choice import rounds
from benchmarks._stack import pulumi
from benchmarks.kubernetes.by_hand import Kubectl
from benchmarks.report import Row
from tests.e2e.project import eventually
from tests.kubernetes.clustered import ECHO, ClusterProject

_LIMIT_SECONDS = 1.0
_WATCHED_SECONDS = 600
_DEPLOYMENT = "echo"
_UNITS = {"ms": 0.001, "s": 1.0}


@dataclass(frozen=True)
class _Taken:
    """Seconds of one update."""

    whole: float
    asked: float
    """Until the Deployment had the new pods' template."""
    rolled_out: float
    """Until they were all there, and those before were not."""
    processor: float
    """Of the command and of what it started on this machine."""


def run(projects: Callable[[str], AbstractContextManager[ClusterProject]], kubectl: Kubectl) -> list[Row]:
    with projects("up") as project:
        project.up()
        with _namespace(project) as other:
            kubectl.deploy(other, kubectl.manifests(project.namespace), _DEPLOYMENT)
            return _rows(*_measured(project, other, kubectl))


def _measured(project: ClusterProject, other: str, kubectl: Kubectl) -> tuple[dict[str, list[_Taken]], list[float]]:
    """The updates by what made them, and how long each image was pulled."""
    figures: dict[str, list[_Taken]] = {"skipping": [], "kubectl": [], "plain": []}
    pulls: list[float] = []
    for index in range(rounds()):
        for name, flags in (("plain", ()), ("skipping", ("--skip-preview",))):
            project.script.write_text(ECHO.replace("VERSION = 1", f"VERSION = '{index} {name}'"))
            up = ("up", "--yes", "--stack", "test", *flags)
            command = functools.partial(pulumi, project.root, project.environment, *up)
            figures[name].append(_timed(project, project.namespace, command))
        pulls.append(_pull_seconds(project))
        manifests = kubectl.manifests(project.namespace)
        by_hand = functools.partial(kubectl.deploy, other, manifests, _DEPLOYMENT)
        figures["kubectl"].append(_timed(project, other, by_hand))
        last = {name: round(taken[-1].whole, 2) for name, taken in figures.items()}
        print(f"    {last}, of it the pull {pulls[-1]:.2f}", flush=True)
    return figures, pulls


def _rows(figures: dict[str, list[_Taken]], pulls: list[float]) -> list[Row]:
    def median(name: str, of: Callable[[_Taken], float]) -> float:
        return statistics.median(of(taken) for taken in figures[name])

    def beside(what: str, of: Callable[[_Taken], float]) -> Row:
        return Row(what, "s", median("skipping", of), peers={"kubectl": median("kubectl", of)})

    pairs = list(zip(figures["skipping"], figures["kubectl"], strict=True))
    more = statistics.median(ours.whole - theirs.whole for ours, theirs in pairs)
    ratio = statistics.median(ours.whole / theirs.whole for ours, theirs in pairs)
    what = "up --skip-preview of a changed script"
    return [
        beside(what, lambda taken: taken.whole),
        Row("  more than kubectl apply and rollout status", "s", more, _LIMIT_SECONDS),
        Row("  to kubectl", "ratio", ratio),
        beside("  until the Deployment is changed", lambda taken: taken.asked),
        beside("  from there until rolled out", lambda taken: taken.rolled_out - taken.asked),
        beside("  from there until its end", lambda taken: taken.whole - taken.rolled_out),
        Row("  of it the pull of the image", "s", statistics.median(pulls)),
        beside("  processor time", lambda taken: taken.processor),
        Row("up (preview first) of a changed script", "s", median("plain", lambda taken: taken.whole)),
    ]


@contextmanager
def _namespace(project: ClusterProject) -> Iterator[str]:
    """A namespace like the stack's."""
    labels = project.core.read_namespace(project.namespace).metadata.labels
    name = f"slipway-by-hand-{secrets.token_hex(4)}"
    own = {key: value for key, value in labels.items() if not key.startswith("kubernetes.io/")}
    project.core.create_namespace({"metadata": {"name": name, "labels": own}})
    try:
        yield name
    finally:
        project.core.delete_namespace(name)


def _timed(project: ClusterProject, namespace: str, command: Callable[[], Any]) -> _Taken:
    """How long the command takes, once the pods of those before are gone."""
    eventually(lambda: not _leaving(project.core, project.namespace, namespace), "pods that leave are gone")
    before = project.apps.read_namespaced_deployment(_DEPLOYMENT, namespace).metadata
    seen: dict[str, float] = {}
    watching = threading.Thread(
        target=_watch, args=(project.apps, namespace, before.resource_version, before.generation, seen), daemon=True
    )
    watching.start()
    begun, used = time.perf_counter(), _processor_seconds()
    command()
    whole, used = time.perf_counter() - begun, _processor_seconds() - used
    watching.join()
    return _Taken(whole, seen["asked"] - begun, seen["rolled out"] - begun, used)


def _processor_seconds() -> float:
    """Of all processes that this one has started and that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def _leaving(core: client.CoreV1Api, *namespaces: str) -> bool:
    found = [pod for namespace in namespaces for pod in core.list_namespaced_pod(namespace).items]
    return any(pod.metadata.deletion_timestamp is not None for pod in found)


def _watch(apps: client.AppsV1Api, namespace: str, version: str, generation: int, seen: dict[str, float]) -> None:
    """Notes when the Deployment was changed, and when it was rolled out."""
    stream = watch.Watch().stream(
        apps.list_namespaced_deployment,
        namespace,
        field_selector=f"metadata.name={_DEPLOYMENT}",
        resource_version=version,
        timeout_seconds=_WATCHED_SECONDS,
    )
    for event in stream:
        found = event["object"]
        if found.metadata.generation == generation:
            continue
        seen.setdefault("asked", time.perf_counter())
        status = found.status
        counts = {status.replicas, status.updated_replicas, status.available_replicas}
        if status.observed_generation == found.metadata.generation and counts == {found.spec.replicas}:
            seen["rolled out"] = time.perf_counter()
            return


def _pull_seconds(project: ClusterProject) -> float:
    """How long the node took to pull the newest image."""
    (pod,) = project.pods()
    chosen = f"involvedObject.uid={pod.metadata.uid},reason=Pulled"
    (event,) = project.core.list_namespaced_event(project.namespace, field_selector=chosen).items
    found = re.search(r"Successfully pulled image .* in ([0-9.]+)(ms|s) ", event.message)
    return 0.0 if found is None else float(found[1]) * _UNITS[found[2]]
