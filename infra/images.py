"""The images of others that a stack's own are made with: named by the configuration, or made on this machine before.

Where no registry can be reached, `python -m airgap.images` makes them and says what they are in `images.json`, beside
the OCI image layout that holds them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from infra.config.images import Images, parts_of
from infra.plan import ImagePlan

Name = Literal["python", "router"]

_FOR = {"python": "docker.io/library/python:3.12-slim@sha256:...", "router": "docker.io/library/haproxy:3.2@sha256:..."}


class ImageFinder:
    """Finds the images that something needs. `folder` is where those made on this machine are."""

    def __init__(self, images: Images, folder: Path, report: Callable[[str, str], None]) -> None:
        self._images, self._folder, self._report = images, folder, report

    def find(self, name: Name, needed_by: str) -> ImagePlan | None:
        """The image `name`; None, and the mistake reported, where there is none. `needed_by` is for the words."""
        reference = self._images.python if name == "python" else self._images.router
        if reference is not None:
            return self._named(name, reference)
        file = self._folder / "images.json"
        try:
            entry = json.loads(file.read_text(encoding="utf-8"))[name]
            return ImagePlan(
                location=str(self._folder / "layout"),
                repository=str(entry["repository"]),
                digest=str(entry["digest"]),
                python_version=_minor(str(entry["pythonVersion"])) if name == "python" else None,
                platforms=tuple(entry["platforms"]),
            )
        except (FileNotFoundError, NotADirectoryError):
            what = "is not set"
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
            what = f"is not set, and {file} does not tell of one ({error!r})"
        self._report(
            f"images.{name}",
            f"{what}, and {needed_by} needs it: name one by its digest (`{name}: {_FOR[name]}`), or make one on this "
            f"machine: `python -m airgap.images`",
        )
        return None

    def _named(self, name: Name, reference: str) -> ImagePlan | None:
        host, repository, tag, digest = parts_of(reference)
        version = self._images.python_version
        if name == "python" and version is None:
            version = _minor(tag or "")
            if version is None:
                self._report("images.pythonVersion", f'is missing: {reference} does not tell its Python; add "3.12"')
                return None
        return ImagePlan(
            location=self._images.mirror or host,
            repository=repository,
            digest=digest,
            python_version=version if name == "python" else None,
            platforms=None,
            username=self._images.username,
            password=self._images.password,
        )


def _minor(text: str) -> str | None:
    """`3.12` of `3.12.4` and of `3.12-slim`."""
    match = re.match(r"3\.\d+", text)
    return None if match is None else match[0]


def platform_mistake(image: ImagePlan, platform: str) -> str | None:
    """Why the image does not do for `platform`, where that is known before it is looked at."""
    if image.platforms is None or platform in image.platforms:
        return None
    return (
        f"the base image that was made on this machine is for {', '.join(image.platforms)}; set images.python to one "
        f"for {platform} as well"
    )


def version_mistake(image: ImagePlan, version: str | None, environment: str) -> str | None:
    """Why the packages of an environment do not do for the base image."""
    if version is None or version == image.python_version:
        return None
    return (
        f"the environment {environment!r} has pythonVersion {version}, and the base image has Python "
        f"{image.python_version}; change one of them (images.python, environments.{environment}.pythonVersion)"
    )
