"""The registry service as a stack's resource: its password is a secret everywhere, and it goes without a trace."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from provider.local.layout import read_json
from provider.registry.auth import Credentials
from provider.registry.client import Registry
from provider.registry_host.spec import Files
from tests.e2e.project import Project, eventually

PROGRAM = """
import json, pathlib, sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import pulumi
from provider import sdk

arguments = json.loads(pathlib.Path(__file__).with_name("arguments.json").read_text())
registry = sdk.RegistryService("registry", arguments)
pulumi.export("address", registry.address)
pulumi.export("username", registry.username)
pulumi.export("password", registry.password)
"""
MIB = 2**20


class RegistryStack(Project):
    """A stack of nothing but a registry."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = self.home / "registry"
        program = self.root / "program"
        program.mkdir()
        (program / "__main__.py").write_text(PROGRAM)
        self._arguments = program / "arguments.json"
        settings = yaml.safe_load((self.root / "Pulumi.yaml").read_text())
        (self.root / "Pulumi.yaml").write_text(yaml.safe_dump({**settings, "main": "program"}))
        self.ask(tier="Basic", quota_bytes=64 * MIB, cpus=0.5, memory_bytes=256 * MIB)

    def ask(self, **arguments: Any) -> None:
        self.arguments = {"path": str(self.folder), "port": self.port, **arguments}
        self._arguments.write_text(json.dumps(self.arguments))

    def registry(self) -> Registry:
        found = self.stack.outputs()
        assert found["password"].secret
        return Registry(found["address"].value, Credentials(found["username"].value, found["password"].value))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RegistryStack]:
    stack = RegistryStack(tmp_path)
    yield stack
    stack.clear()


def test_a_registry_goes_up_changes_its_tier_is_mended_and_comes_down(stack: RegistryStack) -> None:
    said: list[str] = []
    assert stack.up(on_output=said.append) == {"create": 2}
    stack.registry().check()
    password = stack.stack.outputs()["password"].value
    assert stack.up(on_output=said.append) == {}

    stack.ask(tier="Standard", quota_bytes=128 * MIB, cpus=1, memory_bytes=512 * MIB)
    said.append(stack.preview())
    assert stack.up(on_output=said.append) == {"update": 1}
    stack.registry().check()

    status = read_json(Files(stack.folder).status)
    assert status is not None
    os.kill(status["keeper"], signal.SIGKILL)
    eventually(lambda: _has_ended(status["pid"]), "the registry ends with its keeper")
    stack.stack.refresh(on_output=said.append)
    assert stack.up(on_output=said.append) == {"update": 1}
    stack.registry().check()

    kept = [path.read_bytes() for path in stack.root.parent.joinpath("state").rglob("*") if path.is_file()]
    assert any(b"RegistryService" in data for data in kept)
    assert not any(password.encode() in data for data in kept)
    assert password not in "".join(said)
    stack.stack.destroy()
    assert stack.files() == []


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
