"""The resource of an image: what it checks, does, and finds on a refresh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from asyncio import run
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provider.content.cache import DigestCache
from provider.images.environment import lock_digest
from provider.images.store import ImageLayoutStore
from provider.resource import Context, ResourceError, check_declared
from provider.service_image import ServiceImage
from provider.values import UNKNOWN, Properties
from tests.operations import Lines, context
from tests.unit.images.support import SCORE, push_base, register_model, write_wheel

KIND, NAME = "slipway:index:ServiceImage", "mnist"


class Stack:
    """A layout with a base image and a model, and one image, as the engine would drive it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = Lines()
        self.resource = ServiceImage()
        self.lock = root / "lock.txt"
        self.lock.write_text(write_wheel(root / "wheels", "one"))
        self.code = root / "code"
        self.code.mkdir()
        (self.code / "score.py").write_text(SCORE)
        (root / "slipway_serving").mkdir()
        (root / "slipway_serving" / "__init__.py").write_text("")
        self.base = push_base(root)
        self.model = register_model(root)

    def context(self, *, preview: bool = False) -> Context:
        return context(KIND, NAME, log=self.log, preview=preview)

    def inputs(self, **more: Any) -> Properties:
        return {
            "registry": str(self.root / "layout"),
            "repository": "services/mnist",
            "name": "mnist",
            "base": f"base@{self.base}",
            "platform": "linux/amd64",
            "pythonVersion": "3.11",
            "lockFile": str(self.lock),
            "environmentDigest": lock_digest(self.lock.read_text()),
            "serverDirectory": str(self.root / "slipway_serving"),
            "models": [{"name": "mnist", "version": 1, "digest": self.model.digest, "size": self.model.size}],
            "sourceDirectory": str(self.code),
            "entryScript": "score.py",
            "port": 8890,
            **more,
        }

    def checked(self, **more: Any) -> Properties:
        news, failures = run(self.resource.check(self.context(), self.inputs(**more)))
        assert not failures
        return news

    def refused(self, **more: Any) -> list[tuple[str, str]]:
        inputs = self.inputs(**more)
        assert not check_declared(self.resource.inputs, inputs)
        return [(failure.property, failure.reason) for failure in run(self.resource.check(self.context(), inputs))[1]]

    def create(self, **more: Any) -> Properties:
        resource_id, outputs = run(self.resource.create(self.context(), self.checked(**more)))
        assert resource_id == outputs["reference"]
        return outputs

    def read(self, state: Properties) -> Properties | None:
        return run(self.resource.read(self.context(), state["reference"], state))

    def manifest(self, state: Properties) -> dict[str, Any]:
        store = ImageLayoutStore(self.root / "layout", "services/mnist", DigestCache(self.root / "cache"))
        found = store.get_manifest(state["digest"])
        assert found is not None
        document: dict[str, Any] = json.loads(found[1])
        return document


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A stack whose packages come from wheels that are made here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return Stack(tmp_path)


def test_an_image_is_made_and_found(stack: Stack) -> None:
    state = stack.create()
    assert state["reference"] == f"services/mnist@{state['digest']}"
    assert [layer["kind"] for layer in state["layers"]] == ["base", "environment", "server", "model", "links", "code"]
    assert state["layers"][3] == {"kind": "model", "digest": stack.model.digest, "size": stack.model.size}
    assert state["size"] > sum(layer["size"] for layer in state["layers"])
    assert [item["digest"] for item in stack.manifest(state)["layers"]] == [item["digest"] for item in state["layers"]]
    assert stack.read(state) == state


def test_the_same_again_changes_nothing(stack: Stack) -> None:
    state = stack.create()
    assert stack.resource.diff(state, stack.checked()) == []
    assert stack.create() == state


def test_code_that_changed_is_another_image_beside_the_old_one(stack: Stack) -> None:
    first = stack.create()
    (stack.code / "score.py").write_text(SCORE + "# changed\n")
    changes = stack.resource.diff(first, stack.checked())
    assert {(change.path, change.replaces) for change in changes} == {
        ("codeDigest", True),
        ('code["score.py"]', True),
    }
    second = stack.create()
    assert second["digest"] != first["digest"]
    assert second["layers"][:-1] == first["layers"][:-1]
    run(stack.resource.delete(stack.context(), first["reference"], first))
    assert stack.read(second) == second
    assert stack.read(first) is None


def test_the_order_of_the_models_is_no_matter(stack: Stack) -> None:
    other = register_model(stack.root, "a-model")
    models = [
        {"name": "mnist", "version": 1, "digest": stack.model.digest, "size": stack.model.size},
        {"name": "a-model", "version": 2, "digest": other.digest, "size": other.size},
    ]
    assert stack.create(models=models)["digest"] == stack.create(models=models[::-1])["digest"]


