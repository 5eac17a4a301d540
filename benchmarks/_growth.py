"""More and more services in one stack: deploying them, a preview that finds nothing to do, and memory."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

import yaml

from benchmarks._peaks import Peaks
from benchmarks._stack import timed
from benchmarks.report import Row
from tests.e2e.project import Project

_COUNTS = (1, 10, 50)


def growth(project: Project, most: int, tell_apart: Callable[[dict[str, Any], int], None]) -> list[Row]:
    """Rows for 1, 10, 50 and `most` services. BENCH_SERVICES has another number in the place of `most`.

    `tell_apart` changes the configuration of one that is a copy, by its index."""
    most = int(os.environ.get("BENCH_SERVICES", most))
    rows, before = [], 1
    for count in [*(count for count in _COUNTS if count < most), most]:
        _configure(project, count, tell_apart)
        with Peaks() as peaks:
            up = timed(project.root, project.environment, "up", "--yes", "--skip-preview", "--stack", "test")
            preview = timed(project.root, project.environment, "preview", "--expect-no-changes", "--stack", "test")
        new = count - before
        rows.append(Row(f"{count} services: up, with {new} new ones", "s", up))
        if new:
            rows.append(Row(f"{count} services: up, by each new one", "s", up / new))
        rows.append(Row(f"{count} services: preview without changes", "s", preview))
        rows += [Row(f"{count} services: peak of the {what}", "MiB", mib) for what, mib in sorted(peaks.mib.items())]
        figures = ", ".join(f"{what} {mib:.0f} MiB" for what, mib in sorted(peaks.mib.items()))
        print(f"    {count}: {up:.1f} s, {preview:.1f} s; {figures}", flush=True)
        before = count
    return rows


def _configure(project: Project, count: int, tell_apart: Callable[[dict[str, Any], int], None]) -> None:
    services: dict[str, Any] = {}
    for index in range(1, count):
        services[f"echo{index}"] = copy.deepcopy(project.service)
        tell_apart(services[f"echo{index}"], index)
    (project.root / "stacks" / "more.yaml").write_text(yaml.safe_dump({"services": services}))
    project.sections["include"] = ["stacks/more.yaml"]
    project.write()
