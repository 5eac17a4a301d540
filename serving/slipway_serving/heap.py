"""Gives memory that large requests took back to the system.

The C library keeps what was freed, in pieces that the next large body seldom fits into: without this, a process that
had answered some requests of 50 MB would hold a gigabyte for good. glibc gives it back when asked (`malloc_trim`, see
malloc_trim(3)); where the C library has no such call, nothing is done.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

LARGE = 1024 * 1024
"""Bytes of a body from which on its memory is looked after."""


class Heap:
    """The process' memory. Lives in the I/O thread; the work is done in one of its own, as it may take tens of ms."""

    def __init__(self) -> None:
        self._trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._thread: threading.Thread | None = None

    def give_back(self) -> None:
        """Return unused memory to the system, unless that is under way."""
        if self._trim is None or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._trim, args=(0,), name="heap", daemon=True)
        self._thread.start()
