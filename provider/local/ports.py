"""Whether a service could listen on a port, told before anything is touched: who has it, which right is missing."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from provider.local.layout import ServicePaths, is_held, read_json
from provider.local.listener import bind

_LISTENING = "0A"
_BETWEEN_SECONDS = 0.1
_FEWEST_TRIES = 3
"""Of a port that is worth more than one: on a busy machine one look for its holder may outlast the times below."""
_UNSEEN_SECONDS = 0.5
"""How long a port may be taken by nobody who can be seen: whoever had it may just have gone."""
_ENDING_SECONDS = 30.0
"""How long a process that is ending may keep its port: it gives its memory back first."""
_PF_EXITING = 0x4
"""From the kernel's `include/linux/sched.h`; in field 9 of `/proc/<pid>/stat`."""
_UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def conflict(paths: ServicePaths, host: str, port: int) -> tuple[str, str] | None:
    """What keeps the service from listening on `host`:`port`: the property it is about, and why. None: nothing does.

    The port is tried, without listening. One that the service's own supervisor has is its own."""
    if not 1 <= port <= 65535:
        return "port", f"{port} is no TCP port; choose one from {first_unprivileged()} to 65535"
    try:
        return _tried(paths, host, port)
    except socket.gaierror as error:
        return "host", f"{host} is no address of this machine: {error.strerror}"


def _tried(paths: ServicePaths, host: str, port: int) -> tuple[str, str] | None:
    """What a bind says. Raises `socket.gaierror` where the host is none."""
    began, tries = time.monotonic(), 0
    while True:
        tries += 1
        try:
            bind(host, port).close()
        except socket.gaierror:
            raise
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return refusal(error, host, port, None)
            if _is_own(paths, port):
                return None
            process = _process_on(port)
            # Whoever had it may be gone by the time it is looked for, or about to go, as a server is whose supervisor
            # was killed: it has no environment any more by which it would be known, and its port a moment longer.
            patience = _patience(process)
            if not patience or (tries >= _FEWEST_TRIES and time.monotonic() - began > patience):
                return refusal(error, host, port, _described(process) if process is not None else None)
            time.sleep(_BETWEEN_SECONDS)
        else:
            return None


def refusal(error: OSError, host: str, port: int, held_by: str | None) -> tuple[str, str]:
    """The property that a failed bind is about, and the failure in words that say how to mend it."""
    if error.errno == errno.EADDRINUSE:
        by = f"by {held_by}" if held_by is not None else "by another program (its name cannot be read)"
        return "port", f"port {port} is held {by}. End that program, or choose another port."
    if error.errno in (errno.EACCES, errno.EPERM):
        return "port", (
            f"port {port} needs a right that this user does not have. Choose a port from {first_unprivileged()} on, "
            f"or allow it: `sysctl net.ipv4.ip_unprivileged_port_start={port}` (as root)."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return "host", f"{host} is no address of this machine; 127.0.0.1 is this machine alone, 0.0.0.0 every network"
    return "port", f"port {port} of {host} cannot be used: {error.strerror or error}"


def first_unprivileged() -> int:
    """The lowest port that needs no special right on this machine."""
    try:
        return int(_UNPRIVILEGED.read_text())
    except (OSError, ValueError):
        return 1024


def holder(port: int) -> str | None:
    """The program that listens on a TCP port, as `name (pid 12)`, or the service of Slipway it belongs to; None where
    /proc does not tell."""
    process = _process_on(port)
    return None if process is None else _described(process)


def patience(port: int) -> float:
    """For how long (seconds) a port that is taken is worth another try."""
    return _patience(_process_on(port))


def _patience(process: Path | None) -> float:
    if process is None:
        return _UNSEEN_SECONDS
    return _ENDING_SECONDS if _is_ending(process) else 0.0


def _process_on(port: int) -> Path | None:
    inodes = set(_listening_inodes(port))
    if not inodes:
        return None
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda entry: int(entry.name)):
        if any(inode in inodes for inode in _socket_inodes(process)):
            return process
    return None


def _is_ending(process: Path) -> bool:
    fields = _read(process / "stat").rpartition(b")")[2].split()
    return not fields or bool(int(fields[6]) & _PF_EXITING)


def _is_own(paths: ServicePaths, port: int) -> bool:
    """Whether the port is held by this service: by its supervisor, or by a server that its killed supervisor left and
    that the next operation ends."""
    state = read_json(paths.state)
    if is_held(paths.lock):
        # Which port a living supervisor listens on besides the one asked for last (a move that is under way) it does
        # not write down: its processes tell.
        return state is not None and (state.get("port") == port or _belongs(paths, port))
    return _belongs(paths, port)


def _belongs(paths: ServicePaths, port: int) -> bool:
    inodes = set(_listening_inodes(port))
    wanted = f"SLIPWAY_SERVICE_DIRECTORY={paths.root}".encode()
    return any(
        inode in inodes
        for process in Path("/proc").glob("[0-9]*")
        if wanted in _read(process / "environ").split(b"\0")
        for inode in _socket_inodes(process)
    )


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _read(Path(table)).decode().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _socket_inodes(process: Path) -> Iterator[str]:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:  # it ended, or is somebody else's
        return
    for descriptor in descriptors:
        try:
            target = os.readlink(descriptor)  # noqa: PTH115 - `socket:[123]` is no path
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[8:-1]


def _described(process: Path) -> str:
    arguments = _read(process / "cmdline").decode("utf-8", "replace").split("\0")
    name = _read(process / "comm").decode("utf-8", "replace").strip() or arguments[0]
    for argument in arguments:
        if Path(argument).parent.name == "services" and (Path(argument) / "lock").exists():
            return f"the service {Path(argument).name} of {Path(argument).parent.parent} (pid {process.name})"
    return f"{name} (pid {process.name})"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
