"""Events that are still to be delivered: on disk, so that they outlive the process; bounded, so that a receiver that is
away for good fills no disk."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_EVENTS = 1000
"""What waits for one webhook; beyond that the oldest are dropped."""
_LONGEST_WAIT = 3600.0


@dataclass(frozen=True)
class Delivery:
    """One event for one webhook."""

    number: int
    event: dict[str, Any]
    received: float
    """Seconds since 1970."""
    attempts: int
    """Those that failed."""


class Queue:
    """The deliveries of one registry service. Safe for several threads."""

    def __init__(self, path: Path) -> None:
        self._changed = threading.Condition()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # What was added outlives the process at once, and a power cut a moment later, as what registries store does. To
        # wait for the disk each time would have a registry hold events that it forgets when it is ended.
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS deliveries (number INTEGER PRIMARY KEY AUTOINCREMENT, webhook TEXT NOT NULL, "
            "event TEXT NOT NULL, received REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL)"
        )
        self._database.execute("CREATE INDEX IF NOT EXISTS by_webhook ON deliveries (webhook, number)")

    def add(self, wanted: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, int]:
        """Keeps events, each with its webhook's name. Returns how many of the oldest were dropped, by webhook."""
        now, dropped = time.time(), {}
        rows = [(webhook, json.dumps(event), now, now) for webhook, event in wanted]
        with self._changed:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany(
                    "INSERT INTO deliveries (webhook, event, received, due) VALUES (?, ?, ?, ?)", rows
                )
                for webhook in {row[0] for row in rows}:
                    newest = "SELECT number FROM deliveries WHERE webhook = ? ORDER BY number DESC LIMIT ?"
                    gone = self._database.execute(
                        f"DELETE FROM deliveries WHERE webhook = ? AND number NOT IN ({newest})",  # noqa: S608
                        (webhook, webhook, MOST_EVENTS),
                    ).rowcount
                    if gone:
                        dropped[webhook] = gone
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
            self._changed.notify_all()
        return dropped

    def next(self, webhook: str) -> Delivery | None:
        """The oldest event that is due; None where there is none now."""
        now = time.time()
        with self._changed:
            # A due time that is further away than any wait was set by a clock that went wrong.
            row = self._database.execute(
                "SELECT number, event, received, attempts FROM deliveries WHERE webhook = ? AND (due <= ? OR due > ?) "
                "ORDER BY number LIMIT 1",
                (webhook, now, now + _LONGEST_WAIT),
            ).fetchone()
        return None if row is None else Delivery(row[0], json.loads(row[1]), row[2], row[3])

    def wait(self, webhook: str, longest: float) -> None:
        """Until an event may be due, or `longest` seconds."""
        with self._changed:
            found = self._database.execute("SELECT MIN(due) FROM deliveries WHERE webhook = ?", (webhook,)).fetchone()[
                0
            ]
            self._changed.wait(longest if found is None else max(0.0, min(longest, found - time.time())))

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits for anybody."""
        with self._changed:
            return self._database.execute("SELECT 1 FROM deliveries LIMIT 1").fetchone() is None

    def wake(self) -> None:
        """Ends every wait."""
        with self._changed:
            self._changed.notify_all()

    def done(self, delivery: Delivery) -> None:
        """It was delivered, or given up."""
        with self._changed:
            self._database.execute("DELETE FROM deliveries WHERE number = ?", (delivery.number,))

    def postpone(self, delivery: Delivery, seconds: float) -> None:
        """It failed, and is tried again that much later."""
        due = time.time() + min(seconds, _LONGEST_WAIT)
        with self._changed:
            self._database.execute(
                "UPDATE deliveries SET attempts = attempts + 1, due = ? WHERE number = ?", (due, delivery.number)
            )

    def hurry(self, webhook: str) -> None:
        """What was postponed is due at once."""
        with self._changed:
            self._database.execute("UPDATE deliveries SET due = ? WHERE webhook = ?", (time.time(), webhook))
            self._changed.notify_all()

    def keep_only(self, webhooks: Collection[str]) -> None:
        """Forgets what waits for other webhooks."""
        with self._changed:
            known = [row[0] for row in self._database.execute("SELECT DISTINCT webhook FROM deliveries").fetchall()]
            for webhook in set(known) - set(webhooks):
                self._database.execute("DELETE FROM deliveries WHERE webhook = ?", (webhook,))

    def close(self) -> None:
        """Closes the file."""
        with self._changed:
            self._database.close()
