"""Processes that a keeper holds: started, looked after, started again when they end by themselves."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from provider.registry_host.log import say

SIGNALS = {signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
"""What a keeper waits for, and so blocks; its children do not."""
POLL_SECONDS = 0.02
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_LONGEST_PAUSE = 30.0
_STEADY_SECONDS = 10.0
"""A process that ran this long has not failed to start."""
_KILL_AFTER_SECONDS = 65.0
_ROOT = Path(__file__).resolve().parents[2]


def python(module: str, *arguments: object) -> list[str]:
    """The command that runs `main` of one of this package's modules.

    Not with the user's settings of Python, and without the installed packages: they are not needed."""
    given = ", ".join(map(repr, map(str, arguments)))
    launch = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); "
    launch += f"from provider.registry_host.{module} import main; main({given})"
    return [sys.executable, "-I", "-S", "-c", launch]


class Kept:
    """One process."""

    def __init__(
        self, name: str, start: Callable[[], subprocess.Popen[bytes]], answers: Callable[[], bool] | None = None
    ) -> None:
        """`start` makes the process (raises OSError); `answers` says whether it does what it is for."""
        self.name = name
        self.serving = False
        self.failures = 0
        self._start = start
        self._answers = answers
        self._process: subprocess.Popen[bytes] | None = None
        self._started = -math.inf
        self._next_start = 0.0

    @property
    def pid(self) -> int | None:
        """The process' id; None where there is none."""
        return None if self._process is None else self._process.pid

    def tend(self) -> None:
        """Starts the process where there is none, and looks whether it serves."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            self._ended(f"ended with {self._process.returncode}", now)
        if self._process is None and now >= self._next_start:
            try:
                self._process, self._started = self._start(), time.monotonic()
            except OSError as error:
                self._ended(f"cannot be started: {error.strerror or error}", now)
        if self._process is not None and not self.serving:
            self.serving = self._answers is None or self._answers()

    def hurry(self) -> None:
        """The next attempt comes at once, as if none had failed."""
        self._next_start, self.failures = 0.0, 0

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, where there is a process."""
        if self._process is not None:
            self._process.send_signal(number)

    def _ended(self, how: str, now: float) -> None:
        self.failures = 1 if now - self._started > _STEADY_SECONDS and self._process is not None else self.failures + 1
        self._next_start = now + min(_LONGEST_PAUSE, 0.1 * 2**self.failures)
        self._process, self.serving = None, False
        say(f"{self.name} {how}; it is started again")

    def release(self) -> subprocess.Popen[bytes] | None:
        """Gives the process up, asked to end."""
        process, self._process, self.serving = self._process, None, False
        if process is not None:
            process.terminate()
        return process


def end(several: list[Kept], meanwhile: Callable[[], None]) -> None:
    """Ends processes side by side; those that take longer than a minute by force."""
    waiting = [process for kept in several if (process := kept.release()) is not None]
    deadline = time.monotonic() + _KILL_AFTER_SECONDS
    while waiting := [process for process in waiting if process.poll() is None]:
        if time.monotonic() > deadline:
            for process in waiting:
                process.kill()
                process.wait()
            return
        meanwhile()
        time.sleep(POLL_SECONDS)


def child(command: list[str], *, unblock: bool = True, **options: Any) -> subprocess.Popen[bytes]:
    """A process that ends with this one. `unblock`: signals reach it from the start."""

    parent = os.getpid()

    def in_child() -> None:
        if unblock:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the kernel knew of it
            os._exit(1)

    return subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=in_child, **options)
