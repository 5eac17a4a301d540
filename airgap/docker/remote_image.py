"""docker.RemoteImage: an image that the engine pulls where it is missing."""

from __future__ import annotations

from typing import ClassVar

from airgap.docker import images, sdk
from airgap.docker.bridged import Bridged
from airgap.docker.connection import Connection, explained
from airgap.docker.schema import Schema, boolean, mapping, string, string_set
from provider.resource import Context
from provider.values import Properties


class RemoteImage(Bridged):
    """Its id is the image's with the name behind it. Building (`build`) is left to docker.Image."""

    token: ClassVar[str] = "docker:index/remoteImage:RemoteImage"
    schema: ClassVar[Schema] = Schema(
        inputs={
            "forceRemove": boolean(replaces=False),
            "keepLocally": boolean(replaces=False),
            "name": string(required=True),
            "platform": string(),
            "pullTriggers": string_set(),
            "triggers": mapping(),
        },
        outputs=("imageId", "repoDigest"),
        autonamed=False,
    )

    def create(self, connection: Connection, context: Context, news: Properties) -> tuple[str, Properties]:
        found = images.find(connection, news["name"], news.get("platform"))
        return self.made(connection, found["Id"] + news["name"], news)

    def find(self, connection: Connection, resource_id: str, state: Properties) -> tuple[str, Properties] | None:
        name = state.get("name") or resource_id[len("sha256:") + 64 :] or resource_id
        found = images.inspect(connection, name)
        if found is None:
            return None
        return found["Id"] + name, {
            "imageId": found["Id"],
            "name": name,
            "repoDigest": images.repo_digest(found, name),
        }

    def delete(self, connection: Connection, resource_id: str, state: Properties) -> None:
        if state.get("keepLocally"):
            return
        name = state["name"]
        try:
            connection.api.remove_image(name, force=bool(state.get("forceRemove")))
        except sdk.ImageNotFound:
            return
        except sdk.APIError as error:
            raise explained(f"the image {name} cannot be removed", error) from error
