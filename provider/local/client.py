"""The provider's way to a service's supervisor: whether it lives, starting it, commands, and clearing up after it.

A supervisor lives when the service's lock is held. Its `supervisor.json` says how to reach it; the process id in there
is believed only together with the process' start time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from provider.local import supervisor
from provider.local.layout import ServicePaths, is_held, read_json, remove_if_empty
from provider.local.process import has_ended, start_time
from provider.local.surroundings import base_environment
from provider.resource import ResourceError

RUN = uuid.uuid4().hex
"""Tells this run of the provider from earlier ones: what failed in another run is worth another try."""

START_SECONDS = 30.0
ANSWER_SECONDS = 30.0
_VANISH_SECONDS = 5.0
"""How long the lock of a supervisor may be seen held after the process is gone."""
_MAX_ANSWER = 4 * 1024 * 1024
_POLL_SECONDS = 0.02
_MARK = "SLIPWAY_SERVICE_DIRECTORY"
"""Environment variable by which a service's processes are known, whatever became of the files about them."""


class UnreachableError(Exception):
    """The supervisor lives but cannot be talked to."""


def alive(paths: ServicePaths) -> bool:
    """Whether the service's supervisor lives."""
    return is_held(paths.lock)


async def status(paths: ServicePaths) -> dict[str, Any] | None:
    """The supervisor's status; None where none lives, or one that is ending. Raises `UnreachableError`."""
    there = await _asked(paths)
    return None if there is None or there.get("stopping") else there


async def _asked(paths: ServicePaths) -> dict[str, Any] | None:
    if not await _settled(paths):
        return None
    return await command(paths, {"command": "status"})


