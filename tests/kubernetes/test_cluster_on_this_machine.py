"""The cluster that is built here: killed at any point it is completed or cleared, and it leaves nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airgap.cluster import host_network, leftovers, own, programs
from airgap.cluster.kubectl import kubectl
from airgap.cluster.place import RUN, Place
from airgap.cluster.processes import Daemon
from tests.e2e.project import eventually
from tests.kubernetes.conftest import ROOT, airgap_cluster


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """The programs: not a part of what the tests below wait for."""
    programs.build_missing()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place for a cluster, on a machine that has none."""
    assert not RUN.exists(), "a test cluster runs on this machine; end it: python -m airgap.cluster down"
    place = Place(tmp_path / "cluster")
    yield place
    done = airgap_cluster("down", place.folder)
    assert done.returncode == 0, done.stderr


def killed(command: str, place: Place, when: Callable[[], bool]) -> None:
    """Runs a command, and kills it as soon as `when` holds."""
    with subprocess.Popen(
        [sys.executable, "-m", "airgap.cluster", command, str(place.folder)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        eventually(lambda: when() or process.poll() is not None, f"{command} comes that far")
        assert when(), f"{command} ended before it could be killed"
        process.send_signal(signal.SIGKILL)


def runs(place: Place, name: str) -> bool:
    return Daemon(place, name).pid() is not None


def machine(place: Place) -> dict[str, object]:
    """What a cluster changes on a machine, where nobody else may at the same time."""
    settings = {name: Path("/proc/sys", *name.split(".")) for name in host_network.SETTINGS}
    return {
        "settings": {name: file.read_text() for name, file in settings.items() if file.exists()},
        "places": [path.exists() for path in (*leftovers.MADE_BY_KUBELET, leftovers.CNI_STATE, RUN)],
        "network": host_network.leftovers(),
        "pods": leftovers.found(place),
        "folder": sorted(place.folder.parent.iterdir()),
    }


def test_a_killed_up_is_completed_and_down_leaves_nothing(place: Place) -> None:
    before = machine(place)
    killed("up", place, lambda: runs(place, "etcd"))
    killed("up", place, lambda: runs(place, "kubelet"))

    assert airgap_cluster("up", place.folder).stdout.strip() == str(place.kubeconfig)
    assert all(runs(place, name) for name in own.DAEMONS)
    assert kubectl(place, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}") == "admin"
    assert airgap_cluster("status", place.folder).returncode == 0

    killed("down", place, lambda: not runs(place, "kube-apiserver"))
    done = airgap_cluster("down", place.folder)

    assert done.returncode == 0, done.stderr
    assert machine(place) == before


def test_down_clears_what_a_killed_up_left(place: Place) -> None:
    before = machine(place)
    killed("up", place, lambda: runs(place, "kube-apiserver"))

    assert airgap_cluster("down", place.folder).returncode == 0
    assert machine(place) == before


def test_a_machine_has_one_cluster(place: Place) -> None:
    killed("up", place, lambda: runs(place, "etcd"))
    second = place.folder.with_name("second")

    done = airgap_cluster("up", second)
    assert done.returncode == 1
    assert "A test cluster runs on this machine already" in done.stderr
    assert f"python -m airgap.cluster down {place.folder}" in done.stderr

    assert airgap_cluster("down", second).returncode == 0
    assert runs(place, "etcd")
