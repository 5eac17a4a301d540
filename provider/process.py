"""A provider's process: it serves the engine's calls, tells errors as they are meant, and ends with its engine.

It stands on the SDK's provider API. What that leaves open is done here: errors of a resource reach the user without a
Python traceback, progress goes to the engine's log, and the process ends when its engine is gone (an engine that was
killed cannot say goodbye, and an orphan would go on working). Which resources there are is left to the provider that is
served.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
import traceback
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
import grpc.aio
from pulumi.provider.experimental import provider as api
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2, provider_pb2_grpc, status_pb2

from provider.resource import Change, Context, ResourceError

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


def property_of(path: str) -> str:
    """The property that a path leads into."""
    return path.partition(".")[0].partition("[")[0]


def diff_response(
    changes: Sequence[Change], replaces: Iterable[str], *, delete_before_replace: bool = False
) -> api.DiffResponse:
    """Changes as the engine takes them. `replaces` names those that need another resource; before that one is made,
    the old one goes where `delete_before_replace` says so."""
    needed = sorted(set(replaces))
    return api.DiffResponse(
        changes=bool(changes),
        replaces=needed,
        diffs=sorted({property_of(change.path) for change in changes}),
        detailed_diff={c.path: api.PropertyDiff(_KINDS[c.kind, c.replaces], c.of_input) for c in changes},
        delete_before_replace=delete_before_replace and bool(needed),
    )


class UnreadyError(ResourceError):
    """The resource is there, but not as it should be: it goes into the state, and the operation fails nevertheless."""

    def __init__(
        self, message: str, resource_id: str, state: Mapping[str, PropertyValue], inputs: Mapping[str, PropertyValue]
    ) -> None:
        super().__init__(message)
        self.resource_id, self.state, self.inputs = resource_id, state, inputs


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


class ServedProvider(api.Provider):
    """A provider that knows its engine: it can give each operation a log and the engine's wish to stop."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._stub: engine_pb2_grpc.EngineStub | None = None

    def connect(self, engine_address: str) -> None:
        """Opens the channel to the engine's log. Call it inside the running event loop."""
        self._stub = engine_pb2_grpc.EngineStub(grpc.aio.insecure_channel(engine_address))

    def _context(self, urn: str, *, preview: bool = False) -> Context:
        assert self._stub is not None  # noqa: S101 - connect() is the first thing `serve` does
        log = EngineLog(self._stub, asyncio.get_running_loop(), urn)
        return Context(urn=urn, log=log, preview=preview, cancelled=self._cancelled)

    async def cancel(self) -> None:
        self._cancelled.set()


class Servicer(ProviderServicer):
    """The SDK's servicer, with a resource's errors told as they are meant."""

    def __init__(self, version: str, provider: api.Provider, engine_address: str, name: str) -> None:
        super().__init__([], version, provider, engine_address=engine_address)
        self._name = name

    async def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802 - the names are gRPC's
        return await _told(super().Configure(request, context), context, self._name)

    async def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        olds, news = PropertyValue.unmarshal_map(request.olds), PropertyValue.unmarshal_map(request.news)
        ignored = list(request.ignoreChanges)
        answer = await self._provider.diff_config(api.DiffRequest(request.urn, request.id, olds, news, ignored))
        # The SDK's servicer puts a bool where the wire has an enumeration, in which 1 stands for "nothing changed".
        changes = provider_pb2.DiffResponse.DIFF_SOME if answer.changes else provider_pb2.DiffResponse.DIFF_NONE
        return provider_pb2.DiffResponse(changes=changes, diffs=answer.diffs, replaces=answer.replaces)

    async def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _told(super().Invoke(request, context), context, self._name)

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _told(super().Check(request, context), context, self._name)

    async def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _told(super().Diff(request, context), context, self._name)

    async def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _told(super().Create(request, context), context, self._name)

    async def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _told(super().Read(request, context), context, self._name)

    async def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _told(super().Update(request, context), context, self._name)

    async def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _told(super().Delete(request, context), context, self._name)


async def _told(answer: Awaitable[T], context: grpc.aio.ServicerContext[Any, Any], name: str) -> T:
    """Awaits `answer`; an error of a resource ends the call with its message alone."""
    try:
        return await answer
    except UnreadyError as error:
        await _abort_with_state(context, error)
        raise AssertionError("abort() raises") from error
    except ResourceError as error:
        message = str(error)
    except Exception as error:
        traceback.print_exc()
        message = f"a fault in the provider {name}: {type(error).__name__}: {error}"
    await context.abort(grpc.StatusCode.UNKNOWN, message)
    raise AssertionError("abort() raises")


async def _abort_with_state(context: grpc.aio.ServicerContext[Any, Any], error: UnreadyError) -> None:
    """Ends a call with an error that holds the state of the resource, as the engine wants it: in the trailers."""
    detail = provider_pb2.ErrorResourceInitFailed(
        id=error.resource_id,
        properties=PropertyValue.marshal_map(dict(error.state)),
        reasons=[str(error)],
        inputs=PropertyValue.marshal_map(dict(error.inputs)),
    )
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
    status.details.add().Pack(detail)
    await context.abort(grpc.StatusCode.UNKNOWN, str(error), (("grpc-status-details-bin", status.SerializeToString()),))


async def _end_with_the_engine(engine_pid: int) -> None:
    while os.getppid() == engine_pid:  # noqa: ASYNC110 - a parent's end is no event that one could await
        await asyncio.sleep(_ENGINE_POLL_SECONDS)
    # Not sys.exit: threads in the middle of a copy must not keep the orphan alive. What they leave is cleared by the
    # next operation, as after any kill.
    os._exit(1)


async def _is_there(engine_address: str) -> bool:
    host, _, port = engine_address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, ValueError):
        return False
    writer.close()
    return True


async def _serve(provider: ServedProvider, name: str, version: str, engine_address: str, engine_pid: int) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="operation"))
    # An engine that was killed before this process looked for its parent would never be seen to end.
    if not await _is_there(engine_address):
        raise SystemExit(f"error: no engine answers at {engine_address}, which was to be served")
    provider.connect(engine_address)
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        ]
    )
    servicer = Servicer(version, provider, engine_address, name)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.gather(server.wait_for_termination(), _end_with_the_engine(engine_pid))


def serve(provider: ServedProvider, name: str, version: str, argv: Sequence[str]) -> None:
    """Serves `provider` to the engine whose address is in `argv`; prints the port, as the plugin protocol asks."""
    engine_pid = os.getppid()
    parser = argparse.ArgumentParser(prog=f"pulumi-resource-{name}", description=f"The resource provider {name}.")
    parser.add_argument("engine", help="address of the Pulumi engine; the engine itself starts this program")
    arguments, _ = parser.parse_known_args(argv)
    asyncio.run(_serve(provider, name, version, arguments.engine, engine_pid))
