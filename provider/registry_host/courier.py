"""The process that delivers events: it takes a registry's notifications, keeps them, and posts them to webhooks.

Each webhook has a thread of its own, so that a slow one holds up no other. An event is delivered at least once: a
receiver that was told twice sees the same `id`. SIGHUP: what is asked for has changed; SIGTERM: end.
"""

from __future__ import annotations

import email.utils
import hmac
import http.client
import json
import os
import random
import signal
import socket
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from provider.local.layout import read_json
from provider.registry_host.deliveries import Delivery, Queue
from provider.registry_host.events import CONTENT_TYPE, from_notification, is_wanted
from provider.registry_host.log import say
from provider.registry_host.spec import TOKEN_VARIABLE, Files, Spec

_STACK_BYTES = 256 * 1024
_LARGEST_NOTIFICATION = 16 * 1024 * 1024
_TIMEOUT_SECONDS = 10.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 600.0
_GIVE_UP_SECONDS = 24 * 3600.0
_FEWEST_ATTEMPTS = 10
"""However old an event looks: clocks jump."""
_FINAL = frozenset({400, 410, 413, 415})
"""Answers after which the same event would only be refused again."""
_IDLE_SECONDS = 60.0


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt."""

    said: str
    """For the log; empty where it was delivered."""
    final: bool = False
    """No further attempt would do better."""
    reached: bool = True
    """Whether the receiver answered at all."""
    wish: float | None = None
    """Seconds that the receiver asks to wait."""


class Courier:
    """All webhooks of one service."""

    def __init__(self, folder: Path) -> None:
        self._files = Files(folder)
        self.queue = Queue(self._files.events)
        self.senders: dict[str, Sender] = {}
        self._spec = self._read_spec()
        self.change()

    def change(self) -> None:
        """Takes over what is asked for now."""
        self._spec = self._read_spec()
        asked = {webhook["name"]: webhook for webhook in self._spec.webhooks}
        for name in set(self.senders) - set(asked):
            self.senders.pop(name).end()
        self.queue.keep_only(asked)
        for name, webhook in asked.items():
            if name in self.senders:
                self.senders[name].change(webhook)
            else:
                self.senders[name] = Sender(webhook, self.queue)
        self.queue.wake()

    def take(self, document: Any) -> None:
        """Keeps a notification's events for those who want them. Raises KeyError, TypeError where it is none."""
        spec = self._spec
        found = list(from_notification(document, spec.url, self._files.data))
        wanted = [(hook["name"], event) for event in found for hook in spec.webhooks if is_wanted(event, hook)]
        for name, count in self.queue.add(wanted).items():
            say(f"webhook {name}: too many events wait; the {count} oldest were dropped")

    def _read_spec(self) -> Spec:
        return Spec(**(read_json(self._files.spec) or {}))


class Sender:
    """Delivers to one webhook, the oldest event first. One that fails comes again later, and holds up none."""

    def __init__(self, webhook: Mapping[str, Any], queue: Queue) -> None:
        self.webhook = webhook
        self._queue = queue
        self._ended = threading.Event()
        self._interrupted = threading.Event()
        self._failing = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def change(self, webhook: Mapping[str, Any]) -> None:
        """What waits goes to another place, at once."""
        if webhook != self.webhook:
            self.webhook = webhook
            self._queue.hurry(str(webhook["name"]))
            self._interrupted.set()

    def end(self) -> None:
        """No further event is sent."""
        self._ended.set()
        self._interrupted.set()

    def join(self) -> None:
        """Waits until an attempt that is under way has ended, too."""
        self._thread.join()

    def _run(self) -> None:
        name = str(self.webhook["name"])
        while not self._ended.is_set():
            try:
                self._deliver(name)
            except sqlite3.Error as error:  # the disk is full: what was delivered is delivered once more
                say(f"webhook {name}: {error}")
                self._ended.wait(_TIMEOUT_SECONDS)

    def _deliver(self, name: str) -> None:
        delivery = self._queue.next(name)
        if delivery is None:
            self._queue.wait(name, _IDLE_SECONDS)
            return
        outcome = attempt(self.webhook, delivery.event)
        if not self._ended.is_set():
            self._settle(name, delivery, outcome)

    def _settle(self, name: str, delivery: Delivery, outcome: Outcome) -> None:
        if not outcome.said:
            self._queue.done(delivery)
            if self._failing:
                say(f"webhook {name}: delivers again")
            self._failing = 0
            return
        self._failing += 1
        if self._failing == 1:
            say(f"webhook {name}: {outcome.said}; events are kept and tried again")
        old = time.time() - delivery.received > _GIVE_UP_SECONDS and delivery.attempts >= _FEWEST_ATTEMPTS
        if outcome.final or old:
            self._queue.done(delivery)
            say(f"webhook {name}: the event {delivery.event['id']} was given up: {outcome.said}")
            return
        if outcome.reached:
            self._queue.postpone(delivery, _pause(delivery.attempts) if outcome.wish is None else outcome.wish)
        else:
            # Nobody is there: the others would fare no better, and keep their order.
            self._queue.postpone(delivery, 0.0)
            self._interrupted.wait(_pause(self._failing - 1))
            self._interrupted.clear()


