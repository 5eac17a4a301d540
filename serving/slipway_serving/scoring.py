"""One request through the model: arguments in, `run`, result out, in a worker.

Whatever the script does becomes a response: errors are Azure's, their details go to the log, none ends the process.
"""

from __future__ import annotations

import traceback
from asyncio import CancelledError
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

from slipway_serving import encoding, logs
from slipway_serving.binding import Arguments, BadInputError, Run, refused_by_schema
from slipway_serving.collection import Collector
from slipway_serving.failures import describe, user_traceback
from slipway_serving.http1 import Front
from slipway_serving.messages import Request, Response, name, serialise
from slipway_serving.scheduler import ScoringTimeout

RUN_FAILED = (("x-ms-run-function-failed", "True"),)
NOT_FAILED = "x-ms-run-function-failed: False\r\n"
SCRIPT_FAILED = "An unexpected error occurred in scoring script. Check the logs for more info."
RunMany = Callable[["list[dict[str, Any]]"], "list[Any]"]
"""Takes the keyword arguments of several calls of `run`; returns their results in order."""
Fail = Callable[[int, str, "tuple[tuple[str, str], ...]"], Response]


class Endpoint(NamedTuple):
    """One way to reach the model: how a request becomes arguments, a result a response, and an error one too."""

    arguments: Arguments
    """Raises BadInputError."""
    encode: Callable[[Request, Any], Response]
    """Raises for a result that cannot be sent."""
    fail: Fail


class Scoring:
    """Calls `run` for a request and finishes the response. `endpoints` are found by `Request.route`."""

    def __init__(self, front: Front, access_log: bool) -> None:
        self.front = front
        self.access_log = access_log
        self.run: Run = lambda **_: None
        self.run_many: RunMany | None = None
        self.collector: Collector | None = None
        self.collected_as = ("", "")
        """Model and version under which requests are collected."""
        self.endpoints: dict[str, Endpoint] = {}

    def work(self, request: Request) -> bytes:
        """The finished response for a request; never raises."""
        endpoint = self.endpoints[request.route]
        logs.current.set(request)
        arguments = self._arguments(endpoint, request)
        if isinstance(arguments, Response):
            return self.finish(request, arguments)
        started = perf_counter()
        try:
            result = self.run(**arguments)
        except ScoringTimeout:
            raise
        except BaseException as error:
            return self.finish(request, self._raised(endpoint, request, error))
        request.executed_ms = (perf_counter() - started) * 1000
        return self.finish(request, self._encoded(endpoint, request, result))

    def work_many(self, requests: list[Request]) -> list[bytes]:
        """The finished responses for several requests that `run_many` takes together; never raises.

        Where the call for all of them fails, each is called for alone, so that one bad request spoils no other.
        """
        assert self.run_many is not None  # noqa: S101
        payloads: dict[int, bytes] = {}
        calls: list[tuple[int, Endpoint, dict[str, Any]]] = []
        for index, request in enumerate(requests):
            endpoint = self.endpoints[request.route]
            arguments = self._arguments(endpoint, request)
            if isinstance(arguments, Response):
                payloads[index] = self.finish(request, arguments)
            else:
                calls.append((index, endpoint, arguments))
        started = perf_counter()
        results: list[Any] | None = None
        if len(calls) > 1:
            try:
                results = list(self.run_many([arguments for _, _, arguments in calls]))
            except ScoringTimeout:
                raise
            except BaseException as error:
                logs.warning(f"a batch of {len(calls)} failed and is done one by one: {describe(error)}")
            if results is not None and len(results) != len(calls):
                logs.error(
                    f"run_batch() returned {len(results)} results for {len(calls)} calls; they are done one by one"
                )
                results = None
        elapsed = (perf_counter() - started) * 1000
        for position, (index, endpoint, _) in enumerate(calls):
            request = requests[index]
            if results is None:
                payloads[index] = self.work(request)
                continue
            request.executed_ms = elapsed
            logs.current.set(request)
            payloads[index] = self.finish(request, self._encoded(endpoint, request, results[position]))
        return [payloads[index] for index in range(len(requests))]

    async def work_async(self, request: Request) -> bytes:
        """The same for a `run` that is a coroutine function."""
        endpoint = self.endpoints[request.route]
        logs.current.set(request)
        arguments = self._arguments(endpoint, request)
        if isinstance(arguments, Response):
            return self.finish(request, arguments)
        started = perf_counter()
        try:
            result = await self.run(**arguments)
        except BaseException as error:
            if request.answered and isinstance(error, CancelledError):
                # Cancelled for being past its time
                raise
            return self.finish(request, self._raised(endpoint, request, error))
        request.executed_ms = (perf_counter() - started) * 1000
        return self.finish(request, self._encoded(endpoint, request, result))

    def _arguments(self, endpoint: Endpoint, request: Request) -> dict[str, Any] | Response:
        """What to call `run` with; where the request cannot be read, the response that says so."""
        try:
            if b"content-encoding" in request.headers:
                encoding.unpack(request, self.front.limits.body)
            return endpoint.arguments(request)
        except BadInputError as error:
            return endpoint.fail(error.status, error.message, ())
        except Exception as error:
            return self._broken(endpoint, request, error)

    def _raised(self, endpoint: Endpoint, request: Request, error: BaseException) -> Response:
        if isinstance(error, BadInputError):
            return endpoint.fail(error.status, error.message, ())
        if isinstance(error, Exception) and refused_by_schema(self.run, error):
            return endpoint.fail(400, f"The input does not fit the schema of run(): {describe(error)}", ())
        if not isinstance(error, Exception):
            logs.script_error(request, (f"run() tried to end the process: {describe(error)}",))
        else:
            logs.script_error(request, user_traceback(error))
        return endpoint.fail(500, SCRIPT_FAILED, RUN_FAILED)

    def _broken(self, endpoint: Endpoint, request: Request, error: Exception) -> Response:
        """A mistake of this server's own, while it read a request: told in the log, and never the end of a worker."""
        trace = "".join(traceback.format_exception(error))
        logs.error(f"this server failed to read a request: {trace}", request_id=name(request))
        return endpoint.fail(500, "The server failed to read the request. Check the logs for more info.", ())

    def _encoded(self, endpoint: Endpoint, request: Request, result: Any) -> Response:
        try:
            return endpoint.encode(request, result)
        except Exception as error:
            logs.script_error(request, (f"run() returned what cannot be sent: {describe(error)}",))
            return endpoint.fail(500, SCRIPT_FAILED, RUN_FAILED)

    def finish(self, request: Request, response: Response) -> bytes:
        """The bytes of a response, its headers complete."""
        if response.status >= 400:
            logs.request_failed(request, response.status, response.body)
        else:
            if self.access_log:
                logs.request_done(request, response.status)
            if self.collector is not None:
                body = b"".join([response.body, *response.tail])
                self.collector.request(request, *self.collected_as, body, response.content_type)
        front = self.front
        extra = f"{front.date}{front.common}{front.lines(request)}"
        if request.executed_ms is not None:
            extra = f"{extra}x-ms-run-fn-exec-ms: {request.executed_ms:.3f}\r\n"
            if not response.headers:
                extra += NOT_FAILED
        close = not request.keep_alive
        try:
            return serialise(response, extra, close=close)
        except ValueError as error:
            logs.script_error(request, (f"run() returned a response that cannot be sent: {error}",))
            failed = self.endpoints[request.route].fail(500, SCRIPT_FAILED, RUN_FAILED)
            return serialise(failed, extra, close=close)