def test_other_variables_are_another_image(stack: Stack) -> None:
    first = stack.create()
    second = stack.create(environmentVariables={"LEVEL": "3"})
    assert second["revision"] != first["revision"]
    assert second["digest"] != first["digest"]
    assert stack.create(environmentVariables={})["digest"] == first["digest"]


def test_credentials_are_taken_over_without_another_image(stack: Stack) -> None:
    state = stack.create(username="user", password="old")
    news = stack.checked(username="user", password="new")
    assert [(change.path, change.replaces) for change in stack.resource.diff(state, news)] == [("password", False)]
    updated = run(stack.resource.update(stack.context(), state["reference"], state, news))
    assert updated == {**state, "password": "new"}
    assert "new" not in " ".join(stack.log.said)


def test_a_preview_touches_nothing(stack: Stack) -> None:
    before = {path for path in stack.root.rglob("*") if "xdg/slipway/digests" not in str(path)}
    _, outputs = run(stack.resource.create(stack.context(preview=True), stack.checked()))
    assert outputs["digest"] is UNKNOWN
    assert {path for path in stack.root.rglob("*") if "xdg/slipway" not in str(path)} <= before
    assert not (stack.root / "xdg" / "slipway" / "layers").exists()
    assert outputs["revision"] == stack.create()["revision"]


def test_a_preview_bears_what_is_not_known(stack: Stack) -> None:
    for name in ("environmentDigest", "models", "base", "sourceDirectory", "registry", "password"):
        more = {"username": "user", "password": "x"} | {name: UNKNOWN}
        news, failures = run(stack.resource.check(stack.context(preview=True), stack.inputs(**more)))
        assert failures == []
        _, outputs = run(stack.resource.create(stack.context(preview=True), news))
        assert outputs["digest"] is UNKNOWN


def test_a_lost_manifest_is_found_and_made_again(stack: Stack) -> None:
    state = stack.create()
    store = ImageLayoutStore(stack.root / "layout", "services/mnist", DigestCache(stack.root / "cache"))
    store.delete_manifest(state["digest"])
    assert stack.read(state) is None
    assert "is gone: it will be made again" in stack.log.lines[-1]
    assert stack.create() == state


def test_a_lost_layer_is_found_and_made_again(stack: Stack) -> None:
    state = stack.create()
    (stack.root / "layout" / "blobs" / "sha256" / state["layers"][2]["digest"].removeprefix("sha256:")).unlink()
    assert stack.read(state) is None
    assert "has lost 1 of its layers" in stack.log.lines[-1]
    assert stack.create() == state
    assert stack.read(state) == state


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: (path.chmod(0o644), path.write_bytes(b"{}"))])
def test_a_damaged_manifest_is_found_and_made_again(stack: Stack, damage: Callable[[Path], object]) -> None:
    state = stack.create()
    damage(stack.root / "layout" / "blobs" / "sha256" / state["digest"].removeprefix("sha256:"))
    assert stack.read(state) is None
    assert "is damaged and will be made again" in stack.log.lines[-1]
    register_model(stack.root, "other")  # the store works on
    assert stack.create() == state
    assert stack.read(state) == state


def test_deleting_leaves_models_and_base(stack: Stack) -> None:
    before = {path.name for path in (stack.root / "layout" / "blobs" / "sha256").iterdir()}
    state = stack.create()
    for _ in range(2):
        run(stack.resource.delete(stack.context(), state["reference"], state))
    assert {path.name for path in (stack.root / "layout" / "blobs" / "sha256").iterdir()} == before


def test_an_image_goes_to_another_layout_with_all_it_needs(stack: Stack) -> None:
    home = stack.root / "layout"
    state = stack.create(
        registry=str(stack.root / "other"), baseRegistry=str(home), modelLayout=str(home), repository="team/mnist"
    )
    assert stack.read(state) == state
    assert state["digest"] == stack.create()["digest"]


def test_a_machine_without_a_cache_takes_the_environment_from_the_last_image(stack: Stack) -> None:
    first = stack.create()
    for path in (stack.root / "xdg" / "slipway" / "layers").iterdir():
        path.unlink()
    (stack.root / "wheels" / "one-1.0-py3-none-any.whl").unlink()
    (stack.code / "score.py").write_text(SCORE + "# changed\n")
    second = stack.create()
    assert second["layers"][1] == first["layers"][1]


