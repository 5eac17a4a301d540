"""Fixtures of the tests with Pulumi's mocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pulumi
import pytest
from pulumi.runtime.mocks import MockMonitor

from tests.components.support import Recorder, event_loop


@pytest.fixture(scope="module", autouse=True)
def loop_of_mocks() -> Iterator[None]:
    with event_loop():
        yield


@pytest.fixture
def recorder() -> Recorder:
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, project="slipway", stack="test")
    return recorder


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the program asked the engine for, by name: parent and dependencies."""
    kept: dict[str, Any] = {}
    register = MockMonitor.RegisterResource

    def keeping(monitor: MockMonitor, request: Any) -> Any:
        kept[request.name] = request
        return register(monitor, request)

    monkeypatch.setattr(MockMonitor, "RegisterResource", keeping)
    return kept
