"""Services on a Kubernetes cluster: how long an update takes, updates under load, and how a stack grows.

One stack with a real engine, on the cluster that KUBECONFIG names, in namespaces of its own that are removed in the
end. Beside `up` stands kubectl with the same manifests. Needs what `make test-kubernetes` needs, and kubectl, which
`python -m airgap.cluster` builds; nodes must reach a registry on this machine's loopback, as that cluster's do.

Environment variables narrow a run: BENCH_CASES (parts of names: up, load, growth, scale), BENCH_ROUNDS, BENCH_SECONDS
(of the load, 60), BENCH_CHANGES (parts of the names of changes under load), BENCH_SERVICES (how many there are in the
end: growth 100, scale 1,000) and BENCH_NODES (500).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import config

from airgap.cluster import other
from airgap.images import making
from benchmarks._choice import chosen
from benchmarks._growth import growth
from benchmarks.kubernetes import load, scale, update
from benchmarks.kubernetes.by_hand import Kubectl
from benchmarks.report import Row
from tests.kubernetes.clustered import ClusterProject

_SERVICES = 100


def run() -> list[Row]:
    kubeconfig = other.named(os.environ)
    if kubeconfig is None:
        sys.exit("KUBECONFIG names no cluster: export KUBECONFIG=$(python -m airgap.cluster up)")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as root, config.new_client_from_config(str(kubeconfig)) as api:
        images = Path(root) / "images"
        making.make(images, None, print)

        @contextmanager
        def project(name: str) -> Iterator[ClusterProject]:
            folder = Path(root) / name
            folder.mkdir()
            made = ClusterProject(folder, kubeconfig, api, images)
            try:
                yield made
            finally:
                made.clear()

        cases: dict[str, Callable[[], list[Row]]] = {
            "up": lambda: update.run(project, Kubectl(kubeconfig)),
            "load": lambda: load.run(project),
            "growth": lambda: _growth(project),
            "scale": lambda: scale.run(project, Kubectl(kubeconfig), kubeconfig),
        }
        for name, case in cases.items():
            if chosen(name, "BENCH_CASES"):
                print(f"  {name} ...", flush=True)
                rows += case()
    return rows


def _growth(projects: load.Projects) -> list[Row]:
    with projects("growth") as project:
        # As much as a pod needs, so that they fit on one node; and starting takes long where many do at a time.
        project.deployment["containerResourceRequirements"] = {"cpu": 0.005, "memoryInGB": 0.03}
        project.service["startupTimeoutSeconds"] = 600
        project.write()
        project.up()
        return growth(project, _SERVICES, _as_it_is)


def _as_it_is(service: dict[str, Any], index: int) -> None:
    """Services on a cluster have their own addresses."""
