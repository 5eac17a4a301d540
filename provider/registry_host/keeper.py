"""The process that keeps a registry running: `python -m provider.registry_host.keeper FOLDER`.

It starts the registry, starts it again (with growing pauses) when it ends, and holds it within its quota: no file may
grow beyond what is left (RLIMIT_FSIZE, set anew each second), so that a registry that is full refuses uploads and goes
on serving and deleting. Now and then, when nothing was written for a while, it stops the registry for a moment and
removes what nothing refers to. SIGHUP: what is asked for has changed; SIGTERM: end. The registry ends with it.

A registry with replicas is several processes on the same data behind one port (`front`); one with webhooks has a
process that delivers events (`courier`).
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import math
import os
import resource
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from provider.local.layout import read_json, write_json
from provider.local.listener import bind
from provider.registry_host import events, usage
from provider.registry_host.log import say
from provider.registry_host.processes import POLL_SECONDS, SIGNALS, Kept, child, end, python
from provider.registry_host.spec import LOOPBACK, TOKEN_VARIABLE, Events, Files, Spec, configuration, socket_name

_TICK_SECONDS = 1.0
_QUIET_SECONDS = 600.0
"""How long nothing must have been written before anything is cleaned up: a blob whose manifest is still to come is
referred to by nothing."""
_LOCK_SECONDS = 2.0
"""Whoever only looks whether there is a keeper holds the lock for a moment."""
_LARGEST_LOG = 4 * 1024 * 1024
_MEASURING_SHARE = 20
"""Measuring may take this part of the time."""
_SECONDS_A_DAY = 86400
_BACKLOG = 512
_ANSWER_SECONDS = 5.0
_ROLL_SECONDS = 20.0
"""How long a registry that took another's place may take to serve, before the next one is stopped."""


@dataclass(frozen=True)
class Launch:
    """What a registry is started with."""

    command: list[str]
    configuration: dict[str, Any]
    environment: dict[str, str]
    certificate: str | None
    """Names the files that it reads beside its configuration."""


