"""What the stand-in for Pulumi's kubernetes plugin makes of a name that is taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airgap.kubernetes import operations
from airgap.kubernetes.connection import Connection
from airgap.kubernetes.objects import Kind, Object
from airgap.kubernetes.operations import Target
from airgap.kubernetes.settings import Settings
from provider.resource import ResourceError
from tests.operations import Lines, context
from tests.unit.kubernetes.api_server import Answer, ApiServer, refusal, serving

MAPS = "/api/v1/namespaces/models/configmaps"
WANTED: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "it", "namespace": "models"}}
TARGET = Target(Kind("v1", "ConfigMap"), WANTED, "us")
TAKEN = refusal(409, 'configmaps "it" already exists', "AlreadyExists")
GONE = refusal(404, 'configmaps "it" not found', "NotFound")


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving() as server:
        server.answers["/api/v1"] = (
            200,
            {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}]},
        )
        yield server


@pytest.fixture
def connection(api: ApiServer, tmp_path: Path) -> Connection:
    return Connection(Settings.of({"kubeconfig": str(api.kubeconfig(tmp_path))}))


def live(uid: str, manager: str = "us", **metadata: Any) -> Object:
    fields = [{"manager": manager, "operation": "Apply"}]
    return {**WANTED, "metadata": {**WANTED["metadata"], "uid": uid, "managedFields": fields, **metadata}}


def in_turn(*answers: Answer) -> Any:
    """One after the other, the last one from then on."""
    left = list(answers)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def made(connection: Connection, log: Lines | None = None) -> Object:
    doing = context("kubernetes:core/v1:ConfigMap", "it", log=log)
    return operations.create(connection, doing, TARGET, 30).live


@pytest.mark.parametrize("manager", ["us", "somebody"])
def test_what_is_on_its_way_out_is_waited_for_and_not_taken_over(
    api: ApiServer, connection: Connection, manager: str
) -> None:
    leaving = live("1", manager, deletionTimestamp="2026-01-01T00:00:00Z")
    api.answers[f"POST {MAPS}"] = in_turn(TAKEN, (201, live("2")))
    api.answers[f"GET {MAPS}/it"] = in_turn((200, leaving), (200, leaving), GONE)
    api.answers[f"PATCH {MAPS}/it"] = 200, leaving
    log = Lines()

    assert made(connection, log)["metadata"]["uid"] == "2"
    assert not any(asked.startswith("PATCH") for asked in api.asked)
    assert log.said == ["waits until the one of that name is gone"]


def test_what_went_just_then_is_made(api: ApiServer, connection: Connection) -> None:
    api.answers[f"POST {MAPS}"] = in_turn(TAKEN, (201, live("2")))
    api.answers[f"GET {MAPS}/it"] = GONE

    assert made(connection)["metadata"]["uid"] == "2"


def test_what_an_interrupted_deployment_made_is_taken_over(api: ApiServer, connection: Connection) -> None:
    api.answers[f"POST {MAPS}"] = TAKEN
    api.answers[f"GET {MAPS}/it"] = 200, live("1")
    api.answers[f"PATCH {MAPS}/it"] = 200, live("1")

    assert made(connection)["metadata"]["uid"] == "1"


@pytest.mark.parametrize("found", [(200, live("1", "somebody")), GONE])
def test_what_is_somebody_elses_stays(api: ApiServer, connection: Connection, found: Answer) -> None:
    api.answers[f"POST {MAPS}"] = TAKEN
    api.answers[f"GET {MAPS}/it"] = found

    with pytest.raises(ResourceError, match="models/it already exists, and this stack did not make it"):
        made(connection)
