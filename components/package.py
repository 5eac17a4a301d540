"""Packages: images that serve models, made and not deployed. Azure's `Model.package()`."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import pulumi

from components.environment import Environment
from components.image import CopiedImage, ServiceImage
from components.model import ServedModel
from components.registry import Registry
from provider import sdk


class PackageArgs(TypedDict):
    """Arguments of `Package`."""

    name: str
    """Name of the package, a DNS label; its repository is `packages/NAME`."""
    registry: Registry
    """Where it goes."""
    base: CopiedImage
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
    platforms: Sequence[str]
    """What it is made for: `linux/amd64`, `linux/arm64`, or both."""


class Package(pulumi.ComponentResource):
    """An image that serves models; for several platforms an index of one image for each."""

    reference: pulumi.Output[str]
    """As a container runtime names it: HOST/REPOSITORY@DIGEST."""
    revision: pulumi.Output[str]
    """Names what it is made from."""
    digest: pulumi.Output[str]
    """Its digest."""

    def __init__(self, name: str, args: PackageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:components:Package", name, {}, opts)
        repository = f"packages/{args['name']}"
        images = {platform: self._image(name, args, repository, platform) for platform in args["platforms"]}
        made: ServiceImage | sdk.ImageIndex = next(iter(images.values()))
        if len(images) > 1:
            made = self._index(name, args["registry"], repository, images)
        self.reference, self.revision, self.digest = made.reference, made.revision, made.digest
        self.register_outputs({"reference": self.reference, "revision": self.revision})

    def _image(self, name: str, args: PackageArgs, repository: str, platform: str) -> ServiceImage:
        return ServiceImage(
            f"{name}-{platform.rpartition('/')[2]}",
            {
                "service": args["name"],
                "registry": args["registry"],
                "repository": repository,
                "base": args["base"],
                "python_version": args["python_version"],
                "environment": args["environment"],
                "models": args["models"],
                "entry_script": args["entry_script"],
                "source_directory": args["source_directory"],
                # Whoever runs a package knows nothing of its environment.
                "environment_variables": args["environment"].environment_variables,
                "platform": platform,
            },
            pulumi.ResourceOptions(parent=self),
        )

    def _index(
        self, name: str, registry: Registry, repository: str, images: Mapping[str, ServiceImage]
    ) -> sdk.ImageIndex:
        return sdk.ImageIndex(
            f"{name}-index",
            {
                "registry": registry.location,
                "repository": registry.prefix + repository,
                "images": [
                    {"platform": platform, "digest": image.digest, "revision": image.revision}
                    for platform, image in images.items()
                ],
                "username": registry.username,
                "password": registry.password,
                "ca_certificate": registry.ca_certificate,
                "port_forward": registry.port_forward,
                "parallel": registry.parallel,
            },
            registry.options_inside(self),
        )
