"""The courier: events are kept on disk, delivered in order, tried again, and given up where that is right."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from provider.local.layout import write_json
from provider.registry_host import courier, deliveries
from provider.registry_host.courier import Courier, attempt
from provider.registry_host.deliveries import Queue
from provider.registry_host.spec import Files, Spec
from tests.ports import free_port
from tests.registry.receiver import Receiver
from tests.unit.registry_host.full_log import full_log

DEADLINE = 180.0


def eventually(condition: Any, what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE} s: {what}"
        time.sleep(0.005)


def event(number: int) -> dict[str, Any]:
    return {"id": f"e{number}", "subject": f"a:{number}", "data": {"action": "push", "target": {"repository": "a"}}}


def notification(number: int) -> dict[str, Any]:
    target = {"repository": "a", "tag": str(number), "digest": "sha256:00"}
    return {"events": [{"id": f"e{number}", "timestamp": "2026", "action": "push", "target": target, "request": {}}]}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(courier, "_LONGEST_PAUSE", 0.02)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(tmp_path / "events.db")
    yield queue
    queue.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


class Running:
    """A courier for a folder, in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.courier: Courier | None = None

    def ask(self, *webhooks: dict[str, Any]) -> Courier:
        spec = Spec("registry", 5000, 1, 1, 1, 1, None, webhooks=[{"actions": ["push"], **hook} for hook in webhooks])
        write_json(Files(self.folder).spec, asdict(spec))
        if self.courier is None:
            self.courier = Courier(self.folder)
        else:
            self.courier.change()
        return self.courier

    def end(self) -> None:
        if self.courier is not None:
            senders = list(self.courier.senders.values())
            self.ask()
            for sender in senders:
                sender.join()
            self.courier.queue.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.end()


# --- what is kept


def test_what_was_added_is_there_for_the_next_process(tmp_path: Path) -> None:
    first = Queue(tmp_path / "events.db")
    first.add([("ci", event(1)), ("ci", event(2)), ("other", event(1))])
    first.close()
    second = Queue(tmp_path / "events.db")
    delivery = second.next("ci")
    assert delivery is not None
    assert (delivery.event, delivery.attempts) == (event(1), 0)
    second.close()


def test_the_oldest_comes_first_and_goes_when_it_is_done(queue: Queue) -> None:
    queue.add([("ci", event(number)) for number in range(3)])
    seen = []
    while (delivery := queue.next("ci")) is not None:
        seen.append(delivery.event["id"])
        queue.done(delivery)
    assert seen == ["e0", "e1", "e2"]