async def command(paths: ServicePaths, message: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
    """Sends one command to a living supervisor and returns its answer.

    Raises `ResourceError` with its words where it refuses, `UnreachableError` where it does not answer."""
    state = read_json(paths.state) or {}
    control = state.get("controlSocket") or str(_control_socket(paths))
    try:
        async with asyncio.timeout(ANSWER_SECONDS if seconds is None else seconds):
            reader, writer = await asyncio.open_unix_connection(control, limit=_MAX_ANSWER)
            try:
                writer.write(json.dumps(message).encode() + b"\n")
                line = await reader.readline()
            finally:
                writer.close()
        answer = json.loads(line)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        what = "did not answer in time" if isinstance(error, TimeoutError) else f"cannot be reached: {error}"
        raise UnreachableError(
            f"the supervisor of the service {paths.name} (process {state.get('pid', '?')}) {what}"
        ) from error
    if "error" in answer:
        raise ResourceError(f"service {paths.name}: {answer['error']}")
    return dict(answer)


async def ensure(paths: ServicePaths) -> dict[str, Any]:
    """The status of the service's supervisor, which is started where none lives, or none that answers."""
    try:
        there = await _asked(paths)
        if there is not None and there["protocol"] == supervisor.PROTOCOL and not there.get("stopping"):
            return there
        if there is not None:  # from another version of Slipway, or told to end by a run that was killed then
            await stop(paths, float(there.get("drainSeconds", 30)))
    except UnreachableError:
        await asyncio.to_thread(kill, paths)
    await asyncio.to_thread(clear, paths)
    await asyncio.to_thread(_start, paths)
    return await command(paths, {"command": "status"})


async def stop(paths: ServicePaths, drain: float) -> None:
    """Has the supervisor drain and end, within `drain` seconds and a few more; ends it by force where it does not."""
    if await _settled(paths):
        try:
            await command(paths, {"command": "stop"}, drain + ANSWER_SECONDS)
        except UnreachableError:
            await asyncio.to_thread(kill, paths)
        deadline = time.monotonic() + ANSWER_SECONDS
        while alive(paths):
            if time.monotonic() > deadline:
                await asyncio.to_thread(kill, paths)
            await asyncio.sleep(_POLL_SECONDS)
    await asyncio.to_thread(clear, paths)


def kill(paths: ServicePaths) -> None:
    """Ends a supervisor that does not answer; its servers end with it. Raises `ResourceError` where it is not known
    which process that is."""
    state = read_json(paths.state) or {}
    pid = state.get("pid")
    if not isinstance(pid, int) or state.get("startTime") != start_time(pid):
        if not _vanishes(paths, _VANISH_SECONDS):
            raise ResourceError(
                f"the supervisor of the service {paths.name} does not answer, and {paths.state} does not say which "
                f"process it is. Find out with `fuser {paths.lock}`, end that process, and try again."
            )
        return
    _end(pid)
    if not _vanishes(paths, ANSWER_SECONDS):
        raise ResourceError(f"the supervisor of the service {paths.name} (process {pid}) cannot be ended")


def _vanishes(paths: ServicePaths, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(paths):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def clear(paths: ServicePaths) -> None:
    """Removes what a supervisor that is gone has left: its servers, its sockets, its state. Call it when none lives."""
    left = {pid: start_time(pid) for pid in orphans(paths)}
    for pid in left:
        _end(pid)
    deadline = time.monotonic() + ANSWER_SECONDS
    # Until they are gone: one that is ending is known as this service's no longer, and has its port a moment more.
    while not all(has_ended(pid, started) for pid, started in left.items()) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    state = read_json(paths.state) or {}
    folders = {socket_directory()}
    if "controlSocket" in state:
        folders.add(Path(state["controlSocket"]).parent)
    for folder in folders:
        for file in folder.glob(f"{socket_prefix(paths)}[.-]*"):
            file.unlink(missing_ok=True)
        remove_if_empty(folder)
    paths.state.unlink(missing_ok=True)


def orphans(paths: ServicePaths) -> Iterator[int]:
    """Processes of the service that outlived their supervisor, as far as /proc tells."""
    wanted = f"{_MARK}={paths.root}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0") and int(entry.name) != os.getpid():
                yield int(entry.name)
        except (OSError, ValueError):  # it ended, or is somebody else's
            continue


def mark(paths: ServicePaths) -> dict[str, str]:
    """The environment variable by which the service's processes are found."""
    return {_MARK: str(paths.root)}


def socket_directory() -> Path:
    """Where control sockets are. Short, since the path of a Unix socket is limited to 107 bytes."""
    return Path(tempfile.gettempdir()) / f"slipway-{os.getuid()}"


def socket_prefix(paths: ServicePaths) -> str:
    """How the names of a service's sockets begin."""
    return hashlib.sha256(os.fsencode(paths.root)).hexdigest()[:16]


def _control_socket(paths: ServicePaths) -> Path:
    return socket_directory() / f"{socket_prefix(paths)}.s"


async def _settled(paths: ServicePaths) -> bool:
    """Whether a supervisor lives; one that is just starting or ending is given the time to do so."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while alive(paths):
        if read_json(paths.state) is not None or _listens(_control_socket(paths)) or time.monotonic() > deadline:
            return True
        await asyncio.sleep(_POLL_SECONDS)
    return False


def _listens(control: Path) -> bool:
    """Whether somebody takes connections there: the file is there a moment before."""
    with socket.socket(socket.AF_UNIX) as caller:
        try:
            caller.connect(str(control))
        except OSError:
            return False
    return True


def _start(paths: ServicePaths) -> None:
    paths.log.mkdir(parents=True, exist_ok=True)
    sockets = _own_directory(socket_directory())
    reading, writing = os.pipe()
    try:
        with (paths.log / "supervisor.log").open("wb") as errors:
            starter = subprocess.Popen(
                [
                    *(_interpreter(), "-I", "-S", str(Path(supervisor.__file__).with_name("__main__.py"))),
                    *(str(paths.root), str(sockets), socket_prefix(paths), str(writing)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=base_environment(os.environ),
                cwd="/",
                pass_fds=[writing],
                start_new_session=True,
            )
        os.close(writing)
        writing = -1
        starter.wait(START_SECONDS)
        _await_report(paths, reading)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _await_report(paths: ServicePaths, reading: int) -> None:
    report = os.read(reading, 65536)
    if not report:
        errors = (paths.log / "supervisor.log").read_text(errors="replace").strip()
        raise ResourceError(f"the supervisor of the service {paths.name} could not be started:\n{errors}")
    error = json.loads(report).get("error")
    if error is not None:
        raise ResourceError(f"the supervisor of the service {paths.name} could not be started: {error}")


def _interpreter() -> str:
    # The interpreter behind the virtual environment: it is still there when the environment is made anew.
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def _own_directory(path: Path) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    there = path.lstat()
    if not path.is_dir() or path.is_symlink() or there.st_uid != os.getuid() or there.st_mode & 0o077:
        raise ResourceError(
            f"{path} is not a directory of this user alone (mode 0700). The sockets of services are kept there: "
            "remove it, or set TMPDIR to another place."
        )
    return path


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
