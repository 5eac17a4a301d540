"""What a long operation tells while it works, and how it learns that it should stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from provider.content.errors import CancelledError

_SECONDS_BETWEEN_LINES = 0.5
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def human_size(size: int) -> str:
    """`size` (bytes) for a reader: `512 bytes`, `1.5 GiB`."""
    value = float(size)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{size} bytes" if unit == "bytes" else f"{value:.1f} {unit}"


def _nothing(_: str) -> None:
    return None


class Watch:
    """Carries progress and warnings out of an operation, and the wish to cancel into it. Silent by default."""

    def __init__(
        self,
        status: Callable[[str], None] = _nothing,
        warning: Callable[[str], None] = _nothing,
        cancelled: threading.Event | None = None,
    ) -> None:
        self.status = status
        self._cancelled = cancelled or threading.Event()
        self._next_line = 0.0
        self.warning = warning

    def quiet(self) -> Watch:
        """As this one, without its lines of progress: for a part of something that tells its own."""
        return Watch(warning=self.warning, cancelled=self._cancelled)

    def check(self, doing: str) -> None:
        """Raises `CancelledError` when the operation should stop."""
        if self._cancelled.is_set():
            raise CancelledError(f"cancelled while {doing}; nothing half-done is left")

    def advance(self, doing: str, done: int, total: int) -> None:
        """`done` of `total` bytes are through: says so now and then, and stops when asked to."""
        self.check(doing)
        now = time.monotonic()
        if now >= self._next_line:
            if self._next_line:
                self.status(f"{doing}: {human_size(done)} of {human_size(total)}")
            self._next_line = now + _SECONDS_BETWEEN_LINES
