"""What runs in a pod until its server answered the sample request."""

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

PROBE = Path(__file__).resolve().parents[3] / "components" / "targets" / "startup_probe.py"


@dataclass
class Server:
    """A server whose answers a test sets."""

    ready: int = 200
    busy: int = 0
    """How many times it is not ready yet."""
    score: int = 200
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told.asked.append((self.command, self.path, dict(self.headers), body))
            if self.path == "/ready":
                told.busy -= 1
            ready = 503 if told.busy >= 0 else told.ready
            self.send_response(ready if self.path == "/ready" else told.score)
            text = b"no model" if self.path == "/score" else b"not yet"
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


def probed(
    tmp_path: Path, port: int, keys: str | None = None, patience: float = 0, *, sample: bool = True
) -> subprocess.CompletedProcess[str]:
    (tmp_path / "sample").write_bytes(b'{"data": [1]}')
    if keys is not None:
        (tmp_path / "keys.json").write_text(keys)
    body = str(tmp_path / "sample") if sample else ""
    key_file = "" if keys is None else str(tmp_path / "keys.json")
    command = [sys.executable, "-I", "-S", "-c", PROBE.read_text()]
    return subprocess.run(
        [*command, str(port), str(patience), "application/json", body, key_file],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_server_that_answers_its_sample_has_started(server: Server, tmp_path: Path) -> None:
    done = probed(tmp_path, server.port)

    assert (done.returncode, done.stderr) == (0, "")
    (_, ready, _, _), (method, path, headers, body) = server.asked
    assert (ready, method, path, body) == ("/ready", "POST", "/score", b'{"data": [1]}')
    assert headers["Content-Type"] == "application/json"
    assert "Authorization" not in headers


def test_the_sample_is_sent_with_a_key(server: Server, tmp_path: Path) -> None:
    done = probed(tmp_path, server.port, json.dumps({"primary": "canary", "secondary": "other"}))

    assert done.returncode == 0
    assert server.asked[1][2]["Authorization"] == "Bearer canary"
    assert "canary" not in done.stdout + done.stderr


def test_a_sample_that_fails_is_told_with_the_answer(server: Server, tmp_path: Path) -> None:
    server.score = 500

    done = probed(tmp_path, server.port)

    assert done.returncode == 1
    assert done.stderr.strip() == "the sample request was answered with 500: no model"


def test_a_server_is_waited_for(server: Server, tmp_path: Path) -> None:
    server.busy = 3

    assert probed(tmp_path, server.port, patience=60).returncode == 0
    assert [path for _, path, _, _ in server.asked] == ["/ready"] * 4 + ["/score"]


def test_without_a_sample_to_be_ready_is_enough(server: Server, tmp_path: Path) -> None:
    assert probed(tmp_path, server.port, sample=False).returncode == 0
    assert [path for _, path, _, _ in server.asked] == ["/ready"]


def test_a_server_that_is_not_ready_gets_no_sample(server: Server, tmp_path: Path) -> None:
    server.ready = 503

    done = probed(tmp_path, server.port)

    assert done.returncode == 1
    assert done.stderr.strip() == "GET /ready was answered with 503: not yet"
    assert {path for _, path, _, _ in server.asked} == {"/ready"}


def test_a_server_that_does_not_listen_is_told(tmp_path: Path) -> None:
    done = probed(tmp_path, 1)

    assert done.returncode == 1
    assert done.stderr.strip() == "GET /ready failed: [Errno 111] Connection refused"
