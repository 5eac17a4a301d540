"""Environments as images, built by a real engine: packages, steps and secrets."""

from __future__ import annotations

import gc
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pulumi
import pytest

from components.built_image import BuiltImage, ImageBuild
from tests.docker.engine import Docker
from tests.docker.programs import Program, path_with_plugin
from tests.e2e.project import Project
from tests.ports import free_port

SECRET = "token-that-nobody-may-see"
IMPORTS = "import slipway_serving; print(slipway_serving.__name__)"
APT_GET = '#!/bin/sh\necho "$@" >> /apt-get.log\n'
"""In the place of Debian's: what it is asked to do is what counts here."""


# Pulumi's server for programs inside this process leaves the sockets of its event loop to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def base(docker: Docker, address: str, base: str, tmp_path: Path) -> str:
    """The reference of a base image whose `apt-get` writes down what it is asked."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "apt-get").write_text(APT_GET)
    (folder / "apt-get").chmod(0o755)
    (folder / "Dockerfile").write_text(f"FROM {address}/{base}\nCOPY apt-get /usr/bin/apt-get\nUSER 65532\n")
    tag = f"{address}/base/asked:{secrets.token_hex(4)}"
    docker.run("build", "--quiet", "--tag", tag, str(folder))
    docker.run("push", "--quiet", tag)
    digests = docker.run("inspect", "--format", "{{range .RepoDigests}}{{println .}}{{end}}", tag).split()
    # An engine that was there before knows the image from registries of other runs as well.
    return next(digest for digest in digests if digest.startswith(f"{address}/"))


@pytest.fixture
def program(tmp_path: Path, docker: Docker) -> Iterator[Program]:
    running = Program(tmp_path / "stack", docker.host)
    yield running
    running.destroy()
    gc.collect()  # of failed programs too, while their warnings are expected


def built(
    address: str, base: str, name: str, *, hidden: Mapping[str, str] = MappingProxyType({}), **build: Any
) -> Callable[[], Any]:
    """A program with the image of one environment."""

    def declare() -> None:
        registry: Any = SimpleNamespace(
            prefix="", location=pulumi.Output.from_input(address), username=None, password=None
        )
        there = pulumi.ComponentResource("test:Base", "base")
        image: Any = SimpleNamespace(reference=pulumi.Output.from_input(base), made=there)
        given = {key: pulumi.Output.secret(value) for key, value in hidden.items()}
        made = BuiltImage(
            "mine",
            {
                "registry": registry,
                "repository": f"environments/{name}",
                "base": image,
                "build": ImageBuild(secrets=given, **build),
                "platform": "linux/amd64",
            },
        )
        pulumi.export("reference", made.reference)
        pulumi.export("base", made.base)

    return declare


@pytest.fixture
def name() -> str:
    return f"mine-{secrets.token_hex(4)}"


def output(program: Program, key: str) -> str:
    return str(program.stack.outputs()[key].value)


def test_packages_and_steps_are_in_the_image(
    program: Program, docker: Docker, address: str, base: str, name: str
) -> None:
    steps = ["echo one > /steps", 'echo "$(id -u)" >> /steps']
    program.up(built(address, base, name, apt_packages=["libgomp1", "curl"], steps=steps))

    reference = output(program, "reference")
    assert output(program, "base") == reference.removeprefix(f"{address}/")
    asked = docker.run("run", "--rm", reference, "cat", "/apt-get.log").splitlines()
    assert asked == ["update", "install --yes --no-install-recommends libgomp1 curl"]
    assert docker.run("run", "--rm", reference, "cat", "/steps") == "one\n0"


def test_second_deployment_changes_nothing(program: Program, address: str, base: str, name: str) -> None:
    program.up(built(address, base, name, steps=["echo one > /steps"]))

    assert set(program.preview(built(address, base, name, steps=["echo one > /steps"]))) == {"same"}
    assert program.steps(built(address, base, name, steps=["echo two > /steps"])) == {"mine-image": "update"}


def test_failing_step_is_named(program: Program, address: str, base: str, name: str) -> None:
    with pytest.raises(Exception, match="no luck today"):
        program.up(built(address, base, name, steps=["echo no luck today; exit 3", "echo never"]))


def test_secret_is_there_for_steps_and_nowhere_after(
    program: Program, docker: Docker, address: str, base: str, name: str, tmp_path: Path
) -> None:
    steps = ["wc -c < /run/secrets/token > /count"]
    program.up(built(address, base, name, steps=steps, hidden={"token": SECRET}))

    reference = output(program, "reference")
    assert docker.run("run", "--rm", reference, "cat", "/count") == str(len(SECRET))
    assert SECRET not in docker.run("history", "--no-trunc", reference)
    archive = tmp_path / "image.tar"
    docker.run("save", "--output", str(archive), reference)
    assert SECRET.encode() not in archive.read_bytes()
    assert docker.attempt("run", "--rm", reference, "ls", "/secrets").returncode != 0


def test_dockerfile_of_the_user_is_built(
    program: Program, docker: Docker, address: str, base: str, name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "note.txt").write_text("mine")
    (folder / "Dockerfile").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY note.txt /note.txt\n")

    program.up(built(address, base, name, dockerfile=str(folder / "Dockerfile")))

    assert docker.run("run", "--rm", output(program, "reference"), "cat", "/note.txt") == "mine"


@pytest.fixture
def project(tmp_path: Path, docker: Docker, base: str) -> Iterator[Project]:
    """A stack with an image that is built from an environment with a step."""
    (tmp_path / "whole").mkdir()
    made = Project(tmp_path / "whole")
    made.environment["PATH"] = path_with_plugin(made.environment["PATH"])
    if docker.host is not None:
        made.environment["DOCKER_HOST"] = docker.host
    made.stack.workspace.env_vars.update(made.environment)
    inference = {"entryScript": "score.py", "sourceDirectory": "src", "environment": "mine"}
    made.sections = {
        "workspace": {"name": "demo"},
        "registry": {"kind": "service", "port": free_port()},  # which wants to know who pulls and pushes
        "images": {"python": base, "pythonVersion": "3.11"},
        "environments": {"mine": {"dockerSteps": ["echo one > /steps"]}},
        "packages": {"app": {"inference": inference}},
    }
    made.write()
    yield made
    made.clear()


def test_images_of_services_are_put_on_what_docker_built(project: Project, docker: Docker, tmp_path: Path) -> None:
    def app() -> str:
        """The image, which the engine has pulled."""
        outputs = project.stack.outputs()
        registry, image = outputs["registry"].value, str(outputs["packages"].value["app"]["image"])
        host = registry["location"]
        own = ("--config", str(tmp_path / "docker"))  # not the user's
        docker.run(*own, "login", "--username", registry["username"], "--password", registry["password"], host)
        docker.run(*own, "pull", "--quiet", image)
        return image

    project.up()
    first = app()
    assert docker.run("run", "--rm", "--entrypoint", "cat", first, "/steps") == "one"
    assert "slipway_serving" in docker.run("run", "--rm", "--entrypoint", "python3", first, "-c", IMPORTS)
    assert project.up() == {}

    project.sections["environments"]["mine"]["dockerSteps"] = ["echo two > /steps"]
    project.write()
    project.up()

    second = app()
    assert second != first
    assert docker.run("run", "--rm", "--entrypoint", "cat", second, "/steps") == "two"
