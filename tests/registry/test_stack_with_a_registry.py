"""Stacks whose models, images and packages are in a registry: one that runs here, and one that is there already."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pulumi import automation

from provider.local.layout import read_json
from provider.registry.auth import Credentials
from provider.registry.client import Registry
from provider.registry_host.spec import Files
from tests.e2e.project import Project, descendants_of_supervisors, eventually
from tests.e2e.test_assets import TELLING, track, write
from tests.e2e.test_packages import image_to_begin_with
from tests.ports import free_port, is_free
from tests.registry.registry_process import RegistryProcess
from tests.registry.test_registry_access import HTPASSWD, PASSWORD, USER


class Stack(Project):
    """Three models, of a file, a folder and a training run; a service of two of them, and a package of the third."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        image_to_begin_with(self.home)
        self.script.write_text(TELLING)
        write(self.root / "folder" / "part.txt", "one of several files")
        track(self.root, "aa01", 0.7)
        run = {"trackingUri": "mlruns", "experiment": "digits", "metric": "accuracy"}
        self.sections |= {
            "environments": {"plain": {"clone": "minimal"}, "more": {"clone": "minimal", "pip": ["tomli-w"]}},
            "models": {"file": {"path": "model.bin"}, "folder": {"path": "folder"}, "trained": {"mlflow": run}},
            "packages": {
                "app": {"models": ["trained"], "inference": {**self.service["inference"], "environment": "more"}}
            },
        }
        self.service["models"] = ["file", "folder"]
        self.service["inference"]["environment"] = "plain"

    def up_as_foreseen(self) -> dict[str, int]:
        """`pulumi up`, after a preview that said the same."""
        self.write()
        preview = {str(getattr(kind, "value", kind)): n for kind, n in self.stack.preview().change_summary.items()}
        preview.pop("same", None)
        done = self.up()
        assert preview == done
        return done

    def registry(self) -> Registry:
        found = self.stack.outputs()["registry"].value
        return Registry(found["location"], Credentials(found["username"], found["password"]))

    def package(self) -> dict[str, Any]:
        package: dict[str, Any] = self.stack.outputs()["packages"].value["app"]
        return package


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path)
    yield stack
    stack.clear()


def test_a_stack_with_a_registry_goes_up_changes_and_comes_down(stack: Stack) -> None:
    stack.sections["registry"] = {"kind": "service", "tier": "Standard", "port": free_port()}
    assert set(stack.up_as_foreseen()) == {"create"}
    assert stack.up_as_foreseen() == {}
    ids = {name: model["id"] for name, model in stack.stack.outputs()["models"].value.items()}
    assert ids == {"file": "file:1", "folder": "folder:1", "trained": "trained:1"}
    assert stack.score() == {"file/1/model.bin": "first weights", "folder/1/folder/part.txt": "one of several files"}
    first = stack.package()
    assert first["image"] == f"{stack.stack.outputs()['registry'].value['location']}/packages/app@{first['digest']}"
    assert models_of(stack.registry(), "packages/app", first["digest"]) == "trained:1"
    assert stack.registry().repository("models/trained").get_manifest("1") is not None

    stack.script.write_text(TELLING + "\n# changed\n")
    assert stack.up_as_foreseen() == {"update": 2, "replace": 1}, "the service and its endpoint; the package"
    assert stack.registry().repository("packages/app").get_manifest(first["digest"]) is None

    stack.model.write_bytes(b"second weights")
    assert stack.up_as_foreseen() == {"update": 3}, "the model, its service and that one's endpoint"
    assert stack.score()["file/2/model.bin"] == "second weights"

    stack.sections["registry"]["tier"] = "Premium"
    assert stack.up_as_foreseen() == {"update": 1}, "the registry alone"
    assert models_of(stack.registry(), "packages/app", stack.package()["digest"]) == "trained:1"

    stack.stack.destroy()
    assert not (stack.home / "test").exists()
    assert descendants_of_supervisors(stack.home / "test") == []


