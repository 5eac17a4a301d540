"""What went wrong in the user's code, told in the user's terms: reason, message, and the traceback without our
frames.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from pathlib import Path

PACKAGE = str(Path(__file__).resolve().parent) + os.sep
TRACEBACK_LINES = 30


class StartError(Exception):
    """The server cannot serve. `reason` is one word for programs; `message` and `trace` are for people."""

    def __init__(self, reason: str, message: str, trace: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.trace = trace

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def describe(error: BaseException) -> str:
    """The error as the last line of a traceback shows it."""
    return "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]


def user_traceback(error: BaseException) -> tuple[str, ...]:
    """The traceback's last lines, from the first frame that is the user's; causes included, this package left out."""
    summary = traceback.TracebackException.from_exception(error, compact=True)
    seen: set[int] = set()
    chain: list[traceback.TracebackException] = [summary]
    while chain:
        part = chain.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        part.stack = traceback.StackSummary.from_list([frame for frame in part.stack if not _is_ours(frame.filename)])
        chain += [link for link in (part.__cause__, part.__context__) if link is not None]
        chain += part.exceptions or []
    lines = "".join(summary.format()).splitlines()
    return tuple(lines[-TRACEBACK_LINES:])


def _is_ours(filename: str) -> bool:
    return filename.startswith((PACKAGE, "<frozen importlib", "<frozen runpy")) or "/inference_schema/" in filename


def where_main_is() -> str:
    """The line of the user's code that the main thread is in, as " in FILE, line N"; "" where there is none."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if not _is_ours(frame.f_code.co_filename):
            return f", in {frame.f_code.co_filename}, line {frame.f_lineno}"
        frame = frame.f_back
    return ""
