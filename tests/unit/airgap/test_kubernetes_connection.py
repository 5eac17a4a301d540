"""What the stand-in for Pulumi's kubernetes plugin asks again of an API server that is starting, or slow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airgap.kubernetes import connection as connecting
from airgap.kubernetes.connection import ApiError, Connection, UnreachableError
from airgap.kubernetes.settings import Settings
from tests.unit.kubernetes.api_server import ApiServer, items, refusal, serving

MAPS = "/api/v1/namespaces/models/configmaps"
MADE = 201, {"kind": "ConfigMap"}


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "_PAUSE_SECONDS", 0.01)


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving() as server:
        yield server


@pytest.fixture
def connection(api: ApiServer, tmp_path: Path) -> Connection:
    """One that has been answered."""
    made = Connection(Settings.of({"kubeconfig": str(api.kubeconfig(tmp_path))}))
    api.answers[MAPS] = items()
    made.request("GET", MAPS)
    return made


@pytest.mark.parametrize(
    "refused",
    [
        refusal(503, "apiserver is shutting down"),
        refusal(500, "etcdserver: request timed out"),
        refusal(403, 'configmaps "a" is forbidden: not yet ready to handle request', "Forbidden"),
    ],
)
def test_an_object_is_made_once_the_server_is_ready(
    api: ApiServer, connection: Connection, refused: tuple[int, object]
) -> None:
    turns = iter([refused, MADE])
    api.answers[MAPS] = lambda: next(turns)
    assert connection.request("PATCH", MAPS) == MADE[1]


def test_rights_that_a_starting_server_has_not_read_yet(api: ApiServer, connection: Connection) -> None:
    denied = refusal(403, 'User "ann" cannot patch resource "configmaps"', "Forbidden")
    turns = iter([refusal(503, "starting"), denied, MADE])
    api.answers[MAPS] = lambda: next(turns)
    assert connection.request("PATCH", MAPS) == MADE[1]


def test_a_refusal_is_told_at_once(api: ApiServer, connection: Connection) -> None:
    api.answers[MAPS] = refusal(403, 'User "ann" cannot patch resource "configmaps"', "Forbidden")
    asked = len(api.asked)
    with pytest.raises(ApiError, match="cannot patch"):
        connection.request("PATCH", MAPS)
    assert len(api.asked) == asked + 1


def test_a_server_that_stays_slow_is_told_in_the_end(
    api: ApiServer, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "_PATIENCE_SECONDS", 0.1)
    api.answers[MAPS] = refusal(500, "etcdserver: request timed out")
    with pytest.raises(UnreachableError, match="is busy or starting: etcdserver: request timed out"):
        connection.request("PATCH", MAPS)
