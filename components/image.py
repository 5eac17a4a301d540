"""Images: the base image that services begin with, and images of services, put together without a daemon.

Whatever runs containers asks here for an image of its service; `reference` and `revision` are known in a preview where
the inputs are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import pulumi

from components.base_image import BaseImage
from components.environment import SERVING, Environment
from components.model import ServedModel, repositories_of
from components.registry import Registry
from provider import sdk

DEFAULT_PLATFORM = "linux/amd64"
DEFAULT_PORT = 5001
"""As in Azure's images."""


@dataclass(frozen=True)
class ImageSource:
    """An image in the place that it is copied from."""

    location: str
    """An OCI image layout (absolute path), or a registry's address."""
    repository: str
    digest: str
    """Of the image, or of an index with one for each platform."""
    username: str | None = None
    """User at that registry, where it asks for one."""
    password: pulumi.Input[str] | None = None
    """The user's password, a secret."""


class CopiedImageArgs(TypedDict):
    """Arguments of `CopiedImage`."""

    source: ImageSource
    """What is copied."""
    registry: Registry
    """Where it goes."""
    repository: str
    """Its repository there."""


class CopiedImage(pulumi.ComponentResource):
    """An image of others in the workspace's registry, by digest."""

    repository: str
    """Where it is in the registry."""
    digest: str
    """Its digest, the same as at its source."""
    reference: pulumi.Output[str]
    """As a container runtime names it: HOST/REPOSITORY@DIGEST."""
    base: pulumi.Output[str]
    """As images are built on it: REPOSITORY@DIGEST, once it is there."""
    made: pulumi.Resource
    """What has to be there before anything is built on it."""

    def __init__(self, name: str, args: CopiedImageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:components:CopiedImage", name, {}, opts)
        source, registry = args["source"], args["registry"]
        self.repository, self.digest = registry.prefix + args["repository"], source.digest
        copy = sdk.MirroredImage(
            f"{name}-copy",
            {
                "source": source.location,
                "source_repository": source.repository,
                "source_username": source.username,
                "source_password": source.password,
                "digest": source.digest,
                "registry": registry.location,
                "repository": self.repository,
                "username": registry.username,
                "password": registry.password,
                "ca_certificate": registry.ca_certificate,
                "port_forward": registry.port_forward,
                "parallel": registry.parallel,
            },
            registry.options_inside(self),
        )
        self.reference = copy.reference
        # What is built on it waits for the copy, also where it is made anew; its name is known before.
        self.base = pulumi.Output.concat(self.repository, "@", source.digest)
        self.made = copy
        self.register_outputs({"reference": self.reference})


class ServiceImageArgs(TypedDict):
    """Arguments of `ServiceImage`."""

    service: str
    """Name of the service, a DNS label."""
    registry: Registry
    """Where it goes."""
    repository: str
    """Its repository there; no other service has it: `services/NAME`."""
    base: BaseImage
    """The image to begin with, which has Python."""
    python_version: str
    """The base image's Python, `3.11`."""
    environment: Environment
    """Its packages."""
    models: Sequence[ServedModel]
    """Its models."""
    entry_script: str
    """The script with `init()` and `run()`, relative to the source directory."""
    source_directory: str
    """Folder with the script and all it imports."""
    environment_variables: NotRequired[Mapping[str, str]]
    """Environment variables in the image; none where whatever runs it sets them."""
    platform: NotRequired[str]
    """`linux/amd64` (by default) or `linux/arm64`."""
    port: NotRequired[int]
    """TCP port that it listens on in its container; 5001 (Azure's) where it is not given."""


class ServiceImage(pulumi.ComponentResource):
    """The image of a service."""

    reference: pulumi.Output[str]
    """As a container runtime names it: HOST/REPOSITORY@DIGEST."""
    revision: pulumi.Output[str]
    """Names what it is made from."""
    digest: pulumi.Output[str]
    """Digest of its manifest."""

    def __init__(self, name: str, args: ServiceImageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:components:ServiceImage", name, {}, opts)
        registry, platform = args["registry"], args.get("platform", DEFAULT_PLATFORM)
        base = args["environment"].upon(args["base"], registry, platform)
        image = sdk.ServiceImage(
            f"{name}-image",
            {
                "registry": registry.location,
                "repository": registry.prefix + args["repository"],
                "username": registry.username,
                "password": registry.password,
                "ca_certificate": registry.ca_certificate,
                "port_forward": registry.port_forward,
                "parallel": registry.parallel,
                "name": args["service"],
                "base": base.base,
                "platform": platform,
                "python_version": args["python_version"],
                "lock_file": args["environment"].lock_file,
                "environment_digest": args["environment"].lock_digest,
                "server_directory": str(SERVING / "slipway_serving"),
                "models": [model.reference for model in args["models"]],
                "model_repositories": repositories_of(args["models"]),
                "model_layout": registry.location if registry.kind == "layout" else None,
                "source_directory": args["source_directory"],
                "entry_script": args["entry_script"],
                "environment_variables": args.get("environment_variables") or None,
                "port": args.get("port", DEFAULT_PORT),
            },
            registry.options_inside(self, depends_on=[base.made]),
        )
        self.reference, self.revision, self.digest = image.reference, image.revision, image.digest
        self.register_outputs({"reference": self.reference, "revision": self.revision})
