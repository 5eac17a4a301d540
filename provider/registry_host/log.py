"""What the processes of a registry tell: lines on stderr, which is a file beside all that they keep."""

from __future__ import annotations

import contextlib
import sys


def say(line: str) -> None:
    """Tells it. On a full disk it is lost, and nothing else: much of what there is to tell comes from that."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
