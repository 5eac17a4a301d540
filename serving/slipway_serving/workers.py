"""Several processes for one service (`--workers N`): one that starts and watches, the others serve.

The parent speaks to each worker as a supervisor does (`control`), and to its own supervisor, if there is one, as a
single server would. It holds the listening sockets, so a worker that crashed is replaced without a refused
connection.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from slipway_serving import logs
from slipway_serving.cli import KEY_VARIABLES
from slipway_serving.control import RECEIVE_BYTES, Control
from slipway_serving.failures import StartError
from slipway_serving.server import EXIT_FAILED, ORPHAN_GRACE, new_loop
from slipway_serving.settings import Settings
from slipway_serving.sockets import Bound, bind_all, name_of

SLOWEST_RESTART = 30.0
"""Seconds between the restarts of a worker that keeps crashing."""
STEADY = 60.0
"""Seconds after which a worker was well: should it crash then, the next one starts at once."""
KILL_AFTER = 3.0
"""Seconds beyond the grace time after which a worker that does not end is killed."""


class Worker:
    """One serving process and the parent's end of its control socket."""

    def __init__(self, number: int, command: Sequence[str], environ: dict[str, str]) -> None:
        self.number = number
        self.began = perf_counter()
        self.ready = False
        self.buffer = b""
        self.failure: dict[str, Any] | None = None
        self.socket, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [*command, "--workers", "1", "--control-fd", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            env={**environ, "SLIPWAY_WORKER": str(number)},
        )
        theirs.close()

    def send(self, command: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Give the worker a command; one that is gone is noticed where its socket is read."""
        try:
            socket.send_fds(self.socket, [json.dumps(command).encode() + b"\n"], list(descriptors))
        except OSError:
            return

    def events(self) -> list[dict[str, Any]] | None:
        """What the worker said since; None when it is gone."""
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except OSError:
            data = b""
        if not data:
            return None
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]


class Parent:
    """Starts the workers, and keeps as many running as were asked for. `run` returns the exit code."""

    def __init__(self, settings: Settings, arguments: Sequence[str]) -> None:
        self.settings = settings
        self.command = [sys.executable, "-m", "slipway_serving", *arguments]
        self.loop = new_loop()
        self.workers: dict[int, Worker] = {}
        self.listening: list[socket.socket] = []
        self.bound = Bound(())
        self.control: Control | None = None
        self.draining = False
        self.announced = False
        self.restarts: dict[int, float] = {}
        self.exit_code = 0
        self.began = perf_counter()
        self.shared = tempfile.mkdtemp(prefix="slipway-workers-")
        # A package found through sys.path alone, as in a checkout, must be found by the workers as well.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self.environ = {**os.environ, "SLIPWAY_METRICS_DIR": self.shared, "PYTHONPATH": path}
        for name, key in zip(KEY_VARIABLES, (settings.primary_key, settings.secondary_key), strict=True):
            if key is not None:
                self.environ[name] = key

    def run(self) -> int:
        """Start, serve, drain: 0, or 3 where a worker could not start."""
        settings = self.settings
        try:
            if settings.control_fd is not None:
                self.control = Control.from_descriptor(settings.control_fd, self._listen, self.drain, self._orphaned)
                self.loop.add_reader(self.control.connection.fileno(), self.control.readable)
            else:
                self.bound = bind_all(settings)
                self.listening.extend(self.bound.listening)
        except StartError as failure:
            logs.error(str(failure))
            return EXIT_FAILED
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self._signalled, number)
        for index in range(settings.workers):
            self._start(index)
        try:
            self.loop.run_forever()
        finally:
            for worker in self.workers.values():
                worker.process.kill()
                worker.process.wait()
            shutil.rmtree(self.shared, ignore_errors=True)
        return self.exit_code

    def _start(self, number: int) -> None:
        if self.draining:
            return
        worker = Worker(number, self.command, self.environ)
        self.workers[number] = worker
        self.loop.add_reader(worker.socket.fileno(), self._hear, worker)

    def _hear(self, worker: Worker) -> None:
        events = worker.events()
        if events is None:
            self._ended(worker)
            return
        for event in events:
            if event.get("event") == "ready":
                worker.ready = True
                if self.announced:
                    self._hand_over(worker)
                elif len(self.workers) == self.settings.workers and all(w.ready for w in self.workers.values()):
                    self._announce()
            elif event.get("event") == "failed":
                worker.failure = event

    def _announce(self) -> None:
        """Every worker is ready for the first time."""
        self.announced = True
        for worker in self.workers.values():
            self._hand_over(worker)
        if self.control is not None:
            self.control.send("ready", revision=self.settings.revision)
        else:
            for listening in self.listening:
                logs.info(f"listening on {name_of(listening, self.settings.scheme)}")
        seconds = perf_counter() - self.began
        logs.info(f"ready to score after {seconds:.2f} s with {self.settings.workers} workers")

    def _hand_over(self, worker: Worker) -> None:
        for listening in self.listening:
            worker.send({"command": "listen"}, [listening.fileno()])

    def _ended(self, worker: Worker) -> None:
        self.loop.remove_reader(worker.socket.fileno())
        worker.socket.close()
        code = worker.process.wait()
        if self.workers.get(worker.number) is worker:
            del self.workers[worker.number]
        if self.draining:
            if not self.workers:
                self._finish()
            return
        if not self.announced:
            self._give_up(worker, code)
            return
        delay = restart_delay(self.restarts.get(worker.number), perf_counter() - worker.began)
        self.restarts[worker.number] = delay
        logs.error(f"worker {worker.number} ended with {code}: a new one starts in {delay:g} s")
        self.loop.call_later(delay, self._start, worker.number)

    def _give_up(self, worker: Worker, code: int) -> None:
        """A worker could not start, so the service cannot."""
        failure = worker.failure or {
            "reason": "WorkerError",
            "message": f"worker {worker.number} ended with {code} before it was ready",
            "traceback": [],
        }
        if self.control is not None:
            self.control.send(**{**failure, "event": "failed"})
        self.exit_code = EXIT_FAILED
        self.loop.stop()

    def _listen(self, listening: socket.socket) -> None:
        self.listening.append(listening)
        for worker in self.workers.values():
            if worker.ready:
                worker.send({"command": "listen"}, [listening.fileno()])
        if self.control is not None:
            self.control.send("listening")

    def _signalled(self, number: int) -> None:
        again = number == signal.SIGINT and self.draining
        self.drain(0.0 if again else None)

    def _orphaned(self) -> None:
        assert self.control is not None  # noqa: S101
        self.loop.remove_reader(self.control.connection.fileno())
        self.drain(ORPHAN_GRACE)

    def drain(self, grace: float | None) -> None:
        """Let every worker answer what it has, then end."""
        seconds = self.settings.grace if grace is None else grace
        self.draining = True
        self.bound.remove_file()
        for worker in self.workers.values():
            worker.send({"command": "drain", "graceSeconds": seconds})
        for listening in self.listening:
            listening.close()
        self.listening.clear()
        self.loop.call_later(seconds + KILL_AFTER, self._finish)
        if not self.workers:
            self._finish()

    def _finish(self) -> None:
        if self.control is not None:
            self.control.send("drained")
        self.loop.stop()


def restart_delay(former: float | None, lived: float) -> float:
    """Seconds until a worker that lived for `lived` seconds is replaced; `former` is the wait before it, if it was a
    replacement itself."""
    if former is None or lived >= STEADY:
        return 0.0
    return min(max(0.5, former * 2), SLOWEST_RESTART)


def serve(settings: Settings, arguments: Sequence[str]) -> int:
    """Run the parent of `settings.workers` processes, each started with the same arguments."""
    asyncio.set_event_loop(None)
    return Parent(settings, arguments).run()
