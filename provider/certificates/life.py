"""How long a certificate lives, and when it is to be renewed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

BACKDATED = timedelta(hours=1)
"""A new certificate began that long ago, for clients whose clock is behind."""


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC).replace(microsecond=0)


def is_due(begins: datetime, ends: datetime, at: datetime) -> bool:
    """Whether a third of its life or less is left at `at`."""
    return at >= ends - (ends - begins) / 3


def text(moment: datetime) -> str:
    """`moment` as RFC 3339 has it, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(moment: datetime) -> str:
    """`moment` for a sentence."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
