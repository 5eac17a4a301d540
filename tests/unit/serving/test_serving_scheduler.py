"""In which order a worker and the I/O thread look at a request: moments that no process under test hits at will."""

from __future__ import annotations

import threading
from typing import cast

import pytest

from slipway_serving.http1 import Connection
from slipway_serving.messages import Request
from slipway_serving.scheduler import AsyncScheduler, Batching, Scheduler
from tests.unit.serving.support import wait_for


class AnsweredJustThen(Request):
    """A request that the I/O thread answers, for being late, in the moment in which a worker takes it up."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "running":
            super().__setattr__("answered", True)
        super().__setattr__(name, value)


def request(kind: type[Request], path: bytes) -> Request:
    return kind(cast(Connection, None), b"POST", path, b"", {}, b"", True, 0.0)


def worked_on(scheduler: Scheduler | AsyncScheduler) -> list[bytes]:
    """What came of a request that was answered just then, and of another."""
    thread = threading.Thread(target=scheduler.serve)
    thread.start()
    scheduler.submit(request(AnsweredJustThen, b"late"))
    scheduler.submit(request(Request, b"good"))
    wait_for(lambda: scheduler.done, "the call")
    scheduler.stop()
    thread.join()
    return [payload for _, payload in scheduler.done]


@pytest.mark.parametrize("size", [1, 2])
def test_a_call_that_nobody_would_end_does_not_begin(size: int) -> None:
    calls: list[bytes] = []

    def work(request: Request) -> bytes:
        calls.append(request.path)
        return request.path

    scheduler = Scheduler(work, lambda: None)
    if size > 1:
        scheduler.batching = Batching(lambda requests: [work(request) for request in requests], size, 0.0)
    assert worked_on(scheduler) == calls == [b"good"]


def test_an_async_call_that_nobody_would_end_does_not_begin() -> None:
    calls: list[bytes] = []

    async def work(request: Request) -> bytes:
        calls.append(request.path)
        return request.path

    assert worked_on(AsyncScheduler(work, lambda: None, 4)) == calls == [b"good"]
