"""From the engine's calls to the resources: names, types, secrecy and the exact diff.

How the calls arrive, and how errors and progress go back, is left to `provider.process`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pulumi.provider.experimental import provider as api

from provider import process
from provider.process import ServedProvider, diff_response, property_of
from provider.resource import Resource, ResourceError, check_declared
from provider.start import START
from provider.values import secret_names, to_plain_map, to_values


class SlipwayProvider(ServedProvider):
    """Dispatches the engine's requests to the resource of the request's type."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        super().__init__()
        self._resources: Mapping[str, Resource] = {resource.token: resource for resource in resources}

    def _resource(self, qualified_type: str) -> Resource:
        # In a URN the type of a child begins with the types of its parents: `parent$type`.
        token = qualified_type.rpartition("$")[2]
        try:
            return self._resources[token]
        except KeyError:
            known = ", ".join(sorted(self._resources))
            raise ResourceError(f"the provider slipway has no resource type {token}; it has {known}") from None

    async def get_schema(self, request: api.GetSchemaRequest) -> api.GetSchemaResponse:
        return api.GetSchemaResponse(schema='{"name": "slipway", "version": "0.1.0"}')

    async def invoke(self, request: api.InvokeRequest) -> api.InvokeResponse:
        if request.tok == START:
            return api.InvokeResponse({})
        raise ResourceError(f"the provider slipway has no function {request.tok}; it has {START}")

    async def check(self, request: api.CheckRequest) -> api.CheckResponse:
        resource = self._resource(request.type)
        news = to_plain_map(request.new_inputs)
        failures = check_declared(resource.inputs, news)
        if not failures:
            news, failures = await resource.check(self._context(request.urn), news)
        return api.CheckResponse(
            inputs=to_values(news, {*resource.secrets, *secret_names(request.new_inputs)}),
            failures=[api.CheckFailure(failure.property, failure.reason) for failure in failures],
        )

    async def diff(self, request: api.DiffRequest) -> api.DiffResponse:
        resource = self._resource(request.type)
        changes = resource.diff(to_plain_map(request.old_state), to_plain_map(request.new_inputs))
        ignored = set(request.ignore_changes)
        kept = [change for change in changes if change.path not in ignored]
        return diff_response(kept, (property_of(change.path) for change in kept if change.replaces))

    async def create(self, request: api.CreateRequest) -> api.CreateResponse:
        resource = self._resource(request.type)
        context = self._context(request.urn, preview=request.preview)
        resource_id, outputs = await resource.create(context, to_plain_map(request.properties))
        secrets = {*resource.secrets, *secret_names(request.properties)}
        return api.CreateResponse(resource_id, to_values(outputs, secrets))

    async def read(self, request: api.ReadRequest) -> api.ReadResponse:
        resource = self._resource(request.type)
        state = to_plain_map(request.properties)
        outputs = await resource.read(self._context(request.urn), request.resource_id, state)
        if outputs is None:
            return api.ReadResponse(resource_id="")
        secrets = {*resource.secrets, *secret_names(request.properties, request.inputs)}
        inputs = {name: value for name, value in outputs.items() if name in resource.inputs}
        return api.ReadResponse(request.resource_id, to_values(outputs, secrets), to_values(inputs, secrets))

    async def update(self, request: api.UpdateRequest) -> api.UpdateResponse:
        resource = self._resource(request.type)
        context = self._context(request.urn, preview=request.preview)
        outputs = await resource.update(
            context, request.resource_id, to_plain_map(request.olds), to_plain_map(request.news)
        )
        return api.UpdateResponse(to_values(outputs, {*resource.secrets, *secret_names(request.news)}))

    async def delete(self, request: api.DeleteRequest) -> None:
        resource = self._resource(request.type)
        await resource.delete(self._context(request.urn), request.resource_id, to_plain_map(request.properties))


def main(resources: Sequence[Resource], argv: Sequence[str]) -> None:
    """Serves `resources` to the engine whose address is in `argv`."""
    process.serve(SlipwayProvider(resources), "slipway", "0.1.0", argv)
