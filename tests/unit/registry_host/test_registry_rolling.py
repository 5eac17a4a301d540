"""How one of several registries comes to its end: connections that wait at it are taken first."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from provider.local.layout import write_json
from provider.registry_host.keeper import Keeper
from provider.registry_host.processes import Kept
from provider.registry_host.spec import Files, Spec, socket_name
from tests.unit.registry_host.full_log import full_log

DEADLINE = 180.0


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keeper:
    """One that keeps two registries, in their folder."""
    write_json(Files(tmp_path).spec, asdict(Spec("registry", 5000, 1, 1, 1, 86400, None, replicas=2)))
    monkeypatch.chdir(tmp_path)
    keeper = Keeper(tmp_path)
    monkeypatch.setattr(keeper, "_registries", [Kept("a registry", _not_started) for _ in range(2)])
    return keeper


def _not_started() -> None:
    raise OSError("it is the test")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[socket.socket]:
    """Where the first of them listens."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.settimeout(DEADLINE)
        listening.bind(str(tmp_path / socket_name(0)))
        listening.listen()
        yield listening


def test_who_waits_at_a_registry_is_taken_before_it_ends(
    keeper: Keeper, registry: socket.socket, tmp_path: Path
) -> None:
    taken: list[bytes] = []

    def serve() -> None:
        for _ in range(2):
            connection, _ = registry.accept()
            with connection:
                taken.append(connection.recv(1))
                connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(tmp_path / socket_name(0)))
        waiting.sendall(b"w")
        serving = threading.Thread(target=serve)
        serving.start()
        keeper._pass_by(0)
        assert taken == [b"w", b"G"], "who waited, then the keeper itself"
        serving.join()
    assert list(tmp_path.glob("*.sock*")) == [], "nobody else finds it"


def test_a_registry_that_is_not_there_is_passed_by_at_once(keeper: Keeper, tmp_path: Path) -> None:
    keeper._pass_by(0, 1)
    assert list(tmp_path.glob("*.sock*")) == []


def test_a_full_disk_under_the_log_does_not_end_the_keeper() -> None:
    kept = Kept("a registry", _not_started)
    with full_log():
        kept.tend()
    assert kept.failures == 1
