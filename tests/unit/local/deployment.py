"""A workspace with models and code, and the two resources on it: what the tests of whole deployments share."""

from __future__ import annotations

import asyncio
import hashlib
import io
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

from provider.endpoint import Endpoint
from provider.local.layout import ServicePaths
from provider.local_service import LocalService
from provider.resource import Context, ResourceError
from tests.operations import Lines, context
from tests.unit.local.conftest import free_port

SERVER = Path(__file__).parents[3] / "serving" / "slipway_serving"
SCORE = """
import os

def init():
    global answer
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "weights.txt")) as file:
        answer = file.read()

def run(data):
    return {"answer": answer, "version": 1}
"""


class Deployment:
    """One service of a workspace, deployed through the resources as the engine would."""

    def __init__(self, home: Path, name: str = "mnist", **settings: Any) -> None:
        self.home = home
        self.paths = ServicePaths(home, name)
        self.source = home.parent.parent / f"{name}-source"
        self.source.mkdir(parents=True)
        self.write("score.py", SCORE)
        self.lines = Lines()
        self.cancelled = threading.Event()
        self.port = free_port()
        self.state: dict[str, Any] = {}
        self.inputs: dict[str, Any] = {
            "workspace": str(home),
            "name": name,
            "port": self.port,
            "python": sys.executable,
            "environmentDigest": "sha256:e",
            "sourceDirectory": str(self.source),
            "entryScript": "score.py",
            "serverDirectory": str(SERVER),
            "models": [stored_model(home, "digits", b"seven")],
            "drainSeconds": 30,
            "startupTimeoutSeconds": 180,
            **settings,
        }
        self.service = LocalService()
        self.endpoint = Endpoint()

    @property
    def context(self) -> Context:
        return context("slipway:index:LocalService", "mnist", log=self.lines, cancelled=self.cancelled)

    def write(self, name: str, text: str) -> Path:
        path = self.source / name
        path.write_text(text)
        return path

    def checked(self) -> dict[str, Any]:
        news, failures = asyncio.run(self.service.check(self.context, self.inputs))
        assert not failures, failures
        return news

    def failures(self) -> list[tuple[str, str]]:
        _, failures = asyncio.run(self.service.check(self.context, self.inputs))
        return [(failure.property, failure.reason) for failure in failures]

    def apply(self) -> None:
        """What an `up` does with the `LocalService`."""
        news = self.checked()
        if not self.state:
            _, self.state = asyncio.run(self.service.create(self.context, news))
        elif self.service.diff(self.state, news):
            self.state = asyncio.run(self.service.update(self.context, "demo/mnist", self.state, news))

    def endpoint_inputs(self, **more: Any) -> dict[str, Any]:
        target = {"kind": "local", "workspace": str(self.home), "service": self.paths.name}
        return {
            "target": target,
            "revision": self.state["revision"],
            "scoringUri": self.state["scoringUri"],
            "timeoutSeconds": 300,
            **more,
        }

    def wait(self, **more: Any) -> dict[str, Any]:
        """What an `up` does with the `Endpoint`."""
        return asyncio.run(self.endpoint.create(self.context, self.endpoint_inputs(**more)))[1]

    def up(self) -> dict[str, Any]:
        self.apply()
        return self.wait()

    def failing_up(self) -> str:
        self.apply()
        try:
            self.wait()
        except ResourceError as error:
            return str(error)
        raise AssertionError("the deployment did not fail")

    def refresh(self) -> dict[str, Any] | None:
        read = asyncio.run(self.service.read(self.context, "demo/mnist", self.state))
        self.state = read or {}
        return read

    def down(self) -> None:
        asyncio.run(self.service.delete(self.context, "demo/mnist", self.state))
        self.state = {}


def stored_model(home: Path, name: str, content: bytes, version: int = 1) -> dict[str, Any]:
    """Puts a layer with one file into the workspace's store; the model as a service names it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("models/", f"models/{name}/"):
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        entry = tarfile.TarInfo(f"models/{name}/weights.txt")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    blobs = home / "store" / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    (blobs / digest).write_bytes(buffer.getvalue())
    return {"name": name, "version": version, "digest": f"sha256:{digest}"}
