"""Whole deployments on this machine: the resources, a supervisor and the real scoring server."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from provider.local import client
from tests.unit.local.conftest import get
from tests.unit.local.deployment import SCORE, Deployment


@pytest.fixture
def deployment(home: Path) -> Deployment:
    return Deployment(home)


def test_deploys_updates_and_deletes(deployment: Deployment) -> None:
    outputs = deployment.up()
    assert outputs["state"] == "Healthy"
    assert get(deployment.port, "/score", b"{}") == {"answer": "seven", "version": 1}
    first = deployment.state["revision"]

    deployment.write("score.py", SCORE.replace('"version": 1', '"version": 2'))
    deployment.up()
    assert deployment.state["revision"] != first
    assert get(deployment.port, "/score", b"{}")["version"] == 2

    deployment.down()
    shutil.rmtree(deployment.home / "store")
    assert [str(path) for path in deployment.home.rglob("*")] == []
    assert not client.socket_directory().exists()
