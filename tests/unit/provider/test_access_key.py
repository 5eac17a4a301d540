"""Keys that are made once and stay."""

from __future__ import annotations

import asyncio
from typing import Any

from provider.access_key import AccessKey
from provider.resource import Context
from provider.values import UNKNOWN
from tests import operations


def context(**more: Any) -> Context:
    return operations.context("slipway:index:AccessKey", "mnist-primary", **more)


def created() -> dict[str, Any]:
    return asyncio.run(AccessKey().create(context(), {"name": "mnist-primary"}))[1]


def test_each_key_is_another_one_that_can_stand_in_a_header() -> None:
    keys = {created()["key"] for _ in range(10)}
    assert len(keys) == 10
    assert all(len(key) == 43 and key.replace("-", "").replace("_", "").isalnum() for key in keys)


def test_a_preview_makes_none() -> None:
    assert asyncio.run(AccessKey().create(context(preview=True), {"name": "a"}))[1]["key"] is UNKNOWN


def test_it_stays_until_another_one_is_asked_for() -> None:
    state = created()
    resource = AccessKey()
    assert resource.diff(state, {"name": "mnist-primary"}) == []
    (change,) = resource.diff(state, {"name": "mnist-primary", "renewal": "2"})
    assert not change.replaces
    renewed = asyncio.run(resource.update(context(), "mnist-primary", state, {"name": "mnist-primary", "renewal": "2"}))
    assert renewed["key"] != state["key"]