def test_one_that_is_postponed_lets_others_pass_and_comes_again(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    queue.add([("ci", event(1)), ("ci", event(2))])
    first = queue.next("ci")
    assert first is not None
    queue.postpone(first, 60)
    second = queue.next("ci")
    assert second is not None
    assert second.event["id"] == "e2"
    monkeypatch.setattr(deliveries.time, "time", lambda: now + 100)
    again = queue.next("ci")
    assert again is not None
    assert (again.event["id"], again.attempts) == ("e1", 1)


def test_a_clock_that_was_ahead_delays_nothing_for_long(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(deliveries.time, "time", lambda: now + 365 * 86400)
    queue.add([("ci", event(1))])
    delivery = queue.next("ci")
    assert delivery is not None
    queue.postpone(delivery, 60)
    monkeypatch.setattr(deliveries.time, "time", lambda: now)
    assert queue.next("ci") is not None


def test_it_is_bounded_and_drops_the_oldest(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "MOST_EVENTS", 3)
    assert queue.add([("ci", event(number)) for number in range(2)] + [("other", event(9))]) == {}
    assert queue.add([("ci", event(number)) for number in range(2, 5)]) == {"ci": 2}
    first, other = queue.next("ci"), queue.next("other")
    assert first is not None
    assert other is not None
    assert (first.event["id"], other.event["id"]) == ("e2", "e9")


def test_what_waits_for_a_webhook_that_went_is_forgotten(queue: Queue) -> None:
    queue.add([("ci", event(1)), ("gone", event(1))])
    queue.keep_only(["ci"])
    assert queue.next("gone") is None
    assert queue.next("ci") is not None


# --- one attempt


def test_an_attempt_that_is_taken(receiver: Receiver) -> None:
    hook = {"name": "ci", "url": f"{receiver.url}?code=1", "headers": {"X-Key": "k"}}
    assert attempt(hook, event(1)).said == ""
    ((path, headers, document),) = receiver.received
    assert (path, headers["X-Key"], document) == ("/hook?code=1", "k", event(1))


@pytest.mark.parametrize(
    ("status", "headers", "final", "wish"),
    [
        (500, {}, False, None),
        (401, {}, False, None),
        (302, {"Location": "http://127.0.0.1:1/"}, False, None),
        (429, {"Retry-After": "7"}, False, 7.0),
        (503, {"Retry-After": "soon"}, False, None),
        (400, {}, True, None),
        (410, {}, True, None),
    ],
)
def test_an_attempt_that_is_refused(
    receiver: Receiver, status: int, headers: dict[str, str], final: bool, wish: float | None
) -> None:
    receiver.answer = lambda _: (status, headers)
    outcome = attempt({"name": "ci", "url": receiver.url}, event(1))
    assert outcome.said == f"127.0.0.1 answered {status}"
    assert (outcome.final, outcome.reached) == (final, True)
    assert outcome.wish == wish


@pytest.mark.parametrize(
    ("asked", "date", "seconds"),
    [
        ("Sun, 22 Nov 2026 10:00:30 GMT", "Sun, 22 Nov 2026 10:00:00 GMT", 30.0),
        ("Sun, 22 Nov 2026 10:00:00 GMT", "Sun, 22 Nov 2026 10:00:30 GMT", 0.0),
        ("Sun, 22 Nov 2026 10:00:00 GMT", None, None),
        (None, None, None),
    ],
)
def test_a_wish_is_relative_to_the_receiver_s_clock(asked: str | None, date: str | None, seconds: float | None) -> None:
    assert courier._seconds(asked, date) == seconds


def test_an_attempt_at_nobody() -> None:
    outcome = attempt({"name": "ci", "url": f"http://127.0.0.1:{free_port()}/hook"}, event(1))
    assert outcome.said == "127.0.0.1 cannot be reached (Connection refused)"
    assert not outcome.reached


def test_a_plain_server_at_an_https_url_is_told_as_such(receiver: Receiver) -> None:
    outcome = attempt({"name": "ci", "url": receiver.url.replace("http:", "https:")}, event(1))
    assert "127.0.0.1 and this machine do not agree on TLS" in outcome.said


# --- the whole


def test_events_are_delivered_in_order(running: Running, receiver: Receiver) -> None:
    courier = running.ask({"name": "ci", "url": receiver.url})
    for number in range(20):
        courier.take(notification(number))
    eventually(lambda: len(receiver.received) == 20, "all were delivered")
    assert [document["id"] for document in receiver.events] == [f"e{number}" for number in range(20)]


def test_one_that_fails_is_tried_again_and_holds_up_no_other(running: Running, receiver: Receiver) -> None:
    attempts: list[str] = []

    def answer(document: dict[str, Any]) -> tuple[int, dict[str, str]]:
        attempts.append(document["id"])
        return (500 if document["id"] == "e0" and attempts.count("e0") < 4 else 204), {}

    receiver.answer = answer
    courier = running.ask({"name": "ci", "url": receiver.url})
    for number in range(3):
        courier.take(notification(number))
    eventually(lambda: len(receiver.received) == 3, "all were delivered")
    assert attempts.count("e0") == 4
    assert sorted(document["id"] for document in receiver.events) == ["e0", "e1", "e2"]


def test_one_that_is_refused_for_good_is_given_up(
    running: Running, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.answer = lambda document: (400 if document["id"] == "e0" else 200, {})
    courier = running.ask({"name": "ci", "url": receiver.url})
    courier.take(notification(0))
    courier.take(notification(1))
    eventually(lambda: receiver.received, "the second was delivered")
    eventually(lambda: courier.queue.is_empty, "nothing waits")
    assert "webhook ci: the event e0 was given up: 127.0.0.1 answered 400" in capsys.readouterr().err


def test_one_that_fails_for_a_day_is_given_up(
    running: Running, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "_GIVE_UP_SECONDS", 0.0)
    receiver.answer = lambda _: (500, {})
    taken = running.ask({"name": "ci", "url": receiver.url})
    taken.take(notification(0))
    eventually(lambda: taken.queue.is_empty, "it was given up")


@pytest.mark.parametrize("status", [None, 500])
def test_a_webhook_that_moved_is_told_at_its_new_place_at_once(
    running: Running, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    monkeypatch.setattr(courier, "_FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(courier, "_LONGEST_PAUSE", 3600.0)
    with Receiver() as old:
        old.answer = lambda _: (status or 200, {})
        url = old.url if status is not None else f"http://127.0.0.1:{free_port()}/hook"
        taken = running.ask({"name": "ci", "url": url})
        taken.take(notification(0))
        eventually(lambda: (found := _oldest(taken.queue)) is not None and found[1] == 1, "an attempt failed")
        running.ask({"name": "ci", "url": receiver.url})
        eventually(lambda: receiver.received, "it was delivered")
    assert receiver.events[0]["id"] == "e0"


def _oldest(queue: Queue) -> tuple[str, int] | None:
    """Id and failed attempts of what waits the longest."""
    with queue._changed:
        row = queue._database.execute("SELECT event, attempts FROM deliveries ORDER BY number LIMIT 1").fetchone()
    return None if row is None else (row[0], row[1])


def test_a_receiver_that_is_back_is_told_in_order(running: Running) -> None:
    port = free_port()
    courier = running.ask({"name": "ci", "url": f"http://127.0.0.1:{port}/hook"})
    for number in range(10):
        courier.take(notification(number))
    eventually(lambda: (found := courier.queue.next("ci")) is not None and found.attempts > 3, "some attempts failed")
    with Receiver(port) as back:
        eventually(lambda: len(back.received) == 10, "all were told")
        assert [document["id"] for document in back.events] == [f"e{number}" for number in range(10)]


def test_a_slow_receiver_holds_up_no_other(running: Running, receiver: Receiver) -> None:
    held = threading.Event()
    with Receiver() as slow:
        slow.answer = lambda _: (200 if held.wait(DEADLINE) else 500, {})
        courier = running.ask({"name": "slow", "url": slow.url}, {"name": "ci", "url": receiver.url})
        courier.take(notification(0))
        courier.take(notification(1))
        eventually(lambda: len(receiver.received) == 2, "the other was told")
        assert slow.received == []
        held.set()
        eventually(lambda: len(slow.received) == 2, "the slow one was told")


def test_a_full_disk_under_the_log_ends_no_delivery(running: Running, receiver: Receiver) -> None:
    statuses = iter([500])
    receiver.answer = lambda _: (next(statuses, 200), {})
    taken = running.ask({"name": "ci", "url": receiver.url})
    (sender,) = taken.senders.values()
    with full_log():
        taken.take(notification(0))
        eventually(lambda: receiver.received or not sender._thread.is_alive(), "it was delivered, or never will be")
    assert [document["id"] for document in receiver.events] == ["e0"]


def test_a_notification_that_is_none_is_refused(running: Running) -> None:
    with pytest.raises((KeyError, TypeError)):
        running.ask().take({"something": "else"})
