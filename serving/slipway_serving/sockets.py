"""The sockets that a server without a supervisor binds by itself: a TCP port, and a Unix socket beside it.

A Unix socket is a file. One that a killed server left behind is replaced; one that somebody listens on, or that is no
socket at all, is not touched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from slipway_serving import logs
from slipway_serving.failures import StartError
from slipway_serving.settings import Settings

BACKLOG = 2048
_NOT_FOR_OTHERS = 0o117
"""The umask that makes a socket 0660: its owner and the group of its directory may connect."""


@dataclass(frozen=True)
class Bound:
    """Sockets that listen, and the file of the one that has a file."""

    listening: tuple[socket.socket, ...]
    file: Path | None = None
    inode: int = 0

    def remove_file(self) -> None:
        """Removes the Unix socket's file, so that who comes next finds nothing rather than nobody; only where it still
        is this one's."""
        if self.file is None:
            return
        try:
            if self.file.stat().st_ino == self.inode:
                self.file.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            logs.warning(f"the socket {self.file} stays behind: {error.strerror}")


def bind_all(settings: Settings) -> Bound:
    """The sockets that the settings ask for. Raises StartError."""
    port = bind_port(settings.host, settings.port)
    path = settings.unix_socket
    if path is None:
        return Bound((port,))
    try:
        return Bound((port, bind_unix(path)), path, path.stat().st_ino)
    except StartError:
        port.close()
        raise


def name_of(listening: socket.socket, scheme: str) -> str:
    """The address of a socket, for the log."""
    if listening.family == getattr(socket, "AF_UNIX", None):
        return f"unix:{listening.getsockname()}"
    host, port, *_ = listening.getsockname()
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def bind_port(host: str, port: int) -> socket.socket:
    """A TCP socket bound to the address. Raises StartError where that cannot be, with what to do about it."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        advice = {
            errno.EADDRINUSE: "Another program uses it: choose another with --port.",
            errno.EACCES: "Ports below 1024 need a privilege: choose another with --port.",
        }.get(error.errno or 0, "Choose another with --host and --port.")
        raise StartError("ListenError", f"Cannot listen on {host} port {port}: {error.strerror}. {advice}") from error
    return listening


def bind_unix(path: Path) -> socket.socket:
    """A Unix socket at `path`, for its owner and group. Raises StartError."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        before = os.umask(_NOT_FOR_OTHERS)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise StartError(
            "ListenError", f"Cannot listen on {path}: {reason}. Choose another with --unix-socket."
        ) from error
    return listening


def _clear(path: Path) -> None:
    """Removes the file that a killed server left. Raises OSError where it is something else."""
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "there is a file that is no socket")
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another program listens there")
