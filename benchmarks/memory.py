"""Memory of the provider and of a supervisor while a model of 1 MiB and one of 1 GiB are deployed."""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path

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
            peak = _Peak(str(project.root / "provider" / "pulumi-resource-slipway"))
            try:
                with peak:
                    project.up()
                state = project.home / "test" / "demo" / "services" / "echo" / "supervisor.json"
                supervisor = _kib(json.loads(state.read_text())["pid"], "VmRSS:") / 1024
            finally:
                project.clear()
        rows.append(Row(f"provider's peak, model of {label}", "MiB", peak.mib))
        rows.append(Row(f"supervisor, model of {label}", "MiB", supervisor))
    return rows


def _kib(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


class _Peak:
    """The highest resident memory of the processes whose command line names `executable`, while the block runs."""

    def __init__(self, executable: str) -> None:
        self.mib = 0.0
        self._executable = executable.encode()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            for entry in Path("/proc").glob("[0-9]*"):
                try:
                    if self._executable in (entry / "cmdline").read_bytes():
                        self.mib = max(self.mib, _kib(int(entry.name), "VmHWM:") / 1024)
                except OSError:  # it ended
                    continue
