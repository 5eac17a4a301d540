"""What `make history` prints, from what Pulumi tells."""

import gzip
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import history
from infra.earlier_states import from_files, from_the_cloud


def told(number: int, minute: int, result: str = "succeeded", **changes: int) -> dict[str, Any]:
    """An update as `pulumi stack history --json` tells it; the number is 0 on a backend of one's own."""
    return {
        "version": number,
        "kind": "update",
        "startTime": f"2026-11-22T17:{minute:02}:31.000Z",
        "message": "",
        "environment": {"exec.kind": "cli"},
        "config": {"slipway:workspace": {"value": '{"name":"demo"}', "secret": False}},
        "result": result,
        "endTime": f"2026-11-22T17:{minute:02}:35.000Z",
        "resourceChanges": changes,
    }


def entry(minute: int, revision: str, *models: str, second: int = 34) -> dict[str, Any]:
    return {"models": list(models), "revision": revision, "time": f"2026-11-22T17:{minute:02}:{second:02}+00:00"}


def endpoint(service: str, *log: dict[str, Any], deployment: str = "") -> dict[str, Any]:
    """An endpoint as `pulumi stack export` shows it."""
    name = f"{service}{deployment and '-'}{deployment}-endpoint"
    return {
        "urn": f"urn:pulumi:dev::slipway::slipway:index:Endpoint::{name}",
        "custom": True,
        "id": service,
        "type": "slipway:index:Endpoint",
        "inputs": {"revision": log[-1]["revision"]},
        "outputs": {"revision": log[-1]["revision"], "state": "Healthy", "history": list(log)},
    }


def nothing(index: int) -> None:
    """A backend without earlier states."""


def shown(rows: list[history.Row]) -> list[tuple[int | None, str, str | None, str | None]]:
    return [(row.update, row.result, row.service, row.revision) for row in rows]


OTHER: dict[str, Any] = {"urn": "urn:x", "type": "slipway:index:ModelVersion", "id": "digits", "outputs": {}}
FIRST, SECOND = entry(1, "aaaa", "digits:1"), entry(3, "bbbb", "digits:2", "faces:1")
TOLD = [told(0, 3, update=2), told(0, 2, same=12), told(0, 1, create=12)]


def test_each_revision_has_a_row_and_an_update_without_one_has_none() -> None:
    rows, unknown = history.history(history.updates(TOLD), [OTHER, endpoint("echo", FIRST, SECOND)], nothing)

    assert rows == [
        history.Row(3, "2026-11-22T17:03:34+00:00", "succeeded", "echo", "default", "bbbb", ["digits:2", "faces:1"]),
        history.Row(1, "2026-11-22T17:01:34+00:00", "succeeded", "echo", "default", "aaaa", ["digits:1"]),
    ]
    assert unknown == []


def test_every_update_has_a_row_where_that_is_asked_for() -> None:
    rows, _ = history.history(history.updates(TOLD), [endpoint("echo", FIRST, SECOND)], nothing, every=True)

    assert shown(rows) == [
        (3, "succeeded", "echo", "bbbb"),
        (2, "succeeded", None, None),
        (1, "succeeded", "echo", "aaaa"),
    ]


def test_numbers_are_those_of_pulumi_cloud() -> None:
    happened = history.updates([told(19, 3, update=2), told(17, 1, create=12)])

    rows, _ = history.history(happened, [endpoint("echo", FIRST, SECOND)], nothing)

    assert [row.update for row in rows] == [19, 17]


def test_an_update_that_failed_is_told_of_what_it_deployed_before() -> None:
    rows, _ = history.history(history.updates([told(0, 1, "failed", create=9)]), [endpoint("echo", FIRST)], nothing)

    assert shown(rows) == [(1, "failed", "echo", "aaaa")]


def test_a_killed_update_is_an_interrupted_one() -> None:
    rows, _ = history.history(history.updates([told(0, 1, create=9)]), [endpoint("echo", FIRST, SECOND)], nothing)

    assert shown(rows) == [(None, "interrupted", "echo", "bbbb"), (1, "succeeded", "echo", "aaaa")]


def test_clocks_may_differ_by_seconds() -> None:
    late = entry(1, "aaaa", second=45)

    rows, _ = history.history(
        history.updates([told(0, 2, same=1), told(0, 1, create=9)]), [endpoint("e", late)], nothing
    )

    assert [row.update for row in rows] == [1]


def test_a_deleted_service_is_found_in_the_state_before() -> None:
    states = [[endpoint("echo", FIRST), endpoint("old", FIRST)], [endpoint("echo", FIRST)]]
    happened = history.updates([told(0, 2, delete=3), told(0, 1, create=12)])

    rows, unknown = history.history(happened, states[1], states.__getitem__)

    assert shown(rows) == [
        (2, "succeeded", "old", None),
        (1, "succeeded", "old", "aaaa"),
        (1, "succeeded", "echo", "aaaa"),
    ]
    assert unknown == []


def test_where_no_earlier_state_is_to_be_had_that_is_told() -> None:
    happened = history.updates([told(0, 2, delete=3), told(0, 1, create=12)])

    rows, unknown = history.history(happened, [endpoint("echo", FIRST)], nothing)

    assert shown(rows) == [(1, "succeeded", "echo", "aaaa")]
    assert unknown == [2]


