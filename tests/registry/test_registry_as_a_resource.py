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

PLAIN = """
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
ENCRYPTED = """
import json, pathlib, sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import pulumi
from provider import sdk

arguments = json.loads(pathlib.Path(__file__).with_name("arguments.json").read_text())
names, key = arguments.pop("names"), pulumi.Output.secret(arguments.pop("key"))
authority = sdk.CertificateAuthority("authority", {"name": "Example"})
certificate = sdk.Certificate(
    "certificate",
    {
        "ca_certificate": authority.certificate,
        "ca_private_key": authority.private_key,
        "common_name": "registry",
        "names": names,
    },
)
webhooks = [{"name": "ci", "url": "http://127.0.0.1:1/", "headers": {"Authorization": key}}]
registry = sdk.RegistryService(
    "registry",
    {
        **arguments,
        "bind": "0.0.0.0",
        "host": "localhost",
        "certificate": certificate.certificate,
        "private_key": certificate.private_key,
        "replicas": 2,
        "webhooks": webhooks,
        "webhook_limit": 100,
    },
)
for name in ("address", "username", "password"):
    pulumi.export(name, getattr(registry, name))
pulumi.export("authority", authority.certificate)
pulumi.export("keys", pulumi.Output.all(authority.private_key, certificate.private_key))
"""
MIB = 2**20


class RegistryStack(Project):
    """A stack of nothing but a registry."""

    def __init__(self, folder: Path, source: str) -> None:
        super().__init__(folder)
        self.folder = self.home / "registry"
        program = self.root / "program"
        program.mkdir()
        (program / "__main__.py").write_text(source)
        self._arguments = program / "arguments.json"
        settings = yaml.safe_load((self.root / "Pulumi.yaml").read_text())
        (self.root / "Pulumi.yaml").write_text(yaml.safe_dump({**settings, "main": "program"}))
        self.ask(tier="Basic", quota_bytes=64 * MIB, cpus=0.5, memory_bytes=256 * MIB)

    def ask(self, **arguments: Any) -> None:
        self.arguments = {"path": str(self.folder), "port": self.port, **arguments}
        self._arguments.write_text(json.dumps(self.arguments))

    def ask_encrypted(self, names: list[str]) -> None:
        tier = {"tier": "Premium", "quota_bytes": 128 * MIB, "cpus": 2, "memory_bytes": 512 * MIB}
        self.ask(**tier, names=names, key="Bearer s3cr3t-of-the-receiver")

    def registry(self) -> Registry:
        found = self.stack.outputs()
        assert found["password"].secret
        credentials = Credentials(found["username"].value, found["password"].value)
        authority = found["authority"].value if "authority" in found else None
        return Registry(found["address"].value, credentials, ca_certificate=authority)

    def kept(self) -> list[bytes]:
        """All that is in the stack's state and its history."""
        return [path.read_bytes() for path in self.root.parent.joinpath("state").rglob("*") if path.is_file()]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RegistryStack]:
    stack = RegistryStack(tmp_path, PLAIN)
    yield stack
    stack.clear()


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[RegistryStack]:
    stack = RegistryStack(tmp_path, ENCRYPTED)
    stack.ask_encrypted(["localhost"])
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

    assert any(b"RegistryService" in data for data in stack.kept())
    assert not any(password.encode() in data for data in stack.kept())
    assert password not in "".join(said)
    stack.stack.destroy()
    assert stack.files() == []


def test_a_registry_with_certificates_of_the_stack_s_own(encrypted: RegistryStack) -> None:
    said: list[str] = []
    assert encrypted.up(on_output=said.append) == {"create": 4}
    encrypted.registry().check()
    encrypted.stack.refresh(on_output=said.append)
    assert encrypted.up(on_output=said.append) == {}

    encrypted.ask_encrypted(["localhost", "registry.example"])
    said.append(encrypted.preview())
    assert encrypted.up(on_output=said.append) == {"update": 2}
    encrypted.registry().check()

    found = encrypted.stack.outputs()
    assert found["keys"].secret
    secrets = [line for key in found["keys"].value for line in key.splitlines()[1:-1]]
    everything = [*encrypted.kept(), "".join(said).encode()]
    for secret in (*secrets, "s3cr3t-of-the-receiver", found["password"].value):
        assert not any(secret.encode() in text for text in everything)
    encrypted.stack.destroy()
    assert encrypted.files() == []


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
