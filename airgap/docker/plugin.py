"""The plugin: from Pulumi's calls to the resource types and their engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pulumi.provider.experimental import provider as api

from airgap.docker import sdk
from airgap.docker.connection import SETTINGS, Connection, settings_of
from airgap.docker.container import Container
from airgap.docker.image import Image
from airgap.docker.network import Network
from airgap.docker.registry_image import RegistryImage
from airgap.docker.remote_image import RemoteImage
from airgap.docker.resources import DockerResource
from airgap.docker.volume import Volume
from provider import process
from provider.process import ServedProvider, diff_response, property_of
from provider.resource import ResourceError
from provider.values import secret_names, to_plain_map, to_values

VERSION = "5.2.0"
"""The version of the official plugin that this one stands in for: that of the package in requirements.in."""

RESOURCES: Sequence[DockerResource] = (
    Network(),
    Volume(),
    Container(),
    Image(),
    RemoteImage(),
    RegistryImage(),
)


class DockerProvider(ServedProvider):
    """Dispatches by type; the engine of Docker is reached at the first operation that needs it."""

    def __init__(self, resources: Sequence[DockerResource] = RESOURCES) -> None:
        super().__init__()
        self._resources: Mapping[str, DockerResource] = {resource.token: resource for resource in resources}
        self._connection = Connection({})

    def _resource(self, qualified_type: str) -> DockerResource:
        # In a URN the type of a child begins with the types of its parents: `parent$type`.
        token = qualified_type.rpartition("$")[2]
        try:
            return self._resources[token]
        except KeyError:
            raise ResourceError(
                f"{token} is not among the types of this stand-in for Pulumi's docker plugin: "
                f"{', '.join(sorted(self._resources))}. Install the official plugin where it is needed: "
                f"pulumi plugin install resource docker {VERSION}"
            ) from None

    async def get_schema(self, request: api.GetSchemaRequest) -> api.GetSchemaResponse:
        return api.GetSchemaResponse(schema=json.dumps({"name": "docker", "version": VERSION}))

    async def check_config(self, request: api.CheckRequest) -> api.CheckResponse:
        unknown = sorted(set(request.new_inputs) - SETTINGS.keys() - {"version", "pluginDownloadURL"})
        failures = [
            api.CheckFailure(name, f"unknown setting; known are {', '.join(sorted(SETTINGS))}")
            for name in unknown
            if not name.startswith("__")
        ]
        return api.CheckResponse(inputs=request.new_inputs, failures=failures)

    async def diff_config(self, request: api.DiffRequest) -> api.DiffResponse:
        old, new = to_plain_map(request.old_state), to_plain_map(request.new_inputs)
        changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        # As in the official plugin, what was made stays where it was made: no setting replaces it.
        return api.DiffResponse(changes=bool(changed), diffs=changed)

    async def configure(self, request: api.ConfigureRequest) -> api.ConfigureResponse:
        self._connection = Connection(settings_of(to_plain_map(request.args)))
        self._loading = asyncio.create_task(asyncio.to_thread(sdk.load))
        return api.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def check(self, request: api.CheckRequest) -> api.CheckResponse:
        resource = self._resource(request.type)
        context = self._context(request.urn)
        news, olds = to_plain_map(request.new_inputs), to_plain_map(request.old_inputs)
        checked, failures = await _run(resource.check, context, news, olds, request.random_seed)
        return api.CheckResponse(
            inputs=to_values(checked, secret_names(request.new_inputs)),
            failures=[api.CheckFailure(failure.property, failure.reason) for failure in failures],
        )

    async def diff(self, request: api.DiffRequest) -> api.DiffResponse:
        resource = self._resource(request.type)
        changes = resource.diff(to_plain_map(request.old_state), to_plain_map(request.new_inputs))
        ignored = {property_of(path) for path in request.ignore_changes}
        kept = [change for change in changes if property_of(change.path) not in ignored]
        replaces = (change.path for change in kept if change.replaces)
        return diff_response(kept, replaces, delete_before_replace=resource.schema.delete_before_replace)

    async def create(self, request: api.CreateRequest) -> api.CreateResponse:
        resource = self._resource(request.type)
        news = to_plain_map(request.properties)
        secrets = resource.secrets | secret_names(request.properties)
        context = self._context(request.urn, preview=request.preview)
        if request.preview:
            planned = await _run(resource.preview, self._connection, context, news, None)
            return api.CreateResponse("", to_values(planned, secrets))
        resource_id, state = await _run(resource.create, self._connection, context, news)
        return api.CreateResponse(resource_id, to_values(state, secrets))

    async def read(self, request: api.ReadRequest) -> api.ReadResponse:
        resource = self._resource(request.type)
        state, inputs = to_plain_map(request.properties), to_plain_map(request.inputs)
        found = await _run(resource.read, self._connection, request.resource_id, state, inputs)
        if found is None:
            return api.ReadResponse(resource_id="")
        secrets = resource.secrets | secret_names(request.properties, request.inputs)
        resource_id, state, inputs = found
        return api.ReadResponse(resource_id, to_values(state, secrets), to_values(inputs, secrets))

    async def update(self, request: api.UpdateRequest) -> api.UpdateResponse:
        resource = self._resource(request.type)
        state, news = to_plain_map(request.olds), to_plain_map(request.news)
        secrets = resource.secrets | secret_names(request.news, request.olds)
        context = self._context(request.urn, preview=request.preview)
        if request.preview:
            planned = await _run(resource.preview, self._connection, context, news, state)
            return api.UpdateResponse(to_values(planned, secrets))
        state = await _run(resource.update, self._connection, context, request.resource_id, state, news)
        return api.UpdateResponse(to_values(state, secrets))

    async def delete(self, request: api.DeleteRequest) -> None:
        resource = self._resource(request.type)
        await _run(resource.delete, self._connection, request.resource_id, to_plain_map(request.properties))


async def _run(operation: Any, *arguments: Any) -> Any:
    """Runs a blocking operation in a thread; what its connection cannot do becomes an error of the resource."""
    try:
        return await asyncio.to_thread(operation, *arguments)
    except sdk.APIError as error:
        raise ResourceError(f"the Docker engine refused: {error.explanation or error}") from error
    except (sdk.DockerException, sdk.RequestException) as error:
        raise ResourceError(f"the connection to the Docker engine failed: {error}") from error


def main(argv: Sequence[str]) -> None:
    """Runs the plugin's process until its engine is gone."""
    process.serve(DockerProvider(), "docker", VERSION, argv)
