"""The supervisor of one service: owns its public socket, rolls revisions out, keeps the active one alive.

A small process that outlives `pulumi`. It answers on a Unix socket, one JSON object a line:

    {"command": "status"}
    {"command": "prepare", "revision": R}   R's directory is about to be used: it is not removed until the next apply
    {"command": "apply", "revision": R, "host": ..., "port": ..., "startupTimeoutSeconds": ..., "drainSeconds": ...,
     "run": id of the provider's run, "watch": {...}}
    {"command": "retry", "run": ...}        a rollout that failed is tried again
    {"command": "stop"}                     drain, end everything, exit

Every answer is the status after it, or {"error": ...}. What is to run is read from the revision's `spec.json`.
It holds the service's lock as long as it lives: that, and not a process id, is how others know.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from provider.condition import Cause
from provider.local import environment_folders, shared
from provider.local.instance import Instance, Watch
from provider.local.layout import SPEC, BusyError, ServicePaths, read_json, remove_tree, write_json
from provider.local.listener import Listener
from provider.local.output import Log
from provider.local.process import StartError, reap, start_time
from provider.local.record import Phase, Record
from provider.local.rollout import bring_up

PROTOCOL = 1
"""Counts up when a command or an answer changes its meaning."""
_MAX_MESSAGE = 1024 * 1024
_LOCK_SECONDS = 10.0
_COLLECT_AGAIN_SECONDS = 2.0
_HOUSEKEEPING_SECONDS = 2.0


class RefusedError(Exception):
    """A command cannot be carried out; nothing was changed."""


class Supervisor:
    """One service. All methods run in the one thread of the event loop."""

    def __init__(self, paths: ServicePaths, sockets: Path, prefix: str) -> None:
        self._paths = paths
        self._sockets = sockets
        self._prefix = prefix
        self.control = sockets / f"{prefix}.s"
        self._log = Log(paths.log)
        self._record = Record()
        self._run = ""
        self._listener: Listener | None = None
        self._active: Instance | None = None
        self._rollout: asyncio.Task[None] | None = None
        self._retiring: dict[asyncio.Task[None], Instance] = {}
        self._stale: set[str] = set()
        self._prepared: str | None = None
        self._wish: dict[str, Any] = {}
        self._probes = 0
        self._stopping = False
        self._one_at_a_time = asyncio.Lock()
        self.stopped = asyncio.Event()

    # -- commands ----------------------------------------------------------------------------------------------------

    async def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Carries out one command. Raises `RefusedError`."""
        command = message.get("command")
        if command != "status":
            async with self._one_at_a_time:
                await self._carry_out(command, message)
        return self.status()

    async def _carry_out(self, command: Any, message: dict[str, Any]) -> None:
        if self._stopping and command != "stop":  # who asks for the end again waits for it as well
            raise RefusedError("the supervisor is stopping")
        if command == "prepare":
            self._prepared = str(message["revision"])
        elif command == "apply":
            await self._apply(message)
        elif command == "retry":
            await self._retry(str(message.get("run", "")))
        elif command == "stop":
            await self.stop()
        else:
            raise RefusedError(f"unknown command {command!r}; known are apply, prepare, retry, status, stop")

    async def _apply(self, wish: dict[str, Any]) -> None:
        revision = str(wish["revision"])
        spec = read_json(self._paths.revision(revision) / SPEC)
        if spec is None:
            raise RefusedError(f"revision {revision} has no {SPEC} in {self._paths.revisions}")
        listener = self._listener_for(str(wish["host"]), int(wish["port"]))
        await self._cancel_rollout()
        previous, self._listener = self._listener, listener
        if previous is not None and previous is not listener and not self._in_use(previous):
            previous.close()
        former = self._record.desired
        self._wish = wish
        self._run = str(wish.get("run", ""))
        self._prepared = None
        if former is not None and former != revision:
            self._stale.add(former)
        if self._active is not None and self._active.revision == revision and self._active.listener is listener:
            self._active.spec = spec  # its sample, and what the next restart sees of this machine's environment
            self._change(self._record.settled(revision))
        else:
            self._begin(spec)
        self._clear_stale()

    def _listener_for(self, host: str, port: int) -> Listener:
        for listener in (self._listener, self._active.listener if self._active is not None else None):
            if listener is not None and (listener.host, listener.port) == (host, port):
                return listener
        try:
            return Listener.bound(host, port)
        except OSError as error:
            raise RefusedError(f"port {port} of {host} cannot be used: {error.strerror or error}") from error

    def _in_use(self, listener: Listener) -> bool:
        instances = [*self._retiring.values(), *([self._active] if self._active is not None else [])]
        return any(instance.listener is listener for instance in instances)

    async def _retry(self, run: str) -> None:
        self._run = run
        if self._record.failure is not None and self._record.desired is not None:
            spec = read_json(self._paths.revision(self._record.desired) / SPEC)
            if spec is None:
                raise RefusedError(f"the directory of revision {self._record.desired} is gone")
            self._begin(spec)

    def status(self) -> dict[str, Any]:
        """What the service is doing, as JSON."""
        condition = self._record.condition
        return {
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "startTime": start_time(os.getpid()),
            "service": self._paths.name,
            "controlSocket": str(self.control),
            "log": str(self._paths.log / "current.log"),
            "host": self._listener.host if self._listener is not None else None,
            "port": self._listener.port if self._listener is not None else None,
            "run": self._run,
            "stopping": self._stopping,
            "drainSeconds": self._drain,
            "desired": self._record.desired,
            "active": self._record.active,
            "serving": self._record.serving,
            "restarts": self._record.restarts,
            "processes": [instance.process.pid for instance in self._instances()],
            "revisions": sorted(self._needed()),
            "state": condition.state,
            "reason": condition.reason,
            "message": condition.message,
            "cause": condition.cause.as_json() if condition.cause is not None else None,
        }

    def _instances(self) -> list[Instance]:
        return [*([self._active] if self._active is not None else []), *self._retiring.values()]

    # -- rollout -----------------------------------------------------------------------------------------------------

    def _begin(self, spec: dict[str, Any]) -> None:
        self._change(self._record.wanted(str(spec["revision"])))
        self._rollout = asyncio.create_task(self._roll_out(spec, self._probe()))
        self._rollout.add_done_callback(self._rolled_out)

    def _rolled_out(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            task.print_stack(file=sys.stderr)
            self._fail(Cause("SupervisorFault", f"a fault in the supervisor: {error!r}"))

    async def _cancel_rollout(self) -> None:
        if self._rollout is not None:
            self._rollout.cancel()
            await asyncio.wait({self._rollout})
            self._rollout = None

    async def _roll_out(self, spec: dict[str, Any], probe: Path) -> None:
        listener = self._listener
        if listener is None:
            return
        tries = 0
        while True:
            try:
                process = await bring_up(spec, self._log, probe, self._startup, with_sample=True, reached=self._reached)
                break
            except StartError as failure:
                if not failure.temporary:
                    self._fail(failure.cause)
                    return
            self._reached("NoResources")
            tries += 1
            await asyncio.sleep(self._watch.delay(tries))
        instance = Instance(spec, listener, probe, process)
        try:
            self._reached("Switching")
            await instance.take_traffic()
        except StartError as failure:
            await instance.retire(0)
            self._fail(failure.cause)
            return
        except asyncio.CancelledError:  # it may have taken requests already: they are answered
            self._retire(instance)
            raise
        self._switch(instance)

    def _switch(self, instance: Instance) -> None:
        previous, self._active = self._active, instance
        self._change(self._record.took_over())
        instance.keep(
            self._log,
            self._watch,
            self._startup,
            lambda cause: self._of_active(instance, lambda: self._record.went_down(cause)),
            lambda: self._of_active(instance, lambda: self._record.came_up()),
        )
        if previous is None:
            self._clear_stale()
            return
        if previous.listener is not instance.listener:
            previous.listener.close()  # its process still has it, until it has drained
        self._retire(previous)

    def _of_active(self, instance: Instance, event: Callable[[], Record]) -> None:
        if instance is self._active:
            self._change(event())

    def _fail(self, cause: Cause) -> None:
        self._change(self._record.failed(cause))

    def _reached(self, phase: Phase) -> None:
        self._change(self._record.reached(phase))

    def _retire(self, instance: Instance) -> None:
        self._stale.add(instance.revision)
        task = asyncio.create_task(instance.retire(self._drain))
        self._retiring[task] = instance
        task.add_done_callback(self._retired)

    def _retired(self, task: asyncio.Task[None]) -> None:
        instance = self._retiring.pop(task)
        if instance.listener is not self._listener and not self._in_use(instance.listener):
            instance.listener.close()
        if not self._stopping:
            self._clear_stale()
            self.save()

    # -- what is left of old revisions -------------------------------------------------------------------------------

    def _needed(self) -> set[str]:
        names = {instance.revision for instance in self._instances()}
        return names | {name for name in (self._record.desired, self._prepared) if name is not None}

    def _clear_stale(self) -> None:
        unused = self._stale - self._needed()
        self._stale -= unused
        for revision in unused:
            remove_tree(self._paths.revision(revision))
        if unused:
            self._collect()

    def _collect(self) -> None:
        # Done here and not in a thread: it blocks this process for as long as the files take to be unlinked, and no
        # request ever passes through it.
        try:
            shared.collect(self._paths.home, wait=False)
            environment_folders.collect(self._paths.home, wait=False)
        except BusyError:
            if not self._stopping:
                asyncio.get_running_loop().call_later(_COLLECT_AGAIN_SECONDS, self._collect)
        except OSError as error:
            self._log.write("supervisor", [f"what is unused could not be removed: {error}"])

    # -- the rest ----------------------------------------------------------------------------------------------------

    @property
    def _startup(self) -> float:
        return float(self._wish.get("startupTimeoutSeconds", 300))

    @property
    def _drain(self) -> float:
        return float(self._wish.get("drainSeconds", 30))

    @property
    def _watch(self) -> Watch:
        return Watch(**self._wish.get("watch") or {})

    def _probe(self) -> Path:
        self._probes += 1
        return self._sockets / f"{self._prefix}-{self._probes}.p"

    def _change(self, record: Record) -> None:
        if record == self._record:
            return
        before, self._record = self._record.condition, record
        after = record.condition
        if (before.state, before.reason, before.message) != (after.state, after.reason, after.message):
            self._log.write("supervisor", [f"{after.state} ({after.reason}): {after.message}"])
        self.save()

    def save(self) -> None:
        """Writes the status to `supervisor.json`."""
        try:
            write_json(self._paths.state, self.status(), durable=False)
        except OSError as error:  # a full disk; the control socket tells the same
            self._log.write("supervisor", [f"{self._paths.state} could not be written: {error}"])

    async def stop(self) -> None:
        """Drains and ends everything. The process exits after the answer is out."""
        self._stopping = True
        await self._cancel_rollout()
        if self._listener is not None:
            self._listener.close()
        if self._active is not None:
            self._retire(self._active)
            self._active = None
        if self._retiring:
            await asyncio.wait(set(self._retiring))
        self._paths.state.unlink(missing_ok=True)
        self.stopped.set()

    async def keep_house(self) -> None:
        """Ends the supervisor when its service's directory is gone."""
        while not self._stopping:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            if not self._paths.lock.exists():
                await self.stop()


async def _converse(supervisor: Supervisor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers commands on one connection until the client goes."""
    try:
        while line := await reader.readline():
            writer.write(json.dumps(await _answer(supervisor, line)).encode() + b"\n")
            await writer.drain()
    except (OSError, ValueError):  # the client went, or sends what is no line
        return
    finally:
        writer.close()


async def _answer(supervisor: Supervisor, line: bytes) -> dict[str, Any]:
    try:
        return await supervisor.answer(json.loads(line))
    except RefusedError as error:
        return {"error": str(error)}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        return {"error": f"not understood: {error!r}"}
    except OSError as error:
        return {"error": f"the supervisor could not do it: {error}"}


def _hold(lock: Path) -> int:
    """Takes the service's lock for life. Raises `RefusedError` where another supervisor has it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:  # somebody is just looking whether it is held, or another supervisor lives
            if time.monotonic() > deadline:
                raise RefusedError(f"another supervisor holds {lock}") from None
            time.sleep(0.02)


async def _supervise(paths: ServicePaths, sockets: Path, prefix: str, ready: int) -> None:
    loop = asyncio.get_running_loop()
    supervisor = Supervisor(paths, sockets, prefix)
    loop.add_signal_handler(signal.SIGCHLD, reap)
    stops: list[asyncio.Task[None]] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: stops.append(asyncio.create_task(supervisor.stop())))
    supervisor.control.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(
        lambda reader, writer: _converse(supervisor, reader, writer), supervisor.control, limit=_MAX_MESSAGE
    )
    house = asyncio.create_task(supervisor.keep_house())
    supervisor.save()
    _report(ready, {})
    os.close(ready)
    await supervisor.stopped.wait()
    house.cancel()
    server.close()
    supervisor.control.unlink(missing_ok=True)
    await asyncio.sleep(0)  # lets the answer to `stop` out


def _report(ready: int, report: dict[str, str]) -> None:
    """Tells who started the supervisor how that went. It may have been killed meanwhile, which is no reason to end."""
    try:
        os.write(ready, json.dumps(report).encode())
    except OSError:
        print("who started the supervisor is gone", file=sys.stderr)


def main(arguments: Sequence[str]) -> None:
    """Runs the supervisor: service directory, socket directory, prefix of its sockets' names, descriptor to report on.

    The process that was started ends at once; its child, which is nobody's, is the supervisor."""
    root, sockets, prefix, ready = arguments
    if os.fork() > 0:
        os._exit(0)
    os.umask(0o077)
    os.chdir("/")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    paths = ServicePaths.at(Path(root))
    try:
        _hold(paths.lock)
        asyncio.run(_supervise(paths, Path(sockets), prefix, int(ready)))
    except (RefusedError, OSError) as error:
        print(f"the supervisor ended: {error}", file=sys.stderr)
        _report(int(ready), {"error": str(error)})
        sys.exit(1)
