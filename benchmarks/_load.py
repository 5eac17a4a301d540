"""Updates of a stack under a steady load on its service: how many of the requests failed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from benchmarks.report import Row
from tests.e2e.load import SteadyLoad

CONNECTIONS = 8


def updates_under_load(
    name: str, load: SteadyLoad, update: Callable[[int], Any], settled: Callable[[], Any] = lambda: None
) -> Row:
    """Calls `update` (with how many there were before) again and again while `load` runs, for at least BENCH_SECONDS.

    `settled` waits until nothing of the last update is under way any more: until then requests may fail."""
    seconds = float(os.environ.get("BENCH_SECONDS", "60"))
    ups, begun = 0, time.monotonic()
    with load:
        while time.monotonic() - begun < seconds:
            update(ups)
            ups += 1
        settled()
    requests, failed = sum(load.answers.values()) + len(load.failures), len(load.failures)
    row = Row(f"{name}, {ups} updates, {requests:,} requests: failed", "requests", failed, 0)
    print(f"    {row.what}: {failed} {sorted(set(load.failures))[:3] if failed else ''}", flush=True)
    return row
