"""Fixtures of the tests with Pulumi's mocks."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Iterator

import pulumi
import pytest

from tests.components.support import Recorder


@pytest.fixture(scope="module", autouse=True)
def leftovers() -> Iterator[None]:
    """The mocks leave an event loop behind in each thread of theirs: cleared here, where that is no failure."""
    asyncio.set_event_loop(asyncio.new_event_loop())
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.set_event_loop(None)
        gc.collect()


@pytest.fixture
def recorder() -> Recorder:
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, project="slipway", stack="test")
    return recorder
