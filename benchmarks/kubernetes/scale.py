"""A thousand services on hundreds of nodes that are simulated (kwok): what each takes of the control plane.

The services are copies of one that the stack deployed, applied to simulated nodes, whose pods are said to be ready at
once: what is left is the work of the API server and the controllers, which ends when a pod has a node; how soon kwok
says that it is ready is kwok's own affair. The service itself runs on a real node, and is updated before and after.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from airgap.cluster import programs
from benchmarks._stack import timed
from benchmarks.kubernetes.by_hand import Kubectl
from benchmarks.kubernetes.load import Projects
from benchmarks.report import Row
from provider.kubernetes.cluster import Cluster, path_in
from provider.kubernetes.kubeconfig import find
from tests.e2e.project import eventually
from tests.kubernetes.clustered import ECHO, ClusterProject
from tests.ports import free_port

_NODES, _SERVICES, _BATCHES = 500, 1000, 4
_AT_ONCE = 8
"""As many as Pulumi has under way by default, on two cores."""
_POLL_SECONDS = 0.5
_NODE = "kwok.x-k8s.io/node"
_COPY = "slipway-bench/copy"
_KINDS = {"ConfigMap": ("", "configmaps"), "Service": ("", "services"), "Deployment": ("apps/v1", "deployments")}
_APPLY = "application/apply-patch+yaml"


def run(projects: Projects, kubectl: Kubectl, kubeconfig: Path) -> list[Row]:
    nodes = int(os.environ.get("BENCH_NODES", _NODES))
    services = int(os.environ.get("BENCH_SERVICES", _SERVICES))
    programs.build_missing([programs.KWOK])
    with projects("scale") as project:
        project.target["expose"] = "clusterIp"  # there are not that many ports of nodes
        project.write()
        project.up()
        manifests = json.loads(kubectl.manifests(project.namespace))["items"]
        one = [item for item in manifests if item["kind"] in _KINDS]
        before = _updated(project, "before")
        with _simulated(project, kubeconfig, nodes):
            rows = _deployed(project, Cluster(find(str(kubeconfig), None)), one, services)
            after = _updated(project, "after")
            _remove_copies(project)
    what = f"up --skip-preview of a service among {services:,} others on {nodes} nodes"
    return [*rows, Row(what, "s", after, peers={"alone": before})]


def _updated(project: ClusterProject, version: str) -> float:
    project.script.write_text(ECHO.replace("VERSION = 1", f"VERSION = '{version}'"))
    return timed(project.root, project.environment, "up", "--yes", "--skip-preview", "--stack", "test")


# -- copies ----------------------------------------------------------------------------------------------------------


def _deployed(project: ClusterProject, cluster: Cluster, one: list[dict[str, Any]], services: int) -> list[Row]:
    """Applies copies in batches; rows of what each took."""
    rows, done = [], 0
    for batch in range(_BATCHES):
        until = services * (batch + 1) // _BATCHES
        objects = [_copy(item, index, batch) for index in range(done, until) for item in one]
        begun = time.perf_counter()
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            list(threads.map(lambda item: _apply(cluster, project.namespace, item), objects))
        applied = time.perf_counter() - begun
        _await(partial(_on_nodes, project, cluster, batch), until - done)
        placed = time.perf_counter() - begun
        _await(partial(_available, project, cluster, batch), until - done)
        taken = time.perf_counter() - begun
        what = f"services {done + 1:,} to {until:,}"
        rows.append(Row(f"{what}: applied, each", "ms", applied / (until - done) * 1000))
        rows.append(Row(f"{what}: on nodes, each", "ms", placed / (until - done) * 1000))
        rows.append(Row(f"{what}: available, each", "ms", taken / (until - done) * 1000))
        print(f"    {what}: applied {applied:.1f} s, on nodes {placed:.1f} s, available {taken:.1f} s", flush=True)
        done = until
    return rows


def _copy(item: dict[str, Any], index: int, batch: int) -> dict[str, Any]:
    """The object of another service, on simulated nodes."""
    text = json.dumps(item).replace('"echo"', f'"echo{index}"').replace('"echo-', f'"echo{index}-')
    copied: dict[str, Any] = json.loads(text)
    copied["metadata"]["labels"][_COPY] = str(batch)
    if copied["kind"] == "Deployment":
        copied["spec"]["template"]["metadata"]["labels"][_COPY] = str(batch)
        copied["spec"]["template"]["spec"] |= {
            "nodeSelector": {"type": "kwok"},
            "tolerations": [{"key": _NODE, "operator": "Exists"}],
        }
    return copied


def _apply(cluster: Cluster, namespace: str, item: dict[str, Any]) -> None:
    group, plural = _KINDS[item["kind"]]
    path = path_in(namespace, plural, item["metadata"]["name"], group=group)
    query = [("fieldManager", "slipway-bench")]
    response = cluster.attempt("PATCH", path, query, json.dumps(item).encode(), _APPLY)
    if response.status >= 300:
        raise RuntimeError(f"{item['kind']} {item['metadata']['name']}: {response.message}")


def _await(counted: Callable[[], int], count: int) -> None:
    def enough() -> bool:
        time.sleep(_POLL_SECONDS)
        return counted() >= count

    eventually(enough, f"{count} copies", seconds=1800)


def _on_nodes(project: ClusterProject, cluster: Cluster, batch: int) -> int:
    """Pods of a batch that have a node: from there on they are kwok's. What is listed here and below is plain JSON and
    of no other batch: a list is long, and what it takes must not grow with what was there before."""
    found = cluster.items(path_in(project.namespace, "pods"), [("labelSelector", f"{_COPY}={batch}")])
    return sum("nodeName" in item["spec"] for item in found)


def _available(project: ClusterProject, cluster: Cluster, batch: int) -> int:
    path = path_in(project.namespace, "deployments", group="apps/v1")
    found = cluster.items(path, [("labelSelector", f"{_COPY}={batch}")])
    return sum(item["status"].get("availableReplicas", 0) for item in found)


def _remove_copies(project: ClusterProject) -> None:
    """While there is somebody who says that their pods are gone."""
    project.apps.delete_collection_namespaced_deployment(project.namespace, label_selector=_COPY)

    def gone() -> bool:
        time.sleep(_POLL_SECONDS)
        return len(project.core.list_namespaced_pod(project.namespace).items) == 1

    eventually(gone, "the copies are gone", seconds=1800)


# -- nodes -----------------------------------------------------------------------------------------------------------


@contextmanager
def _simulated(project: ClusterProject, kubeconfig: Path, count: int) -> Iterator[None]:
    """Nodes that are ready; nobody's pods go there who does not ask for it."""
    # Behind the real ones, where somebody looks for the first.
    names = [f"zz-simulated-{index:04}" for index in range(count)]
    with tempfile.TemporaryFile("w+") as log:
        kwok = subprocess.Popen(
            [
                *(str(programs.built(programs.KWOK, "kwok")), f"--kubeconfig={kubeconfig}"),
                *("--manage-all-nodes=false", f"--manage-nodes-with-annotation-selector={_NODE}=fake"),
                # Heartbeats like a kubelet's: without them, nodes come to count as gone.
                *("--node-lease-duration-seconds=40", f"--server-address=127.0.0.1:{free_port()}"),
            ],
            stdout=log,
            stderr=log,
        )
        try:
            for name in names:
                project.core.create_node(_node(name))
            eventually(lambda: _ready(project, kwok) >= count, f"{count} simulated nodes are ready", seconds=600)
            yield
        finally:
            project.core.delete_collection_node(label_selector="type=kwok")
            kwok.terminate()
            kwok.wait()


def _node(name: str) -> dict[str, Any]:
    taint = {"key": _NODE, "value": "fake", "effect": "NoSchedule"}
    labels = {"type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    metadata = {"name": name, "labels": labels, "annotations": {_NODE: "fake"}}
    return {"metadata": metadata, "spec": {"taints": [taint]}}


def _ready(project: ClusterProject, kwok: subprocess.Popen[bytes]) -> int:
    time.sleep(_POLL_SECONDS)
    if kwok.poll() is not None:
        raise RuntimeError(f"kwok ended with exit code {kwok.returncode}")
    nodes = project.core.list_node(label_selector="type=kwok").items
    return len(
        [node for node in nodes if any(c.type == "Ready" and c.status == "True" for c in node.status.conditions or ())]
    )
