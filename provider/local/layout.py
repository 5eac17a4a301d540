"""Where everything of the local target is on disk, and how it is removed safely.

Both the provider and the supervisor use it, so it imports little: `shutil`, `tempfile` and `hashlib` would cost the
supervisor a third of its memory.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SPEC = "spec.json"
PARTIAL = ".partial-"
"""Prefix of directories that are being made. One that nobody is making any more is a leftover of a killed run."""


class ServicePaths:
    """The places of one service."""

    def __init__(self, home: Path, name: str) -> None:
        self.home = home
        self.name = name
        self.root = home / "services" / name
        self.lock = self.root / "lock"
        self.state = self.root / "supervisor.json"
        self.log = self.root / "log"
        self.revisions = self.root / "revisions"

    @classmethod
    def at(cls, root: Path) -> ServicePaths:
        """The places of the service whose own directory is `root`."""
        return cls(root.parent.parent, root.name)

    def revision(self, revision: str) -> Path:
        """The directory of a revision."""
        return self.revisions / revision


def models(home: Path) -> Path:
    """Extracted model layers, one directory a digest."""
    return home / "models"


def servers(home: Path) -> Path:
    """Snapshots of the scoring server's code, one directory a digest."""
    return home / "servers"


def hexadecimal(digest: str) -> str:
    """The directory name of a digest: `sha256:abc` is kept as `abc`."""
    return digest.rpartition(":")[2]


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Writes `value` so that readers find the old file or the new one, never half of one. Mode 0600.

    `durable`: the file is whole even after a power cut."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    partial.rename(path)


def read_json(path: Path) -> Any | None:
    """What `write_json` wrote; None where there is nothing, or nothing readable (a write that was lost)."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def remove_tree(path: Path) -> None:
    """Removes a file or a directory with all it holds; what is gone already is fine. Follows no links."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISDIR(mode):
        path.unlink(missing_ok=True)
        return
    for folder, directories, files in os.walk(path, topdown=True):
        # A snapshot keeps the modes of its source: a read-only directory must not keep it from going.
        _open_up(folder)
        for name in files + [name for name in directories if os.path.islink(f"{folder}/{name}")]:  # noqa: PTH114
            _unlink(f"{folder}/{name}")
    for folder, _, _ in os.walk(path, topdown=False):
        _rmdir(folder)


def _open_up(path: str) -> None:
    try:
        os.chmod(path, 0o700)  # noqa: PTH101 - os.walk gives strings
    except FileNotFoundError:
        return


def _unlink(path: str) -> None:
    try:
        os.unlink(path)  # noqa: PTH108 - os.walk gives strings
    except FileNotFoundError:
        return


def _rmdir(path: str) -> None:
    try:
        os.rmdir(path)  # noqa: PTH106 - os.walk gives strings
    except FileNotFoundError:
        return


def remove_if_empty(*paths: Path) -> None:
    """Removes each of the directories that is empty; stops at the first that is not."""
    for path in paths:
        try:
            path.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return


class BusyError(Exception):
    """Somebody else holds the lock."""


@contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[int]:
    """Holds the lock file `path`. Raises `BusyError` where another has it and `wait` is false.

    Yields a descriptor: a process that is given it holds the lock as well, for as long as it runs.

    The file may be removed by who holds it exclusively: whoever waited for it then finds that out and begins anew."""
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # the directory, or one above it, was removed in between
            continue
        try:
            try:
                fcntl.flock(descriptor, operation)
            except BlockingIOError:
                raise BusyError(f"{path} is locked") from None
            if not _is_still(descriptor, path):
                continue
            yield descriptor
            return
        finally:
            os.close(descriptor)


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (there.st_ino, there.st_dev) == (mine.st_ino, mine.st_dev)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock file `path` alone. Asks the kernel; leaves nothing behind."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
