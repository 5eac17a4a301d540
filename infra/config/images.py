"""The section `images`: the images of others that a stack's own are made with."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from infra.config.base import Secret, Section

_REFERENCE = re.compile(r"(?P<name>[^\s@]+?)(?::(?P<tag>[\w][\w.-]{0,127}))?@(?P<digest>sha256:[0-9a-f]{64})")


def _image(text: str) -> str:
    if _REFERENCE.fullmatch(text) is None:
        raise ValueError(
            f"{text!r} must name an image by its digest: HOST/REPOSITORY:TAG@sha256:... (`docker buildx imagetools "
            f"inspect` tells the digest of a tag)"
        )
    return text


def _prefix(text: str) -> str:
    from provider.registry.address import parse  # only here: most stacks have no mirror
    from provider.registry.errors import RegistryError

    try:
        parse(text)
    except RegistryError as error:
        raise ValueError(str(error)) from None
    return text


ImageReference = Annotated[str, AfterValidator(_image)]


class Images(Section):
    """The images of others that a stack's own are made with, by digest."""

    python: ImageReference | None = None
    """The image with Python that services' images begin with: `docker.io/library/python:3.12-slim@sha256:...`."""
    python_version: Annotated[str, Field(pattern=r"^3\.\d+$")] | None = None
    """Its Python, `"3.12"` (in quotes), where its tag does not say so."""
    router: ImageReference | None = None
    """The image with HAProxy that routers run."""
    mirror: Annotated[str, AfterValidator(_prefix)] | None = None
    """Where these are fetched instead of their own registries: HOST[:PORT][/PATH]."""
    username: Annotated[str, Field(min_length=1)] | None = None
    """User name at the mirror, where it asks for one."""
    password: Secret | None = None
    """Password or token there, as `{secret: NAME}`."""

    @model_validator(mode="after")
    def _what_goes_together(self) -> Self:
        if self.python is None and self.python_version is not None:
            raise ValueError("has a pythonVersion, and no `python` that it would be of; add it, or remove this")
        if self.mirror is not None and self.python is None and self.router is None:
            raise ValueError("has a `mirror`, and no image that would be fetched from it; add `python` or `router`")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together: give both, or none")
        if self.username is not None and self.mirror is None:
            raise ValueError(
                "has a username, and no `mirror` that it would be sent to; add it, or remove the credentials"
            )
        return self


def parts_of(reference: ImageReference) -> tuple[str, str, str | None, str]:
    """Host, repository, tag and digest of an image. Docker Hub's short names are as `docker pull` takes them."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ValueError(reference)
    host, _, repository = match["name"].partition("/")
    if not repository or not ("." in host or ":" in host or host == "localhost"):
        host, repository = "docker.io", match["name"]
    if host == "docker.io" and "/" not in repository:
        repository = f"library/{repository}"
    return host, repository, match["tag"], match["digest"]
