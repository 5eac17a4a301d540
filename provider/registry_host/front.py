"""What stands before several registries: one port, whose connections go to a registry that takes them.

Bytes are moved by the kernel from socket to socket (splice), and are not looked at: TLS is the registries'. A registry
that was killed takes its connections with it; the clients' next ones reach another. The listening socket is the
keeper's: where this process ends, connections wait for the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Sequence

from provider.registry_host.log import say

_PIPE_BYTES = 256 * 1024
_MOST_CONNECTIONS = 512
_STACK_BYTES = 256 * 1024
_PATIENCE_SECONDS = 15.0
"""How long a connection waits while no registry takes it."""
_LINGER_SECONDS = 1.0
"""How long a client may take to notice that its registry is done with it."""
_POLL_SECONDS = 0.02


class Front:
    """The way to registries at Unix sockets."""

    def __init__(self, listening: socket.socket, sockets: Sequence[str]) -> None:
        self._listening = listening
        self._open = dict.fromkeys(sockets, 0)
        self._lock = threading.Lock()
        self._most = _MOST_CONNECTIONS
        self._places = threading.BoundedSemaphore(self._most)

    def run(self, ending: socket.socket) -> None:
        """Takes connections until something comes from `ending`, then waits for those that are there."""
        poll = select.poll()
        poll.register(self._listening, select.POLLIN)
        poll.register(ending, select.POLLIN)
        while ending.fileno() not in [descriptor for descriptor, _ in poll.poll()]:
            try:
                client, _ = self._listening.accept()
            except OSError:  # it is gone again, or there are too many: those in the queue come later
                time.sleep(_POLL_SECONDS)
                continue
            client.setblocking(True)
            self._places.acquire()
            threading.Thread(target=self._serve, args=(client,)).start()
        self._listening.close()
        for _ in range(self._most):
            self._places.acquire()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                if client.family != socket.AF_UNIX:
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                place, registry = self._connect()
                if registry is not None:
                    try:
                        with registry:
                            _join(client, registry)
                    finally:
                        self._left(place)
        except OSError as error:
            say(f"a connection ended: {error.strerror}")
        finally:
            self._places.release()

    def _left(self, place: str) -> None:
        with self._lock:
            self._open[place] -= 1

    def _connect(self) -> tuple[str, socket.socket | None]:
        """A connection to the registry with the fewest; None where none is there for a while."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            untried = set(self._open)
            while untried:
                with self._lock:
                    place = min(untried, key=self._open.__getitem__)
                    self._open[place] += 1
                registry = socket.socket(socket.AF_UNIX)
                try:
                    registry.connect(place)
                except OSError:
                    registry.close()
                    self._left(place)
                    untried.discard(place)
                else:
                    return place, registry
            if time.monotonic() > deadline:
                return "", None
            time.sleep(_POLL_SECONDS)


def _join(client: socket.socket, registry: socket.socket) -> None:
    """Moves what comes from either to the other, until the registry is done."""
    upwards = threading.Thread(target=_move, args=(client, registry))
    upwards.start()
    _move(registry, client)
    # What the registry said last has to arrive: the client is not cut off at once.
    upwards.join(_LINGER_SECONDS)
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        registry.shutdown(socket.SHUT_RDWR)
    upwards.join()


def _move(source: socket.socket, target: socket.socket) -> None:
    reading, writing = os.pipe()
    try:
        with contextlib.suppress(OSError):  # a user has only so many large ones
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        while left := os.splice(source.fileno(), writing, _PIPE_BYTES):
            while left:
                left -= os.splice(reading, target.fileno(), left)
    except OSError:  # either side is gone: the other one is told below
        pass
    finally:
        os.close(reading)
        os.close(writing)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def main(descriptor: str, *sockets: str) -> None:
    """Serves the listening socket with that number, until SIGTERM. Runs in the folder of `sockets`."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    threading.stack_size(_STACK_BYTES)
    ending, told = socket.socketpair()
    told.setblocking(False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(told.fileno())
    listening = socket.socket(fileno=int(descriptor))
    listening.setblocking(False)
    Front(listening, sockets).run(ending)
