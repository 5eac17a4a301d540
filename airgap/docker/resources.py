"""What the plugin's resource types have in common."""

from __future__ import annotations

from typing import ClassVar, Protocol

from airgap.docker.connection import Connection
from airgap.docker.schema import Schema
from provider.resource import Change, Context, Failure
from provider.values import Properties


class DockerResource(Protocol):
    """One resource type. Operations run in threads of their own and block."""

    token: ClassVar[str]
    schema: ClassVar[Schema]
    secrets: ClassVar[frozenset[str]]
    """Properties of the state that are secret whatever the program says."""

    def check(
        self, context: Context, news: Properties, olds: Properties, seed: bytes
    ) -> tuple[Properties, list[Failure]]:
        """The inputs with defaults and names, and what is wrong with them."""

    def diff(self, state: Properties, news: Properties) -> list[Change]:
        """What of the state is not as `news` wants it. Pure."""

    def preview(
        self, connection: Connection, context: Context, news: Properties, state: Properties | None
    ) -> Properties:
        """What is known of the state before it is made; `state` is that of before, None for a new resource."""

    def create(self, connection: Connection, context: Context, news: Properties) -> tuple[str, Properties]:
        """Makes it. Returns its id and state."""

    def read(
        self, connection: Connection, resource_id: str, state: Properties, inputs: Properties
    ) -> tuple[str, Properties, Properties] | None:
        """Its id, state and inputs as they are now; None where it is gone."""

    def update(
        self, connection: Connection, context: Context, resource_id: str, state: Properties, news: Properties
    ) -> Properties:
        """Changes it in place. Returns its state."""

    def delete(self, connection: Connection, resource_id: str, state: Properties) -> None:
        """Removes it; succeeds where it is gone."""
