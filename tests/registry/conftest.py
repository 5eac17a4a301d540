"""A real registry for the tests here, and a proxy before it that can do wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider.content.watch import Watch
from provider.registry.client import Registry
from provider.registry_host import host
from tests.registry.faulty_proxy import FaultyProxy
from tests.registry.registry_process import RegistryProcess
from tests.registry.service import Service
from tests.registry.support import QUICK


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """A registry that lets everybody in. Tests tell their content apart by their repository's name and their seed."""
    process = RegistryProcess(tmp_path_factory.mktemp("registry"))
    try:
        process.start()
        yield process
    finally:
        process.stop()


@pytest.fixture
def proxy(running: RegistryProcess) -> Iterator[FaultyProxy]:
    with FaultyProxy(running.port) as proxy:
        yield proxy


@pytest.fixture
def registry(proxy: FaultyProxy) -> Registry:
    """The registry behind the proxy, with little patience."""
    return Registry(proxy.address, patience=QUICK, parallel=2)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository's name that no other test has."""
    return "-".join(re.findall("[a-z0-9]+", request.node.name.lower()))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A registry service that is not there yet, and goes with the test."""
    service = Service(tmp_path / "demo" / "registry")
    yield service
    host.remove(service.folder, Watch())
