"""docker.Volume: a volume of the engine."""

from __future__ import annotations

from typing import ClassVar

from airgap.docker import sdk, waiting
from airgap.docker.bridged import Bridged
from airgap.docker.connection import Connection, explained
from airgap.docker.network import labels_from_engine, labels_to_engine
from airgap.docker.schema import LABELS, Schema, mapping, object_set, string
from provider.resource import Context
from provider.values import Properties


class Volume(Bridged):
    """Every change needs a new one. A swarm's volumes (`cluster`) are left to the official plugin."""

    token: ClassVar[str] = "docker:index/volume:Volume"
    schema: ClassVar[Schema] = Schema(
        inputs={
            "driver": string(computed=True),
            "driverOpts": mapping(),
            "labels": object_set(LABELS),
            "name": string(computed=True),
        },
        outputs=("mountpoint",),
        version=1,
    )

    def create(self, connection: Connection, context: Context, news: Properties) -> tuple[str, Properties]:
        try:
            answer = connection.api.create_volume(
                name=news["name"],
                driver=news.get("driver") or None,
                driver_opts=news.get("driverOpts") or None,
                labels=labels_to_engine(news.get("labels")),
            )
        except sdk.APIError as error:
            raise explained(f"the volume {news['name']} cannot be made", error) from error
        return self.made(connection, answer["Name"], news)

    def find(self, connection: Connection, resource_id: str, state: Properties) -> tuple[str, Properties] | None:
        try:
            found = connection.api.inspect_volume(resource_id)
        except sdk.NotFound:
            return None
        except sdk.APIError as error:
            raise explained(f"the volume {resource_id} cannot be looked at", error) from error
        return found["Name"], {
            "driver": found["Driver"],
            "driverOpts": found.get("Options") or {},
            "labels": labels_from_engine(found.get("Labels")),
            "mountpoint": found["Mountpoint"],
            "name": found["Name"],
        }

    def delete(self, connection: Connection, resource_id: str, state: Properties) -> None:
        waiting.remove(
            lambda: connection.api.remove_volume(resource_id, force=True), f"the volume {resource_id}", "in use"
        )
