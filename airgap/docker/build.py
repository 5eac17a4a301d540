"""Builds an image with BuildKit, through the `docker` command: the engine's API has no BuildKit without its client.

Build arguments and credentials reach it by its environment and a configuration of its own, never by its command line,
where anybody on the machine could read them.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

from airgap.docker.connection import Auth, Connection
from provider import scratch
from provider.resource import Context, ResourceError

_LAST_LINES = 25
_VERSION = re.compile(r"version (\d+)\.")
_LAST_WITH_BUILDKIT = 22
"""Later versions of the command leave BuildKit to the plugin buildx."""


@dataclass(frozen=True)
class Build:
    """What to build."""

    tag: str
    context: str
    dockerfile: str
    arguments: Mapping[str, str] = field(default_factory=dict, repr=False)
    target: str | None = None
    platform: str | None = None
    network: str | None = None
    hosts: Sequence[str] = ()
    cache_from: Sequence[str] = ()
    buildkit: bool = True

    @property
    def command(self) -> list[str]:
        """The command without the program."""
        command = ["build", "--tag", self.tag, "--file", self.dockerfile]
        if self.buildkit:
            command += ["--progress", "plain"]
        for option, value in (("target", self.target), ("platform", self.platform), ("network", self.network)):
            if value:
                command += [f"--{option}", value]
        for host in self.hosts:
            command += ["--add-host", host]
        for image in self.cache_from:
            command += ["--cache-from", image]
        for name in sorted(self.arguments):
            command += ["--build-arg", name]
        return [*command, self.context]


def run(build: Build, connection: Connection, auths: Sequence[Auth], context: Context) -> None:
    """Builds; what it prints is progress. Raises ResourceError with its last lines."""
    program = docker_program(os.environ.get("PATH", os.defpath)) if build.buildkit else "docker"
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with _environment(build, connection, auths) as environment:
        process = subprocess.Popen(
            [program, *build.command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        with process:
            assert process.stdout is not None  # noqa: S101
            for line in process.stdout:
                if context.cancelled.is_set():
                    process.terminate()
                if line.strip():
                    last.append(line.rstrip())
                    context.log.status(line.strip())
    if context.cancelled.is_set():
        raise ResourceError(f"the build of {build.tag} was cancelled")
    if process.returncode != 0:
        said = "".join(f"\n    {line}" for line in last) or "\n    (nothing)"
        raise ResourceError(f"the build of {build.tag} from {build.dockerfile} failed. What it said last:{said}")


@contextmanager
def _environment(build: Build, connection: Connection, auths: Sequence[Auth]) -> Iterator[dict[str, str]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    environment |= {"DOCKER_HOST": connection.url, "DOCKER_BUILDKIT": "1" if build.buildkit else "0"}
    environment |= build.arguments
    folder = scratch.folder("build")
    try:
        stored = {auth.address: {"auth": _encoded(auth)} for auth in auths if auth.username}
        (folder / "config.json").write_text(json.dumps({"auths": stored}))
        environment["DOCKER_CONFIG"] = str(folder)
        if connection.tls_files:
            environment |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(folder)}
            for name, path in connection.tls_files.items():
                shutil.copy(path, folder / f"{name}.pem")
        yield environment
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _encoded(auth: Auth) -> str:
    return base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()


@cache
def docker_program(path: str) -> str:
    """The first `docker` on `path` that can build with BuildKit. Raises ResourceError."""
    found = []
    for directory in path.split(os.pathsep):
        program = shutil.which("docker", path=directory)
        if program is None or program in found:
            continue
        if _has_buildkit(program):
            return program
        found.append(program)
    if not found:
        raise ResourceError(
            "docker is missing, which builds images: apt-get install --no-install-recommends docker.io (or docker-cli)"
        )
    raise ResourceError(
        f"{', '.join(found)} cannot build with BuildKit, because the plugin buildx is missing: "
        "apt-get install docker-buildx (Docker's own packages: docker-buildx-plugin)"
    )


def _has_buildkit(program: str) -> bool:
    answer = _output(program, "--version")
    version = _VERSION.search(answer)
    if version is not None and int(version[1]) <= _LAST_WITH_BUILDKIT:
        return True
    return "buildx" in _output(program, "buildx", "version")


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=60)
    return done.stdout if done.returncode == 0 else ""
