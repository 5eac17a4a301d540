"""Has a router route a service: puts the files there, tells the processes, waits for the last requests of what leaves.

It goes by what the router has, not by what was done before. So it can be ended at any point, and done again. All of it
blocks; call it in a thread.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from provider.container.engine import Engine, File, Finished
from provider.resource import ResourceError
from provider.router import configuration, runtime
from provider.router.configuration import Service, certificate_file, keys_file, mark_of
from provider.router.container import CONFIGURATION, USER, control
from provider.router.runtime import Facts, Worker

_SAID_WELL = ("New server registered.", "Server deleted.", "Transaction ", "Committing ", "Success!")
_FOLDERS = ("services", "keys", "certificates")
_DRAIN_MARGIN_SECONDS = 5
_EXEC_SECONDS = 120.0


@dataclass(frozen=True)
class Wanted:
    """A service as the router should have it."""

    service: Service
    owner: str
    """Names the resource that it is of, so that nobody else's is removed."""
    digests: tuple[str, ...]
    """Of the keys that are good."""
    pem: str | None
    """Certificate chain and private key: a secret."""
    fingerprint: str
    """Of the certificate: SHA-1, upper-case hexadecimal; "" without one."""

    @property
    def text(self) -> str:
        """The service's file."""
        return f"{_owned(self.owner)}\n{configuration.configuration(self.service)}"

    @property
    def keys(self) -> str:
        """The file of the keys' digests."""
        return "".join(f"{digest}\n" for digest in self.digests)

    def files(self) -> list[File]:
        """What the router reads of the service."""
        name = self.service.name
        found = [File(f"services/{name}.cfg", self.text.encode())]
        if self.digests:
            found.append(File(f"keys/{name}.acl", self.keys.encode()))
        if self.pem is not None:
            found.append(File(f"certificates/{name}.pem", self.pem.encode()))
        return found


def _owned(owner: str) -> str:
    return f"# Route {owner}"


