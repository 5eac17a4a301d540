"""Listening sockets: the public one of a service, and the private ones that a revision is probed through."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

BACKLOG = 4096
"""How many connections may wait to be accepted; the kernel cuts it to its own limit (net.core.somaxconn)."""


@dataclass
class Listener:
    """The public socket of a service. Bound when it is asked for; connections are taken once a revision is ready."""

    host: str
    port: int
    socket: socket.socket

    @classmethod
    def bound(cls, host: str, port: int) -> Listener:
        """Binds `host`:`port`. Raises OSError where the port is taken or may not be used."""
        return cls(host, port, bind(host, port))

    def open(self) -> None:
        """Lets connections in; they wait in the kernel until a process accepts them. Raises OSError where the port was
        taken since it was bound."""
        self.socket.listen(BACKLOG)

    def close(self) -> None:
        """Gives the socket up. Processes that were handed it keep theirs."""
        self.socket.close()


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket bound to `host`:`port`, not listening yet. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        # Connections of a former process that are still in TIME_WAIT do not keep the port.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def private(path: Path) -> socket.socket:
    """A listening Unix socket at `path`; an old one there is replaced."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        listening.listen(16)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening
