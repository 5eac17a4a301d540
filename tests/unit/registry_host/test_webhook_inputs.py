"""Webhooks as users give them: every mistake is named by its property, and no message repeats a secret."""

from __future__ import annotations

from typing import Any

import pytest

from provider.registry_host.webhooks import complete, failures
from provider.values import UNKNOWN

GOOD = {"name": "ci", "url": "https://hooks.example/x"}


@pytest.mark.parametrize(
    "webhook",
    [
        GOOD,
        {**GOOD, "actions": ["push", "delete", "pull"], "scope": "models/*:prod", "headers": {"X-Key": "k"}},
        {**GOOD, "url": "http://127.0.0.1:8080/?code=1", "headers": {"Authorization": "Bearer k"}},
        {**GOOD, "url": "http://hooks.example/plain"},
        {"name": UNKNOWN, "url": UNKNOWN, "scope": UNKNOWN, "actions": UNKNOWN, "headers": {"X-Key": UNKNOWN}},
        UNKNOWN,
    ],
)
def test_what_can_be_is_accepted(webhook: Any) -> None:
    assert failures([webhook], 2) == []


@pytest.mark.parametrize(
    ("changed", "path", "words"),
    [
        ({"name": None}, "name", "is required"),
        ({"url": None}, "url", "is required"),
        ({"name": "a b"}, "name", "letters, digits and hyphens"),
        ({"url": "hooks.example"}, "url", "expected https://HOST[:PORT][/PATH]"),
        ({"url": "ftp://hooks.example"}, "url", "expected https://"),
        ({"url": "https://hooks.example:99999"}, "url", "expected https://"),
        ({"url": "https://user:pass@hooks.example"}, "url", "put them into a header instead"),
        ({"url": "http://hooks.example", "headers": {"X-Key": "k"}}, "url", "is not encrypted"),
        ({"url": "http://hooks.example/?token=k"}, "url", "is not encrypted"),
        ({"actions": []}, "actions", "must be a list of some of push, delete, pull"),
        ({"actions": ["push", "quarantine"]}, "actions[1]", "'quarantine' is no action"),
        ({"scope": "Models"}, "scope", "must be REPOSITORY or REPOSITORY:TAG"),
        ({"scope": 7}, "scope", "must be REPOSITORY or REPOSITORY:TAG"),
        ({"headers": ["X-Key"]}, "headers", "must be a map"),
        ({"headers": {"X Key": "k"}}, "headers.X Key", "is no header that can be set"),
        ({"headers": {"Content-Type": "text/plain"}}, "headers.Content-Type", "is no header that can be set"),
        ({"headers": {"X-Key": "a\r\nb"}}, "headers.X-Key", "printable"),
        ({"secret": "x"}, "secret", "unknown property; known are actions, headers, name, scope, url"),
    ],
)
def test_what_cannot_be_is_named(changed: dict[str, Any], path: str, words: str) -> None:
    (failure,) = failures([GOOD, {**GOOD, "name": "other", **changed}], None)
    assert failure.property == f"webhooks[1].{path}"
    assert words in failure.reason


def test_what_is_no_map_is_named() -> None:
    assert [failure.property for failure in failures(["https://hooks.example"], None)] == ["webhooks[0]"]


def test_a_name_stands_for_one() -> None:
    (failure,) = failures([GOOD, GOOD], None)
    assert failure.reason == "'ci' is there more than once; each webhook has a name of its own"


@pytest.mark.parametrize(
    "changed",
    [
        {"url": "ftp://hooks.example/s3cr3t"},
        {"url": "http://hooks.example/?token=s3cr3t"},
        {"url": "https://user:s3cr3t@hooks.example"},
        {"headers": {"X-Key": "s3cr3t\n"}},
    ],
)
def test_no_message_repeats_a_secret(changed: dict[str, Any]) -> None:
    (failure,) = failures([{**GOOD, **changed}], None)
    assert "s3cr3t" not in failure.reason


def test_pushes_and_deletions_are_told_where_nothing_else_is_asked() -> None:
    assert complete([GOOD, {**GOOD, "actions": ["pull"]}]) == [
        {**GOOD, "actions": ["push", "delete"]},
        {**GOOD, "actions": ["pull"]},
    ]
