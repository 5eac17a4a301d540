"""What the tests here need: an engine, a registry with a base image in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airgap.base import image
from provider.content.watch import Watch
from provider.location import Location
from tests.docker.engine import Docker, docker_engine, registry
from tests.docker.programs import plugin_in_use


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
