"""How long a request is tried again, and what is waited in between."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from provider.content.watch import Watch
from provider.registry.errors import RegistryUnavailableError

_SLICE_SECONDS = 0.05


@dataclass(frozen=True)
class Patience:
    """The limits of one client. All times in seconds."""

    attempts: int = 6
    """How often in a row something may fail without any progress."""
    first_pause: float = 0.25
    """Doubled with each attempt, and varied, so that clients do not come back all at once."""
    longest_pause: float = 8.0
    longest_wish: float = 120.0
    """A registry that asks for more (Retry-After) is given up."""
    connect: float = 15.0
    answer: float = 120.0
    """For a connection that stands still; a large blob may take as long as it moves."""


class Interrupted(Exception):  # noqa: N818 - not for callers: it becomes an error once patience ends
    """One attempt failed in a way that another may not."""

    def __init__(self, reason: str, wish: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        """Reads on from "the registry"."""
        self.wish = wish
        """Seconds that the registry asks to wait."""


class Attempts:
    """Counts the attempts at one thing."""

    def __init__(self, patience: Patience, watch: Watch, host: str, doing: str) -> None:
        self._patience = patience
        self._watch = watch
        self._host = host
        self._doing = doing
        self._failed = 0
        self._began = time.monotonic()

    def progressed(self) -> None:
        """Something was achieved: the count begins anew."""
        self._failed = 0

    def pause(self, interrupted: Interrupted) -> None:
        """Waits before the next attempt; raises `RegistryUnavailableError` where there is to be none."""
        self._failed += 1
        limits = self._patience
        wish = interrupted.wish
        if self._failed >= limits.attempts or (wish is not None and wish > limits.longest_wish):
            seconds = time.monotonic() - self._began
            more = f" and asks to wait for {wish:.0f} s" if wish is not None else ""
            raise RegistryUnavailableError(
                f"could not {self._doing}: the registry {self._host} {interrupted.reason}{more} (tried {self._failed} "
                f"times in {seconds:.0f} s); check that it runs and is reachable from here, then run `pulumi up` again"
            )
        pause = min(limits.longest_pause, limits.first_pause * 2 ** (self._failed - 1)) * random.uniform(0.5, 1)  # noqa: S311
        self._sleep(pause if wish is None else max(wish, 0.0))

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._watch.check(f"waiting for the registry {self._host}")
            time.sleep(min(_SLICE_SECONDS, left))
