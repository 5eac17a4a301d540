"""A small stand-in for an API server: it answers what it is told to, and remembers what it was asked.

A connection a request: one that stayed open would outlive the server.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

Answer = tuple[int, Any]
"""A status, and a document or a text."""


@dataclass
class ApiServer:
    """What it answers, and what it was asked."""

    server: ThreadingHTTPServer
    answers: dict[str, Answer | Callable[[], Answer]] = field(default_factory=dict)
    """By path, or by method and path (`DELETE /api/...`); a query string counts only where it is given."""
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def kubeconfig(self, folder: Path, **user: Any) -> Path:
        """A kubeconfig that leads to it."""
        return write_kubeconfig(folder / "kubeconfig", self.address, **user)


def write_kubeconfig(path: Path, server: str, *, cluster: dict[str, Any] | None = None, **user: Any) -> Path:
    """A kubeconfig with the contexts `one` (the current one) and `two`."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "clusters": [{"name": "here", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "ann", "user": user or {"token": "let-me-in"}}],
        "contexts": [{"name": name, "context": {"cluster": "here", "user": "ann"}} for name in ("one", "two")],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def refusal(code: int, message: str, reason: str = "") -> Answer:
    """A refusal as the API server gives it."""
    return code, {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def items(*found: Any) -> Answer:
    """A list."""
    return 200, {"kind": "List", "items": list(found)}


@contextlib.contextmanager
def serving(port: int = 0) -> Iterator[ApiServer]:
    """Runs one; on a port that is given where it goes away in a test: nobody else is given that one meanwhile."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            api.bodies.append(self.rfile.read(int(self.headers.get("content-length") or 0)))
            api.asked.append(f"{self.command} {self.path}")
            api.headers.append({name.lower(): value for name, value in self.headers.items()})
            bare = self.path.partition("?")[0]
            known = (f"{self.command} {bare}", self.path, bare)
            found = next((api.answers[key] for key in known if key in api.answers), refusal(404, f"{bare} not found"))
            status, document = found() if callable(found) else found
            body = document.encode() if isinstance(document, str) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = do_PATCH = answer  # noqa: N815 - the names that http.server looks for

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    api = ApiServer(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
