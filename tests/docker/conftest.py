"""What the tests here need: an engine, a registry with a base image in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airgap.base import image
from airgap.images import making
from airgap.router import image as router_image
from provider.content.watch import Watch
from provider.location import Location
from tests.docker.engine import Docker, docker_engine, free_port, registry
from tests.docker.images import EXAMPLE, Images
from tests.docker.programs import plugin_in_use
from tests.docker.routed import Box, workspace

ECHO = """
import time

def init():
    pass

def run(data):
    if data.startswith('"sleep'):
        time.sleep(float(data.strip('"')[5:]))
    return data
"""
"""Answers with what it is sent, after as many seconds as it is told to sleep."""


def pytest_report_header() -> str:
    return f"Pulumi's docker plugin: {plugin_in_use()}"


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    with docker_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The registry's."""
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def base(address: str) -> str:
    """The reference of a base image in the registry."""
    layer, blob, python = image.cached_layer()
    assert python == "3.11"
    with Location(address).repository("base/python", Watch()) as store:
        return f"base/python@{image.push(store, 'debian12', layer, blob, python)}"


@pytest.fixture(scope="session")
def echo_images(docker: Docker, address: str, base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The references of a service's image, and of the router's."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "code").mkdir()
    (folder / "code" / "score.py").write_text(ECHO)
    made = Images(address, base, folder, name="echo")
    service = made.make(folder / "code", [made.model("sklearn_mnist", EXAMPLE / "model")])["reference"]
    layer, blob = router_image.cached_layer()
    with Location(address).repository("router", Watch()) as store:
        router = f"{address}/router@{router_image.push(store, 'debian12', layer, blob)}"
    for reference in (service, router):
        docker.run("pull", reference)
    return service, router


@pytest.fixture
def box(docker: Docker, echo_images: tuple[str, str]) -> Iterator[Box]:
    """A workspace with a router, on the engine."""
    with workspace(docker, f"t{free_port()}", *echo_images) as made:
        yield made


@pytest.fixture
def port() -> int:
    """A port that nobody listens on."""
    return free_port()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of images that were made on this machine, as `python -m airgap.images` leaves it."""
    folder = tmp_path_factory.mktemp("images")
    making.make(folder, None, lambda message: None)
    return folder
