"""What a killed deployment was making on a Docker engine, as the stack's state tells it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from infra.setup import docker_leftovers

PROVIDER = "urn:pulumi:test::slipway::pulumi:providers:docker::box-engine"
LABELS = [{"label": "slipway.workspace", "value": "demo", "__defaults": []}]

DOCKER = """#!/usr/bin/env python3
import json, os, sys
folder = os.path.dirname(sys.argv[0])
with open(f"{folder}/log", "a") as log:
    log.write(os.environ.get("DOCKER_HOST", "") + " " + " ".join(sys.argv[1:]) + "\\n")
there = json.load(open(f"{folder}/there"))
if sys.argv[-1] not in there:
    sys.exit(1)
if sys.argv[2] == "inspect":
    labels = there[sys.argv[-1]]
    print(json.dumps({"Config": {"Labels": labels}} if sys.argv[1] == "container" else {"Labels": labels}))
"""
"""Answers for an engine, from a file with the labels of what there is."""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a `docker` for which `there` is what there is, and which notes in `log` what it is asked."""
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "there").write_text("{}")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    return tmp_path


def operation(kind: str = "container", step: str = "creating", **inputs: Any) -> dict[str, Any]:
    token = {"container": "docker:index/container:Container", "network": "docker:index/network:Network"}[kind]
    resource = {"type": token, "inputs": {"name": "one", "labels": LABELS, **inputs}, "provider": f"{PROVIDER}::id"}
    return {"type": step, "resource": resource}


def stored(folder: Path, *operations: dict[str, Any], resources: Sequence[dict[str, Any]] = ()) -> Path:
    provider = {
        "urn": PROVIDER,
        "id": "id",
        "type": "pulumi:providers:docker",
        "inputs": {"host": "unix:///engine.sock"},
    }
    path = folder / "state.json"
    deployment = {"resources": [provider, *resources], "pending_operations": list(operations)}
    path.write_text(json.dumps({"version": 3, "checkpoint": {"stack": "test", "latest": deployment}}))
    return path


def asked(engine: Path) -> list[str]:
    return [line for line in (engine / "log").read_text().splitlines() if " rm " in line]


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("container", "unix:///engine.sock container rm --force --volumes one"),
        ("network", "unix:///engine.sock network rm one"),
    ],
)
def test_what_was_in_the_making_is_removed_from_its_engine(engine: Path, kind: str, command: str) -> None:
    (engine / "there").write_text(json.dumps({"one": {"slipway.workspace": "demo", "from": "the image"}}))

    assert docker_leftovers.remove(stored(engine, operation(kind))) == ["one"]
    assert asked(engine) == [command]


def test_what_somebody_else_made_stays(engine: Path) -> None:
    (engine / "there").write_text(json.dumps({"one": {"slipway.workspace": "another"}}))

    assert docker_leftovers.remove(stored(engine, operation())) == []
    assert asked(engine) == []


def test_what_a_later_deployment_has_made_stays(engine: Path) -> None:
    (engine / "there").write_text(json.dumps({"one": {"slipway.workspace": "demo"}}))
    made = operation()["resource"] | {"id": "abc", "provider": f"{PROVIDER}::another"}

    assert docker_leftovers.remove(stored(engine, operation(), resources=[made])) == []
    assert not (engine / "log").exists()


def test_what_its_replacement_was_to_follow_does_not_count_as_made(engine: Path) -> None:
    (engine / "there").write_text(json.dumps({"one": {"slipway.workspace": "demo"}}))
    gone = operation()["resource"] | {"id": "abc", "pendingReplacement": True}

    assert docker_leftovers.remove(stored(engine, operation(), resources=[gone])) == ["one"]


def test_what_was_not_made_is_no_mistake(engine: Path) -> None:
    assert docker_leftovers.remove(stored(engine, operation())) == []


@pytest.mark.parametrize(
    "pending",
    [
        operation(step="deleting"),
        operation(labels=[]),
        operation(labels=None),
        {"type": "creating", "resource": {"type": "slipway:index:Endpoint", "inputs": {"name": "one"}}},
    ],
)
def test_only_unfinished_creations_with_labels_count(engine: Path, pending: dict[str, Any]) -> None:
    assert list(docker_leftovers.unfinished(json.loads(stored(engine, pending).read_text()))) == []


def test_engine_with_tls_is_reached_with_its_certificates() -> None:
    assert docker_leftovers.engine_of({"host": "tcp://box:2376", "certPath": "/certs"}) == {
        "DOCKER_HOST": "tcp://box:2376",
        "DOCKER_CERT_PATH": "/certs",
        "DOCKER_TLS_VERIFY": "1",
    }


def test_unreadable_state_is_left_to_pulumi(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")

    assert docker_leftovers.remove(tmp_path / "state.json") == []
    assert docker_leftovers.remove(tmp_path / "missing.json") == []
