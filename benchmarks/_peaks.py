"""The highest resident memory of the processes of a command, by what each of them is."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

_PAUSE_SECONDS = 0.1

PULUMI: Mapping[str, str] = {
    "engine": "pulumi",
    "program": "pulumi-language-python-exec",
    "provider": "pulumi-resource-slipway",
    "kubernetes plugin": "pulumi-resource-kubernetes",
    "docker plugin": "pulumi-resource-docker",
}
"""The processes of a `pulumi` command, by the names of their programs."""


class Peaks:
    """Watches the descendants of this process while the block runs: the programs' names are matched exactly, with
    those of the scripts that an interpreter runs."""

    def __init__(self, programs: Mapping[str, str] = PULUMI) -> None:
        self.mib: dict[str, float] = {}
        """By the key in `programs`; without those that never ran."""
        self._programs = {name: what for what, name in programs.items()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_PAUSE_SECONDS):
            for pid in _below(os.getpid()):
                try:
                    self._look(pid)
                except OSError:  # it ended
                    continue

    def _look(self, pid: int) -> None:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        # The program itself, or the interpreter's options and its script.
        for word in words[:4]:
            what = self._programs.get(Path(word).name)
            if what is not None:
                self.mib[what] = max(self.mib.get(what, 0.0), resident_kib(pid, "VmHWM:") / 1024)
                return


def resident_kib(pid: int, field: str) -> int:
    """A field of the process's status, in KiB; 0 where it has none. Raises `OSError` when it ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


def _below(pid: int) -> Iterator[int]:
    try:
        lists = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:  # it ended
        return
    for child in " ".join(lists).split():
        yield int(child)
        yield from _below(int(child))
