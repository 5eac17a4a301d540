"""What is said about a port that a service cannot have."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider.local import listener, ports
from provider.local.layout import ServicePaths
from tests.unit.local.conftest import Service, free_port


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_a_free_port_is_no_conflict(tmp_path: Path) -> None:
    assert ports.conflict(ServicePaths(tmp_path, "mnist"), "127.0.0.1", free_port()) is None


def test_a_port_that_is_held_names_the_program_and_its_pid(tmp_path: Path, taken: int) -> None:
    name = Path("/proc/self/comm").read_text().strip()
    assert ports.conflict(ServicePaths(tmp_path, "mnist"), "127.0.0.1", taken) == (
        "port",
        f"port {taken} is held by {name} (pid {os.getpid()}). End that program, or choose another port.",
    )


def test_the_port_of_the_service_itself_is_no_conflict(service: Service) -> None:
    service.deploy(service.revision("aaaa"))
    assert ports.conflict(service.paths, "127.0.0.1", service.port) is None


def test_the_port_of_another_service_names_that_service(service: Service) -> None:
    status = service.deploy(service.revision("aaaa"))
    conflict = ports.conflict(ServicePaths(service.paths.home, "other"), "127.0.0.1", service.port)
    assert conflict is not None
    assert "held by the service mnist of " in conflict[1]
    assert f"(pid {status['pid']})" in conflict[1]


def test_a_port_without_the_right_says_which_ports_need_none() -> None:
    _, reason = ports.refusal(PermissionError(errno.EACCES, "denied"), "127.0.0.1", 80, None)
    assert f"Choose a port from {ports.first_unprivileged()} on" in reason
    assert "ip_unprivileged_port_start=80" in reason


def test_a_holder_that_cannot_be_read_is_told_so() -> None:
    _, reason = ports.refusal(OSError(errno.EADDRINUSE, "in use"), "127.0.0.1", 8890, None)
    assert "another program (its name cannot be read)" in reason


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_no_port_is_refused(tmp_path: Path, port: int) -> None:
    conflict = ports.conflict(ServicePaths(tmp_path, "mnist"), "127.0.0.1", port)
    assert conflict is not None
    assert f"{port} is no TCP port" in conflict[1]


def test_an_address_of_another_machine_is_about_the_host(tmp_path: Path) -> None:
    conflict = ports.conflict(ServicePaths(tmp_path, "mnist"), "192.0.2.1", free_port())
    assert conflict is not None
    assert conflict[0] == "host"
    assert "192.0.2.1 is no address of this machine" in conflict[1]


def test_a_port_that_its_holder_just_gave_up_is_no_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As a server does whose supervisor was killed: gone between the attempt to bind and the search for the holder.
    port, attempts = free_port(), []

    def bind(host: str, port: int) -> socket.socket:
        attempts.append(port)
        if len(attempts) == 1:
            raise OSError(errno.EADDRINUSE, "in use")
        return listener.bind(host, port)

    monkeypatch.setattr(ports, "bind", bind)
    monkeypatch.setattr(ports, "_UNSEEN_SECONDS", 1e-9)  # as where one look takes longer than all of the patience
    assert ports.conflict(ServicePaths(tmp_path, "mnist"), "127.0.0.1", port) is None
    assert len(attempts) == 2


def test_a_port_whose_holder_is_ending_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its memory goes first, and with it all by which it was known; a large model's server takes seconds to be gone.
    process, port, attempts = tmp_path / "12", free_port(), []
    process.mkdir()
    (process / "stat").write_text(f"12 (python3) R 1 12 12 0 -1 {0x400004} 0 0")

    def bind(host: str, port: int) -> socket.socket:
        attempts.append(port)
        if len(attempts) < 10:
            raise OSError(errno.EADDRINUSE, "in use")
        return listener.bind(host, port)

    monkeypatch.setattr(ports, "bind", bind)
    monkeypatch.setattr(ports, "_process_on", lambda port: process)
    assert ports.conflict(ServicePaths(tmp_path, "mnist"), "127.0.0.1", port) is None
    assert len(attempts) == 10


def test_a_port_whose_holder_never_ends_is_a_conflict_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = tmp_path / "12"
    process.mkdir()
    (process / "stat").write_text(f"12 (python3) D 1 12 12 0 -1 {0x400004} 0 0")
    (process / "comm").write_text("python3")
    monkeypatch.setattr(ports, "_process_on", lambda port: process)
    monkeypatch.setattr(ports, "_ENDING_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as other:
        conflict = ports.conflict(ServicePaths(tmp_path, "mnist"), "127.0.0.1", other.getsockname()[1])
    assert conflict is not None
    assert "is held by python3 (pid 12)" in conflict[1]


def test_a_port_that_stays_taken_by_nobody_who_can_be_seen_is_a_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bind(host: str, port: int) -> socket.socket:
        raise OSError(errno.EADDRINUSE, "in use")

    monkeypatch.setattr(ports, "bind", bind)
    conflict = ports.conflict(ServicePaths(tmp_path, "mnist"), "127.0.0.1", free_port())
    assert conflict is not None
    assert "another program (its name cannot be read)" in conflict[1]
