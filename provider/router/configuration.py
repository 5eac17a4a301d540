"""What the router is told of one service: a file of HAProxy's language, made of plain values. Pure.

The file has two parts. The structure (port, TLS, key check, names of the deployments) takes a reload to change. The
servers with their weights change while it runs (`provider.router.runtime`), and are in the file for the next start.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from provider.router.container import CONFIGURATION
from provider.router.refusal import HEADER, NO_DEPLOYMENT, NO_KEY, WRONG_KEY

SERVICES = f"{CONFIGURATION}/services"
KEYS = f"{CONFIGURATION}/keys"
CERTIFICATES = f"{CONFIGURATION}/certificates"

MARK = "SLIPWAY_ROUTE_"
"""Begins the environment variable by which a running process tells which structure of a service it has loaded."""

_MOST_WEIGHT = 256
_BEYOND_SCORING_SECONDS = 5
"""What the router waits beyond the server's own time limit, so that the server's answer is the one that is sent."""
_SLOW_CLIENT_SECONDS = 60
_POOL = "pool-max-conn -1 pool-purge-delay 5s"
"""HAProxy's own defaults, which a server lacks that the command `add server` makes: each request would connect anew."""
_CHECK = "check inter 1s fall 2 rise 1 observe layer4 error-limit 1 on-error mark-down"
_OPEN = ("/", "/ready", "/metrics", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/repository/index")
"""What is answered without a key, as the scoring server does it. Any other path needs one, unknown ones too."""
_OPEN_MODEL = "^/v2/models/[A-Za-z0-9._~-]+(/versions/[A-Za-z0-9._~-]+)?/ready$"


@dataclass(frozen=True)
class Deployment:
    """One deployment of a service: its share of the requests, and where its instances listen."""

    name: str
    weight: int
    """Percent of the requests."""
    sockets: tuple[str, ...]


@dataclass(frozen=True)
class Service:
    """All that the router knows of a service, but for secrets."""

    name: str
    port: int
    bind: str
    tls: bool
    guarded: bool
    """Whether requests need a key."""
    scoring_timeout_ms: int
    deployments: tuple[Deployment, ...]


@dataclass(frozen=True)
class Server:
    """One instance as a backend has it."""

    path: str
    weight: int

    @property
    def arguments(self) -> str:
        """What follows its name, in a file and in the command `add server` alike."""
        return f"unix@{self.path} weight {self.weight} {_POOL} {_CHECK}"


Backends = Mapping[str, Mapping[str, Server]]
"""Backend -> name of a server -> server."""


def file_of(service: str) -> str:
    """Where a service's file is in the router."""
    return f"{SERVICES}/{service}.cfg"


def keys_file(service: str) -> str:
    """Where the digests of a service's keys are in the router."""
    return f"{KEYS}/{service}.acl"


def certificate_file(service: str) -> str:
    """Where a service's certificate and its key are in the router."""
    return f"{CERTIFICATES}/{service}.pem"


def backends(service: Service) -> Backends:
    """The servers of a service: all of them by weight under the service's name, and each deployment's own."""
    weights = _weights(service.deployments)
    together = {
        _server_name(path): Server(path, weights[deployment.name])
        for deployment in service.deployments
        for path in deployment.sockets
    }
    apart = {
        f"{service.name}:{deployment.name}": {_server_name(path): Server(path, 1) for path in deployment.sockets}
        for deployment in service.deployments
    }
    return {service.name: together, **apart}


def _server_name(path: str) -> str:
    return PurePosixPath(path).stem


def _weights(deployments: Sequence[Deployment]) -> dict[str, int]:
    """The weight of each server of a deployment, so that the deployments' shares hold however many each has.

    HAProxy has whole numbers up to 256: exact where they suffice, else the nearest, but never 0 for a share above 0."""
    together = math.lcm(*(len(deployment.sockets) for deployment in deployments))
    shares = {item.name: item.weight * together // len(item.sockets) for item in deployments}
    divisor = math.gcd(*shares.values()) or 1
    shares = {name: share // divisor for name, share in shares.items()}
    highest = max(shares.values())
    if highest <= _MOST_WEIGHT:
        return shares
    return {name: max(1, round(share * _MOST_WEIGHT / highest)) if share else 0 for name, share in shares.items()}


def mark_of(service: Service) -> tuple[str, str]:
    """Name and value of the variable that a process has once it has loaded this structure."""
    return f"{MARK}{service.name}", hashlib.sha256(structure(service).encode()).hexdigest()[:16]


def configuration(service: Service) -> str:
    """The file of a service."""
    name, value = mark_of(service)
    lines = [
        "# Written by Slipway, and compared with the stack: an edit is undone.",
        "global",
        f"  setenv {name} {value}",
    ]
    text = "\n".join(lines) + "\n" + structure(service)
    for backend, servers in backends(service).items():
        text += _backend(service, backend)
        text += "".join(f"  server {name} {server.arguments}\n" for name, server in servers.items())
    return text


def structure(service: Service) -> str:
    """The part of the file that only a reload changes."""
    seconds = max(_SLOW_CLIENT_SECONDS, server_seconds(service))
    tls = f" ssl crt {certificate_file(service.name)} alpn h2,http/1.1" if service.tls else ""
    lines = [
        f"frontend {service.name}",
        f"  bind {_address(service.bind)}:{service.port}{tls}",
        f"  timeout client {seconds}s",
        "  option forwardfor",
        f"  http-request set-header x-forwarded-proto {'https' if service.tls else 'http'}",
        *(_key_check(service) if service.guarded else ()),
    ]
    known = " ".join(deployment.name for deployment in service.deployments)
    named = f"req.fhdr({HEADER})"
    lines.append(
        f"  http-request use-service lua.{NO_DEPLOYMENT} if {{ {named} -m found }} !{{ {named} -m str {known} }}"
    )
    lines += [
        f"  use_backend {service.name}:{deployment.name} if {{ {named} -m str {deployment.name} }}"
        for deployment in service.deployments
    ]
    lines.append(f"  default_backend {service.name}")
    return "\n".join(lines) + "\n"


def _backend(service: Service, name: str) -> str:
    return f"backend {name}\n  balance roundrobin\n  timeout server {server_seconds(service)}s\n"


def server_seconds(service: Service) -> int:
    """How long the router waits for a server's answer."""
    return math.ceil(service.scoring_timeout_ms / 1000) + _BEYOND_SCORING_SECONDS


def _address(bind: str) -> str:
    return f"[{bind}]" if ":" in bind else bind


def _key_check(service: Service) -> list[str]:
    """The scoring server's own rules (`slipway_serving.access`), with the keys' digests in their place.

    A preflight request carries no key and must not reach a script: it is asked of `/`, which answers it where the
    server allows other origins; for /score, the answer without them is 200 too."""
    given = 'req.fhdr(authorization),regsub("^[^ ]*[[:space:]]+","")'
    lines = [
        "http-request set-var(txn.preflight) path if METH_OPTIONS",
        "http-request set-path / if METH_OPTIONS",
        f"acl open path {' '.join(_OPEN)}",
        f"acl open path_reg {_OPEN_MODEL}",
        'acl bearer req.fhdr(authorization) -m reg -i "^bearer .*[^[:space:]]"',
        "acl several req.fhdr_cnt(authorization) gt 1",
        f"acl known {given},sha2(256),hex -m str -f {keys_file(service.name)}",
        f"http-request use-service lua.{NO_KEY} if !open !bearer",
        f"http-request use-service lua.{WRONG_KEY} if !open !known",
        f"http-request use-service lua.{WRONG_KEY} if !open several",
        # No script sees the keys of its service.
        "http-request del-header authorization",
        "http-response return status 200 if { var(txn.preflight) -m str /score } { status 405 }",
    ]
    return [f"  {line}" for line in lines]


def key_digests(keys: Sequence[str]) -> list[str]:
    """What the router keeps of keys: SHA-256, in the notation that HAProxy compares."""
    return [hashlib.sha256(key.encode()).hexdigest().upper() for key in keys]


def pem_of(certificate: str, private_key: str) -> str:
    """Certificate chain and key in one file. Without empty lines: HAProxy's commands end with one."""
    lines = [line.strip() for text in (certificate, private_key) for line in text.splitlines()]
    return "".join(f"{line}\n" for line in lines if line)
