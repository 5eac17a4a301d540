"""The routes of a web service, and the rules that hold for all of them: identifiers, limits, errors.

The first half of a request (routing, checks) and its answer happen in the I/O thread; what calls the entry script is
`scoring`'s, in a worker. Routes keep Azure's paths, status codes, headers and error bodies.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from itertools import count
from time import perf_counter
from urllib.parse import unquote_to_bytes

from slipway_serving import __version__, logs
from slipway_serving.http1 import Front, Limits, write_response
from slipway_serving.messages import TEXT, Request, Response, error_response, identifiers, json_response
from slipway_serving.scheduler import AsyncScheduler, Scheduler
from slipway_serving.scoring import Scoring
from slipway_serving.settings import Settings

STARTING, READY, DRAINING = "starting", "ready", "draining"
ID_LIMIT = 100
"""Longest request identifier that a client may choose, as in Azure's server."""
ASYNC_CONCURRENCY = 64
"""Calls at a time of a `run` that is a coroutine function, unless the setting says otherwise."""
RETRY = (("retry-after", "1"),)
Handler = Callable[[Request], None]


class Service:
    """One service in one process. All of it runs in the I/O thread."""

    def __init__(self, settings: Settings, wake: Callable[[], None]) -> None:
        self.settings = settings
        self.state = STARTING
        self.starting_since = perf_counter()
        common = f"x-ms-server-version: slipway-serving/{__version__}\r\n"
        if settings.revision:
            common += f"slipway-revision: {settings.revision}\r\n"
        self.front = Front(self.handle, Limits(body=settings.max_body), common, self.refused)
        self.scoring = Scoring(self.front, settings.access_log)
        self.scheduler: Scheduler | AsyncScheduler = Scheduler(self.scoring.work, wake, settings.threads or 1)
        self.timeout = settings.scoring_timeout_ms / 1000
        self.queue_wait = None if settings.max_queue_wait_ms is None else settings.max_queue_wait_ms / 1000
        self._wake = wake
        self._id_prefix = str(uuid.uuid4())[:24]
        self._ids = count(int.from_bytes(uuid.uuid4().bytes[:5], "big"))
        self.routes: dict[bytes, dict[bytes, Handler]] = {
            b"/": {b"GET": self.live, b"HEAD": self.live},
            b"/ready": {b"GET": self.ready, b"HEAD": self.ready},
            b"/score": {b"POST": self.score, b"GET": self.score, b"OPTIONS": self.options},
        }

    def use_async(self) -> AsyncScheduler:
        """Prepare for a `run` that is a coroutine function; called in the main thread, before the service is ready."""
        scheduler = AsyncScheduler(self.scoring.work_async, self._wake, self.settings.threads or ASYNC_CONCURRENCY)
        self.scheduler = scheduler
        return scheduler

    def handle(self, request: Request) -> None:
        """Route a request. Answers it, or queues it for a worker."""
        headers = request.headers
        chosen = headers.get(b"x-request-id")
        if chosen is None:
            request.request_id = f"{self._id_prefix}{next(self._ids):012x}"[:36]
        elif len(chosen) <= ID_LIMIT:
            request.request_id = chosen.decode("latin-1")
        else:
            request.request_id = f"{self._id_prefix}{next(self._ids):012x}"[:36]
            return self.reply(request, error_response(431, f"x-request-id must not exceed {ID_LIMIT} characters"))
        if b"x-ms-client-request-id" in headers or b"x-ms-request-id" in headers:
            longest = max(len(headers.get(name, b"")) for name in (b"x-ms-client-request-id", b"x-ms-request-id"))
            if longest > ID_LIMIT:
                request.headers = {b"host": b""}
                message = f"x-ms-request-id and x-ms-client-request-id must not exceed {ID_LIMIT} characters"
                return self.reply(request, error_response(431, message))
        methods = self.routes.get(request.path)
        if methods is None:
            request.path = plain_path(request.path)
            methods = self.routes.get(request.path)
        if methods is None:
            return self.reply(request, self.not_found(request))
        handler = methods.get(request.method)
        if handler is None:
            allowed = ", ".join(method.decode() for method in methods)
            return self.reply(request, error_response(405, "Method not allowed", (("allow", allowed),)))
        request.route = request.path.decode()
        return handler(request)

    def not_found(self, request: Request) -> Response:
        """The answer for a path that is no route."""
        path = request.path[:200].decode("utf-8", "replace")
        return error_response(404, f"There is nothing at {path}. The service answers at /score; see /swagger.json.")

    def live(self, request: Request) -> None:
        """Liveness: the process answers, and its workers are not all hanging."""
        if self.scheduler.healthy:
            return self.reply(request, Response(200, b"Healthy", TEXT))
        stuck = self.scheduler.stuck
        return self.reply(request, error_response(500, f"{stuck} calls of run() hang and cannot be ended: restart it."))

    def ready(self, request: Request) -> None:
        """Readiness: `init` has returned and the service is not on its way out."""
        body: dict[str, object] = {"status": self.state, "revision": self.settings.revision}
        if self.state == STARTING:
            body["message"] = f"init() has been running for {perf_counter() - self.starting_since:.0f} s"
        ready = self.state == READY and self.scheduler.healthy
        return self.reply(request, json_response(200 if ready else 503, body, () if ready else RETRY))

    def options(self, request: Request) -> None:
        """OPTIONS /score, which Azure answers whether or not CORS is on."""
        return self.reply(request, Response(200, b'""'))

    def score(self, request: Request) -> None:
        """Queue a request for the entry script."""
        if self.state == STARTING:
            return self.reply(request, error_response(503, "The service is starting: init() has not returned.", RETRY))
        scheduler = self.scheduler
        if scheduler.queued >= self.settings.max_queue:
            return self.reply(request, error_response(429, f"{scheduler.queued} requests are waiting already.", RETRY))
        return scheduler.submit(request)

    def reply(self, request: Request, response: Response) -> None:
        """Answer from the I/O thread."""
        write_response(self.front, request, response, identifiers(request))
        if response.status >= 400:
            logs.request_failed(request, response.status, response.body)
        elif self.settings.access_log:
            logs.request_done(request, response.status)

    def refused(self, status: int, message: str) -> None:
        """The HTTP layer answered by itself, or cut a client off."""
        logs.warning(message, status=status)

    def deliver(self) -> None:
        """Send what the workers have finished."""
        done = self.scheduler.results()
        front = self.front
        while done:
            request, payload = done.popleft()
            close = not request.keep_alive or front.draining
            if close and request.keep_alive:
                payload = payload.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
            request.connection.answer(request, payload, close=close)

    def tick(self) -> None:
        """Enforce the time limits of requests and connections; called a few times a second."""
        self.front.tick()
        now = self.front.now
        for connection in tuple(self.front.connections):
            request = connection.active
            if request is None:
                continue
            age = now - request.started
            if age > self.timeout:
                self.expire(request)
            elif self.queue_wait is not None and not request.running and age > self.queue_wait:
                waited = self.settings.max_queue_wait_ms
                self.reply(request, error_response(503, f"No worker was free within {waited} ms.", RETRY))
        if self.scheduler.replace_overdue(now):
            logs.warning(f"run() hangs: {self.scheduler.stuck} of its calls cannot be ended; another worker takes over")

    def expire(self, request: Request) -> None:
        """Answer a request that ran out of time and end its `run`."""
        message = f"Scoring timeout after {self.settings.scoring_timeout_ms} ms"
        failed = (("x-ms-run-function-failed", "True"),) if request.running else ()
        self.reply(request, error_response(504, message, RETRY + failed))
        if request.running:
            self.scheduler.interrupt(request)


def plain_path(path: bytes) -> bytes:
    """A path without the scheme and host of an absolute request target, and without percent signs."""
    if not path.startswith(b"/"):
        _, _, rest = path.partition(b"://")
        path = b"/" + rest.partition(b"/")[2]
    return unquote_to_bytes(path)
