"""One works for all who wait."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from provider.router.turns import Turns

DEADLINE = 180.0


@dataclass
class Task:
    name: str
    done: bool = False


def test_what_waits_is_done_in_one_go() -> None:
    turns: Turns[Task] = Turns()
    batches: list[list[str]] = []
    begun, go_on = threading.Event(), threading.Event()

    def work(tasks: Sequence[Task]) -> None:
        begun.set()
        assert go_on.wait(DEADLINE)
        batches.append(sorted(task.name for task in tasks))
        for task in tasks:
            task.done = True

    first = threading.Thread(target=turns.take, args=(Task("first"), work))
    first.start()
    assert begun.wait(DEADLINE)
    others = [threading.Thread(target=turns.take, args=(Task(f"other{index}"), work)) for index in range(5)]
    for thread in others:
        thread.start()
    while len(turns._waiting) < 5:
        begun.wait(0.001)
    go_on.set()
    for thread in (first, *others):
        thread.join(DEADLINE)
    assert batches == [["first"], [f"other{index}" for index in range(5)]]


def test_what_another_did_not_come_to_is_done_by_itself() -> None:
    turns: Turns[Task] = Turns()
    begun, waiting = threading.Event(), threading.Event()
    later = Task("later")
    thread = threading.Thread(target=turns.take, args=(later, finished))

    def ended(tasks: Sequence[Task]) -> None:
        if not begun.is_set():
            begun.set()
            thread.start()
            while not turns._waiting:
                waiting.wait(0.001)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        turns.take(Task("first"), ended)
    thread.join(DEADLINE)
    assert later.done


def finished(tasks: Sequence[Task]) -> None:
    for task in tasks:
        task.done = True
