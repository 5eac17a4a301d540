"""Counts and durations of requests, as Prometheus reads them. Kept in the I/O thread alone, so without locks."""

from __future__ import annotations

import contextlib
import json
import os
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Snapshot = dict[str, dict[str, list[float]]]
"""What a process has counted, in a form that can be added up over processes: kind, labels, numbers."""


class Metrics:
    """The numbers of one process."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, bytes], int] = {}
        self.durations: dict[str, list[float]] = {}
        self.run_seconds = 0.0
        self.run_calls = 0
        self.cut_off = 0

    def observe(self, route: str, status: bytes, seconds: float, run_ms: float | None) -> None:
        """Count one answered request."""
        key = (route, status)
        try:
            self.requests[key] += 1
            row = self.durations[route]
        except KeyError:
            self.requests.setdefault(key, 1)
            row = self.durations.setdefault(route, [0.0] * (len(BUCKETS) + 2))
        row[bisect_left(BUCKETS, seconds)] += 1
        row[-1] += seconds
        if run_ms is not None:
            self.run_calls += 1
            self.run_seconds += run_ms / 1000

    def snapshot(self, in_flight: int, queued: int, dropped: int) -> Snapshot:
        """Everything counted so far, and two figures of this moment."""
        return {
            "requests": {f"{route} {status.decode()}": [count] for (route, status), count in self.requests.items()},
            "durations": {route: list(row) for route, row in self.durations.items()},
            "run": {"": [self.run_calls, self.run_seconds]},
            "now": {"": [in_flight, queued, self.cut_off, dropped, resident_memory()]},
        }


def add(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sum over processes."""
    total: Snapshot = {}
    for snapshot in snapshots:
        for kind, rows in snapshot.items():
            into = total.setdefault(kind, {})
            for labels, numbers in rows.items():
                known = into.get(labels)
                into[labels] = numbers if known is None else [a + b for a, b in zip(known, numbers, strict=True)]
    return total


def resident_memory() -> int:
    """Bytes of this process in memory; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def publish(directory: str, worker: str, snapshot: Snapshot) -> None:
    """Leave a worker's numbers where the service's other workers find them."""
    path = Path(directory) / f"{worker}.json"
    try:
        path.with_suffix(".new").write_text(json.dumps(snapshot))
        path.with_suffix(".new").replace(path)
    except OSError:
        # The directory goes with the parent process, and this worker is about to.
        return


def of_others(directory: str, worker: str) -> list[Snapshot]:
    """The numbers that the other workers left, at most about a second old."""
    found: list[Snapshot] = []
    for path in Path(directory).glob("*.json"):
        if path.stem != worker:
            with contextlib.suppress(OSError, ValueError):
                found.append(json.loads(path.read_text()))
    return found


def render(snapshot: Snapshot, labels: dict[str, str]) -> bytes:
    """The text format, `labels` on every sample."""
    common = ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())
    lines: list[str] = []

    def start(name: str, kind: str, text: str) -> None:
        lines.append(f"# HELP {name} {text}")
        lines.append(f"# TYPE {name} {kind}")

    def sample(name: str, value: float, extra: str = "") -> None:
        lines.append(f"{name}{{{common}{',' if extra else ''}{extra}}} {value:.17g}")

    start("slipway_requests_total", "counter", "Requests answered.")
    for key, row in sorted(snapshot.get("requests", {}).items()):
        route, _, status = key.rpartition(" ")
        sample("slipway_requests_total", row[0], f'route="{route}",code="{status}"')
    start("slipway_request_duration_seconds", "histogram", "From the last byte of a request to its answer.")
    for route, row in sorted(snapshot.get("durations", {}).items()):
        count = 0.0
        for bound, number in zip((*BUCKETS, float("inf")), row, strict=False):
            count += number
            text = "+Inf" if bound == float("inf") else f"{bound:g}"
            sample("slipway_request_duration_seconds_bucket", count, f'route="{route}",le="{text}"')
        sample("slipway_request_duration_seconds_sum", row[-1], f'route="{route}"')
        sample("slipway_request_duration_seconds_count", count, f'route="{route}"')
    calls, seconds = snapshot["run"][""]
    start("slipway_run_duration_seconds", "summary", "Time inside the script's run().")
    sample("slipway_run_duration_seconds_sum", seconds)
    sample("slipway_run_duration_seconds_count", calls)
    in_flight, queued, cut_off, dropped, memory = snapshot["now"][""]
    for name, kind, value, text in (
        ("slipway_requests_in_flight", "gauge", in_flight, "Requests read and not answered yet."),
        ("slipway_requests_queued", "gauge", queued, "Requests that wait for a worker."),
        ("slipway_clients_cut_off_total", "counter", cut_off, "Connections ended for what is no request, or too slow."),
        ("process_resident_memory_bytes", "gauge", memory, "Resident memory, of all workers."),
        ("slipway_collection_dropped_total", "counter", dropped, "Collected records for which there was no room."),
    ):
        start(name, kind, text)
        sample(name, value)
    return ("\n".join(lines) + "\n").encode()


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
