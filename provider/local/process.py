"""One server process: started, talked to over its control socket, ended.

It is the supervisor's child in a session of its own. Should the supervisor be killed, the control socket's end tells
the process to drain, and on Linux the kernel ends it even if it hangs. When to start or end one is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provider.condition import Cause
from provider.local import causes
from provider.local.output import Log, Tail

_PR_SET_PDEATHSIG = 1
_LINUX = sys.platform.startswith("linux")
_LIBC = ctypes.CDLL(None) if _LINUX else None
_KILL_AFTER_SECONDS = 2.0
"""How long after its grace period a process may take to end."""


class StartError(Exception):
    """A process could not be brought up. `temporary`: the machine lacks something just now."""

    def __init__(self, cause: Cause, *, temporary: bool = False) -> None:
        super().__init__(cause.message)
        self.cause = cause
        self.temporary = temporary


_alive: set[ServerProcess] = set()


def reap() -> None:
    """Looks which server processes have ended. To be called on SIGCHLD."""
    for process in list(_alive):
        process.reap()


class ServerProcess:
    """A server process of one revision."""

    def __init__(self, spec: Mapping[str, Any], log: Log) -> None:
        """Starts the process. Raises `StartError`."""
        self._loop = asyncio.get_running_loop()
        self.revision: str = spec["revision"]
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._listening: list[asyncio.Future[None]] = []
        self._reported: dict[str, Any] | None = None
        self._buffer = b""
        self._kills = causes.out_of_memory_kills()
        self._tail = Tail(log, self.revision[:8])
        try:
            self._control, theirs = socket.socketpair()
        except OSError as error:
            raise StartError(causes.not_started(error, "the process"), temporary=is_temporary(error)) from error
        try:
            self._popen = subprocess.Popen(
                [*spec["argv"], "--control-fd", str(theirs.fileno())],
                cwd=spec["directory"],
                env=spec["environment"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                preexec_fn=_end_with_parent if _LINUX else None,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._control.close()
            raise StartError(causes.not_started(error, str(spec["argv"][0])), temporary=is_temporary(error)) from error
        finally:
            theirs.close()
        self._control.setblocking(False)
        self._loop.add_reader(self._control.fileno(), self._read_control)
        self._output = self._popen.stdout.fileno() if self._popen.stdout is not None else -1
        os.set_blocking(self._output, False)
        self._loop.add_reader(self._output, self._read_output)
        _alive.add(self)

    @property
    def pid(self) -> int:
        """The process' id, also after its end."""
        return self._popen.pid

    @property
    def lines(self) -> tuple[str, ...]:
        """The last lines that the process wrote."""
        return self._tail.lines

    def reap(self) -> None:
        """Looks whether the process has ended."""
        if self.exited.done():
            return
        returncode = self._popen.poll()
        if returncode is None:
            return
        while self._read_control():
            pass
        while self._read_output():
            pass
        self._close_output()
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        # What the server has started itself does not outlive it.
        self._signal_group(signal.SIGKILL)
        _alive.discard(self)
        self.exited.set_result(returncode)

    async def ready(self, seconds: float) -> None:
        """Waits until `init()` has returned. Raises `StartError`."""
        await self._wait(self._ready, seconds)
        if self.exited.done():
            raise StartError(self.cause(when="before it was ready", starting=True))
        if not self._ready.done():
            raise StartError(causes.not_ready_in_time(seconds, self.lines))

    async def listen(self, listening: socket.socket, seconds: float) -> None:
        """Hands the process a listening socket and waits until it accepts on it. Raises `StartError`."""
        answer: asyncio.Future[None] = self._loop.create_future()
        self._listening.append(answer)
        if not self._send({"command": "listen"}, [listening.fileno()]):
            await asyncio.wait({self.exited}, timeout=_KILL_AFTER_SECONDS)
        await self._wait(answer, seconds)
        if self.exited.done():
            raise StartError(self.cause(when="when it was to listen", starting=True))
        if not answer.done():
            raise StartError(causes.not_answering("the server did not take its listening socket", self.lines))

    async def end(self, grace: float) -> None:
        """Has the process answer what is in flight and end; ends it by force where it takes longer than `grace` s."""
        if self._send({"command": "drain", "graceSeconds": grace}):
            await asyncio.wait({self.exited}, timeout=grace + _KILL_AFTER_SECONDS)
        await self.kill()

    async def kill(self) -> None:
        """Ends the process, and what it has started, at once."""
        if not self.exited.done():
            self._signal_group(signal.SIGKILL)
            await asyncio.wait({self.exited})

    def cause(self, *, when: str, starting: bool) -> Cause:
        """Why the process ended. Call it when `exited` is done."""
        if self._reported is not None:
            return causes.reported(self._reported, self.lines)
        killed_for_memory = causes.out_of_memory_kills() > self._kills
        return causes.ended(
            self.exited.result(), self.lines, out_of_memory=killed_for_memory, when=when, starting=starting
        )

    async def _wait(self, event: asyncio.Future[None], seconds: float) -> None:
        """Until `event`, the end of the process, or `seconds`."""
        either: set[asyncio.Future[Any]] = {event, self.exited}
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self._popen.pid, number)
        except (ProcessLookupError, PermissionError):  # all gone; macOS says EPERM for a group of zombies
            return

    def _send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> bool:
        if self.exited.done():
            return False
        try:
            socket.send_fds(self._control, [json.dumps(message).encode() + b"\n"], descriptors or [])
        except OSError:  # it is just ending, or does not read any more
            return False
        return True

    def _read_control(self) -> bool:
        try:
            data = self._control.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._control.fileno())
            return False
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._hear(line)
        self._buffer = self._buffer[-1_000_000:]
        return True

    def _hear(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            name = event["event"]
        except (ValueError, KeyError, TypeError):
            self._tail.feed(b"not understood on the control socket: " + line[:200] + b"\n")
            return
        if name == "ready" and not self._ready.done():
            self._ready.set_result(None)
        elif name == "failed":
            self._reported = event
        elif name == "listening" and self._listening:
            answer = self._listening.pop(0)
            if not answer.done():
                answer.set_result(None)

    def _read_output(self) -> bool:
        if self._output < 0:
            return False
        try:
            data = os.read(self._output, 65536)
        except BlockingIOError:
            return False
        if not data:
            self._close_output()
            return False
        self._tail.feed(data)
        return True

    def _close_output(self) -> None:
        if self._output >= 0 and self._popen.stdout is not None:
            self._loop.remove_reader(self._output)
            self._popen.stdout.close()
            self._output = -1
            self._tail.end()


def is_temporary(error: Exception) -> bool:
    """Whether the machine lacks something (processes, memory, descriptors, disk) that it may have again later."""
    lacking = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, OSError) and error.errno in lacking


def _end_with_parent() -> None:
    """Runs in the child: asks the kernel to end it when the supervisor dies, however that comes."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def has_ended(pid: int, started: str | None) -> bool:
    """Whether the process that began at `started` is gone with all that it held open; its parent may not know yet."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return True
    return fields[0] in ("Z", "X") or fields[19] != started


def start_time(pid: int) -> str | None:
    """What tells a process from a later one with the same id: its start, in ticks since the machine's (Linux)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]
