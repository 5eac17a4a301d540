"""docker.RegistryImage: an image of the engine, pushed to a registry."""

from __future__ import annotations

from typing import ClassVar

from airgap.docker import images
from airgap.docker.bridged import Bridged
from airgap.docker.connection import Auth, Connection, EngineError, host_of
from airgap.docker.schema import Schema, an_object, boolean, mapping, string
from provider.content.watch import Watch
from provider.location import Location
from provider.registry.errors import RegistryError
from provider.resource import Context, ResourceError
from provider.values import Properties


class RegistryImage(Bridged):
    """Its id is the digest. Building (`build`) is left to docker.Image."""

    token: ClassVar[str] = "docker:index/registryImage:RegistryImage"
    schema: ClassVar[Schema] = Schema(
        inputs={
            "authConfig": an_object(
                {
                    "address": string(required=True),
                    "password": string(required=True),
                    "username": string(required=True),
                },
                replaces=False,
            ),
            "insecureSkipVerify": boolean(default=False, replaces=False),
            "keepRemotely": boolean(default=False, replaces=False),
            "name": string(),
            "triggers": mapping(),
        },
        outputs=("sha256Digest",),
    )

    def create(self, connection: Connection, context: Context, news: Properties) -> tuple[str, Properties]:
        name = news["name"]
        if images.inspect(connection, name) is None:
            raise EngineError(f"there is no image {name} on {connection.host} to push: build or tag it first")
        digest = images.push(connection, name, _auth(connection, news))
        return self.made(connection, digest, news)

    def find(self, connection: Connection, resource_id: str, state: Properties) -> tuple[str, Properties] | None:
        name = state["name"]
        repository, tag = _place(name)
        location = _location(connection, state)
        try:
            found = location.registry(Watch()).repository(repository).find_manifest(tag)
        except RegistryError as error:
            raise ResourceError(f"the image {name} cannot be looked at: {error}") from error
        if found is None:
            return None
        return found.digest, {"name": name, "sha256Digest": found.digest}

    def delete(self, connection: Connection, resource_id: str, state: Properties) -> None:
        if state.get("keepRemotely"):
            return
        repository, _ = _place(state["name"])
        try:
            _location(connection, state).registry(Watch()).repository(repository).delete_manifest(state["sha256Digest"])
        except RegistryError as error:
            raise ResourceError(f"the image {state['name']} cannot be removed: {error}") from error


def _place(name: str) -> tuple[str, str]:
    """The repository within its registry, and the tag."""
    repository, tag = images.repository_and_tag(name)
    return repository.partition("/")[2], tag


def _location(connection: Connection, state: Properties) -> Location:
    auth = _auth(connection, state)
    host = images.registry_of(state["name"])
    return Location(host, auth.username or None, auth.password or None)


def _auth(connection: Connection, values: Properties) -> Auth:
    """The credentials for the registry, which the official plugin wants to have, if only as `authDisabled`."""
    name = values["name"]
    host = images.registry_of(name)
    if not host:
        raise ResourceError(f"{name} names no registry to push to, as in docker.io/{name}")
    given = values.get("authConfig")
    if given:
        return Auth(host_of(given["address"]), given["username"], given["password"])
    found = connection.auth_for(host)
    if found is None:
        raise ResourceError(
            f"no credentials for the registry {host} of {name}: set authConfig, or docker:registryAuth of the provider"
        )
    return found
