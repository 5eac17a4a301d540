"""A full disk under what a process tells."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def full_log() -> Iterator[None]:
    """Has what goes to stderr meet a full disk."""
    log = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails
    try:
        with contextlib.redirect_stderr(log):
            yield
    finally:
        with contextlib.suppress(OSError):
            log.close()
