"""Durations as Go writes them: `1m30s`, `250ms`."""

from __future__ import annotations

import re
from decimal import Decimal

_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def nanoseconds(text: str) -> int:
    """`1m30s` in nanoseconds. Raises ValueError."""
    if text in {"", "0"}:
        return 0
    if not re.fullmatch(f"(?:{_PART.pattern})+", text):
        raise ValueError(f"{text!r} is no duration; examples: 500ms, 30s, 1m30s")
    return int(sum(Decimal(number) * _NANOSECONDS[unit] for number, unit in _PART.findall(text)))


def written(count: int) -> str:
    """`count` nanoseconds as Go's `Duration.String` writes them."""
    if count == 0:
        return "0s"
    for unit in ("ns", "µs", "ms"):
        size = _NANOSECONDS[unit]
        if count < size * 1000:
            return f"{_number(count, size)}{unit}"
    minutes, rest = divmod(count, _NANOSECONDS["m"])
    text = f"{_number(rest, _NANOSECONDS['s'])}s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
    return text


def _number(count: int, size: int) -> str:
    text = f"{Decimal(count) / size:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
