"""The provider's process: from the engine's calls to the resources, and from their errors to readable messages.

It stands on the SDK's provider API. What that leaves open is done here: errors of a resource reach the user without a
Python traceback, progress goes to the engine's log, and the process ends when its engine is gone (an engine that was
killed cannot say goodbye, and an orphan would go on working).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
import traceback
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
import grpc.aio
from pulumi.provider.experimental import provider as api
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2_grpc

from provider.resource import Change, Context, Resource, ResourceError, check_declared
from provider.values import secret_names, to_plain_map, to_values

# Operations wait for processes and disks far more than they compute.
_THREADS = 32
_ENGINE_POLL_SECONDS = 0.5
_MAX_MESSAGE_BYTES = 400 * 1024 * 1024

T = TypeVar("T")

_KINDS = {
    ("add", False): api.PropertyDiffKind.ADD,
    ("add", True): api.PropertyDiffKind.ADD_REPLACE,
    ("delete", False): api.PropertyDiffKind.DELETE,
    ("delete", True): api.PropertyDiffKind.DELETE_REPLACE,
    ("update", False): api.PropertyDiffKind.UPDATE,
    ("update", True): api.PropertyDiffKind.UPDATE_REPLACE,
}


class EngineLog:
    """Sends lines to the engine's log, beside the resource they are about. May be called from any thread."""

    def __init__(self, stub: engine_pb2_grpc.EngineStub, loop: asyncio.AbstractEventLoop, urn: str) -> None:
        self._stub = stub
        self._loop = loop
        self._urn = urn

    def info(self, message: str) -> None:
        self._send(engine_pb2.INFO, message, ephemeral=False)

    def warning(self, message: str) -> None:
        self._send(engine_pb2.WARNING, message, ephemeral=False)

    def status(self, message: str) -> None:
        self._send(engine_pb2.INFO, message, ephemeral=True)

    def _send(self, severity: Any, message: str, *, ephemeral: bool) -> None:
        request = engine_pb2.LogRequest(severity=severity, message=message, urn=self._urn, ephemeral=ephemeral)
        asyncio.run_coroutine_threadsafe(self._deliver(request), self._loop)

    async def _deliver(self, request: engine_pb2.LogRequest) -> None:
        try:
            await self._stub.Log(request)
        except grpc.aio.AioRpcError as error:  # the engine is going away: the line has no reader any more
            print(f"{request.message} (not delivered: {error.code().name})", file=sys.stderr)


class SlipwayProvider(api.Provider):
    """Dispatches the engine's requests to the resource of the request's type."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        self._resources: Mapping[str, Resource] = {resource.token: resource for resource in resources}
        self._cancelled = threading.Event()
        self._stub: engine_pb2_grpc.EngineStub | None = None

    def connect(self, engine_address: str) -> None:
        """Opens the channel to the engine's log. Call it inside the running event loop."""
        self._stub = engine_pb2_grpc.EngineStub(grpc.aio.insecure_channel(engine_address))

    def _resource(self, qualified_type: str) -> Resource:
        # In a URN the type of a child begins with the types of its parents: `parent$type`.
        token = qualified_type.rpartition("$")[2]
        try:
            return self._resources[token]
        except KeyError:
            known = ", ".join(sorted(self._resources))
            raise ResourceError(f"the provider slipway has no resource type {token}; it has {known}") from None

    def _context(self, urn: str, *, preview: bool = False) -> Context:
        assert self._stub is not None  # noqa: S101 - connect() is the first thing main does
        log = EngineLog(self._stub, asyncio.get_running_loop(), urn)
        return Context(urn=urn, log=log, preview=preview, cancelled=self._cancelled)

    async def get_schema(self, request: api.GetSchemaRequest) -> api.GetSchemaResponse:
        return api.GetSchemaResponse(schema='{"name": "slipway", "version": "0.1.0"}')

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
        return _diff_response([change for change in changes if change.path not in ignored])

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

    async def cancel(self) -> None:
        self._cancelled.set()


def _diff_response(changes: list[Change]) -> api.DiffResponse:
    return api.DiffResponse(
        changes=bool(changes),
        replaces=sorted({_top_level(change.path) for change in changes if change.replaces}),
        diffs=sorted({_top_level(change.path) for change in changes}),
        detailed_diff={
            change.path: api.PropertyDiff(_KINDS[change.kind, change.replaces], change.of_input) for change in changes
        },
    )


def _top_level(path: str) -> str:
    return path.split(".")[0].split("[")[0]


class Servicer(ProviderServicer):
    """The SDK's servicer, with a resource's errors told as they are meant."""

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the names are gRPC's
        return await _told(super().Check(request, context), context)

    async def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _told(super().Diff(request, context), context)

    async def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _told(super().Create(request, context), context)

    async def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _told(super().Read(request, context), context)

    async def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _told(super().Update(request, context), context)

    async def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _told(super().Delete(request, context), context)


async def _told(answer: Awaitable[T], context: grpc.aio.ServicerContext[Any, Any]) -> T:
    """Awaits `answer`; an error of a resource ends the call with its message alone."""
    try:
        return await answer
    except ResourceError as error:
        message = str(error)
    except Exception as error:
        traceback.print_exc()
        message = f"a fault in Slipway's provider: {type(error).__name__}: {error}"
    await context.abort(grpc.StatusCode.UNKNOWN, message)
    raise AssertionError("abort() raises")


async def _end_with_the_engine(engine_pid: int) -> None:
    while os.getppid() == engine_pid:  # noqa: ASYNC110 - a parent's end is no event that one could await
        await asyncio.sleep(_ENGINE_POLL_SECONDS)
    # Not sys.exit: threads in the middle of a copy must not keep the orphan alive. What they leave is cleared by the
    # next operation, as after any kill.
    os._exit(1)


async def _serve(provider: SlipwayProvider, engine_address: str, engine_pid: int) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="operation"))
    provider.connect(engine_address)
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        ]
    )
    servicer = Servicer([], "0.1.0", provider, engine_address=engine_address)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.gather(server.wait_for_termination(), _end_with_the_engine(engine_pid))


def main(resources: Sequence[Resource], argv: Sequence[str]) -> None:
    """Serves `resources` to the engine whose address is in `argv`; prints the port, as the plugin protocol asks."""
    engine_pid = os.getppid()
    parser = argparse.ArgumentParser(prog="pulumi-resource-slipway", description="Slipway's resource provider.")
    parser.add_argument("engine", help="address of the Pulumi engine; the engine itself starts this program")
    arguments, _ = parser.parse_known_args(argv)
    asyncio.run(_serve(SlipwayProvider(resources), arguments.engine, engine_pid))
