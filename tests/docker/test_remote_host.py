"""A host behind ssh: the same routes and endpoints, through nothing but `docker system dial-stdio`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider.container.engine import EngineError, engine_of
from provider.endpoint import Endpoint
from tests.docker.remote import behind_ssh
from tests.docker.routed import Box, Routed, ask
from tests.e2e.load import SteadyLoad
from tests.operations import context


@pytest.fixture
def remote(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The box's engine, by ssh."""
    with behind_ssh(box.docker, tmp_path) as host:
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        yield {"host": host}


def test_a_service_moves_on_a_host_behind_ssh(box: Box, remote: dict[str, str], port: int, tmp_path: Path) -> None:
    box.serve("r1", "r2")
    sample = tmp_path / "sample.json"
    sample.write_text('"' + "x" * 500_000 + '"')
    target = {
        "kind": "container",
        "engine": remote,
        "service": "mnist",
        "containers": [f"{box.name}-r2"],
        "image": box.image,
    }
    news = {"target": target, "revision": "r2", "sampleRequest": str(sample)}
    state = asyncio.run(Endpoint().create(context("slipway:index:Endpoint", "mnist"), news))[1]
    assert state["state"] == "Healthy"
    route = Routed({**box.inputs(port, box.deployment("blue", 100, "r1")), "engine": remote})
    assert route.state["scoringUri"] == f"http://127.0.0.1:{port}/score"
    with SteadyLoad(port, connections=4) as load:
        route.update({**box.inputs(port, box.deployment("blue", 100, "r2")), "engine": remote})
    assert load.failures == []
    assert route.drift() is None
    assert ask(port, "GET", "/ready").headers["slipway-revision"] == "r2"
    route.delete()


def test_a_host_that_does_not_let_us_in_is_told(remote: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "user.pub").write_text("")
    with pytest.raises(EngineError, match=r"Permission denied \(publickey"):
        engine_of({"host": remote["host"].replace("root@", "nobody@")})
