"""A server process from start to end: which thread does what, when it listens, how it drains.

The main thread loads the script, calls `init`, and then is the first worker. The I/O thread runs the event loop from
the very start, so that liveness answers during a long `init` and a long `run` alike. Under a supervisor the sockets
come over the control socket; alone, the server binds its own, and listens at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from slipway_serving import compat, entry_script, logs
from slipway_serving.control import Control
from slipway_serving.failures import StartError
from slipway_serving.http1 import Connection, write_response
from slipway_serving.messages import error_response
from slipway_serving.service import DRAINING, READY, Service
from slipway_serving.settings import Settings, publish
from slipway_serving.sockets import BACKLOG, Bound, bind_all, name_of

EXIT_FAILED = 3
"""The exit code of a server that could not start, which is Azure's too."""
SWITCH_INTERVAL = 0.001
TICKS_PER_LIMIT = 10
IDLE_GRACE = 5.0
"""Seconds for which a drain leaves an idle connection open, since its client may be sending just then."""
ORPHAN_GRACE = 1.0
"""Seconds for a drain whose supervisor is gone."""
LEAVE_TIME = 1.0
"""Seconds the main thread has to come back from the user's code before the process ends without it."""


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's event loop where it is installed, asyncio's own elsewhere (Windows)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class Server:
    """One process. `run` returns its exit code."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loop = new_loop()
        self.service = Service(settings, self._wake)
        self.control: Control | None = None
        self.bound = Bound(())
        self.closers: list[Callable[[], None]] = []
        self.drain_ends = 0.0
        self.drain_began = 0.0
        self.signals, self._signal_sender = socket.socketpair()
        self.signals.setblocking(False)
        self._signal_sender.setblocking(False)
        self.main_is_back = threading.Event()
        self.io = threading.Thread(target=self._io_thread, name="slipway-io", daemon=True)

    def run(self) -> int:
        """Load, initialise, serve, drain. 0 after a drain, 3 where the service could not start."""
        settings = self.settings
        # The I/O thread waits for this long at most while a `run` is busy in Python; by default it is 5 ms.
        sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            if settings.control_fd is not None:
                self.control = Control.from_descriptor(settings.control_fd, self._listen, self.drain, self._orphaned)
            else:
                self.bound = bind_all(settings)
            self._handle_signals()
            self.io.start()
            for listening in self.bound.listening:
                self.loop.call_soon_threadsafe(self._listen, listening)
            self._load()
            # Again, since event loops and libraries that the script uses set signal handlers of their own.
            self._handle_signals()
        except StartError as failure:
            return self._failed(failure)
        self._in_loop(self._ready)
        self.service.scheduler.serve()
        self.main_is_back.set()
        self.io.join()
        return 0

    def _load(self) -> None:
        """Import the script and call its `init`, in the main thread."""
        settings, service = self.settings, self.service
        publish(settings)
        compat.install()
        if settings.entry_script is None:
            service.use_model(Path(os.environ["AZUREML_MODEL_DIR"]))
            return
        path = entry_script.find(settings.entry_script, settings.source_directory, settings.app_root)
        module = entry_script.load(path, settings.source_directory, settings.app_root)
        run = entry_script.run_of(module)
        service.use_script(run)
        if inspect.iscoroutinefunction(inspect.unwrap(run)):
            entry_script.initialise(module, service.use_async().loop.run_until_complete)
        else:
            run_many = getattr(module, "run_batch", None)
            service.batch(run_many, "the entry script defines no run_batch(calls)")
            entry_script.initialise(module, asyncio.run)

    def _failed(self, failure: StartError) -> int:
        """Report why the service cannot start, to people and to the supervisor."""
        logs.error("\n".join([*failure.trace, str(failure)]))
        if self.control is not None:
            self.control.send("failed", reason=failure.reason, message=failure.message, traceback=list(failure.trace))
        sys.stdout.flush()
        sys.stderr.flush()
        # Threads that the script started must not keep a failed server alive.
        os._exit(EXIT_FAILED)

    # -- the I/O thread

    def _io_thread(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.add_reader(self.signals.fileno(), self._signalled)
        if self.control is not None:
            self.loop.add_reader(self.control.connection.fileno(), self.control.readable)
        self._tick()
        self.loop.run_forever()

    def _wake(self) -> None:
        self.loop.call_soon_threadsafe(self.service.deliver)

    def _in_loop(self, function: Callable[[], None]) -> None:
        self.loop.call_soon_threadsafe(function)

    def _tick(self) -> None:
        settings = self.settings
        limit = min(settings.scoring_timeout_ms, settings.max_queue_wait_ms or settings.scoring_timeout_ms) / 1000
        busy = self.service.state == DRAINING
        # First the next one, so that an error in this one is not the end of all.
        self.loop.call_later(0.05 if busy else min(0.5, max(0.01, limit / TICKS_PER_LIMIT)), self._tick)
        self.service.tick()
        if busy:
            self._continue_drain()

    def _ready(self) -> None:
        service = self.service
        if service.state != DRAINING:
            service.state = READY
        if self.control is not None:
            self.control.send("ready", revision=self.settings.revision)
        what = "ready to score" if self.settings.metrics_dir is None else f"worker {self.settings.worker} is ready"
        logs.info(f"{what} after {perf_counter() - service.starting_since:.2f} s", revision=self.settings.revision)

    def _listen(self, listening: socket.socket) -> None:
        """Accept connections on a socket that listens, or is bound."""
        if self.service.state == DRAINING:
            listening.close()
            return
        self.loop.create_task(self._serve(listening))

    async def _serve(self, listening: socket.socket) -> None:
        listening.setblocking(False)
        if self.settings.metrics_dir is not None:
            self._accept_in_turn(listening)
        else:
            await self._accept_all(listening)
        if self.control is not None:
            self.control.send("listening")
        else:
            logs.info(f"listening on {name_of(listening, self.settings.scheme)}")

    def _tls(self) -> dict[str, Any]:
        """TLS for sockets of the network; Unix sockets go without."""
        certificate = self.service.certificate
        if certificate is None:
            return {}
        return {"ssl": certificate.context, "ssl_handshake_timeout": self.settings.client_timeout}

    async def _accept_all(self, listening: socket.socket) -> None:
        """Let the loop accept whatever comes."""
        protocol = partial(Connection, self.service.front)
        if listening.family == getattr(socket, "AF_UNIX", None):
            options: dict[str, Any] = {}
            if sys.version_info >= (3, 13) and isinstance(self.loop, asyncio.BaseEventLoop):
                options["cleanup_socket"] = False
            server: asyncio.AbstractServer = await self.loop.create_unix_server(
                protocol, sock=listening, backlog=BACKLOG, **options
            )
        else:
            server = await self.loop.create_server(protocol, sock=listening, backlog=BACKLOG, **self._tls())
        self.closers.append(server.close)

    def _accept_in_turn(self, listening: socket.socket) -> None:
        """Accept one connection at a time, so that the other workers on this socket get theirs.

        The loop's own way empties the queue at once: whoever wakes first would get every connection of a burst.
        """
        loop = self.loop
        protocol = partial(Connection, self.service.front)
        listening.listen(BACKLOG)
        tasks: set[asyncio.Task[Any]] = set()

        def accept() -> None:
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Out of descriptors: those that come later find room again.
                logs.error(f"cannot accept a connection: {error.strerror}")
                return
            connection.setblocking(False)
            options: dict[str, Any] = {}
            if connection.family != getattr(socket, "AF_UNIX", None):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                options = self._tls()
            task = loop.create_task(welcome(connection, options))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        async def welcome(connection: socket.socket, options: dict[str, Any]) -> None:
            # A handshake that fails is the client's affair.
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(protocol, connection, **options)

        def close() -> None:
            loop.remove_reader(listening.fileno())
            listening.close()

        loop.add_reader(listening.fileno(), accept)
        self.closers.append(close)

    # -- the end

    def _handle_signals(self) -> None:
        """SIGTERM and SIGINT drain; a descriptor tells the I/O thread, as the main one may be deep in C code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._signal_sender.fileno(), warn_on_full_buffer=False)

    def _signalled(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in self.signals.recv(64):
                if number in (signal.SIGTERM, signal.SIGINT):
                    # A second SIGINT is a person who does not want to wait.
                    again = number == signal.SIGINT and self.service.state == DRAINING
                    self.drain(0.0 if again else None)

    def _orphaned(self) -> None:
        assert self.control is not None  # noqa: S101
        self.loop.remove_reader(self.control.connection.fileno())
        if self.service.state != DRAINING:
            logs.warning("the supervisor is gone: this server ends")
        self.drain(ORPHAN_GRACE)

    def drain(self, grace: float | None) -> None:
        """Stop accepting, answer what is open, then end. A second call can only shorten the time."""
        now = perf_counter()
        ends = now + (self.settings.grace if grace is None else grace)
        if self.service.state == DRAINING:
            self.drain_ends = min(self.drain_ends, ends)
            return
        self.drain_began, self.drain_ends = now, ends
        self.service.state = DRAINING
        self.service.front.draining = True
        self.bound.remove_file()
        for close in self.closers:
            close()
        logs.info("draining: open requests are answered, new connections are left to others")

    def _continue_drain(self) -> None:
        now = perf_counter()
        front = self.service.front
        if now > min(self.drain_began + IDLE_GRACE, self.drain_ends):
            for connection in tuple(front.connections):
                if connection.is_idle():
                    connection.transport.close()
        if front.connections and now <= self.drain_ends:
            return
        # A connection that was accepted just before the drain began shows only after a turn of the loop.
        if now < self.drain_began + 0.1 and self.drain_ends - self.drain_began >= 0.1:
            return
        for connection in tuple(front.connections):
            if connection.active is not None:
                write_response(front, connection.active, error_response(503, "The server is shutting down."))
        self._end()

    def _end(self) -> None:
        """Nothing is open any more: let the main thread end the process, or do it here where that thread is stuck."""
        if self.service.scoring.collector is not None:
            self.service.scoring.collector.close()
        if self.service.tracer is not None:
            self.service.tracer.close()
        if self.control is not None:
            self.control.send("drained")
        self.service.scheduler.stop()
        self.loop.stop()
        threading.Thread(target=self._leave, name="slipway-leave", daemon=True).start()

    def _leave(self) -> None:
        if not self.main_is_back.wait(LEAVE_TIME):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
