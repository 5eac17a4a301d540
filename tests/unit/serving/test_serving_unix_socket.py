"""The Unix socket that a router on the same machine reaches the server by."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.serving.conftest import Serve
from tests.unit.serving.support import DEADLINE, ECHO, Answer, Serving, exchange, wait_for


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=DEADLINE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def ask(path: Path) -> Answer:
    with closing(UnixConnection(path)) as connection:
        return exchange(connection, "POST", "/score", "x")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_both_addresses_answer(serve: Serve, place: Path, workers: str) -> None:
    server = serve(ECHO, "--unix-socket", str(place), "--workers", workers)
    wait_for(lambda: f"listening on unix:{place}" in server.log, "the socket")
    assert ask(place).json() == "x"
    assert server.score("x").json() == "x"
    assert stat.S_IMODE(place.stat().st_mode) == 0o660


def test_the_environment_names_it_too(serve: Serve, place: Path) -> None:
    serve(ECHO, env={"SLIPWAY_UNIX_SOCKET": str(place)})
    assert ask(place).status == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_drain_removes_it_first(serve: Serve, place: Path, workers: str) -> None:
    server = serve(ECHO, "--unix-socket", str(place), "--workers", workers)
    wait_for(lambda: f"listening on unix:{place}" in server.log, "the socket")
    with closing(UnixConnection(place)) as connection:
        assert exchange(connection, "POST", "/score", "x").status == 200
        server.process.terminate()
        wait_for(lambda: not place.exists(), "the removal")
        # What is open is still answered.
        assert exchange(connection, "POST", "/score", "x").headers["connection"] == "close"
    assert server.wait_exit() == 0


def test_what_a_killed_server_left_is_replaced(serve: Serve, place: Path) -> None:
    first = serve(ECHO, "--unix-socket", str(place))
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    assert place.exists()
    serve(ECHO, "--unix-socket", str(place))
    assert ask(place).status == 200


def refusal(server: Serving) -> str:
    assert server.wait_exit() == 3
    return server.log


def test_a_socket_in_use_is_left_alone(serve: Serve, place: Path) -> None:
    serve(ECHO, "--unix-socket", str(place))
    said = refusal(serve(ECHO, "--unix-socket", str(place), wait=False))
    assert f"Cannot listen on {place}: another program listens there. Choose another with --unix-socket." in said
    assert ask(place).status == 200


def test_a_file_that_is_no_socket_is_left_alone(serve: Serve, place: Path) -> None:
    place.write_text("mine")
    assert "there is a file that is no socket" in refusal(serve(ECHO, "--unix-socket", str(place), wait=False))
    assert place.read_text() == "mine"


def test_a_path_that_is_too_long_is_told(serve: Serve, tmp_path: Path) -> None:
    place = tmp_path / ("x" * 120)
    assert "AF_UNIX path too long" in refusal(serve(ECHO, "--unix-socket", str(place), wait=False))


def test_another_servers_socket_stays(serve: Serve, place: Path) -> None:
    first = serve(ECHO, "--unix-socket", str(place))
    place.unlink()
    serve(ECHO, "--unix-socket", str(place))
    first.process.terminate()
    assert first.wait_exit() == 0
    assert ask(place).status == 200