def test_deployments_of_one_service_are_told_apart() -> None:
    blue, green = endpoint("echo", FIRST, deployment="blue"), endpoint("echo", SECOND, deployment="green")

    rows, _ = history.history(history.updates(TOLD), [blue, green], nothing)

    assert [(row.service, row.deployment, row.revision) for row in rows] == [
        ("echo", "green", "bbbb"),
        ("echo", "blue", "aaaa"),
    ]


def test_an_endpoint_of_an_earlier_slipway_remembers_nothing() -> None:
    resource = endpoint("echo", FIRST)
    del resource["outputs"]["history"]

    assert history.history(history.updates(TOLD), [resource], nothing) == ([], [])


@pytest.fixture
def two_hours_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local time zone is two hours ahead of UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "EAST-2")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("two_hours_east")
def test_the_table_has_times_of_the_local_zone() -> None:
    rows = [
        history.Row(12, "2026-11-22T17:04:00+00:00", "succeeded", "old", "default", None, []),
        history.Row(3, "2026-11-22T17:03:34+00:00", "failed", "echo", "blue", "bbbb", ["digits:2", "faces:1"]),
        history.Row(None, "2026-11-22T17:02:00+00:00", "interrupted", "echo", "default", "aaaa", []),
        history.Row(1, "2026-11-22T17:01:00+00:00", "failed", None, None, None, []),
    ]

    assert history.table(rows).splitlines() == [
        "update  time                       result       service    revision  models",
        "12      2026-11-22 19:04:00+02:00  succeeded    old        deleted   -",
        "3       2026-11-22 19:03:34+02:00  failed       echo/blue  bbbb      digits:2, faces:1",
        "-       2026-11-22 19:02:00+02:00  interrupted  echo       aaaa      -",
        "1       2026-11-22 19:01:00+02:00  failed       -          -         -",
    ]


# -- earlier states --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["json", "json.gz"])
def test_earlier_states_of_a_file_backend(tmp_path: Path, ending: str) -> None:
    checkpoints: list[dict[str, Any]] = [{"latest": {"resources": [OTHER]}}, {"latest": {"manifest": {}}}, {}]
    for number, checkpoint in enumerate(checkpoints):
        content = json.dumps({"version": 3, "checkpoint": checkpoint}).encode()
        content = gzip.compress(content) if ending.endswith("gz") else content
        (tmp_path / f"dev-179536808{number}.checkpoint.{ending}").write_bytes(content)
        (tmp_path / f"dev-179536808{number}.history.{ending}").write_bytes(b"")

    after = from_files(tmp_path)

    assert [after(index) for index in range(4)] == [[OTHER], [], [], None]


def test_a_state_that_was_removed_by_hand_is_not_to_be_had(tmp_path: Path) -> None:
    (tmp_path / "dev-1.history.json").write_bytes(b"")

    assert from_files(tmp_path)(0) is None


def test_earlier_states_of_pulumi_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = shlex.quote(json.dumps({"version": 3, "deployment": {"resources": [OTHER]}}))
    fake_pulumi(tmp_path, f'[ "$*" = "stack export --version 17 --stack dev" ] && echo {exported}', monkeypatch)

    after = from_the_cloud("dev", [17, 18, 0])

    assert [after(index) for index in range(3)] == [[OTHER], None, None]


# -- the command -----------------------------------------------------------------------------------------------------


def answers(told: list[dict[str, Any]], resources: list[dict[str, Any]]) -> str:
    """The script of a `pulumi` with this history and this newest state."""
    exported = {"version": 3, "deployment": {"manifest": {}, "resources": resources}}
    return (
        'case "$*" in\n'
        f'"stack history --json --page-size 0 --stack dev") echo {shlex.quote(json.dumps(told))} ;;\n'
        f'"stack export --stack dev") echo {shlex.quote(json.dumps(exported))} ;;\n'
        "*) exit 9 ;;\nesac"
    )


def test_json_holds_what_the_table_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_pulumi(tmp_path, answers(TOLD, [endpoint("echo", FIRST)]), monkeypatch)

    assert history.main(["--json", "dev"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "update": 1,
            "time": "2026-11-22T17:01:34+00:00",
            "result": "succeeded",
            "service": "echo",
            "deployment": "default",
            "revision": "aaaa",
            "models": ["digits:1"],
        }
    ]


def test_a_stack_without_deployments_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_pulumi(tmp_path, answers([], []), monkeypatch)

    assert history.main(["dev"]) == 0
    assert capsys.readouterr().out == "No service of stack dev was deployed so far.\n"


def test_an_object_store_is_told_to_keep_the_deleted_from_sight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deleting = [told(0, 3, delete=2), *TOLD[1:]]
    fake_pulumi(tmp_path, answers(deleting, [endpoint("echo", FIRST)]), monkeypatch, backend="s3://states")

    assert history.main(["dev"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert "note: this backend gives no earlier states" in printed.err
    assert "in update 3" in printed.err


def test_exit_code_of_pulumi_passes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pulumi(tmp_path, "exit 7", monkeypatch)

    assert history.main(["dev"]) == 7


def fake_pulumi(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch, *, backend: str = "") -> None:
    """Put a `pulumi` that runs `script` alone on PATH."""
    program = directory / "pulumi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setenv("PULUMI_BACKEND_URL", backend)
