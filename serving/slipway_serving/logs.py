"""What the server says on standard error, one line an event; bodies and keys are never part of it."""

from __future__ import annotations

import sys
from time import gmtime, strftime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slipway_serving.messages import Request


def write(level: str, message: str, **fields: object) -> None:
    """One line: time, level, message, fields."""
    stamp = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())
    extra = "".join(f" {name}={value}" for name, value in fields.items() if value not in (None, ""))
    sys.stderr.write(f"{stamp} {level} {message}{extra}\n")


def info(message: str, **fields: object) -> None:
    """Something that an operator likes to know."""
    write("INFO", message, **fields)


def warning(message: str, **fields: object) -> None:
    """Something that is not as it should be, though the server goes on."""
    write("WARNING", message, **fields)


def error(message: str, **fields: object) -> None:
    """Something failed."""
    write("ERROR", message, **fields)


def request_done(request: Request, status: int) -> None:
    """A request that was answered."""
    info(f"{request.method.decode()} {request.route} {status}", request_id=request.request_id)


def request_failed(request: Request, status: int, body: bytes) -> None:
    """A request that was answered with an error."""
    level = "ERROR" if status >= 500 else "WARNING"
    reason = body[:300].decode("utf-8", "replace")
    write(level, f"{request.method.decode()} {request.route} {status}: {reason}", request_id=request.request_id)


def script_error(request: Request, trace: tuple[str, ...]) -> None:
    """An exception out of the user's code."""
    error("Encountered Exception:\n" + "\n".join(trace), request_id=request.request_id)
