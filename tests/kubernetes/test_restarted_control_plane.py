"""An `up` goes on while the API server is started again and while etcd is slow. On a cluster that is built here."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kubernetes import client

from airgap.cluster import place as at
from airgap.cluster import settings
from airgap.cluster.kubectl import run, succeeds
from airgap.cluster.place import Place
from airgap.cluster.processes import Daemon
from tests.e2e.project import eventually
from tests.kubernetes.clustered import ClusterProject, send

IMAGE = ("slipway:index:ServiceImage", "creating")
DEPLOYMENT = ("kubernetes:apps/v1:Deployment", "updating")
ENDPOINT = ("slipway:index:Endpoint", "updating")


@pytest.fixture(scope="module")
def place(kubeconfig: Path) -> Place:
    """The cluster, with its daemons."""
    found = Place(kubeconfig.resolve().parent)
    assert Daemon(found, "kube-apiserver").pid() is not None
    return found


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, kubeconfig: Path, api: client.ApiClient, images: Path
) -> Iterator[ClusterProject]:
    made = ClusterProject(tmp_path_factory.mktemp("restarted"), kubeconfig, api, images)
    made.up()
    yield made
    made.clear()


@contextmanager
def no_api_server(place: Place) -> Iterator[None]:
    """Kills the API server, and starts it again."""
    server = Daemon(place, "kube-apiserver")
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    try:
        eventually(lambda: server.pid() is None, "the API server is gone")
        yield
    finally:
        server.start(settings.apiserver(place, at.node_address()))
        eventually(lambda: succeeds(place, "get", "--raw", "/readyz"), "the API server is ready")


@contextmanager
def slow_etcd(place: Place) -> Iterator[None]:
    """Stops etcd until the API server has missed it three times, and lets it go on."""
    pid = Daemon(place, "etcd").pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            eventually(lambda: run(place, ["get", "--raw", "/livez/etcd"]).returncode != 0, "etcd is missed")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: succeeds(place, "get", "--raw", "/readyz"), "the API server is ready")


def _answers(address: tuple[str, int]) -> bool:
    try:
        return send(address, 1)[0] == 200
    except OSError:
        return False


def test_an_api_server_that_is_killed_in_an_up(place: Place, project: ClusterProject) -> None:
    before, address = project.outputs()["revision"], project.address
    project.wait_for(before)
    project.change()
    with no_api_server(place):
        said = project.failing_up()
        assert send(address, 1) == (200, "1", before)
    assert f"the cluster at {at.API} does not answer: Connection refused" in said
    assert "Is it running, can this machine reach it, and is it the right one" in said

    project.change()
    with project.command("up", "--refresh") as up:
        up.until_it_says(*IMAGE)
        with no_api_server(place):
            up.until_it_says(*DEPLOYMENT)
            assert send(address, 1) == (200, "1", before)
        up.until_it_says(*ENDPOINT)
        with no_api_server(place):
            # Nobody tells the node of a pod that goes meanwhile: what is sent to that one is lost.
            eventually(lambda: _answers(address), "a pod answers")
        assert up.end() == 0, up.output

    outputs = project.outputs()
    assert outputs["state"] == "Healthy"
    assert project.serving() == {outputs["revision"]: 1}
    assert outputs["revision"] != before


def test_an_etcd_that_is_slow_in_an_up(place: Place, project: ClusterProject) -> None:
    before, address = project.outputs()["revision"], project.address
    project.wait_for(before)
    project.change()

    with project.command("up", "--refresh") as up:
        up.until_it_says(*IMAGE)
        with slow_etcd(place):
            up.until_it_says(*DEPLOYMENT)
            assert send(address, 1) == (200, "1", before)
        up.until_it_says(*ENDPOINT)
        assert up.end() == 0, up.output

    outputs = project.outputs()
    assert project.serving() == {outputs["revision"]: 1}
    assert outputs["revision"] != before
