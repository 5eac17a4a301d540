"""What a server process writes: into a log file of bounded size, and the last lines in memory for error messages."""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path

MAX_BYTES = 4 * 1024 * 1024
"""Size at which the log file is put aside."""
KEPT_FILES = 3
"""How many files that were put aside are kept: `current.log.1` is the newest."""
MAX_LINE = 2000
"""Longest line kept in memory, in characters."""


class Log:
    """The log of a service: `<folder>/current.log` and the files put aside. A full disk costs lines, no service."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = folder / "current.log"
        self._max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._open()

    def _open(self) -> None:
        self._file = self._path.open("ab", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size

    def write(self, source: str, lines: list[str]) -> None:
        """Writes whole lines, each with the time (UTC) and where it comes from."""
        now = time.time()
        moment = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03}Z"
        data = "".join(f"{moment} {source} {line}\n" for line in lines).encode("utf-8", "replace")
        try:
            if self._file.closed:  # it could not be opened anew when it was put aside
                self._open()
            self._file.write(data)
            self._size += len(data)
            if self._size >= self._max_bytes:
                self._rotate()
        except OSError:  # a full disk: the lines are still kept in memory
            return

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(KEPT_FILES - 1, 0, -1):
            older = self._path.with_name(f"current.log.{number}")
            if older.exists():
                older.rename(self._path.with_name(f"current.log.{number + 1}"))
        self._path.rename(self._path.with_name("current.log.1"))
        self._open()


class Tail:
    """Takes a process' output as it comes, hands whole lines to the log, and remembers the last ones."""

    def __init__(self, log: Log, source: str, kept: int = 40) -> None:
        self._log = log
        self._source = source
        self._lines: deque[str] = deque(maxlen=kept)
        self._rest = b""

    @property
    def lines(self) -> tuple[str, ...]:
        """The last lines."""
        return tuple(self._lines)

    def feed(self, data: bytes) -> None:
        """Takes the next piece of output."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > 16 * MAX_LINE:  # a line that never ends must not fill the memory
            whole.append(self._rest)
            self._rest = b""
        self._take(whole)

    def end(self) -> None:
        """The output ended: what came after the last line break is a line too."""
        if self._rest:
            self._take([self._rest])
            self._rest = b""

    def _take(self, raw: list[bytes]) -> None:
        if raw:
            lines = [line.decode("utf-8", "replace").rstrip("\r") for line in raw]
            self._lines.extend(line[:MAX_LINE] for line in lines)
            self._log.write(self._source, lines)
