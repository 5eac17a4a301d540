"""The cluster of these tests: the one that KUBECONFIG names, or one that is made for them and removed in the end."""

from __future__ import annotations

import gc
import os
import secrets
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config

from airgap.cluster import __main__ as clusters
from airgap.cluster import other
from airgap.cluster.place import Place
from airgap.images import making
from tests.e2e.project import eventually
from tests.plugin_programs import Program, plugin_in_use, stand_in

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = "test_kubernetes_stand_in.py"
"""What the stand-in does beyond the official plugin."""
FIRST = {"test_cluster_on_this_machine.py", "test_prod.py"}
"""Make clusters of their own, of which a machine has one at a time: before the one that the other tests share."""
BUILT_HERE = {"test_cluster_addons.py", "test_restarted_control_plane.py"}
"""About a cluster that is built here: what is on others in other ways, and its daemons."""


def built_here() -> bool:
    """Whether the cluster of these tests is one that is built of its modules."""
    named = other.named(os.environ)
    if named is None:
        return other.tool() is None
    return clusters.made_by(Place(named.resolve().parent)) == clusters.OWN


def pytest_report_header() -> str:
    return f"Pulumi's kubernetes plugin: {plugin_in_use('kubernetes')}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in FIRST)
    absent: set[str] = set()
    if other.named(os.environ) or other.tool():
        absent |= FIRST  # no cluster is built on that machine
    if not built_here():
        absent |= BUILT_HERE
    if stand_in("kubernetes") is None:
        absent.add(STAND_IN)
    config.hook.pytest_deselected(items=[item for item in items if item.path.name in absent])
    items[:] = [item for item in items if item.path.name not in absent]


def pytest_sessionfinish() -> None:
    # What Pulumi's server for programs inside this process left to the garbage collector, of the last test too.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def airgap_cluster(command: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m airgap.cluster`, for the cluster in `folder` whatever KUBECONFIG says."""
    return subprocess.run(
        [sys.executable, "-m", "airgap.cluster", command, str(folder), *options],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "KUBECONFIG"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of a cluster that answers."""
    named = other.named(os.environ)
    if named is not None:
        yield named
        return
    folder = tmp_path_factory.mktemp("kubernetes") / "cluster"
    made = airgap_cluster("up", folder)
    assert made.returncode == 0, made.stderr
    yield Path(made.stdout.strip())
    removed = airgap_cluster("down", folder)
    assert removed.returncode == 0, removed.stderr


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> Iterator[client.ApiClient]:
    """The cluster, without Pulumi."""
    with config.new_client_from_config(str(kubeconfig)) as connected:
        yield connected


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of images that were made on this machine, as `python -m airgap.images` leaves it."""
    folder = tmp_path_factory.mktemp("images")
    making.make(folder, None, lambda message: None)
    return folder


@pytest.fixture
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


@pytest.fixture
def apps(api: client.ApiClient) -> client.AppsV1Api:
    return client.AppsV1Api(api)


@pytest.fixture
def program(tmp_path: Path, kubeconfig: Path) -> Iterator[Program]:
    running = Program(tmp_path / "stack", "kubernetes", {"KUBECONFIG": str(kubeconfig)})
    yield running
    running.destroy()
    gc.collect()  # of failed programs too, while their warnings are expected


def await_account(core: client.CoreV1Api, namespace: str) -> None:
    """Waits for a new namespace's service account, without which it takes no pods."""
    eventually(lambda: core.list_namespaced_service_account(namespace).items, "the namespace's service account")


@pytest.fixture
def namespace(core: client.CoreV1Api) -> Iterator[str]:
    """A namespace of the test's own, made without Pulumi."""
    name = f"conformance-{secrets.token_hex(4)}"
    core.create_namespace({"metadata": {"name": name}})
    await_account(core, name)
    yield name
    core.delete_namespace(name)