def test_a_damaged_layer_in_the_cache_is_made_again(stack: Stack) -> None:
    first = stack.create()
    [layer] = (stack.root / "xdg" / "slipway" / "layers").glob("*.tar")
    whole = layer.read_bytes()
    layer.write_bytes(bytes(len(whole)))
    run(stack.resource.delete(stack.context(), first["reference"], first))
    assert stack.create() == first
    assert layer.read_bytes() == whole


def test_a_lock_that_is_another_is_refused(stack: Stack) -> None:
    with pytest.raises(ResourceError, match=r"the image of mnist: .*lock\.txt holds other packages"):
        stack.create(environmentDigest=f"sha256:{'0' * 64}")


def test_a_model_that_is_nowhere_is_named(stack: Stack) -> None:
    gone = [{"name": "gone", "version": 1, "digest": f"sha256:{'0' * 64}", "size": 10}]
    with pytest.raises(ResourceError, match="the model layer sha256:000"):
        stack.create(models=gone)
    assert not list((stack.root / "layout" / "incoming").iterdir())


@pytest.mark.parametrize(
    ("changes", "name", "reason"),
    [
        ({"platform": "linux/s390x"}, "platform", "must be one of linux/amd64, linux/arm64, not 'linux/s390x'"),
        ({"base": "debian:12"}, "base", "must name an image by its digest"),
        ({"base": f"../x@sha256:{'0' * 64}"}, "base", "must name an image by its digest"),
        ({"repository": "Team/x"}, "repository", "must be parts of lower-case letters"),
        ({"repository": "../x"}, "repository", "must be parts of lower-case letters"),
        ({"port": 80}, "port", "must be from 1024 to 65535, not 80"),
        ({"pythonVersion": "3"}, "pythonVersion", "must be like '3.12'"),
        ({"name": "Mnist"}, "name", "must be a DNS label"),
        ({"username": "user"}, "username", "go together"),
        ({"entryScript": "../score.py"}, "entryScript", "must lie in the source directory"),
        ({"entryScript": "gone.py"}, "entryScript", "is missing"),
        ({"sourceDirectory": "code"}, "sourceDirectory", "must be an absolute path"),
        ({"serverDirectory": "/nowhere"}, "serverDirectory", "is missing"),
        ({"environmentVariables": {"A=B": "1"}}, "environmentVariables", "'A=B' is no name of an environment variable"),
        ({"environmentVariables": {"A": 1}}, "environmentVariables.A", "must be a string without NUL"),
        ({"models": [{"name": "x"}]}, "models[0]", "needs name, version, digest and size"),
        ({"models": [{"name": "../x", "version": 1, "digest": f"sha256:{'0' * 64}", "size": 1}]}, "models[0].name", ""),
        ({"models": [{"name": "x", "version": 0, "digest": f"sha256:{'0' * 64}", "size": 1}]}, "models[0].version", ""),
        ({"models": [{"name": "x", "version": 1, "digest": "x", "size": -1}]}, "models[0].size", "no size in bytes"),
        ({"models": [], "entryScript": None}, "models", "nothing would be served"),
    ],
)
def test_what_cannot_be_is_refused(stack: Stack, changes: dict[str, Any], name: str, reason: str) -> None:
    assert any(found == name and reason in text for found, text in stack.refused(**changes))


def test_a_model_named_twice_is_refused(stack: Stack) -> None:
    model = {"name": "x", "version": 1, "digest": f"sha256:{'0' * 64}", "size": 1}
    assert ("models[1].name", "the model x is named twice") in stack.refused(models=[model, {**model, "version": 2}])


_KILLED = """
import asyncio, json, os, signal, sys
from provider.images.store import ImageLayoutStore
from provider.service_image import ServiceImage
from tests.operations import context

left = int(sys.argv[1])
def counted(method):
    def call(*arguments, **named):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return method(*arguments, **named)
    return call
for name in ("put_blob", "put_manifest"):
    setattr(ImageLayoutStore, name, counted(getattr(ImageLayoutStore, name)))
asyncio.run(ServiceImage().create(context("slipway:index:ServiceImage", "mnist"), json.loads(sys.argv[2])))
"""


def test_a_killed_up_is_completed_by_the_next(stack: Stack) -> None:
    news = stack.checked()
    for steps in (0, 2, 5):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", _KILLED, str(steps), json.dumps(news)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
        assert ended.returncode == -9, ended.stderr
        store = ImageLayoutStore(stack.root / "layout", "services/mnist", DigestCache(stack.root / "cache"))
        assert store.tags() == []
    state = stack.create()
    assert stack.read(state) == state
    assert not list((stack.root / "layout" / "incoming").iterdir())
