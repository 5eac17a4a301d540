"""Folders that one process needs while it runs, such as for a socket or for credentials.

A process that is killed, or whose engine is, cannot remove its own. So a folder names its process, and whoever makes
one removes those of processes that are gone.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from pathlib import Path

_NAMED = re.compile(r"slipway-[a-z]+-(\d{1,9})-.+")


def folder(use: str) -> Path:
    """A new folder for its owner alone (mode 0700), named after its `use`, a word of lower-case letters. It goes when
    the process ends by itself, if not before."""
    remove_leftovers()
    made = Path(tempfile.mkdtemp(prefix=f"slipway-{use}-{os.getpid()}-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def remove_leftovers() -> None:
    """Removes the folders of processes that are gone. Of another user's, nothing can be removed, which is no error."""
    for path in Path(tempfile.gettempdir()).glob("slipway-*-*-*"):
        owner = _NAMED.fullmatch(path.name)
        if owner is not None and _is_gone(int(owner[1])):
            shutil.rmtree(path, ignore_errors=True)


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # somebody else's
    return False
