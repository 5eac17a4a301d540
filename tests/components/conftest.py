"""Fixtures of the tests with Pulumi's mocks."""

from __future__ import annotations

from collections.abc import Iterator

import pulumi
import pytest

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
