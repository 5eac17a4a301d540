"""One request through the entry script: arguments in, `run`, result out, in a worker.

Whatever the script does becomes a response: errors are Azure's, their details go to the log, none ends the process.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

from slipway_serving import logs
from slipway_serving.binding import Arguments, BadInputError, Run, bind, encode, refused_by_schema
from slipway_serving.failures import describe, user_traceback
from slipway_serving.http1 import Front
from slipway_serving.messages import Request, Response, error_response, identifiers, serialise

RUN_FAILED = (("x-ms-run-function-failed", "True"),)
NOT_FAILED = "x-ms-run-function-failed: False\r\n"


def script_failed() -> Response:
    """What a client is told of an error in the script: that there was one, and where its details are."""
    message = "An unexpected error occurred in scoring script. Check the logs for more info."
    return error_response(500, message, RUN_FAILED)


class Scoring:
    """Calls the script's `run` for a request and finishes the response."""

    def __init__(self, front: Front, access_log: bool) -> None:
        self.front = front
        self.access_log = access_log
        self.run: Run = lambda **_: None
        self.arguments: Arguments = lambda _: {}

    def use(self, run: Run) -> None:
        """Score with this function. Raises StartError where requests cannot be given to it."""
        self.arguments = bind(run)
        self.run = run

    def work(self, request: Request) -> bytes:
        """The finished response for a request; never raises."""
        arguments = self._arguments(request)
        if isinstance(arguments, Response):
            return self._finish(request, arguments)
        started = perf_counter()
        try:
            result = self.run(**arguments)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            return self._finish(request, self._raised(request, error))
        request.executed_ms = (perf_counter() - started) * 1000
        return self._finish(request, self._encoded(request, result))

    async def work_async(self, request: Request) -> bytes:
        """The same for a `run` that is a coroutine function."""
        arguments = self._arguments(request)
        if isinstance(arguments, Response):
            return self._finish(request, arguments)
        started = perf_counter()
        try:
            result = await self.run(**arguments)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            return self._finish(request, self._raised(request, error))
        request.executed_ms = (perf_counter() - started) * 1000
        return self._finish(request, self._encoded(request, result))

    def _arguments(self, request: Request) -> dict[str, Any] | Response:
        try:
            return self.arguments(request)
        except BadInputError as error:
            return error_response(error.status, error.message)

    def _raised(self, request: Request, error: BaseException) -> Response:
        if isinstance(error, Exception) and refused_by_schema(self.run, error):
            return error_response(400, f"The input does not fit the schema of run(): {describe(error)}")
        if not isinstance(error, Exception):
            logs.script_error(request, (f"run() tried to end the process: {describe(error)}",))
        else:
            logs.script_error(request, user_traceback(error))
        return script_failed()

    def _encoded(self, request: Request, result: Any) -> Response:
        try:
            return encode(result)
        except Exception as error:
            logs.script_error(request, (f"run() returned what cannot be sent: {describe(error)}",))
            return script_failed()

    def _finish(self, request: Request, response: Response) -> bytes:
        if response.status >= 400:
            logs.request_failed(request, response.status, response.body)
        elif self.access_log:
            logs.request_done(request, response.status)
        front = self.front
        extra = front.date + front.common + identifiers(request)
        if not response.headers:
            extra += NOT_FAILED
        close = not request.keep_alive
        try:
            return serialise(response, extra, close=close)
        except ValueError as error:
            logs.script_error(request, (f"run() returned a response that cannot be sent: {error}",))
            return serialise(script_failed(), extra, close=close)
