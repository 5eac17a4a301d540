"""A registry service as a stack manages it, for the tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from provider.local.layout import read_json
from provider.registry.auth import Credentials
from provider.registry.client import Registry
from provider.registry.patience import Patience
from provider.registry_host.spec import Files
from provider.registry_service import RegistryService
from provider.resource import Context, Failure
from provider.values import Properties
from tests.registry.registry_process import DEADLINE, free_port
from tests.registry.support import MIB

T = TypeVar("T")
PATIENT = Patience(attempts=1200, first_pause=0.05, longest_pause=0.2)
"""For about `DEADLINE`: a registry that ends comes back when the machine gets to it."""


class Lines:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)

    warning = status = info


def run(operation: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(operation)


def context(*, preview: bool = False, log: Lines | None = None) -> Context:
    return Context("urn:pulumi:dev::slipway::slipway:index:RegistryService::registry", log or Lines(), preview)


def eventually(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {DEADLINE} s: {what}"
        time.sleep(0.01)
    return value


class Service:
    """One service under test."""

    resource = RegistryService()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inputs: Properties = {
            "path": str(folder),
            "port": free_port(),
            "tier": "Basic",
            "quotaBytes": 64 * MIB,
            "cpus": 0.5,
            "memoryBytes": 256 * MIB,
        }
        self.state: Properties = {}

    def up(self, **changed: Any) -> Properties:
        """As `pulumi up` does it, with some inputs changed."""
        self.inputs.update(changed)
        inputs, failures = run(self.resource.check(context(), self.inputs))
        assert failures == []
        if not self.state:
            _, self.state = run(self.resource.create(context(), inputs))
        elif self.resource.diff(self.state, inputs):
            self.state = run(self.resource.update(context(), str(self.folder), self.state, inputs))
        return self.state

    def refresh(self) -> Properties | None:
        found = run(self.resource.read(context(), str(self.folder), self.state))
        self.state = found or {}
        return found

    def down(self) -> None:
        run(self.resource.delete(context(), str(self.folder), self.state))

    def failures(self, **changed: Any) -> list[Failure]:
        return run(self.resource.check(context(preview=True), {**self.inputs, **changed}))[1]

    def registry(self, ca_certificate: str | None = None, patience: Patience = PATIENT) -> Registry:
        credentials = Credentials(self.state["username"], self.state["password"])
        return Registry(self.state["address"], credentials, patience=patience, ca_certificate=ca_certificate)

    @property
    def log(self) -> str:
        return Files(self.folder).log.read_text()

    def status(self) -> dict[str, Any]:
        found = read_json(Files(self.folder).status)
        assert isinstance(found, dict)
        return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
