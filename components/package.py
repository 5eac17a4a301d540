"""Packages: images that serve models, made and not deployed. Azure's `Model.package()`."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import pulumi

from components.environment import Environment
from components.image import CopiedImage, ServiceImage
from components.model import ServedModel
from components.registry import Registry


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
    """An image that serves models, one for each platform."""

    images: Mapping[str, ServiceImage]
    """By platform."""

    def __init__(self, name: str, args: PackageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:components:Package", name, {}, opts)
        self.images = {
            platform: ServiceImage(
                f"{name}-{platform.rpartition('/')[2]}",
                {
                    "service": args["name"],
                    "registry": args["registry"],
                    "repository": f"packages/{args['name']}",
                    "base": args["base"],
                    "python_version": args["python_version"],
                    "environment": args["environment"],
                    "models": args["models"],
                    "entry_script": args["entry_script"],
                    "source_directory": args["source_directory"],
                    "platform": platform,
                },
                pulumi.ResourceOptions(parent=self),
            )
            for platform in args["platforms"]
        }
        self.register_outputs({platform: image.reference for platform, image in self.images.items()})
