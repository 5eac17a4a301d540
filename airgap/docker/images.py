"""Images of the engine: found, pulled where they are missing, pushed."""

from __future__ import annotations

from typing import Any

from airgap.docker import sdk
from airgap.docker.connection import Auth, Connection, EngineError, explained
from provider.resource import ResourceError


def registry_of(image: str) -> str:
    """The host of the registry that an image's name names, "" for none: the first part, where it looks like a host."""
    first, slash, _ = image.partition("/")
    return first if slash and (any(mark in first for mark in ".:") or first == "localhost") else ""


def repository_and_tag(image: str) -> tuple[str, str]:
    """`host/repo:tag` as (`host/repo`, `tag`); a digest counts as a tag, and no tag as `latest`."""
    repository, at, digest = image.partition("@")
    if at:
        return _without_tag(repository), digest
    bare = _without_tag(image)
    return bare, image[len(bare) + 1 :] or "latest"


def _without_tag(name: str) -> str:
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def find(connection: Connection, image: str, platform: str | None = None) -> dict[str, Any]:
    """What the engine says of `image`, which is pulled where it is not there. Raises EngineError."""
    found = inspect(connection, image)
    if found is None:
        pull(connection, image, platform)
        found = inspect(connection, image)
    if found is None:
        raise EngineError(f"the image {image} is neither on {connection.host} nor could it be pulled")
    return found


def inspect(connection: Connection, image: str) -> dict[str, Any] | None:
    """What the engine says of `image`; None where it has none of that name."""
    if not image:
        raise ResourceError("the name of an image is empty")
    try:
        api: Any = connection.api
        found: dict[str, Any] = api.inspect_image(image)
    except sdk.ImageNotFound:
        return None
    except sdk.APIError as error:
        raise explained(f"the image {image} cannot be looked at", error) from error
    return found


def pull(connection: Connection, image: str, platform: str | None = None) -> None:
    """Pulls `image` with the credentials of the configuration. Raises EngineError."""
    repository, tag = repository_and_tag(image)
    auth = connection.auth_for(registry_of(image) or "index.docker.io")
    what = f"the image {image} cannot be pulled to {connection.host}"
    try:
        lines = connection.api.pull(
            repository,
            tag=tag,
            stream=True,
            decode=True,
            platform=platform,
            auth_config=auth.header if auth else {"username": "", "password": ""},
        )
        _followed(lines, what)
    except sdk.APIError as error:
        raise explained(what, error) from error


def push(connection: Connection, image: str, auth: Auth | None) -> str:
    """Pushes `image` to the registry in its name; returns the digest it has there. Raises EngineError."""
    repository, tag = repository_and_tag(image)
    what = f"the image {image} cannot be pushed"
    try:
        lines = connection.api.push(
            repository,
            tag=tag,
            stream=True,
            decode=True,
            auth_config=auth.header if auth else {"username": "", "password": ""},
        )
        pushed = _followed(lines, what)
    except sdk.APIError as error:
        raise explained(what, error) from error
    if not pushed:
        raise EngineError(f"{what}: the engine did not say under which digest")
    return pushed


def _followed(lines: Any, what: str) -> str:
    """Reads the progress that the engine reports to its end; returns the digest in it, "" for none."""
    digest = ""
    for line in lines:
        if "error" in line:
            raise EngineError(f"{what}: {line['error']}")
        digest = (line.get("aux") or {}).get("Digest") or digest
    return digest


def repo_digest(found: dict[str, Any], image: str) -> str:
    """The reference `repository@digest` of an image for the repository in the name `image`; "" where there is none."""
    repository, _ = repository_and_tag(image)
    digests = found.get("RepoDigests") or []
    return next((str(digest) for digest in digests if digest.partition("@")[0] == repository), "")
