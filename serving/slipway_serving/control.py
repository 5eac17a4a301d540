"""The supervisor's side of a server's life: one JSON object a line over a Unix socket, listening sockets as ancillary
data.

Commands are `listen` (with one listening socket) and `drain` (`graceSeconds`); events are `ready`, `failed`,
`listening` and `drained`. The end of the stream means that the supervisor is gone.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

RECEIVE_BYTES = 65536
MAX_DESCRIPTORS = 8


@dataclass
class Control:
    """The server's end of the control socket.

    `on_listen`, `on_drain` and `on_end` are called from `readable`, in the thread that calls it.
    """

    connection: socket.socket
    on_listen: Callable[[socket.socket], None]
    on_drain: Callable[[float | None], None]
    on_end: Callable[[], None]
    _buffer: bytes = b""
    _sockets: list[socket.socket] = field(default_factory=list)

    @classmethod
    def from_descriptor(
        cls,
        descriptor: int,
        on_listen: Callable[[socket.socket], None],
        on_drain: Callable[[float | None], None],
        on_end: Callable[[], None],
    ) -> Control:
        """Take over an inherited descriptor. Raises OSError where it is no socket."""
        connection = socket.socket(fileno=descriptor)
        connection.setblocking(True)
        connection.set_inheritable(False)
        return cls(connection, on_listen, on_drain, on_end)

    def send(self, event: str, **fields: Any) -> None:
        """Tell the supervisor. One that is gone is no error: the end of the stream is handled where it is read."""
        try:
            self.connection.sendall(json.dumps({"event": event, **fields}).encode() + b"\n")
        except OSError:
            return

    def readable(self) -> None:
        """Take in what arrived; call when the socket is readable."""
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self.connection, RECEIVE_BYTES, MAX_DESCRIPTORS, socket.MSG_DONTWAIT
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, descriptors = b"", []
        for descriptor in descriptors:
            received = socket.socket(fileno=descriptor)
            received.set_inheritable(False)
            self._sockets.append(received)
        if not data:
            self.on_end()
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            if line.strip():
                self._obey(line)

    def _obey(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            command = message["command"]
        except (ValueError, KeyError, TypeError):
            self.send("refused", message=f"not a command: {line[:200]!r}")
            return
        if command == "listen" and self._sockets:
            self.on_listen(self._sockets.pop(0))
        elif command == "listen":
            self.send("refused", message="listen came without a listening socket")
        elif command == "drain":
            grace = message.get("graceSeconds")
            self.on_drain(float(grace) if isinstance(grace, int | float) and grace >= 0 else None)
        else:
            self.send("refused", message=f"unknown command {command!r}; known are listen and drain")
