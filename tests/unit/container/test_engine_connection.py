"""How an engine is reached, and what is said where it is not."""

from __future__ import annotations

import http.server
import json
import os
import socket
import socketserver
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from provider.container.engine import Engine, EngineError, check_engine, host_of, is_local, unreachable
from provider.container.ssh import SshForwarder, command
from tests.ports import free_port


@contextmanager
def engine_of_version(path: Path, version: str, printed: bytes = b"") -> Iterator[None]:
    """An engine that says of itself which version of the API it speaks, and of every command that it printed this: the
    head of that answer and what follows come at once, as on a machine that has much to do."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({"ApiVersion": version, "Running": False, "ExitCode": 0})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if not self.path.endswith("/start"):
                self.answer({"Id": "1"})
                return
            self.wfile.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + printed)
            self.close_connection = True

        def answer(self, told: dict[str, Any]) -> None:
            body = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return None

        def address_string(self) -> str:
            return "client"

    with socketserver.ThreadingUnixStreamServer(str(path), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def said(host: str, cert_path: str | None = None) -> str:
    with pytest.raises(EngineError) as raised:
        Engine(host, cert_path)
    return str(raised.value)


def test_a_missing_socket_is_told_with_the_remedy(tmp_path: Path) -> None:
    assert "docker.sock does not exist: is Docker installed and running?" in said(f"unix://{tmp_path}/docker.sock")


def test_an_engine_that_does_not_run_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s"))
    assert "the engine is not running" in said(f"unix://{tmp_path}/s")


def test_the_group_is_named_where_rights_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "s").touch()
    monkeypatch.setattr("provider.container.engine._group", lambda _: "docker")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    message = said(f"unix://{tmp_path}/s")
    assert "it belongs to the group docker" in message
    assert "usermod -aG docker" in message


def test_an_old_engine_is_told(tmp_path: Path) -> None:
    with engine_of_version(tmp_path / "s", "1.38"):
        message = said(f"unix://{tmp_path}/s")
    assert "it speaks version 1.38 of the API, and 1.40 is needed" in message


def frame(stream: int, text: bytes) -> bytes:
    """What a command printed, as an engine sends it: 1 is its standard output, 2 its standard error."""
    return struct.pack(">BxxxL", stream, len(text)) + text


def test_what_a_command_prints_at_once_is_read(tmp_path: Path) -> None:
    printed = frame(1, b"first\n") + frame(2, b"wrong\n") + frame(1, b"x" * 100_000)
    with engine_of_version(tmp_path / "s", "1.41", printed):
        done = Engine(f"unix://{tmp_path}/s").execute("router", ["facts"])
    assert (done.output, done.errors) == (b"first\n" + b"x" * 100_000, b"wrong\n")


@pytest.mark.parametrize("cut", [3, 8, 12])
def test_an_output_that_is_cut_off_is_told(tmp_path: Path, cut: int) -> None:
    with engine_of_version(tmp_path / "s", "1.41", frame(1, b"first\n")[:cut]):
        engine = Engine(f"unix://{tmp_path}/s")
        with pytest.raises(EngineError, match=r"command in router: .*its output was cut off"):
            engine.execute("router", ["facts"])


def test_something_else_on_the_socket_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def hang_up() -> None:
            while True:
                try:
                    listening.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert "does not answer as a Docker engine" in said(f"unix://{tmp_path}/s")
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_whether_anything_listens_is_told_without_a_word_to_it(tmp_path: Path) -> None:
    assert "docker.sock does not exist" in str(unreachable(f"unix://{tmp_path}/docker.sock"))
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    assert str(unreachable(address)).startswith(f"no Docker engine answers at {address}: Connection refused. ")
    with socket.create_server(("127.0.0.1", port)):
        assert unreachable(address) is None
    assert unreachable("ssh://nobody.invalid") is None


def test_certificates_that_are_missing_are_told(tmp_path: Path) -> None:
    assert "must hold ca.pem, cert.pem and key.pem" in said("tcp://127.0.0.1:1", str(tmp_path))


def test_a_host_that_ssh_cannot_reach_is_told_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\necho 'ssh: Could not resolve hostname box' >&2\nexit 255\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    message = said("ssh://me@box")
    assert "no Docker engine can be reached at ssh://me@box: ssh: Could not resolve hostname box" in message
    assert "docker -H ssh://me@box version" in message


def test_ssh_asks_nothing_and_shares_its_connection(tmp_path: Path) -> None:
    words = command("ssh://me@box:2222", tmp_path)
    assert words[-5:] == ["--", "box", "docker", "system", "dial-stdio"]
    assert " ".join(words).count("-p 2222") == 1
    assert " ".join(words).count("-l me") == 1
    assert {"BatchMode=yes", "ControlMaster=auto"} <= set(words)
    plain = command("ssh://box", tmp_path)
    assert "-l" not in plain
    assert "-p" not in plain


def test_the_socket_of_a_process_that_ends_goes_with_it(short_path: Path) -> None:
    ending = "from provider.container.ssh import SshForwarder; print(SshForwarder('ssh://box').path)"
    done = subprocess.run(
        [sys.executable, "-c", ending],
        env={**os.environ, "TMPDIR": str(short_path)},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout.decode().startswith(str(short_path))
    assert list(short_path.iterdir()) == []


def test_the_socket_of_a_process_that_was_killed_goes_with_the_next_one(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = (
        "import os; from provider.container.ssh import SshForwarder; SshForwarder('ssh://box'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", killed], env={**os.environ, "TMPDIR": str(short_path)}, check=False)
    left = list(short_path.iterdir())
    monkeypatch.setattr(tempfile, "tempdir", str(short_path))

    first = SshForwarder("ssh://box")
    second = SshForwarder("ssh://box")

    try:
        assert len(left) == 1
        assert set(short_path.iterdir()) == {first.path.parent, second.path.parent}
    finally:
        first.close()
        second.close()
    assert list(short_path.iterdir()) == []


@pytest.mark.parametrize(
    ("engine", "failure"),
    [
        ({}, "engine.host: is required"),
        ({"host": "http://box"}, "must begin with unix://, ssh:// or tcp://"),
        ({"host": "unix://"}, "names no socket"),
        ({"host": "tcp://:2376"}, "names no host"),
        ({"host": "unix:///s", "cert": "x"}, "engine.cert: is not known"),
    ],
)
def test_an_engine_is_checked(engine: dict[str, str], failure: str) -> None:
    assert any(failure in f"{found.property}: {found.reason}" for found in check_engine(engine))


def test_a_good_engine_passes() -> None:
    for host in ("unix:///var/run/docker.sock", "ssh://me@box:22", "tcp://[::1]:2376"):
        assert check_engine({"host": host}) == []


def test_where_clients_reach_its_host() -> None:
    assert host_of({"host": "unix:///s"}) == "127.0.0.1"
    assert host_of({"host": "ssh://me@box:22"}) == "box"
    assert is_local({"host": "unix:///s"})
    assert not is_local({"host": "tcp://box:2376"})
