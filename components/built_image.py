"""An environment as an image that Docker builds: with Debian packages, steps of its own, or a Dockerfile.

The layers of packages, models and code are put on it without Docker, as on any base image. Secrets of a build are in a
stage that no image keeps.
"""

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypedDict

import pulumi
import pulumi_docker as docker

from components.base_image import BaseImage
from components.registry import Registry

_FOLDER: Final = Path(__file__).resolve().parent / "dockerfiles" / "environment"
BASE_IMAGE: Final = "BASE_IMAGE"
"""The build argument that a Dockerfile begins with: `ARG BASE_IMAGE`, `FROM ${BASE_IMAGE}`."""


@dataclass(frozen=True)
class ImageBuild:
    """What is built on a base image."""

    dockerfile: str | None = None
    """A Dockerfile in place of what follows; its folder is the build's context."""
    apt_packages: Sequence[str] = ()
    """Debian packages to install."""
    steps: Sequence[str] = ()
    """Shell commands to run as root, in order."""
    secrets: Mapping[str, pulumi.Output[str]] = field(default_factory=dict)
    """Secrets: files below /run/secrets, for a Dockerfile build arguments."""


class BuiltImageArgs(TypedDict):
    """Arguments of `BuiltImage`."""

    registry: Registry
    """Where it goes."""
    repository: str
    """Its repository there."""
    base: BaseImage
    """What it begins with."""
    build: ImageBuild
    """What is added."""
    platform: str
    """`linux/amd64` or `linux/arm64`."""


class BuiltImage(pulumi.ComponentResource):
    """An environment's image."""

    base: pulumi.Output[str]
    """As images are built on it: REPOSITORY@DIGEST; not known before it is built."""
    reference: pulumi.Output[str]
    """As a container runtime names it: HOST/REPOSITORY@DIGEST."""
    made: pulumi.Resource
    """What has to be there before anything is built on it."""

    def __init__(self, name: str, args: BuiltImageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:components:BuiltImage", name, {}, opts)
        registry, build = args["registry"], args["build"]
        repository = registry.prefix + args["repository"]
        dockerfile = build.dockerfile or str(_FOLDER / "Dockerfile")
        image = docker.Image(
            f"{name}-image",
            image_name=pulumi.Output.concat(
                registry.location, "/", repository, ":", args["platform"].rpartition("/")[2]
            ),
            build=docker.DockerBuildArgs(
                context=_from_here(str(Path(dockerfile).parent)),
                dockerfile=_from_here(dockerfile),
                args={BASE_IMAGE: args["base"].reference, **_arguments(build)},
                platform=args["platform"],
            ),
            registry=docker.RegistryArgs(
                server=registry.location.apply(_host), username=registry.username, password=registry.password
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[args["base"].made]),
        )
        self.reference = image.repo_digest
        digest = image.repo_digest.apply(lambda reference: reference.rpartition("@")[2])
        self.base = pulumi.Output.concat(repository, "@", digest)
        self.made = image
        self.register_outputs({"reference": self.reference})


def _arguments(build: ImageBuild) -> dict[str, pulumi.Input[str]]:
    if build.dockerfile is not None:
        return dict(build.secrets)
    arguments: dict[str, pulumi.Input[str]] = {
        "APT_PACKAGES": " ".join(build.apt_packages),
        "STEPS": "\n".join(build.steps),
    }
    if build.secrets:
        arguments["SECRETS"] = pulumi.Output.all(**build.secrets).apply(_lines)
    return {name: value for name, value in arguments.items() if value != ""}


def _lines(secrets: Mapping[str, str]) -> str:
    """One line for each secret: its name and, in base64, its value."""
    return "".join(f"{name} {base64.b64encode(value.encode()).decode()}\n" for name, value in sorted(secrets.items()))


def _from_here(path: str) -> str:
    """`path` as seen from the program: the same in every checkout, where it is in the checkout."""
    return os.path.relpath(path)


def _host(address: str) -> str:
    return address.partition("/")[0]
