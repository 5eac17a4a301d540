"""Environments: which packages a service runs with. For processes on this machine a virtual environment is made from
the lock; images have the lock's packages as a layer.

The scoring server's own requirements are resolved together with the user's, so that a conflict is told when the
environment is made, and not when a service starts.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NotRequired, TypedDict

import pulumi

from components.base_image import BaseImage
from components.registry import Registry
from provider import sdk

if TYPE_CHECKING:
    from components.built_image import ImageBuild

SERVING: Final = Path(__file__).resolve().parents[1] / "serving"
"""The scoring server's distribution."""


def server_requirements() -> list[str]:
    """What the scoring server needs, from its own distribution."""
    document = tomllib.loads((SERVING / "pyproject.toml").read_text(encoding="utf-8"))
    requirements: list[str] = document["project"]["dependencies"]
    return requirements


class EnvironmentArgs(TypedDict):
    """Arguments of `Environment`."""

    home: pulumi.Input[str]
    """Folder of the workspace on this machine."""
    pip: Sequence[str]
    """Packages, as pip names them."""
    lock_file: str
    """Where the resolved packages are kept, with hashes; commit it with the stack."""
    python_version: NotRequired[str | None]
    """Python's version, `3.12`; by default the one that runs Slipway."""
    environment_variables: NotRequired[Mapping[str, str]]
    """Environment variables of the services that use it."""
    sources: NotRequired[Mapping[str, str]]
    """Requirement -> where it stands, for the words of a mistake."""
    torch_backend: NotRequired[str | None]
    """Which builds of PyTorch's packages to take, in uv's words (`cpu`); by default those of the index."""
    installed: NotRequired[bool]
    """Whether processes on this machine run in it; True where it is not given. Images need its lock alone."""
    build: NotRequired["ImageBuild | None"]
    """What Docker builds for it; only images can have it."""


class Environment(pulumi.ComponentResource):
    """An environment."""

    python: pulumi.Output[str]
    """Path of its interpreter; only of an installed one."""
    lock_file: str
    """Where its packages are locked."""
    lock_digest: pulumi.Output[str]
    """Digest of its locked packages."""
    environment_variables: Mapping[str, str]
    """Environment variables of the services that use it."""

    def __init__(self, name: str, args: EnvironmentArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:components:Environment", name, {}, opts)
        resource = sdk.PythonEnvironment(
            f"{name}-packages",
            {
                "workspace": args["home"],
                "requirements": [*server_requirements(), *args["pip"]],
                "lock_file": args["lock_file"],
                "python_version": args.get("python_version"),
                "sources": args.get("sources") or None,
                "torch_backend": args.get("torch_backend"),
                # Unset where it is the rule: one more property in every state would be noise in every diff.
                "installed": None if args.get("installed", True) else False,
            },
            pulumi.ResourceOptions(parent=self),
        )
        self.python = resource.python
        self.lock_file = args["lock_file"]
        self.lock_digest = resource.lock_digest
        self.environment_variables = args.get("environment_variables", {})
        self._name, self._build = name, args.get("build")
        self._images: dict[str, BaseImage] = {}
        self.register_outputs({"lockDigest": self.lock_digest})

    def upon(self, base: BaseImage, registry: Registry, platform: str) -> BaseImage:
        """What images with this environment begin with: `base`, or what is built on it in `registry`."""
        if self._build is None:
            return base
        if platform not in self._images:
            # Only here: a stack that builds nothing need not wait for it.
            from components.built_image import BuiltImage

            self._images[platform] = BuiltImage(
                f"{self._name}-{platform.rpartition('/')[2]}",
                {
                    "registry": registry,
                    "repository": f"environments/{_repository_name(self._name)}",
                    "base": base,
                    "build": self._build,
                    "platform": platform,
                },
                pulumi.ResourceOptions(parent=self),
            )
        return self._images[platform]


def _repository_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
