"""A copy of the project whose service runs on a Docker host, with a registry of its own; driven as in `tests.e2e`."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from infra.setup import plugins
from tests.docker.engine import Docker
from tests.e2e.project import Project, free_port


class StagedProject(Project):
    """One stack, its containers on `docker`, its images below `images`."""

    def __init__(self, folder: Path, docker: Docker, images: Path) -> None:
        super().__init__(folder)
        self.docker = docker
        self.home.mkdir()
        (self.home / "images").symlink_to(images)
        stand_in = plugins.stand_in("docker")
        if stand_in is not None and not plugins.installed("docker", os.environ):
            self.environment["PATH"] += f"{os.pathsep}{stand_in}"
            self.stack.workspace.env_vars["PATH"] = self.environment["PATH"]
        self.sections["registry"] = {"kind": "service", "port": free_port()}
        self.sections["computeTargets"] = {"box": {"kind": "container", "host": host_of(docker), "bind": "127.0.0.1"}}
        self.service["computeTarget"] = "box"
        self.write()

    @property
    def deployment(self) -> dict[str, Any]:
        """What the service gets, to be changed before `write`."""
        deployment: dict[str, Any] = self.service["deployment"]
        return deployment

    def containers(self, *filters: str) -> list[str]:
        """Names of the workspace's containers, stopped ones too, without the router's."""
        chosen = [f"--filter=label={item}" for item in ("slipway.workspace=demo", "slipway.service", *filters)]
        return self.docker.run("ps", "--all", "--format={{.Names}}", *chosen).split()

    def left(self) -> dict[str, list[str]]:
        """What is on the host of the workspace, images by the registry's address."""
        workspace = "--filter=label=slipway.workspace=demo"
        return {
            "containers": self.docker.run("ps", "--all", "--format={{.Names}}", workspace).split(),
            "volumes": self.docker.run("volume", "ls", "--quiet", workspace).split(),
            "networks": self.docker.run("network", "ls", "--format={{.Name}}", workspace).split(),
            "images": [
                image
                for image in self.docker.run("image", "ls", "--format={{.Repository}}").split()
                if f":{self.sections['registry']['port']}/" in image
            ],
            "files": [str(file) for file in self.files() if "images" not in file.relative_to(self.home).parts],
        }


def host_of(docker: Docker) -> str:
    """The address of an engine as a target has it."""
    return docker.host or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def send(url: str, body: Any, key: str | None = None, authority: str | None = None, **headers: str) -> tuple[int, Any]:
    """Posts JSON; status and answer. `authority`: the certificate (PEM) to trust."""
    context = None if authority is None else ssl.create_default_context(cadata=authority)
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if key is not None:
        sent["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), sent)
    try:
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
