"""Memory of the provider and of a supervisor while a model of 1 MiB and one of 1 GiB are deployed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmarks._peaks import Peaks, resident_kib
from benchmarks.report import Row
from tests.e2e.project import Project

_MIB = 1024 * 1024


def run() -> list[Row]:
    rows = []
    for label, size in (("1 MiB", _MIB), ("1 GiB", 1024 * _MIB)):
        with tempfile.TemporaryDirectory() as folder:
            project = Project(Path(folder))
            with project.model.open("wb") as model:
                for _ in range(size // _MIB):
                    model.write(b"\x5a" * _MIB)
            try:
                with Peaks() as peaks:
                    project.up()
                state = project.home / "test" / "demo" / "services" / "echo" / "supervisor.json"
                supervisor = resident_kib(json.loads(state.read_text())["pid"], "VmRSS:") / 1024
            finally:
                project.clear()
        rows.append(Row(f"provider's peak, model of {label}", "MiB", peaks.mib["provider"]))
        rows.append(Row(f"supervisor, model of {label}", "MiB", supervisor))
    return rows
