"""The process that keeps a registry running: `python -m provider.registry_host.keeper FOLDER`.

It starts the registry, starts it again (with growing pauses) when it ends, and holds it within its quota: no file may
grow beyond what is left (RLIMIT_FSIZE, set anew each second), so that a registry that is full refuses uploads and goes
on serving and deleting. Now and then, when nothing was written for a while, it stops the registry for a moment and
removes what nothing refers to. SIGHUP: what is asked for has changed; SIGTERM: end. The registry ends with it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import math
import os
import resource
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from provider.local.layout import read_json, write_json
from provider.registry_host import usage
from provider.registry_host.spec import HOST, Files, Spec, configuration

_SIGNALS = {signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_TICK_SECONDS = 1.0
_POLL_SECONDS = 0.02
_LONGEST_PAUSE = 30.0
_STEADY_SECONDS = 10.0
"""A registry that ran this long has not failed to start."""
_QUIET_SECONDS = 600.0
"""How long nothing must have been written before anything is cleaned up: a blob whose manifest is still to come is
referred to by nothing."""
_KILL_AFTER_SECONDS = 65.0
_LOCK_SECONDS = 0.5
"""Whoever only looks whether there is a keeper holds the lock for a moment."""
_LARGEST_LOG = 4 * 1024 * 1024
_MEASURING_SHARE = 20
"""Measuring may take this part of the time."""


class Keeper:
    """One registry and its process."""

    def __init__(self, folder: Path) -> None:
        self._files = Files(folder)
        self._spec = self._read_spec()
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._failures = 0
        self._next_start = 0.0
        self._next_measure = 0.0
        self._next_collection = time.monotonic() + self._spec.collect_seconds
        self._serving = False

    def run(self) -> None:
        """Keeps the registry until SIGTERM."""
        while self._files.spec.exists():  # whoever removes the folder is done with the registry
            self._tick()
            wait = _TICK_SECONDS if self._serving else _POLL_SECONDS
            received = signal.sigtimedwait(_SIGNALS, wait)
            if received is None:
                continue
            if received.si_signo == signal.SIGTERM:
                break
            if received.si_signo == signal.SIGHUP:
                self._change(self._read_spec())
        self._stop()

    def _tick(self) -> None:
        now = time.monotonic()
        process = self._process
        if process is not None and process.poll() is not None:
            self._ended(process.returncode, now)
        if self._process is None and now >= self._next_start:
            self._start()
        if now >= self._next_measure:
            self._limit()
            self._next_measure = time.monotonic() + max(_TICK_SECONDS, (time.monotonic() - now) * _MEASURING_SHARE)
        if not self._serving and self._process is not None and self._answers():
            self._serving = True
            self._say(state="Serving", pid=self._process.pid)
        if now >= self._next_collection and time.time() - usage.last_written(self._files.data) > _QUIET_SECONDS:
            self._collect()

    def _start(self) -> None:
        self._write_configuration()
        environment = {
            **os.environ,
            # What a Go program can be told: how many threads run at once, and when to collect its garbage harder.
            "GOMAXPROCS": str(max(1, math.ceil(self._spec.cpus))),
            "GOMEMLIMIT": str(self._spec.memory_bytes),
            "OTEL_TRACES_EXPORTER": "none",
        }
        self._process = subprocess.Popen(
            [self._spec.program, "serve", str(self._files.configuration)],
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            preexec_fn=_in_child,
        )
        self._started = time.monotonic()
        self._next_measure = 0.0
        self._say(state="Starting", pid=self._process.pid)

    def _ended(self, code: int, now: float) -> None:
        steady = now - self._started > _STEADY_SECONDS
        self._failures = 0 if steady else self._failures + 1
        self._next_start = now + min(_LONGEST_PAUSE, 0.1 * 2**self._failures)
        self._process, self._serving = None, False
        self._say(state="Failing", failures=self._failures)
        print(f"the registry ended with {code}; it is started again", file=sys.stderr, flush=True)

    def _change(self, spec: Spec) -> None:
        if spec != self._spec:
            # A request that has begun is carried to its end; one that comes meanwhile is refused, and tried again.
            before, self._spec = self._spec, spec
            seen = ("program", "port", "cpus", "memory_bytes")
            restart = any(getattr(before, name) != getattr(spec, name) for name in seen)
            self._next_collection = min(self._next_collection, time.monotonic() + spec.collect_seconds)
            self._next_measure = 0.0
            if restart:
                self._stop()
        if self._process is not None and self._serving:
            self._limit()
            self._say(state="Serving", pid=self._process.pid)
        self._next_start, self._failures = 0.0, 0

    def _stop(self) -> None:
        process, self._process, self._serving = self._process, None, False
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_KILL_AFTER_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _limit(self) -> None:
        """Lets no file grow beyond what is left of the quota."""
        process = self._process
        if process is None:
            return
        if self._files.log.stat().st_size > _LARGEST_LOG:
            os.truncate(self._files.log, 0)  # it is appended to
        left = max(0, self._spec.quota_bytes - usage.used_bytes(self._files.data))
        try:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (left, resource.RLIM_INFINITY))
        except ProcessLookupError:
            return  # it has ended: the next tick sees that

    def _collect(self) -> None:
        """Removes what nothing refers to, while the registry stands still."""
        self._next_collection = time.monotonic() + self._spec.collect_seconds
        self._say(state="Collecting")
        self._stop()
        if self._spec.retention_days is not None:
            for name in usage.drop_untagged(self._files.data, time.time() - self._spec.retention_days * 86400):
                print(f"removed {name}: no tag names it", file=sys.stderr, flush=True)
        command = [self._spec.program, "garbage-collect", str(self._files.configuration)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            print(f"removing what is not referred to ended with {done.returncode}", file=sys.stderr, flush=True)
        self._next_start = 0.0

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self._spec.port}/v2/", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 401
        except OSError:
            return False

    def _write_configuration(self) -> None:
        try:
            secret = json.loads(self._files.configuration.read_bytes())["http"]["secret"]
        except (OSError, ValueError, KeyError, TypeError):
            secret = secrets.token_hex(32)
        self._files.data.mkdir(exist_ok=True)
        # JSON is YAML. The umask keeps it from others.
        write_json(self._files.configuration, configuration(self._files, self._spec, secret))

    def _say(self, **status: Any) -> None:
        write_json(self._files.status, {"spec": self._spec.digest, "keeper": os.getpid(), **status}, durable=False)

    def _read_spec(self) -> Spec:
        return Spec(**(read_json(self._files.spec) or {}))


def _in_child() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(folder: Path) -> None:
    """Becomes the keeper of `folder`, unless there is one; the caller's process ends at once."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # whoever finds the lock held may send one
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    lock = os.open(Files(folder).lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                return
            time.sleep(_POLL_SECONDS)
    Keeper(folder).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
