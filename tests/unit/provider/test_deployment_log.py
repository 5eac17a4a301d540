"""What an endpoint remembers of the revisions that served."""

from datetime import UTC, datetime, timedelta
from typing import Any

from provider.deployment_log import KEPT, remembered


def news(revision: str, *versions: int) -> dict[str, Any]:
    return {"revision": revision, "models": [{"name": "digits", "version": version} for version in versions]}


def test_the_first_revision_is_the_first_entry() -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)

    (entry,) = remembered(None, news("a", 1))

    assert {key: entry[key] for key in ("revision", "models")} == {"revision": "a", "models": ["digits:1"]}
    assert before <= datetime.fromisoformat(entry["time"]) <= datetime.now(UTC)


def test_the_same_revision_again_is_no_entry() -> None:
    log = remembered(None, news("a", 1))

    assert remembered({"history": log}, news("a", 1)) == log


def test_a_revision_that_comes_back_is_an_entry() -> None:
    log: list[dict[str, Any]] = []
    for revision, version in (("a", 1), ("b", 2), ("a", 1)):
        log = remembered({"history": log}, news(revision, version))

    assert [(entry["revision"], entry["models"]) for entry in log] == [
        ("a", ["digits:1"]),
        ("b", ["digits:2"]),
        ("a", ["digits:1"]),
    ]


def test_the_state_of_an_earlier_slipway_has_no_log_and_no_models() -> None:
    assert [entry["models"] for entry in remembered({"revision": "a"}, {"revision": "b"})] == [[]]


def test_only_so_many_entries_are_kept() -> None:
    log: list[dict[str, Any]] = []
    for number in range(KEPT + 5):
        log = remembered({"history": log}, news(str(number)))

    assert [entry["revision"] for entry in log] == [str(number) for number in range(5, KEPT + 5)]
