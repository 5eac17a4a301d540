"""The question that has the provider start while the program still loads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pulumi.provider.experimental import provider as api
from pulumi.runtime import settings

from provider.plugin import SlipwayProvider
from provider.resource import ResourceError
from provider.start import START, start_provider


class Monitor:
    """Takes questions, as the engine's monitor does."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.Invoke = self

    def future(self, request: Any) -> str:
        self.asked.append(request)
        return "pending"


def invoked(token: str) -> api.InvokeResponse:
    return asyncio.run(SlipwayProvider([]).invoke(api.InvokeRequest(token, {})))


def test_the_program_asks_for_it_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = Monitor()
    monkeypatch.setattr(settings, "get_monitor", lambda: monitor)

    assert start_provider() == "pending"
    assert [request.tok for request in monitor.asked] == [START]


def test_without_an_engine_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "get_monitor", lambda: None)
    assert start_provider() is None


def test_the_provider_answers_with_nothing() -> None:
    answer = invoked(START)
    assert (answer.return_value, answer.failures) == ({}, [])


def test_another_function_is_told_with_those_there_are() -> None:
    with pytest.raises(ResourceError, match=f"no function slipway:index:other; it has {START}"):
        invoked("slipway:index:other")
