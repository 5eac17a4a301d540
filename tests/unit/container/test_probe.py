"""The program that asks a server inside its own container."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

PROBE = Path(__file__).parents[3] / "provider" / "container" / "probe.py"
KEY = "the-primary-key"


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that tells what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            sent = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            told = {"asked": f"{self.command} {self.path}", "sent": sent, "with": self.headers.get("authorization")}
            body = json.dumps({**told, "type": self.headers.get("content-type")}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815 - the names that http.server looks for

        def log_message(self, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def asked(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", "-c", PROBE.read_text(), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, env=variables)


def answered(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    head, _, body = done.stdout.partition("\n")
    assert json.loads(head)["status"] == 200
    found: dict[str, Any] = json.loads(body)
    return found


def test_a_question_without_a_body(port: int) -> None:
    assert answered(asked("/ready", "text/plain", "-1", "60", "0", str(port))) == {
        "asked": "GET /ready",
        "sent": "",
        "with": None,
        "type": None,
    }


def test_the_port_is_the_containers_own_where_none_is_given(port: int) -> None:
    assert answered(asked("/ready", "text/plain", "-1", "60", "0", SERVER_PORT=str(port)))["asked"] == "GET /ready"


@pytest.mark.parametrize(
    "keys",
    [f'{{"primary": "{KEY}", "secondary": "other"}}', f"{KEY}\nother\n", f'{{"primary": null, "secondary": "{KEY}"}}'],
)
def test_a_body_with_a_key_of_the_file(port: int, tmp_path: Path, keys: str) -> None:
    (tmp_path / "keys").write_text(keys)
    done = asked("/score", "text/plain", "5", "60", "0", str(port), str(tmp_path / "keys"), stdin="hello")
    assert answered(done) == {"asked": "POST /score", "sent": "hello", "with": f"Bearer {KEY}", "type": "text/plain"}


@pytest.mark.parametrize("text", ["", "{secret", "{}", '{"primary": null}'])
def test_a_file_without_a_key_is_not_shown(port: int, tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    done = asked("/score", "text/plain", "0", "60", "0", str(port), str(tmp_path / "keys"))
    assert (done.returncode, done.stderr.strip()) == (1, f"there is no key in {tmp_path / 'keys'}")


def test_a_server_that_does_not_answer_is_told() -> None:
    done = asked("/ready", "text/plain", "-1", "60", "0", "1")
    assert done.returncode == 1
    assert "Connection refused" in done.stderr
