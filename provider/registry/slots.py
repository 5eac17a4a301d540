"""How many transfers run at once, whatever the number of threads that ask for one."""

from __future__ import annotations

import threading


class Slots:
    """At most `count` transfers at once.

    A thread that has a slot shares it with what it begins meanwhile: copying from one repository into another is one
    transfer, not two, and no thread ever waits for a slot while it holds one."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"at least one transfer at a time is needed, not {count}")
        self.count = count
        self._free = threading.Semaphore(count)
        self._lock = threading.Lock()
        self._held: dict[int, int] = {}

    def take(self) -> Slot:
        """Waits for a slot; it is free again when the answer is closed."""
        thread = threading.get_ident()
        with self._lock:
            shared = thread in self._held
            if shared:
                self._held[thread] += 1
        if not shared:
            self._free.acquire()
            with self._lock:
                self._held[thread] = 1
        return Slot(self, thread)

    def give_back(self, thread: int) -> None:
        """Ends one use of the slot that `thread` took."""
        with self._lock:
            self._held[thread] -= 1
            last = not self._held[thread]
            if last:
                del self._held[thread]
        if last:
            self._free.release()


_shared: dict[tuple[str, int], Slots] = {}
_shared_lock = threading.Lock()


def shared(host: str, count: int) -> Slots:
    """The slots of everybody in this process who has `count` transfers with `host`."""
    with _shared_lock:
        return _shared.setdefault((host, count), Slots(count))


class Slot:
    """One transfer's permission to run."""

    def __init__(self, slots: Slots, thread: int) -> None:
        self._slots: Slots | None = slots
        self._thread = thread

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the slot back; a second time does nothing."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.give_back(self._thread)
