"""Who works on a router, when many want to: one at a time, for all who wait.

A stack makes its routes side by side, and each may take a reload. Whoever gets the turn takes what the others ask for
along, so that there is one reload for all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar


class Task(Protocol):
    """Something to be done, by whoever has the turn."""

    done: bool
    """Set by the work, whether it succeeded or not."""


T = TypeVar("T", bound=Task)


class Turns(Generic[T]):
    """The turns of one router in this process."""

    def __init__(self) -> None:
        self._waiting: list[T] = []
        self._guard = threading.Lock()
        self._turn = threading.Lock()

    def take(self, task: T, work: Callable[[Sequence[T]], None]) -> None:
        """Returns when `task` is done, by this call or by another one's `work`, which gets all that waits by then.

        Where `work` ends with an error before a task is done, the one that waits for that does it."""
        with self._guard:
            self._waiting.append(task)
        with self._turn:
            if task.done:
                return
            with self._guard:
                others = [item for item in self._waiting if item is not task and not item.done]
                self._waiting.clear()
            work([task, *others])
