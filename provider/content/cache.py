"""Remembers digests on disk, so that what has not changed is not read again.

A digest is kept with the stat signature of what it was computed from, and holds as long as that signature does. The
weak point of any such scheme is a file changed twice within one tick of the file system's clock: as in git's index
(Documentation/technical/racy-git), what was touched shortly before it was read is not remembered at all.

The cache only saves time: where it cannot be read or written, everything works, slower.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

RACY_NS = 2_000_000_000
"""Two seconds (in ns): the coarsest clock of a file system in use (FAT), and ample for the others."""

_FORMAT = 1


@dataclass(frozen=True)
class Remembered:
    """A digest and the size (bytes) of what it names."""

    digest: str
    size: int


def default_directory() -> Path:
    """`$XDG_CACHE_HOME/slipway/digests`, by default below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification: a path that is not absolute is to be ignored.
    root = Path(base) if base.startswith("/") else Path("~/.cache").expanduser()
    return root / "slipway" / "digests"


class DigestCache:
    """Digests by what they are of (`subject`, any text that names it) and its signature."""

    def __init__(self, directory: Path | None = None, racy_ns: int = RACY_NS) -> None:
        self._directory = directory
        self._racy_ns = racy_ns

    def get(self, subject: str, signature: str) -> Remembered | None:
        """What was remembered of `subject` with this very signature."""
        try:
            entry = json.loads(self._file(subject).read_bytes())
            if entry["format"] == _FORMAT and entry["subject"] == subject and entry["signature"] == signature:
                return Remembered(str(entry["digest"]), int(entry["size"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return None

    def put(self, subject: str, signature: str, value: Remembered, *, looked_ns: int, newest_ns: int) -> None:
        """Remembers `value`, unless the content changed (`newest_ns`) too shortly before it was looked at
        (`looked_ns`; both in ns since the epoch)."""
        if looked_ns - newest_ns < self._racy_ns:
            return
        entry = {
            "format": _FORMAT,
            "subject": subject,
            "signature": signature,
            "digest": value.digest,
            "size": value.size,
        }
        file = self._file(subject)
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=".", delete=False) as temporary:
                try:
                    json.dump(entry, temporary)
                    temporary.close()
                    Path(temporary.name).replace(file)
                except BaseException:
                    Path(temporary.name).unlink(missing_ok=True)
                    raise

    def _file(self, subject: str) -> Path:
        directory = default_directory() if self._directory is None else self._directory
        return directory / f"{hashlib.sha256(subject.encode()).hexdigest()}.json"