class Router:
    """The router's container. Every method raises `ResourceError`, `EngineError` among them."""

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine = engine
        self._container = container

    def is_running(self) -> bool:
        """Whether its container runs."""
        found = self._engine.inspect(self._container)
        return found is not None and bool(found["State"]["Running"]) and not found["State"].get("Restarting")

    def exists(self) -> bool:
        """Whether there is such a container."""
        return self._engine.inspect(self._container) is not None

    def facts(self, service: str) -> Facts:
        """What it has of a service."""
        return runtime.parse(self._run("facts", service).text)

    def apply(self, wanted: Wanted, status: Callable[[str], None]) -> list[str]:
        """Brings it to what is wanted. Returns the instances that still worked on requests when the time was up."""
        name = wanted.service.name
        facts = self.facts(name)
        folder = self._upload(name, wanted.files())
        if facts.workers and facts.workers[0].mark == mark_of(wanted.service)[1]:
            self._run("keep", folder, name)
        else:
            status("reloading the router")
            self._load(folder, wanted.service)
            facts = self.facts(name)
        status("moving traffic")
        self._tell(name, facts.workers, lambda worker: _commands(worker, wanted))
        return self._drain(wanted, status)

    def remove(self, service: str, owner: str) -> None:
        """Takes a service out, unless another resource has taken it over; succeeds where it is gone."""
        if not self.exists():
            return
        if not self.is_running():
            # Its files can be written and not removed: at its next start there is nothing in them.
            empty = f"{_owned(owner)}: removed\n".encode()
            self._engine.put(self._container, CONFIGURATION, [File(f"services/{service}.cfg", empty)], USER)
            return
        text = self.facts(service).files.get("services")
        if text is None or text.startswith(f"{_owned(owner)}\n"):
            self._run("remove", service)

    def _load(self, folder: str, service: Service) -> None:
        done = self._attempt("load", folder, service.name, str(service.port))
        if done.exit_code == 0:
            return
        kind, _, reason = done.complaint.partition(": ")
        if kind == "port":
            raise ResourceError(
                f"the service {service.name} cannot have the port {service.port} of {self._engine.host}: {reason}. "
                "End that, or choose another port; what was routed before goes on as it was."
            )
        lines = "\n".join(f"  | {line}" for line in self._engine.log(self._container, 15)) if kind == "reload" else ""
        raise ResourceError(
            f"the router {self._container} does not take the service {service.name}: {reason or done.complaint}. "
            f"What was routed before goes on as it was.\n{lines}".rstrip()
        )

    def _drain(self, wanted: Wanted, status: Callable[[str], None]) -> list[str]:
        """Waits until what takes no requests any more has answered its last one, then takes it out."""
        desired = configuration.backends(wanted.service)
        leaving = {
            worker.pid: gone
            for worker in self.facts(wanted.service.name).workers
            if (gone := runtime.left(worker, desired))
        }
        if not leaving:
            return []
        status("waiting for the last requests of what is replaced")
        seconds = math.ceil(wanted.service.scoring_timeout_ms / 1000) + _DRAIN_MARGIN_SECONDS
        servers = [f"{pid} {server}" for pid, gone in leaving.items() for server in gone]
        busy = self._run("idle", str(seconds), *servers, seconds=seconds + _EXEC_SECONDS).text.split()
        commands = [
            f"{pid} {command}"
            for pid, gone in leaving.items()
            for command in runtime.removing([server for server in gone if server not in busy])
        ]
        self._commands(wanted.service.name, commands)
        return sorted(set(busy))

    def _tell(self, service: str, workers: Sequence[Worker], commands: Callable[[Worker], Iterable[str]]) -> None:
        numbered = [
            (index, f"{worker.pid} {line}") for index, worker in enumerate(workers) for line in commands(worker)
        ]
        answers = self._commands(service, [line for _, line in numbered])
        for (index, line), answer in zip(numbered, answers, strict=True):
            # A former process may end meanwhile, or lack what the newest has.
            if index == 0 and answer and not answer.startswith(_SAID_WELL):
                raise ResourceError(
                    f"the router {self._container} refuses `{line.partition(' ')[2]}`: {answer}. "
                    "Run `pulumi up --refresh`."
                )

    def _commands(self, service: str, lines: Sequence[str]) -> list[str]:
        """Gives it commands; returns its answers."""
        if not lines:
            return []
        folder = self._upload(service, [File("commands", "".join(f"{line}\n" for line in lines).encode())])
        answers: list[str] = []
        for line in self._run("run", folder).text.splitlines():
            if line.startswith("%% "):
                answers.append("")
            elif answers and line.strip():
                answers[-1] = f"{answers[-1]} {line.strip()}".strip()
        return answers

    def _upload(self, service: str, files: Sequence[File]) -> str:
        """Puts files into a folder of their own, and returns it. control.sh removes what is in there."""
        folder = f"incoming/{service}/{uuid.uuid4().hex}"
        placed = [File(f"{folder}/{file.path}", file.content, file.mode) for file in files]
        # In a volume that is the engine's own user's, the router cannot make its folders by itself.
        self._engine.put(self._container, CONFIGURATION, placed, USER, _FOLDERS)
        return f"{CONFIGURATION}/{folder}"

    def _run(self, *arguments: str, seconds: float = _EXEC_SECONDS) -> Finished:
        done = self._attempt(*arguments, seconds=seconds)
        if done.exit_code != 0:
            raise ResourceError(
                f"the router {self._container} on {self._engine.host} did not do `{arguments[0]}`: {done.complaint}"
            )
        return done

    def _attempt(self, *arguments: str, seconds: float = _EXEC_SECONDS) -> Finished:
        if not self.is_running():
            raise ResourceError(
                f"the router {self._container} does not run on {self._engine.host}. Run `pulumi up --refresh`: it is "
                f"started again. What it said: docker logs {self._container}"
            )
        return self._engine.execute(self._container, control(*arguments), seconds=seconds)


def _commands(worker: Worker, wanted: Wanted) -> list[str]:
    service = wanted.service
    commands = runtime.moving(worker, configuration.backends(service), mark_of(service)[1])
    if service.guarded:
        commands = runtime.keying(worker, keys_file(service.name), wanted.digests) + commands
    if service.tls:
        commands = runtime.certifying(worker, certificate_file(service.name), wanted.fingerprint) + commands
    return commands


def drift(facts: Facts, wanted: Wanted) -> list[str]:
    """In what the router differs from what is wanted, in words."""
    said = []
    if facts.files.get("services") != wanted.text:
        said.append("its file is another" if "services" in facts.files else "its file is gone")
    if facts.files.get("keys", "") != wanted.keys:
        said.append("the file of its keys is another")
    if facts.certificate != ("" if wanted.pem is None else hashlib.sha256(wanted.pem.encode()).hexdigest()):
        said.append("the file of its certificate is another")
    if not facts.workers:
        return [*said, "no process of the router answers"]
    newest = facts.workers[0]
    if newest.mark != mark_of(wanted.service)[1]:
        return [*said, "another configuration is loaded" if newest.mark else "it is not loaded"]
    desired = configuration.backends(wanted.service)
    return said + runtime.differences(newest, desired, wanted.digests, wanted.fingerprint)