class Keeper:
    """The registries of one service, and what stands beside them."""

    def __init__(self, folder: Path) -> None:
        self._files = Files(folder)
        self._spec = self._read_spec()
        self._registries: list[Kept] = []
        self._launches: list[Launch] = []
        self._front: Kept | None = None
        self._courier: Kept | None = None
        self._public: socket.socket | None = None
        self._events: tuple[socket.socket, Events] | None = None
        self._said: dict[str, Any] = {}
        self._next_measure = 0.0
        self._next_collection = time.monotonic() + self._seconds_to_collection()

    def run(self) -> None:
        """Keeps the registry until SIGTERM."""
        self._set_up()
        while self._files.spec.exists():  # whoever removes the folder is done with the registry
            self._tick()
            wait = _TICK_SECONDS if self._state() == "Serving" else POLL_SECONDS
            received = signal.sigtimedwait(SIGNALS, wait)
            if received is None:
                continue
            if received.si_signo == signal.SIGTERM:
                self._say("Ending")  # requests that have begun may take a minute
                break
            if received.si_signo == signal.SIGHUP:
                self._change(self._read_spec())
        self._stop()
        end([kept for kept in (self._courier,) if kept is not None], self._measure)

    # -- what runs

    def _set_up(self) -> None:
        """Makes what is asked for, as far as it is not there; the ticks start it."""
        if self._spec.webhooks and self._courier is None:
            self._courier = Kept("the events' courier", self._start_courier)
        if not self._registries:
            self._launches = self._wanted()
            self._registries = [self._registry(place) for place in range(self._spec.replicas)]
        if self._spec.replicas > 1 and self._front is None:
            self._front = Kept("the way to the replicas", self._start_front, self._answers_clients)

    def _registry(self, place: int) -> Kept:
        name = "the registry" if self._spec.replicas == 1 else f"the registry's replica {place}"
        return Kept(name, lambda: self._start_registry(place), lambda: self._answers(place))

    def _kept(self) -> list[Kept]:
        return [*self._registries, *(kept for kept in (self._front, self._courier) if kept is not None)]

    def _tick(self) -> None:
        for kept in self._kept():
            kept.tend()
        self._measure()
        self._say(self._state())
        if time.monotonic() >= self._next_collection and self._is_quiet():
            self._collect()

    def _state(self) -> str:
        kept = self._kept()
        if all(one.serving for one in kept):
            return "Serving"
        if any(one.serving for one in self._registries) and (self._front is None or self._front.serving):
            return "Degraded" if any(one.failures for one in kept) else "Starting"
        return "Failing" if any(one.failures and not one.serving for one in kept) else "Starting"

    # -- changes

    def _change(self, spec: Spec) -> None:
        """A request that has begun is carried to its end; one that no registry takes is tried again by the client."""
        before, self._spec = self._spec, spec
        self._next_collection = min(self._next_collection, time.monotonic() + self._seconds_to_collection())
        self._next_measure = 0.0
        if self._courier is not None:
            self._courier.signal(signal.SIGHUP)
        if (before.bind, before.port, before.replicas) != (spec.bind, spec.port, spec.replicas):
            self._stop()
        self._set_up()
        self._renew()
        if not spec.webhooks and self._courier is not None:
            end([self._courier], self._measure)
            self._courier = None
            for path in self._files.folder.glob(f"{self._files.events.name}*"):  # SQLite has more than one
                path.unlink(missing_ok=True)
        for kept in self._kept():
            kept.hurry()
        self._measure()
        self._said = {}  # whoever asked waits for an answer

    def _renew(self) -> None:
        """Gives each registry that is to run otherwise its new form, one after the other."""
        for place, launch in enumerate(self._wanted()):
            if launch == self._launches[place]:
                continue
            self._pass_by(place)
            end([self._registries[place]], self._measure)
            self._launches[place] = launch
            self._registries[place].hurry()
            deadline = time.monotonic() + _ROLL_SECONDS
            while len(self._registries) > 1 and not self._registries[place].serving and time.monotonic() < deadline:
                self._registries[place].tend()
                self._measure()
                time.sleep(POLL_SECONDS)

    def _pass_by(self, *places: int) -> None:
        """Has new connections go past registries that are to end; those that wait there are taken before they do."""
        if len(self._registries) < 2:
            return
        for place in places:
            with contextlib.suppress(FileNotFoundError):  # it has not begun to listen
                (self._files.folder / socket_name(place)).rename(self._files.folder / _former(place))
        for place in places:
            # It takes connections in their order: where it answers on this one, it has taken all that came before.
            self._answers_at(_former(place))
            (self._files.folder / _former(place)).unlink(missing_ok=True)

    def _stop(self) -> None:
        """Ends the registries, and what leads to them."""
        stopping = [*([] if self._front is None else [self._front]), *self._registries]
        self._front, self._registries = None, []
        if self._public is not None:
            self._public.close()
            self._public = None
        end(stopping, self._measure)

    def _wanted(self) -> list[Launch]:
        spec = self._spec
        environment = {
            # What a Go program can be told: how many threads run at once, and when to collect its garbage harder.
            "GOMAXPROCS": str(max(1, math.ceil(spec.cpus / spec.replicas))),
            "GOMEMLIMIT": str(spec.memory_bytes // spec.replicas),
            "OTEL_TRACES_EXPORTER": "none",
        }
        secret, receiver = self._secret(), self._receiver() if spec.webhooks else None
        return [
            Launch(
                [spec.program, "serve", str(self._files.configuration_of(place))],
                configuration(self._files, spec, secret, place, receiver),
                environment,
                spec.certificate,
            )
            for place in range(spec.replicas)
        ]

    # -- starting

    def _start_registry(self, place: int) -> subprocess.Popen[bytes]:
        launch = self._launches[place]
        self._files.data.mkdir(exist_ok=True)
        # JSON is YAML. The umask keeps it from others.
        write_json(self._files.configuration_of(place), launch.configuration)
        self._next_measure = 0.0
        return child(launch.command, env={**os.environ, **launch.environment}, cwd=self._files.folder)

    def _start_front(self) -> subprocess.Popen[bytes]:
        if self._public is None:
            self._public = bind(self._spec.bind, self._spec.port)
            self._public.listen(_BACKLOG)
        descriptor = self._public.fileno()
        sockets = [socket_name(place) for place in range(self._spec.replicas)]
        return child(python("front", descriptor, *sockets), pass_fds=[descriptor], cwd=self._files.folder)

    def _start_courier(self) -> subprocess.Popen[bytes]:
        receiver = self._receiver()
        assert self._events is not None  # noqa: S101 - the receiver's
        descriptor = self._events[0].fileno()
        return child(
            python("courier", self._files.folder, descriptor),
            env={**os.environ, TOKEN_VARIABLE: receiver.token},
            pass_fds=[descriptor],
            cwd="/",
            unblock=False,  # it waits for signals, and one may come before it does
        )

    def _receiver(self) -> Events:
        """Where events go. The socket stays open while the courier is started again: what comes then waits."""
        if self._events is None:
            listening = bind(LOOPBACK, 0)
            listening.listen(_BACKLOG)
            listening.setblocking(True)
            self._events = listening, Events(listening.getsockname()[1], secrets.token_hex(32))
        return self._events[1]

    def _secret(self) -> str:
        try:
            return str(json.loads(self._files.configuration.read_bytes())["http"]["secret"])
        except (OSError, ValueError, KeyError, TypeError):
            return self._launches[0].configuration["http"]["secret"] if self._launches else secrets.token_hex(32)

    # -- looking after

    def _answers(self, place: int) -> bool:
        return self._answers_clients() if self._spec.replicas == 1 else self._answers_at(socket_name(place))

    def _answers_at(self, name: str) -> bool:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_ANSWER_SECONDS)
        try:
            # The keeper's own working directory is the service's folder, as the registries' is.
            connection.connect(name)
            return self._is_registry(connection)
        except OSError:
            return False
        finally:
            connection.close()

    def _answers_clients(self) -> bool:
        try:
            with socket.create_connection((self._spec.near, self._spec.port), timeout=_ANSWER_SECONDS) as connection:
                return self._is_registry(connection)
        except OSError:
            return False

    def _is_registry(self, connection: socket.socket) -> bool:
        """Whether a registry answers: it asks who is there."""
        if self._spec.certificate is not None:
            # It is asked whether it lives, not who it is; and nothing is told to it.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = context.wrap_socket(connection)
        asking = http.client.HTTPConnection(self._spec.host, self._spec.port)
        asking.sock = connection
        try:
            asking.request("GET", "/v2/")
            return asking.getresponse().status in (200, 401)
        except (OSError, http.client.HTTPException):
            return False
        finally:
            asking.close()

    def _measure(self) -> None:
        """Lets no file grow beyond what is left of the quota; now and then."""
        now = time.monotonic()
        if now < self._next_measure:
            return
        with contextlib.suppress(OSError):  # removed meanwhile
            if self._files.log.stat().st_size > _LARGEST_LOG:
                os.truncate(self._files.log, 0)  # it is appended to
        left = max(0, self._spec.quota_bytes - usage.used_bytes(self._files.data))
        for registry in self._registries:
            if registry.pid is not None:
                with contextlib.suppress(ProcessLookupError):  # it has ended: the next tick sees that
                    resource.prlimit(registry.pid, resource.RLIMIT_FSIZE, (left, resource.RLIM_INFINITY))
        self._next_measure = time.monotonic() + max(_TICK_SECONDS, (time.monotonic() - now) * _MEASURING_SHARE)

    # -- cleaning

    def _seconds_to_collection(self) -> float:
        """Also counted while no keeper ran, as on a machine that is switched off each night."""
        wait = float(self._spec.collect_seconds)
        try:
            since = time.time() - self._files.collected.stat().st_mtime
        except OSError:
            self._note_collection()
            return wait
        return wait - min(wait, max(0.0, since))

    def _is_quiet(self) -> bool:
        """Whether nothing was written for a while."""
        return time.time() - usage.last_written(self._files.data) > _QUIET_SECONDS

    def _note_collection(self) -> None:
        with contextlib.suppress(OSError):  # it comes early, then
            self._files.collected.touch(mode=0o600)
            os.utime(self._files.collected)

    def _collect(self) -> None:
        """Removes what nothing refers to, while the registries stand still."""
        self._say("Collecting")
        self._pass_by(*range(len(self._registries)))
        end(self._registries, self._measure)
        if self._spec.retention_days is not None:
            before = time.time() - self._spec.retention_days * _SECONDS_A_DAY
            for name in usage.drop_untagged(self._files.data, before):
                say(f"removed {name}: no tag names it")
                self._announce(name)
        command = [self._spec.program, "garbage-collect", str(self._files.configuration)]
        try:
            # What has no name yet must be safe from it as soon as another keeper lets clients push again.
            returned = child(command, stdout=subprocess.DEVNULL).wait()
            how = f"ended with {returned}" if returned else ""
        except OSError as error:  # the registry goes on without
            how = f"cannot be started: {error.strerror or error}"
        if how:
            say(f"removing what is not referred to {how}")
        self._note_collection()
        self._next_collection = time.monotonic() + self._spec.collect_seconds

    def _announce(self, name: str) -> None:
        """Tells the courier of a manifest that was removed, before what it was is gone."""
        if self._courier is None:
            return
        receiver, (repository, _, digest) = self._receiver(), name.partition("@")
        moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        document = events.deleted(repository, digest, secrets.token_hex(16), moment)
        headers = {"Authorization": f"Bearer {receiver.token}"}
        url = f"http://{LOOPBACK}:{receiver.port}/"
        request = urllib.request.Request(url, json.dumps(document).encode(), headers)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=_ANSWER_SECONDS):
                return
        except OSError as error:
            say(f"the removal of {name} is told to nobody: {error}")

    # -- telling

    def _say(self, state: str) -> None:
        said = {
            "spec": self._spec.digest,
            "keeper": os.getpid(),
            "state": state,
            "failures": max((kept.failures for kept in self._kept() if not kept.serving), default=0),
            "pid": self._registries[0].pid if self._registries else None,
            "replicas": [registry.pid for registry in self._registries],
            "front": None if self._front is None else self._front.pid,
            "courier": None if self._courier is None else self._courier.pid,
        }
        if said == self._said:
            return
        with contextlib.suppress(OSError):  # the disk is full: the registry goes on serving, and this comes later
            write_json(self._files.status, said, durable=False)
            self._said = said

    def _read_spec(self) -> Spec:
        return Spec(**(read_json(self._files.spec) or {}))


def _former(place: int) -> str:
    """The Unix socket of a registry that new connections go past."""
    return f"{socket_name(place)}.former"


def main(folder: str) -> None:
    """Becomes the keeper of `folder`, unless there is one; the caller's process ends at once."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # whoever finds the lock held may send one
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    os.chdir(folder)
    lock = os.open(Files(Path(folder)).lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                return
            time.sleep(POLL_SECONDS)
    # Whoever finds it held knows whom to ask, also before anything was told of the state.
    with contextlib.suppress(OSError):  # the disk is full
        os.pwrite(lock, f"{os.getpid():<20}".encode(), 0)
    Keeper(Path(folder)).run()


if __name__ == "__main__":
    main(sys.argv[1])
