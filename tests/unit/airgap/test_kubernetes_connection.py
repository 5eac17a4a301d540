"""How the stand-in for Pulumi's kubernetes plugin reaches a cluster.

Also what it asks again of one that is starting, or slow.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from airgap.kubernetes import connection as connecting
from airgap.kubernetes.connection import ApiError, Connection, UnreachableError
from airgap.kubernetes.objects import Kind
from airgap.kubernetes.settings import Settings
from tests.unit.kubernetes.api_server import ApiServer, items, refusal, serving, write_kubeconfig

CONFIG_MAP = Kind("v1", "ConfigMap")
KINDS = {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}]}
PATH = "/api/v1/namespaces/models/configmaps/it"
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
def fresh(api: ApiServer, tmp_path: Path) -> Connection:
    """One that has asked nothing yet."""
    api.answers["/api/v1"] = 200, KINDS
    return Connection(Settings(kubeconfig=str(api.kubeconfig(tmp_path))))


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


def test_a_cluster_is_asked_without_the_kubernetes_package(
    api: ApiServer, fresh: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)  # an import of it fails
    api.answers[PATH] = 200, {"kind": "ConfigMap"}

    assert fresh.get(CONFIG_MAP, "models", "it") == {"kind": "ConfigMap"}
    assert api.headers[-1]["authorization"] == "Bearer let-me-in"


def test_what_is_sent_is_json_of_the_type_that_is_said(api: ApiServer, fresh: Connection) -> None:
    api.answers[f"PATCH {PATH}"] = 200, {"kind": "ConfigMap"}

    fresh.request("PATCH", PATH, [("fieldManager", "a b")], {"data": {}}, connecting.APPLY)

    assert api.asked == [f"PATCH {PATH}?fieldManager=a+b"]
    assert api.headers[0]["content-type"] == "application/apply-patch+yaml"


def test_a_refusal_has_code_reason_and_message(api: ApiServer, fresh: Connection) -> None:
    api.answers[PATH] = refusal(409, "there is one", "AlreadyExists")

    with pytest.raises(ApiError, match="there is one") as raised:
        fresh.request("POST", PATH, body={})
    assert raised.value.already_exists
    assert fresh.get(CONFIG_MAP, "models", "other") is None


def test_refused_credentials_are_told_with_the_context(api: ApiServer, fresh: Connection) -> None:
    api.answers["/api/v1"] = refusal(401, "Unauthorized")

    with pytest.raises(UnreachableError, match="does not accept the credentials of the context 'one' of "):
        fresh.exists(CONFIG_MAP)


def test_what_is_no_api_server_is_told(api: ApiServer, fresh: Connection) -> None:
    api.answers["/api/v1"] = 200, "<html>welcome</html>"

    with pytest.raises(UnreachableError, match="is no API server of Kubernetes"):
        fresh.exists(CONFIG_MAP)


def test_a_server_that_never_answered_is_not_waited_for(api: ApiServer, fresh: Connection) -> None:
    api.answers["/api/v1"] = refusal(503, "shutting down")

    with pytest.raises(UnreachableError, match="is busy or starting: shutting down"):
        fresh.exists(CONFIG_MAP)


def test_the_setting_cluster_stands_in_for_the_context_s(api: ApiServer, tmp_path: Path) -> None:
    api.answers["/api/v1"] = 200, KINDS
    document = yaml.safe_load(write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1").read_text())
    document["clusters"].append({"name": "there", "cluster": {"server": api.address}})

    fresh = Connection(Settings(kubeconfig=yaml.safe_dump(document), cluster="there"))

    assert fresh.exists(CONFIG_MAP)


def test_a_kubeconfig_in_a_setting_is_named_so(tmp_path: Path) -> None:
    text = write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1").read_text()

    with pytest.raises(UnreachableError, match="the context 'two' of the provider's setting kubeconfig"):
        Connection(Settings(kubeconfig=text, context="two")).exists(CONFIG_MAP)


def test_a_context_that_is_not_there_lists_those_that_are(api: ApiServer, tmp_path: Path) -> None:
    fresh = Connection(Settings(kubeconfig=str(api.kubeconfig(tmp_path)), context="three"))

    with pytest.raises(UnreachableError, match=r"there is no context 'three' in .*; it has one, two"):
        fresh.exists(CONFIG_MAP)
