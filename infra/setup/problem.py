"""Errors of the set-up: one message that says what is wrong, where, and how to mend it.

What a module knows about its own failures stays there; here are the shape of the message and the failures that any
step can meet (no permission, no space).
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_PERMISSION = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class SetupError(Exception):
    """Set-up cannot go on. `what` happened, `where` (a path, a command), and how to `mend` it."""

    def __init__(self, what: str, where: str, mend: str) -> None:
        super().__init__(what)
        self.what, self.where, self.mend = what, where, mend

    def __str__(self) -> str:
        return f"{self.what}\n  where: {self.where}\n  mend:  {self.mend}"


def say(message: str) -> None:
    """One line of progress, on stderr: stdout belongs to what a caller reads by machine."""
    print(f"==> {message}", file=sys.stderr, flush=True)


def report(problem: SetupError) -> int:
    """Print the problem and give the exit code of a failed set-up."""
    print(f"error: {problem}", file=sys.stderr, flush=True)
    return 1


def free_space(path: Path) -> str:
    """The free space of the file system that holds `path`, or will hold it, as `12.3 GiB free`."""
    there = next(p for p in (path, *path.parents) if p.is_dir())
    left = os.statvfs(there)
    return f"{left.f_bavail * left.f_frsize / 2**30:.1f} GiB free"


def no_space(path: Path, needed: str) -> SetupError:
    """The file system of `path` is full; `needed` is what the step takes, in words."""
    return SetupError(
        "No space left on the disk.",
        f"{path} ({free_space(path)})",
        f"free some space ({needed}), then run the same command again: what was finished is kept.",
    )


def no_permission(path: Path, move: str) -> SetupError:
    """`path` cannot be written; `move` tells how to use another place, in words."""
    owner = f"this is user {os.geteuid()}"
    return SetupError(
        f"No permission to write ({owner}).", str(path), f"give yourself the right to write there, {move}."
    )


@contextmanager
def explained(path: Path, *, needed: str, move: str) -> Iterator[None]:
    """Turn the operating system's refusals under `path` into a SetupError; other errors pass unchanged."""
    try:
        yield
    except OSError as error:
        where = Path(error.filename) if isinstance(error.filename, str) else path
        if error.errno in NO_SPACE:
            raise no_space(path, needed) from error
        if error.errno in NO_PERMISSION:
            raise no_permission(where, move) from error
        if error.errno in {errno.ENOTDIR, errno.EEXIST}:
            raise SetupError("A file is in the way of a directory.", str(where), f"move it away, {move}.") from error
        raise