def test_a_registry_that_has_ended_is_started_again_and_goes_with_all_that_is_in_it(stack: Stack) -> None:
    stack.sections["registry"] = {"kind": "service", "port": free_port()}
    stack.sections["services"] = {}
    stack.write()
    stack.up()
    end_the_registry(stack)
    assert stack.up(refresh=True) == {"update": 1}, "the registry alone"
    assert models_of(stack.registry(), "packages/app", stack.package()["digest"]) == "trained:1"

    end_the_registry(stack)
    stack.stack.destroy()
    assert not (stack.home / "test").exists()


def test_models_move_with_their_stack_to_a_registry_of_another_kind(stack: Stack) -> None:
    stack.write()
    stack.up()
    stack.sections["registry"] = {"kind": "service", "port": free_port()}
    stack.write()
    changes = stack.up()

    assert changes == {"create": 1, "delete": 1, "update": 3, "replace": 2}, "models and images; the service runs on"
    assert stack.score()["file/1/model.bin"] == "first weights"
    assert models_of(stack.registry(), "packages/app", stack.package()["digest"]) == "trained:1"
    assert not (stack.home / "test" / "demo" / "store").exists()
    assert stack.up_as_foreseen() == {}


def end_the_registry(stack: Stack) -> None:
    """As a restart of the machine does."""
    status = read_json(Files(stack.home / "test" / "demo" / "registry").status)
    assert status is not None
    os.kill(status["keeper"], signal.SIGKILL)
    port = stack.sections["registry"]["port"]
    eventually(lambda: is_free(port), "the registry ends with its keeper")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RegistryProcess]:
    """A registry that asks for a password, with a path of others before ours."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    section = {"auth": {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}}}
    process = RegistryProcess(tmp_path / "registry", section)
    try:
        process.start()
        yield process
    finally:
        process.stop()


def test_a_registry_that_is_there_already_is_used_with_a_secret(stack: Stack, guarded: RegistryProcess) -> None:
    stack.sections["registry"] = {
        "kind": "external",
        "tier": "Premium",
        "address": f"{guarded.address}/team",
        "username": USER.username,
        "password": {"secret": "registryPassword"},
    }
    stack.sections["services"] = {}
    stack.write()
    assert "set it: `pulumi config set --secret slipway:registryPassword --stack test`" in stack.failing_up()

    stack.stack.set_config("slipway:registryPassword", automation.ConfigValue(PASSWORD, secret=True))
    said: list[str] = []
    stack.write()
    stack.up(on_output=said.append, on_error=said.append)
    registry = Registry(f"{guarded.address}/team", USER)
    package = stack.package()
    assert package["image"].startswith(f"{guarded.address}/team/test/demo/packages/app@sha256:")
    assert models_of(registry, "test/demo/packages/app", package["digest"]) == "trained:1"
    assert stack.up_as_foreseen() == {}
    assert not list(stack.home.glob("test/demo/environments/*/bin/python")), "nothing runs on this machine"

    assert PASSWORD not in "".join(said)
    kept = [file for folder in (stack.state, stack.root / "stacks", stack.home) for file in folder.rglob("*")]
    assert not [file for file in kept if file.is_file() and PASSWORD.encode() in file.read_bytes()]
    stack.stack.destroy()
    assert registry.repository("test/demo/packages/app").get_manifest(package["digest"]) is None
    assert registry.repository("models/trained").get_manifest("1") is None


def models_of(registry: Registry, repository: str, digest: str) -> str:
    """Which models an image says that it has, whose layers are all there."""
    store = registry.repository(repository)
    found = store.get_manifest(digest)
    assert found is not None
    document = json.loads(found[1])
    assert all(store.has_blob(layer["digest"]) for layer in document["layers"])
    models: str = document["annotations"]["slipway.models"]
    return models