def _pause(failures: int) -> float:
    """Doubled with each failure, and varied."""
    return float(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(failures, 20))) * random.uniform(0.5, 1)  # noqa: S311


def attempt(webhook: Mapping[str, Any], event: Mapping[str, Any]) -> Outcome:
    """Posts one event (structured content mode)."""
    parts = urlsplit(webhook["url"])
    make: Callable[..., http.client.HTTPConnection] = http.client.HTTPConnection
    if parts.scheme == "https":
        make = http.client.HTTPSConnection
    connection = make(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
    headers = {"User-Agent": "slipway", **(webhook.get("headers") or {}), "Content-Type": CONTENT_TYPE}
    path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    try:
        connection.request("POST", path, json.dumps(event).encode(), headers)
        response = connection.getresponse()
        response.read(65536)
    except ssl.SSLError as error:
        return Outcome(f"{parts.hostname} and this machine do not agree on TLS ({error.reason})", reached=False)
    except (OSError, http.client.HTTPException) as error:
        said = getattr(error, "strerror", None) or type(error).__name__
        return Outcome(f"{parts.hostname} cannot be reached ({said})", reached=False)
    finally:
        connection.close()
    if 200 <= response.status < 300:
        return Outcome("")
    wish = _seconds(response.headers.get("Retry-After"), response.headers.get("Date"))
    return Outcome(f"{parts.hostname} answered {response.status}", final=response.status in _FINAL, wish=wish)


def _seconds(asked: str | None, date: str | None) -> float | None:
    """What Retry-After asks for. A date is taken relative to the receiver's own clock."""
    if asked is None:
        return None
    if asked.strip().isdigit():
        return float(asked)
    try:
        until, now = (email.utils.parsedate_to_datetime(text or "") for text in (asked, date))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None


class _Notifications(BaseHTTPRequestHandler):
    """What registries say."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    courier: Courier
    token: str

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), f"Bearer {self.token}".encode()):
            self.close_connection = True
            self._answer(401)
        elif length > _LARGEST_NOTIFICATION:
            self.close_connection = True
            self._answer(413)
        else:
            self._answer(self._take(self.rfile.read(length)))

    def _take(self, body: bytes) -> int:
        try:
            self.courier.take(json.loads(body))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # Another answer would have the registry send it again for ever.
            say(f"a notification was not understood ({type(error).__name__}: {error})")
        except Exception as error:  # no room on disk: the registry keeps it and tries again
            say(f"events cannot be kept: {error}")
            return 503
        return 200

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Requests are not logged."""


def main(folder: str, descriptor: str) -> None:
    """Delivers the events of the service in `folder`; takes notifications from the listening socket with that
    number."""
    signals = {signal.SIGHUP, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before there are threads: they inherit it
    threading.stack_size(_STACK_BYTES)
    courier = Courier(Path(folder))
    _Notifications.courier, _Notifications.token = courier, os.environ.pop(TOKEN_VARIABLE)
    server = ThreadingHTTPServer(("", 0), _Notifications, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=int(descriptor))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while signal.sigwait(signals) == signal.SIGHUP:
        courier.change()
    server.shutdown()
