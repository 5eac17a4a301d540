"""What tests with Pulumi's mocks leave behind. An event loop that nobody has closed fails whichever test happens to run
when it is collected."""

from __future__ import annotations

import asyncio
import gc

import pulumi

from tests.components.support import Recorder, event_loop


def open_loops() -> list[asyncio.AbstractEventLoop]:
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), asyncio.AbstractEventLoop)]
    return [loop for loop in found if not loop.is_closed()]


def test_no_loop_of_the_mocks_outlives_them() -> None:
    others = open_loops()
    with event_loop():
        pulumi.runtime.set_mocks(Recorder(), project="slipway", stack="test")

        @pulumi.runtime.test
        def program() -> pulumi.Output[str]:
            return pulumi.CustomResource("example:index:Thing", "thing").urn

        program()
        assert len([loop for loop in open_loops() if loop not in others]) > 1, "one is in a thread of the mocks"
    assert [loop for loop in open_loops() if loop not in others] == []
