"""The resource types that come from a Terraform provider in the official plugin: their common half.

Checks, differences and previews follow from the schema. What remains to a type is how it is made, found and removed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from airgap.docker import rules
from airgap.docker.connection import Connection
from airgap.docker.schema import Schema
from provider.resource import Change, Context, Failure, ResourceError
from provider.values import Properties


class Bridged(ABC):
    """One of those types."""

    token: ClassVar[str]
    schema: ClassVar[Schema]
    secrets: ClassVar[frozenset[str]] = frozenset()

    def check(
        self, context: Context, news: Properties, olds: Properties, seed: bytes
    ) -> tuple[Properties, list[Failure]]:
        failures = rules.failures(self.token, self.schema, news)
        return (news if failures else rules.check(self.schema, news, olds, context.name, seed)), failures

    def diff(self, state: Properties, news: Properties) -> list[Change]:
        return rules.differences(self.schema, state, news)

    def preview(
        self, connection: Connection, context: Context, news: Properties, state: Properties | None
    ) -> Properties:
        if state is None:
            return rules.planned(self.schema, news)
        return rules.state_of(self.schema, rules.carried_on(self.schema, state, news), {})

    def read(
        self, connection: Connection, resource_id: str, state: Properties, inputs: Properties
    ) -> tuple[str, Properties, Properties] | None:
        found = self.find(connection, resource_id, state)
        if found is None:
            return None
        resource_id, facts = found
        now = rules.state_of(self.schema, state, {**facts, "id": resource_id})
        return resource_id, now, rules.inputs_of(self.schema, inputs, now)

    def made(self, connection: Connection, resource_id: str, known: Properties) -> tuple[str, Properties]:
        """The id and state of what was just made or changed as `known` says. Raises ResourceError where it is gone."""
        found = self.find(connection, resource_id, known)
        if found is None:
            raise ResourceError(f"{self.token} {known.get('name', resource_id)} was gone as soon as it was made")
        resource_id, facts = found
        return resource_id, rules.state_of(self.schema, known, {**facts, "id": resource_id})

    @abstractmethod
    def find(self, connection: Connection, resource_id: str, state: Properties) -> tuple[str, Properties] | None:
        """Its id and what the engine says of it; None where it is gone."""

    @abstractmethod
    def create(self, connection: Connection, context: Context, news: Properties) -> tuple[str, Properties]:
        """Makes it. Returns its id and state."""

    def update(
        self, connection: Connection, context: Context, resource_id: str, state: Properties, news: Properties
    ) -> Properties:
        """Changes it in place: here nothing but the state, where a property only says how to go about things."""
        return self.made(connection, resource_id, rules.carried_on(self.schema, state, news))[1]

    @abstractmethod
    def delete(self, connection: Connection, resource_id: str, state: Properties) -> None:
        """Removes it; succeeds where it is gone."""
