"""How long the program that asks a server inside its own container waits for a good answer."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.ports import free_port

PROBE = Path(__file__).resolve().parents[3] / "provider" / "container" / "probe.py"


@dataclass
class Server:
    """A server whose first answers are `busy` times 503."""

    busy: int = 0
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    port: int = 0


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told.asked.append((self.command, self.path, body))
            text = b"not yet" if len(told.asked) <= told.busy else b"well"
            self.send_response(503 if text == b"not yet" else 200)
            self.send_header("Slipway-Revision", "r1")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _answer  # noqa: N815 - the names that the class is asked for

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        told.port = running.server_address[1]
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield told
        running.shutdown()
        thread.join()


def probed(port: int, patience: str, body: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    length = -1 if body is None else len(body)
    command = [sys.executable, "-I", "-S", str(PROBE), "/ready", "text/plain", str(length), "30", patience, str(port)]
    return subprocess.run(command, input=body or b"", capture_output=True, check=False, timeout=120)


def test_an_answer_comes_back_whole(server: Server) -> None:
    done = probed(server.port, "0", b"hello")

    head, _, body = done.stdout.partition(b"\n")
    told = json.loads(head)
    assert (told["status"], told["headers"]["slipway-revision"], body) == (200, "r1", b"well")
    assert server.asked == [("POST", "/ready", b"hello")]


def test_without_patience_it_asks_once(server: Server) -> None:
    server.busy = 1

    head, _, body = probed(server.port, "0").stdout.partition(b"\n")

    assert (json.loads(head)["status"], body) == (503, b"not yet")
    assert len(server.asked) == 1


def test_it_waits_for_a_good_answer(server: Server) -> None:
    server.busy = 3

    head, _, body = probed(server.port, "60").stdout.partition(b"\n")

    assert (json.loads(head)["status"], body) == (200, b"well")
    assert len(server.asked) == 4


def test_the_last_answer_counts_when_patience_ends(server: Server) -> None:
    server.busy = 1_000_000

    head, _, body = probed(server.port, "0.2").stdout.partition(b"\n")

    assert (json.loads(head)["status"], body) == (503, b"not yet")
    assert len(server.asked) > 1


@pytest.mark.parametrize("patience", ["0", "0.2"])
def test_nobody_listening_is_told(patience: str) -> None:
    done = probed(free_port(), patience)
    assert done.returncode == 1
    assert b"Connection refused" in done.stderr
