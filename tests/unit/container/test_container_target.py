"""How an `Endpoint` waits for containers: how often the engine is asked, and for what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from provider import endpoint
from provider.container import target
from provider.container.engine import Finished
from provider.endpoint import Endpoint
from provider.resource import ResourceError
from tests.operations import context

NEWS = {
    "target": {
        "kind": "container",
        "engine": {"host": "unix:///nowhere.sock"},
        "service": "echo",
        "containers": ["one", "two"],
        "image": "registry/echo@sha256:1",
    },
    "revision": "r1",
}


class FakeEngine:
    """Containers of the revision r1, whose servers name `revisions` in turn, and the last of them for good."""

    def __init__(self, *revisions: str) -> None:
        self.revisions = list(revisions)
        self.commands: list[tuple[str, Sequence[str]]] = []

    def inspect(self, container: str) -> dict[str, Any]:
        return {"State": {"Status": "running"}, "RestartCount": 0, "Config": {"Env": ["SLIPWAY_REVISION=r1"]}}

    def execute(self, container: str, command: Sequence[str], stdin: bytes | None, seconds: float) -> Finished:
        self.commands.append((container, command))
        revision = self.revisions.pop(0) if len(self.revisions) > 1 else self.revisions[0]
        head = {"status": 200, "headers": {"slipway-revision": revision}}
        return Finished(0, json.dumps(head).encode() + b"\nready", b"")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine("r1")
    monkeypatch.setattr(target, "engine_of", lambda _: fake)
    monkeypatch.setattr(endpoint, "_SETTLE_SECONDS", 0.0)
    return fake


def create() -> dict[str, Any]:
    return asyncio.run(Endpoint().create(context("slipway:index:Endpoint", "echo"), NEWS))[1]


def test_each_server_that_is_ready_is_asked_once(engine: FakeEngine) -> None:
    assert create()["state"] == "Healthy"
    assert sorted(container for container, _ in engine.commands) == ["one", "two"]


def test_the_look_waits_in_the_container_while_the_endpoint_waits(engine: FakeEngine) -> None:
    create()
    (patience,) = {command[-1] for _, command in engine.commands}
    assert float(patience) > 0


def test_a_refresh_does_not_wait(engine: FakeEngine) -> None:
    state = asyncio.run(Endpoint().read(context("slipway:index:Endpoint", "echo"), "echo", NEWS))
    assert state is not None
    assert state["state"] == "Healthy"
    assert {command[-1] for _, command in engine.commands} == {"0"}


def test_another_revision_that_answers_is_told(engine: FakeEngine) -> None:
    engine.revisions = ["r0"]
    with pytest.raises(ResourceError, match="revision r0 answers on one, not r1"):
        create()


def test_another_revision_is_asked_again_before_it_is_told(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_SETTLE_SECONDS", 60.0)
    engine.revisions = ["r0", "r0", "r1"]
    assert create()["state"] == "Healthy"
    assert len(engine.commands) == 4
