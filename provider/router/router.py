"""Has a router route a service: puts the files there, tells the processes, waits for the last requests of what leaves.

It goes by what the router has, not by what was done before. So it can be ended at any point, and done again. All of it
blocks; call it in a thread.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from provider.container.engine import Engine, File, Finished
from provider.resource import ResourceError
from provider.router import configuration, runtime
from provider.router.configuration import Service, certificate_file, keys_file, mark_of
from provider.router.container import CONFIGURATION, USER, control
from provider.router.runtime import Facts, Worker
from provider.router.turns import Turns

_SAID_WELL = ("New server registered.", "Transaction ", "Committing ")
_FOLDERS = ("services", "keys", "certificates", "incoming")
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


@dataclass
class _Task:
    """One service that is to be brought to what is wanted, or taken out."""

    service: str
    owner: str
    wanted: Wanted | None
    """None: to be taken out."""
    done: bool = False
    error: ResourceError | None = None
    workers: list[Worker] = field(default_factory=list)
    """The processes as they were when they were told."""


_turns: defaultdict[tuple[str, str], Turns[_Task]] = defaultdict(Turns)
"""By host and container. Between what one looks at and what one tells, nobody else may reload: commands are for certain
processes. Other stacks have other routers."""


class Router:
    """The router's container. Every method raises `ResourceError`, `EngineError` among them."""

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine = engine
        self._container = container
        self._turns = _turns[engine.host, container]

    def is_running(self) -> bool:
        """Whether its container runs."""
        found = self._engine.inspect(self._container)
        return found is not None and bool(found["State"]["Running"]) and not found["State"].get("Restarting")

    def facts(self, service: str) -> Facts:
        """What it has of a service."""
        return self._facts([service])[service]

    def _facts(self, services: Sequence[str]) -> dict[str, Facts]:
        if not self.is_running():
            raise ResourceError(
                f"the router {self._container} does not run on {self._engine.host}. Run `pulumi up --refresh`: it is "
                f"started again. What it said: docker logs {self._container}"
            )
        return runtime.parse(self._run("facts", *services).text, services)

    def apply(self, wanted: Wanted, status: Callable[[str], None]) -> list[str]:
        """Brings it to what is wanted. Returns the instances that still worked on requests when the time was up."""
        status("moving traffic")
        workers = self._taken(_Task(wanted.service.name, wanted.owner, wanted))
        return self._drain(wanted, workers, status)

    def remove(self, service: str, owner: str) -> None:
        """Takes a service out, unless another resource has taken it over; succeeds where it is gone."""
        if self._engine.inspect(self._container) is None:
            return
        if not self.is_running():
            # Its files can be written and not removed: at its next start there is nothing in them.
            empty = f"{_owned(owner)}: removed\n".encode()
            self._engine.put(self._container, CONFIGURATION, [File(f"services/{service}.cfg", empty)], USER)
            return
        self._taken(_Task(service, owner, None))

    def _taken(self, task: _Task) -> list[Worker]:
        self._turns.take(task, self._all)
        if task.error is not None:
            raise task.error
        return task.workers

    def _all(self, tasks: Sequence[_Task]) -> None:
        """Does the tasks in one go; one by one where that fails, so that each has its own mistakes alone."""
        try:
            if len({task.service for task in tasks}) < len(tasks):
                raise ResourceError("one service twice")
            self._bring(tasks)
        except ResourceError as error:
            if len(tasks) > 1:
                for task in tasks:
                    self._all([task])
                return
            tasks[0].error = error
        for task in tasks:
            task.done = True

    def _bring(self, tasks: Sequence[_Task]) -> None:
        facts = self._facts([task.service for task in tasks])
        tasks = [task for task in tasks if _is_due(task, facts[task.service])]
        wanted = [task.wanted for task in tasks if task.wanted is not None]
        names = [task.service for task in tasks]
        files = [file for item in wanted for file in item.files()]
        if all(task.wanted is not None and _is_loaded(task.wanted, facts[task.service]) for task in tasks):
            commands = _commands(wanted, facts)
            if names:
                folder = self._upload([*files, _lines("commands", commands)])
                self._judge(commands, self._run("keep", folder, *names).text, facts)
        else:
            self._load(self._upload(files), tasks)
            facts = self._facts(names)
            if commands := _commands(wanted, facts):
                folder = self._upload([_lines("commands", commands)])
                self._judge(commands, self._run("run", folder).text, facts)
        for task in tasks:
            task.workers = facts[task.service].workers

    def _load(self, folder: str, tasks: Sequence[_Task]) -> None:
        done = self._attempt("load", folder, *(task.service for task in tasks))
        if done.exit_code == 0:
            return
        names = ", ".join(task.service for task in tasks)
        kind, _, reason = done.complaint.partition(": ")
        if kind == "port":
            wanted = tasks[0].wanted
            where = "" if wanted is None else f" {wanted.service.bind}:{wanted.service.port}"
            raise ResourceError(
                f"the service {names} cannot have{where} on {self._engine.host}: {reason}. "
                "What was routed before goes on as it was."
            )
        lines = "\n".join(f"  | {line}" for line in self._engine.log(self._container, 15)) if kind == "reload" else ""
        raise ResourceError(
            f"the router {self._container} does not take the service {names}: {reason or done.complaint}. "
            f"What was routed before goes on as it was.\n{lines}".rstrip()
        )

    def _drain(self, wanted: Wanted, workers: Sequence[Worker], status: Callable[[str], None]) -> list[str]:
        """Waits until what takes no requests any more has answered its last one, then takes it out."""
        desired = configuration.backends(wanted.service)
        leaving = [f"{worker.pid} {server}" for worker in workers for server in runtime.left(worker, desired)]
        if not leaving:
            return []
        status("waiting for the last requests of what is replaced")
        seconds = math.ceil(wanted.service.scoring_timeout_ms / 1000) + _DRAIN_MARGIN_SECONDS
        folder = self._upload([_lines("leaving", leaving)])
        return self._run("end", folder, str(seconds), seconds=seconds + _EXEC_SECONDS).text.split()

    def _judge(self, commands: Sequence[str], printed: str, facts: Mapping[str, Facts]) -> None:
        """Looks at the answers of the newest process; a former one may end meanwhile, or lack what the newest has."""
        newest = {found.workers[0].pid for found in facts.values() if found.workers}
        answers: list[str] = []
        for line in printed.splitlines():
            if line.startswith("%% "):
                answers.append("")
            elif answers and line.strip():
                answers[-1] = f"{answers[-1]} {line.strip()}".strip()
        for command, answer in zip(commands, answers, strict=True):
            pid, _, said = command.partition(" ")
            if int(pid) in newest and answer and not answer.startswith(_SAID_WELL):
                raise ResourceError(
                    f"the router {self._container} refuses `{said}`: {answer}. Run `pulumi up --refresh`."
                )

    def _upload(self, files: Sequence[File]) -> str:
        """Puts files into a folder of their own, and returns it. control.sh removes what is in there."""
        folder = f"incoming/{uuid.uuid4().hex}"
        placed = [File(f"{folder}/{file.path}", file.content, file.mode) for file in files]
        # In a volume that is the engine's own user's, the router cannot make its folders by itself.
        self._engine.put(self._container, CONFIGURATION, placed, USER, (*_FOLDERS, folder))
        return f"{CONFIGURATION}/{folder}"

    def _run(self, *arguments: str, seconds: float = _EXEC_SECONDS) -> Finished:
        done = self._attempt(*arguments, seconds=seconds)
        if done.exit_code != 0:
            raise ResourceError(
                f"the router {self._container} on {self._engine.host} did not do `{arguments[0]}`: {done.complaint}"
            )
        return done

    def _attempt(self, *arguments: str, seconds: float = _EXEC_SECONDS) -> Finished:
        done = self._engine.execute(self._container, control(*arguments), seconds=seconds)
        if done.exit_code != 0 and not done.errors.strip():
            # Whatever control.sh refuses it says: it was ended with its container.
            raise ResourceError(
                f"the router {self._container} on {self._engine.host} ended while it did `{arguments[0]}` (exit code "
                f"{done.exit_code}). `pulumi up` tries again; what it said: docker logs {self._container}"
            )
        return done


def _lines(name: str, lines: Sequence[str]) -> File:
    return File(name, "".join(f"{line}\n" for line in lines).encode())


def _is_due(task: _Task, facts: Facts) -> bool:
    """Whether there is something to do: a service that is to go may be gone, or another resource's."""
    if task.wanted is not None:
        return True
    text = facts.files.get("services")
    if text is None:
        return any(worker.servers for worker in facts.workers[:1])
    return text.startswith(f"{_owned(task.owner)}\n")


def _is_loaded(wanted: Wanted, facts: Facts) -> bool:
    """Whether the newest process has the structure that is wanted: commands do the rest."""
    return bool(facts.workers) and facts.workers[0].mark == mark_of(wanted.service)[1]


def _commands(wanted: Sequence[Wanted], facts: Mapping[str, Facts]) -> list[str]:
    """What each process is to be told of each service."""
    return [
        f"{worker.pid} {command}"
        for item in wanted
        for worker in facts[item.service.name].workers
        for command in _for_one(worker, item)
    ]


def _for_one(worker: Worker, wanted: Wanted) -> list[str]:
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
