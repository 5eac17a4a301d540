"""What the router's processes are told while they run: from what they have to what they should have. Pure.

More than one process may answer: after a reload the former one goes on with the connections that it has, until their
clients' next request. So each of them is told, and each is compared by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from provider.router.configuration import MARK, Backends, Server

MAINTENANCE = 0x01
DRAIN = 0x08
"""Bits of `srv_admin_state` (HAProxy's management guide, `show servers state`)."""


@dataclass(frozen=True)
class Found:
    """A server as a process has it."""

    state: int
    """Bits of its administrative state; 0: it takes requests."""
    weight: int


@dataclass
class Worker:
    """What one of the router's processes has loaded of a service."""

    pid: int
    mark: str
    """Of the structure; "" where it has none."""
    servers: dict[str, dict[str, Found]] = field(default_factory=dict)
    """By backend and name."""
    keys: set[str] = field(default_factory=set)
    """Digests."""
    fingerprint: str = ""
    """SHA-1 of the certificate that it shows, upper-case hexadecimal."""


@dataclass
class Facts:
    """What the router has of a service."""

    files: dict[str, str] = field(default_factory=dict)
    """Text by kind: `services`, `keys`."""
    certificate: str = ""
    """SHA-256 of the file with certificate and key; "" where there is none."""
    workers: list[Worker] = field(default_factory=list)
    """The newest first; it alone takes new connections."""


def parse(text: str, services: Sequence[str]) -> dict[str, Facts]:
    """What `control.sh facts` prints of services, by their names."""
    facts = {service: Facts() for service in services}
    section, named = "", ""
    for line in text.splitlines():
        if line.startswith("%% "):
            section, _, rest = line[3:].partition(" ")
            if section == "file":
                kind, _, file = rest.partition("/")
                section, named = kind, file.rpartition(".")[0]
                facts[named].files[kind] = ""
            elif section == "certificate":
                named, _, digest = rest.partition(" ")
                facts[named].certificate = digest
            elif section == "worker":
                for found in facts.values():
                    found.workers.append(Worker(int(rest), ""))
        elif not section.isdecimal():
            facts[named].files[section] += f"{line}\n"
        elif line.strip():
            _read(facts, services, int(section), line)
    for service, found in facts.items():
        for worker in found.workers:
            # The variable outlives the service that it was set for.
            worker.mark = worker.mark if service in worker.servers else ""
    return facts


def _read(facts: Mapping[str, Facts], services: Sequence[str], asked: int, line: str) -> None:
    """A line of the answer to what a process was asked: 1 its environment, 2 its servers, then keys and certificate of
    each service (control.sh)."""
    fields = line.split()
    if asked == 1:
        name, _, value = line.partition("=")
        found = facts.get(name.removeprefix(MARK)) if name.startswith(MARK) else None
        if found is not None:
            found.workers[-1].mark = value
    elif asked == 2:
        found = facts.get(fields[1].partition(":")[0]) if len(fields) > 7 else None
        if found is not None:
            servers = found.workers[-1].servers.setdefault(fields[1], {})
            servers[fields[3]] = Found(int(fields[6]), int(fields[7]))
    else:
        worker = facts[services[(asked - 3) // 2]].workers[-1]
        if asked % 2 and len(fields) == 2 and fields[0].startswith("0x"):
            worker.keys.add(fields[1])
        elif line.startswith("SHA1 FingerPrint: "):
            worker.fingerprint = fields[-1]


def moving(worker: Worker, desired: Backends, mark: str) -> list[str]:
    """The commands that bring a process to the desired servers and weights. First what takes requests, then what no
    longer does: at no moment there is nobody.

    A backend that the process does not have is left out: it belongs to a structure that it has not loaded, other than
    that of `mark`."""
    loaded = worker.mark == mark
    backends = [(name, servers) for name, servers in desired.items() if loaded or name in worker.servers]
    first = [command for name, servers in backends for command in _taking(name, servers, worker.servers.get(name, {}))]
    return first + [f"set server {name} state drain" for name in _leaving(worker, desired, MAINTENANCE | DRAIN)]


def _taking(backend: str, servers: Mapping[str, Server], found: Mapping[str, Found]) -> Iterator[str]:
    # By falling weight, so that a shift adds before it takes away.
    for name, server in sorted(servers.items(), key=lambda item: -item[1].weight):
        where = f"{backend}/{name}"
        known = found.get(name)
        if known is None:
            yield f"add server {where} {server.arguments}"
            yield f"enable health {where}"
            yield f"enable server {where}"
            continue
        if known.weight != server.weight:
            yield f"set server {where} weight {server.weight}"
        if known.state:
            yield f"set server {where} state ready"


def _leaving(worker: Worker, desired: Backends, without: int = 0) -> Iterator[str]:
    for backend, found in worker.servers.items():
        for name, server in found.items():
            if name not in desired.get(backend, {}) and not server.state & without:
                yield f"{backend}/{name}"


def left(worker: Worker, desired: Backends) -> list[str]:
    """The servers (`BACKEND/NAME`) of a process that are no longer desired. One that an idle connection still holds
    cannot be removed: it stays behind out of service, and goes with the next change."""
    return list(_leaving(worker, desired))


def keying(worker: Worker, file: str, digests: Sequence[str]) -> list[str]:
    """The commands that bring a process to the desired keys; new ones first."""
    wanted = set(digests)
    return [f"add acl {file} {digest}" for digest in sorted(wanted - worker.keys)] + [
        f"del acl {file} {digest}" for digest in sorted(worker.keys - wanted)
    ]


def certifying(worker: Worker, file: str, fingerprint: str) -> list[str]:
    """The commands that have a process show the certificate in `file`, unless it does. `<<` is control.sh's."""
    if not worker.fingerprint or worker.fingerprint == fingerprint:
        return []
    return [f"set ssl cert {file} <<{file}", f"commit ssl cert {file}"]


def differences(worker: Worker, desired: Backends, digests: Sequence[str], fingerprint: str) -> list[str]:
    """In what a process differs from what it should have, in words."""
    said = []
    for backend, servers in desired.items():
        for name, server in servers.items():
            found = worker.servers.get(backend, {}).get(name)
            if found is None:
                said.append(f"the instance {name} is missing in {backend}")
            elif found.state:
                said.append(f"the instance {name} is out of service in {backend}")
            elif found.weight != server.weight:
                said.append(f"the instance {name} has the weight {found.weight} in {backend}, not {server.weight}")
    said += [f"{name} takes requests" for name in _leaving(worker, desired, MAINTENANCE | DRAIN)]
    if worker.keys != set(digests):
        said.append("other keys are accepted")
    if worker.fingerprint != fingerprint:
        said.append("another certificate is shown")
    return said
