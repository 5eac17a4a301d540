"""A router and instances of a service on a Docker engine, as a stack would have them, for the tests of routes."""

from __future__ import annotations

import asyncio
import http.client
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from provider.resource import ResourceError
from provider.route import Route
from provider.router.container import (
    CONFIGURATION,
    RUNTIME,
    SOCKETS,
    STOP_SIGNAL,
    USER,
    command,
    control,
    health_command,
)
from provider.values import Properties
from tests.docker.engine import SECONDS, Docker
from tests.e2e.project import eventually
from tests.operations import context

CONTEXT = context("slipway:index:Route", "mnist", stack="test")
_HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--detach")


@dataclass
class Box:
    """One workspace on a host."""

    docker: Docker
    name: str
    image: str
    """Of services."""
    router_image: str
    made: list[str] = field(default_factory=list)

    @property
    def engine(self) -> dict[str, str]:
        """The connection, as resources are given it."""
        return {"host": self.docker.host or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"}

    @property
    def router(self) -> str:
        """Name of the router's container."""
        return f"{self.name}-router"

    def start_router(self) -> None:
        """Starts the router on the volumes, which are made with it."""
        options = f"uid={USER},gid={USER}"
        self.docker.run(
            *("volume", "create", "--driver=local", "--opt=type=tmpfs", "--opt=device=tmpfs"),
            *(f"--opt=o=size=1m,mode=3770,{options}", f"{self.name}-run"),
        )
        entry, *arguments = command()
        self.docker.run(
            *("run", *_HARDENED, f"--name={self.router}", "--network=host", f"--user={USER}:{USER}"),
            *(f"--tmpfs={RUNTIME}:mode=0770,{options}", f"--stop-signal={STOP_SIGNAL}"),
            *(f"--volume={self.name}-run:{SOCKETS}", f"--volume={self.name}-router:{CONFIGURATION}"),
            *(f"--entrypoint={entry}", self.router_image, *arguments),
        )
        eventually(self.router_lives, "the router")

    def router_lives(self) -> bool:
        """Whether HAProxy answers."""
        return self.docker.attempt("exec", self.router, *health_command()).returncode == 0

    def told(self, *arguments: str) -> str:
        """What one of the router's own commands prints."""
        return self.docker.run("exec", self.router, *control(*arguments))

    def start(self, revision: str, *options: str, variables: Mapping[str, str] | None = None) -> str:
        """Starts an instance; its container has the revision's name."""
        name = f"{self.name}-{revision}"
        told = {"SLIPWAY_REVISION": revision, "SLIPWAY_UNIX_SOCKET": socket_of(name), **(variables or {})}
        self.made.append(name)
        self.docker.run(
            *("run", *_HARDENED, f"--name={name}", "--network=none", f"--user=10123:{USER}"),
            *(f"--volume={self.name}-run:{SOCKETS}", "--tmpfs=/tmp"),
            *(f"--env={variable}={value}" for variable, value in told.items()),
            *options,
            self.image,
        )
        return name

    def serve(self, *revisions: str) -> None:
        """Starts instances and waits until they are ready."""
        names = [self.start(revision) for revision in revisions]
        for name in names:
            eventually(partial(self._is_ready, name), f"{name}: {self.log(name)}")

    def _is_ready(self, name: str) -> bool:
        return "ready to score" in self.log(name)

    def log(self, name: str) -> str:
        """What a container wrote."""
        done = self.docker.attempt("logs", name)
        return done.stdout + done.stderr

    def inputs(self, port: int, *deployments: Properties, service: str = "mnist", **more: Any) -> Properties:
        """A route's inputs."""
        return {
            "engine": self.engine,
            "router": self.router,
            "service": service,
            "port": port,
            "bind": "127.0.0.1",
            "deployments": list(deployments),
            **more,
        }

    def deployment(self, name: str, weight: int, *revisions: str) -> Properties:
        """A deployment on instances that are there; it is asked for the first one's revision."""
        sockets = [socket_of(f"{self.name}-{revision}") for revision in revisions]
        return {"name": name, "revision": revisions[0], "weight": weight, "sockets": sockets}


class Routed:
    """A route that is made, changed and removed, as Pulumi does it."""

    def __init__(self, inputs: Properties) -> None:
        self.resource = Route()
        self.id, self.state = asyncio.run(self._created(inputs))

    async def _created(self, inputs: Properties) -> tuple[str, Properties]:
        return await self.resource.create(CONTEXT, await self._checked(inputs))

    async def _checked(self, inputs: Properties) -> Properties:
        news, failures = await self.resource.check(CONTEXT, inputs)
        assert failures == []
        return news

    def update(self, inputs: Properties) -> None:
        """Changes it to other inputs."""

        async def change() -> Properties:
            return await self.resource.update(CONTEXT, self.id, self.state, await self._checked(inputs))

        self.state = asyncio.run(change())

    def drift(self) -> str | None:
        """What a refresh finds."""
        found = asyncio.run(self.resource.read(CONTEXT, self.id, self.state))
        assert found is not None
        drift: str | None = found["drift"]
        return drift

    def delete(self) -> None:
        """Removes it."""
        asyncio.run(self.resource.delete(CONTEXT, self.id, self.state))


def socket_of(container: str) -> str:
    """Where an instance listens."""
    return f"{SOCKETS}/{container}.sock"


@contextmanager
def workspace(docker: Docker, name: str, image: str, router_image: str) -> Iterator[Box]:
    """A workspace with a router, removed at the end."""
    box = Box(docker, name, image, router_image)
    try:
        box.start_router()
        yield box
    finally:
        docker.attempt("rm", "--force", "--volumes", box.router, *box.made)
        docker.attempt("volume", "rm", "--force", f"{name}-run", f"{name}-router")


@dataclass(frozen=True)
class Answered:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: str


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answered:
    """One request on a connection of its own."""
    if tls is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=SECONDS, context=tls)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answered(response.status, fields, response.read().decode())
    finally:
        connection.close()


def failure(inputs: Properties) -> str:
    """Why a route cannot be made."""
    try:
        Routed(inputs)
    except ResourceError as error:
        return str(error)
    raise AssertionError("the route was made")
