"""A service under test: a supervisor of its own, revisions that run the fake server, and nothing left afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from provider.local import client
from provider.local.layout import SPEC, ServicePaths, write_json
from provider.local.process import start_time
from tests.ports import free_port

FAKE_SERVER = Path(__file__).with_name("fake_server.py")
DEADLINE = 180.0
QUICK = {"interval": 0.05, "timeout": 60.0, "failures": 2, "first_delay": 0.05, "longest_delay": 0.2, "steady": 60.0}


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Waits until `condition` gives something true, and returns that."""
    deadline = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {DEADLINE} s: {what}"
        time.sleep(0.01)
    return value


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def get(port: int, path: str = "/", body: bytes | None = None) -> dict[str, Any]:
    """The JSON answer of the service on `port`."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body, timeout=DEADLINE) as answer:
        return dict(json.load(answer))


class Service:
    """A service whose supervisor is spoken to directly, below the resources."""

    def __init__(self, home: Path, name: str) -> None:
        self.paths = ServicePaths(home, name)
        self.port = free_port()

    def revision(self, revision: str, *, sample: bytes | None = None, **behaviour: str) -> str:
        """Makes the directory of a revision that runs the fake server."""
        place = self.paths.revision(revision)
        place.mkdir(parents=True)
        if sample is not None:
            (place / "sample").write_bytes(sample)
        spec = {
            "revision": revision,
            "python": sys.executable,
            "argv": [sys.executable, "-I", "-S", str(FAKE_SERVER), "--revision", revision],
            "directory": str(place),
            "environment": {"PATH": os.environ["PATH"], **behaviour, **client.mark(self.paths)},
            "models": [],
            "serverDigest": "sha256:0",
            "sample": {"path": str(place / "sample"), "contentType": "application/json"} if sample else None,
        }
        write_json(place / SPEC, spec)
        return revision

    def apply(self, revision: str, **wish: Any) -> dict[str, Any]:
        self.paths.root.mkdir(parents=True, exist_ok=True)

        async def ensured() -> dict[str, Any]:
            await client.ensure(self.paths)
            message = {"revision": revision, "host": "127.0.0.1", "port": self.port, "drainSeconds": 5, "watch": QUICK}
            return await client.command(self.paths, {"command": "apply", **message, **wish})

        return asyncio.run(ensured())

    def command(self, name: str, **fields: Any) -> dict[str, Any]:
        return asyncio.run(client.command(self.paths, {"command": name, **fields}))

    @property
    def status(self) -> dict[str, Any]:
        there = asyncio.run(client.status(self.paths))
        assert there is not None, "no supervisor"
        return there

    def until(self, state: str, **fields: Any) -> dict[str, Any]:
        """Waits for a state, with given members of the status."""

        def reached() -> dict[str, Any] | None:
            status = self.status
            return status if status["state"] == state and all(status[n] == v for n, v in fields.items()) else None

        try:
            return dict(eventually(reached, f"{state} {fields}"))
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.status}") from None

    def deploy(self, revision: str, **wish: Any) -> dict[str, Any]:
        self.apply(revision, **wish)
        return self.until("Healthy", active=revision)


def end(paths: ServicePaths) -> None:
    """Ends a service's processes by the ids that its supervisor wrote down."""
    if client.alive(paths):
        asyncio.run(client.stop(paths, 0))
    client.clear(paths)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace's folder. Sockets go to a short temporary directory of this test alone."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="sl", dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        yield tmp_path / "stack" / "demo"
        for root in (tmp_path / "stack" / "demo" / "services").glob("[!.]*"):
            end(ServicePaths.at(root))


@pytest.fixture
def service(home: Path) -> Service:
    return Service(home, "mnist")


def kill(pid: int) -> None:
    """Ends a process of this test, as `kill -9` does, and waits until it is gone."""
    started = start_time(pid)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_running(pid) or start_time(pid) != started, f"the end of {pid}")
