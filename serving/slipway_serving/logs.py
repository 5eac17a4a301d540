"""What the server and the script say, on standard output and error: one line an event, as text or as JSON.

Request bodies and keys are never part of it. What the script prints and logs goes through the same streams, line by
line, so that the order is kept; as JSON, each of its lines becomes an object that names the request it was printed
for.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from io import TextIOBase
from typing import Any, TextIO

import orjson

from slipway_serving.messages import Request, name

current: ContextVar[Request | None] = ContextVar("current", default=None)
"""The request that the running code works for."""
LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}


class _State:
    """How and where events are written; set once, at the start."""

    stream: TextIO | None = None
    """The true standard error; None until `configure`."""
    json = False
    threshold = LEVELS["INFO"]
    common: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed


def configure(*, as_json: bool, level: str, service: str, revision: str) -> None:
    """Set the format up, and what `logging` does where the script configures nothing of its own.

    As text only `logging`'s handler of last resort is replaced, so a script's own `basicConfig` works as it does
    anywhere.
    """
    for stream in (sys.stdout, sys.stderr):
        # Whole lines, also with PYTHONUNBUFFERED: it has `print` write its text and its newline one by one, and what
        # others write comes between.
        stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]
    _State.stream = sys.stderr
    _State.json = as_json
    _State.threshold = LEVELS[level]
    logging.getLogger().setLevel(LEVELS[level])
    handler = _Handler(LEVELS[level])
    logging.lastResort = handler
    if as_json:
        logging.getLogger().addHandler(handler)
        _State.common = {key: value for key, value in (("service", service), ("revision", revision)) if value}
        sys.stdout = _Lines(sys.stdout, "stdout")
        sys.stderr = _Lines(sys.stderr, "stderr")


def write(level: str, message: str, **fields: Any) -> None:
    """One event."""
    if LEVELS[level] < _State.threshold:
        return
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    stream = _State.stream or sys.stderr
    if _State.json:
        event = {"time": now, "level": level, "message": message, **_State.common}
        event |= {key: value for key, value in fields.items() if value not in (None, "")}
        request = current.get()
        if request is not None and "request_id" not in event:
            event["request_id"] = name(request)
        _put(stream, orjson.dumps(event, default=str).decode() + "\n")
        return
    extra = "".join(f" {key}={value}" for key, value in fields.items() if value not in (None, ""))
    _put(stream, f"{now} {level} {message}{extra}\n")


def _put(stream: TextIO, line: str) -> None:
    """Write a line. A log that nobody reads any more must not end a worker."""
    with contextlib.suppress(OSError, ValueError):
        stream.write(line)


def info(message: str, **fields: Any) -> None:
    """Something that an operator likes to know."""
    write("INFO", message, **fields)


def warning(message: str, **fields: Any) -> None:
    """Something that is not as it should be, though the server goes on."""
    write("WARNING", message, **fields)


def error(message: str, **fields: Any) -> None:
    """Something failed."""
    write("ERROR", message, **fields)


def request_done(request: Request, status: int) -> None:
    """A request that was answered."""
    ms = None if request.executed_ms is None else round(request.executed_ms, 3)
    info(f"{request.method.decode()} {request.route} {status}", request_id=name(request), run_ms=ms)


def request_failed(request: Request, status: int, body: bytes) -> None:
    """A request that was answered with an error; `body` is the answer's."""
    level = "ERROR" if status >= 500 else "WARNING"
    reason = body[:300].decode("utf-8", "replace")
    write(level, f"{request.method.decode()} {request.route} {status}: {reason}", request_id=name(request))


def script_error(request: Request, trace: Iterable[str]) -> None:
    """An exception out of the user's code."""
    error("Encountered Exception:\n" + "\n".join(trace), request_id=name(request))


class _Handler(logging.Handler):
    """Where `logging` goes: each record as an event."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if record.exc_info:
                text += "\n" + logging.Formatter().formatException(record.exc_info)
        except Exception:
            self.handleError(record)
            return
        level = record.levelname if record.levelname in LEVELS else "INFO"
        write(level, text, logger=record.name)


class _Lines(TextIOBase):
    """A stream whose lines become JSON events; what has no line end yet waits for it, each thread's for its own."""

    def __init__(self, stream: TextIO, kind: str) -> None:
        self._stream = stream
        self._kind = kind
        self._rests = threading.local()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        *lines, self._rests.text = (getattr(self._rests, "text", "") + text).split("\n")
        for line in lines:
            if line:
                write("INFO" if self._kind == "stdout" else "WARNING", line, logger=self._kind)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()
