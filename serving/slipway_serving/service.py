"""The routes of a web service, and the rules that hold for all of them: identifiers, limits, errors.

The first half of a request (routing, checks) and its answer happen in the I/O thread; what calls the entry script is
`scoring`'s, in a worker. Routes keep Azure's paths, status codes, headers and error bodies.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

from slipway_serving import __version__, collection, logs, metrics, v2
from slipway_serving.access import CHALLENGE, Keys
from slipway_serving.binding import Run, bind, encode, is_raw
from slipway_serving.cors import Cors
from slipway_serving.failures import StartError, where_main_is
from slipway_serving.heap import Heap
from slipway_serving.http1 import Front, Limits, write_response
from slipway_serving.messages import TEXT, Request, Response, error_response, identifiers, json_response, name
from slipway_serving.model import ServedModel, of_script
from slipway_serving.scheduler import AsyncScheduler, Batching, Scheduler
from slipway_serving.scoring import Endpoint, RunMany, Scoring
from slipway_serving.settings import Settings, otlp_endpoint

if TYPE_CHECKING:
    from slipway_serving.tls import Certificate
    from slipway_serving.tracing import Tracer

STARTING, READY, DRAINING = "starting", "ready", "draining"
NAMED = frozenset((b"x-request-id", b"x-ms-request-id", b"x-ms-client-request-id"))
"""Headers with which a client names its request."""
NOT_READY = "The service is starting: init() has not returned."
STARTING_NOTICE = 30.0
"""Seconds of `init` after which the log says where it is, again and again."""
ID_LIMIT = 100
"""Longest request identifier that a client may choose, as in Azure's server."""
ASYNC_CONCURRENCY = 64
"""Calls at a time of a `run` that is a coroutine function, unless the setting says otherwise."""
TRACED = ("/score", "/v2/infer")
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
        self.cors = Cors(settings.cors_origins)
        lines = self.lines if self.cors else identifiers
        limits = Limits(
            body=settings.max_body,
            head_time=settings.client_timeout,
            stall_time=settings.client_timeout,
            idle_time=settings.keep_alive,
        )
        self.front = Front(self.handle, limits, common, lines, self.refused, self.left)
        self.unattended: set[Request] = set()
        """Requests that were answered, or whose clients left, while their calls went on."""
        self.tracer: Tracer | None = None
        endpoint = otlp_endpoint(os.environ)
        if endpoint is not None:
            from slipway_serving.tracing import Tracer

            self.tracer = Tracer(endpoint, os.environ, settings.service_name, settings.revision)
        self.keys = Keys(settings.primary_key, settings.secondary_key, settings.keys_file)
        self.guarded = bool(self.keys)
        self.certificate: Certificate | None = None
        if settings.tls_certificate is not None and settings.tls_key is not None:
            from slipway_serving.tls import Certificate

            self.certificate = Certificate(settings.tls_certificate, settings.tls_key)
        self.metrics = metrics.Metrics()
        self.model: ServedModel | None = None
        self.descriptions: dict[str, Response] = {}
        self.scoring = Scoring(self.front, settings.access_log)
        if settings.collect_dir is not None:
            collection.active = self.scoring.collector = collection.Collector(
                settings.collect_dir,
                settings.service_name,
                settings.revision,
                settings.worker,
                settings.collect_sample,
                settings.collect_redact,
                settings.collect_max_bytes,
            )
        self.scheduler: Scheduler | AsyncScheduler = Scheduler(self.scoring.work, wake, settings.threads or 1)
        self.timeout = settings.scoring_timeout_ms / 1000
        self.queue_wait = None if settings.max_queue_wait_ms is None else settings.max_queue_wait_ms / 1000
        self._wake = wake
        self._each_second_at = 0.0
        self.heap = Heap()
        self._turned_away = 0
        self._next_notice = self.starting_since + STARTING_NOTICE
        self.max_queue = settings.max_queue
        self.routes: dict[bytes, dict[bytes, Handler]] = {
            b"/": {b"GET": self.live, b"HEAD": self.live},
            b"/ready": {b"GET": self.ready, b"HEAD": self.ready},
            b"/score": {b"POST": self.score, b"GET": self.score, b"OPTIONS": self.options},
            b"/swagger.json": {b"GET": self.swagger},
            b"/metrics": {b"GET": self.show_metrics},
        }
        self.names = {path: path.decode() for path in self.routes}

    def batch(self, run_many: RunMany | None, what: str) -> None:
        """Work in batches if the settings ask for it. Raises StartError where the model does not allow it."""
        size = self.settings.max_batch_size
        if size <= 1:
            return
        if run_many is None:
            raise StartError("BatchError", f"--max-batch-size is {size}, but {what}.")
        self.scoring.run_many = run_many
        assert isinstance(self.scheduler, Scheduler)  # noqa: S101
        self.scheduler.batching = Batching(self.scoring.work_many, size, self.settings.max_batch_wait_ms / 1000)

    def use_script(self, run: Run) -> None:
        """Serve this `run`. Raises StartError where requests cannot be given to it."""
        arguments = bind(run)
        self.model = of_script(run, self.settings.service_name, self.settings.model_dir)
        inferring = v2.Inferring(self.model, v2.script_feed(run))
        if is_raw(run):
            # Such a script answers preflight requests by itself.
            self.routes[b"/score"][b"OPTIONS"] = self.score
        self.scoring.run = run
        self.scoring.collected_as = (self.model.name, self.model.version)
        self.scoring.endpoints = {
            "/score": Endpoint(arguments, lambda _, result: encode(result), error_response),
            "/v2/infer": Endpoint(inferring.arguments, inferring.encode, v2.v2_error),
        }

    def use_model(self, model_dir: Path) -> None:
        """Load and serve a model without a script. Raises StartError. Called in the main thread."""
        # Imported here, since NumPy and the frameworks are not every service's.
        from slipway_serving import frameworks, scriptless

        loaded = frameworks.load(model_dir, self.settings.framework)
        predictor = scriptless.Predictor(loaded)
        model = scriptless.describe(loaded, self.settings.service_name, self.settings.model_dir)
        inferring = v2.Inferring(model, predictor.feed)
        self.scoring.run = predictor.run
        self.scoring.collected_as = (model.name, model.version)
        self.scoring.endpoints = {
            "/score": Endpoint(predictor.arguments, predictor.encode, error_response),
            "/v2/infer": Endpoint(inferring.arguments, inferring.encode, v2.v2_error),
        }
        self.model = model
        run_many = predictor.run_many if loaded.batchable else None
        self.batch(run_many, "this model's rows depend on each other, or their number is fixed")

    def lines(self, request: Request) -> str:
        """The header lines of a response, with those for pages of other origins."""
        return identifiers(request) + self.cors.lines(request)

    def use_async(self) -> AsyncScheduler:
        """Prepare for a `run` that is a coroutine function; called in the main thread, before the service is ready."""
        scheduler = AsyncScheduler(self.scoring.work_async, self._wake, self.settings.threads or ASYNC_CONCURRENCY)
        self.scheduler = scheduler
        return scheduler

    def handle(self, request: Request) -> None:
        """Route a request. Answers it, or queues it for a worker."""
        headers = request.headers
        if not NAMED.isdisjoint(headers) and not self.take_identifiers(request):
            return None
        methods = self.routes.get(request.path)
        if methods is None:
            request.path = plain_path(request.path)
            methods = self.routes.get(request.path)
            if methods is None:
                if request.path == b"/v2" or request.path.startswith(b"/v2/"):
                    return self.v2(request)
                return self.reply(request, self.not_found(request))
        request.route = self.names[request.path]
        handler = methods.get(request.method)
        if handler is None:
            if request.method == b"OPTIONS" and self.cors:
                return self.options(request)
            allowed = ", ".join(method.decode() for method in methods)
            return self.reply(request, error_response(405, "Method not allowed", (("allow", allowed),)))
        return handler(request)

    def take_identifiers(self, request: Request) -> bool:
        """Keep the identifiers that the client chose; False where one was too long, which is answered."""
        headers = request.headers
        chosen = headers.get(b"x-request-id")
        if chosen is not None:
            if len(chosen) > ID_LIMIT:
                self.reply(request, error_response(431, f"x-request-id must not exceed {ID_LIMIT} characters"))
                return False
            request.request_id = chosen.decode("latin-1")
        if any(len(headers.get(name, b"")) > ID_LIMIT for name in (b"x-ms-client-request-id", b"x-ms-request-id")):
            request.headers = {}
            message = f"x-ms-request-id and x-ms-client-request-id must not exceed {ID_LIMIT} characters"
            self.reply(request, error_response(431, message))
            return False
        return True

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
        return self.reply(request, Response(200, b"", TEXT))

    def swagger(self, request: Request) -> None:
        """GET /swagger.json?version=2|3|3.1; made once for each version."""
        if self.guarded and self.turned_away(request):
            return None
        if self.model is None:
            return self.reply(request, error_response(503, NOT_READY, RETRY))
        version = dict(parse_qsl(request.query.decode("latin-1"))).get("version", "2")
        if version not in self.descriptions:
            from slipway_serving import swagger

            settings = self.settings
            try:
                described = swagger.describe(
                    version,
                    self.scoring.run,
                    settings.service_name,
                    settings.service_version,
                    settings.path_prefix,
                    [settings.source_directory, settings.app_root],
                    [self.model.name, *self.model.aliases],
                )
                response = json_response(200, described)
            except swagger.SwaggerError as error:
                return self.reply(request, error_response(404, str(error)))
            self.descriptions[version] = response
        return self.reply(request, self.descriptions[version])

    def show_metrics(self, request: Request) -> None:
        """GET /metrics, for Prometheus."""
        snapshot = self.snapshot()
        if self.settings.metrics_dir is not None:
            snapshot = metrics.add([snapshot, *metrics.of_others(self.settings.metrics_dir, self.settings.worker)])
        body = metrics.render(snapshot, self.labels())
        return self.reply(request, Response(200, body, metrics.CONTENT_TYPE))

    def snapshot(self) -> metrics.Snapshot:
        """What this process has counted."""
        active = [connection.active for connection in self.front.connections]
        in_flight = sum(1 for request in active if request is not None and request.route != "/metrics")
        dropped = 0 if self.scoring.collector is None else self.scoring.collector.dropped
        return self.metrics.snapshot(in_flight, self.scheduler.queued(), dropped)

    def labels(self) -> dict[str, str]:
        """The labels of every sample."""
        model = self.model
        labels = {"service": self.settings.service_name, "revision": self.settings.revision}
        if model is not None:
            labels |= {"model": model.name, "model_version": model.version}
        return labels

    def v2(self, request: Request) -> None:
        """Everything below /v2: the Open Inference Protocol."""
        found = v2.split_path(request.path)
        method = request.method
        request.route = "/v2"
        if method == b"OPTIONS" and self.cors:
            return self.options(request)
        if found is None:
            return self.reply(request, v2.v2_error(404, "there is no such path in the protocol"))
        name, version, action = found
        if name is not None:
            return self.v2_model(request, name, version, action)
        ready = self.state == READY and self.scheduler.healthy
        routes = {
            "": (b"GET", v2.server_metadata),
            "health/live": (b"GET", lambda: json_response(200, {"live": True})),
            "health/ready": (b"GET", lambda: json_response(200 if ready else 503, {"ready": ready})),
            "repository/index": (
                b"POST",
                lambda: json_response(200, []) if self.model is None else v2.repository_index(self.model, ready),
            ),
        }
        if action not in routes:
            return self.reply(request, v2.v2_error(404, "there is no such path in the protocol"))
        wanted, answer = routes[action]
        if method != wanted:
            return self.reply(request, v2.v2_error(405, "method not allowed", (("allow", wanted.decode()),)))
        return self.reply(request, answer())

    def v2_model(self, request: Request, name: str, version: str | None, action: str) -> None:
        """The paths of one model."""
        if self.guarded and action != "ready" and self.turned_away(request):
            return None
        model = self.model
        if model is None:
            return self.reply(request, v2.v2_error(503, NOT_READY, RETRY))
        if not model.answers_to(name, version):
            asked = name[:200] if version is None else f"{name[:200]} version {version[:200]}"
            message = f"there is no model {asked}; this service has {model.name} version {model.version}"
            return self.reply(request, v2.v2_error(404, message))
        wanted = {"": b"GET", "ready": b"GET", "infer": b"POST"}.get(action)
        if wanted is None:
            return self.reply(request, v2.v2_error(404, "there is no such path in the protocol"))
        if request.method != wanted:
            return self.reply(request, v2.v2_error(405, "method not allowed", (("allow", wanted.decode()),)))
        if action == "infer":
            request.route = "/v2/infer"
            return self.enqueue(request)
        if action == "ready":
            ready = self.state == READY and self.scheduler.healthy
            return self.reply(request, json_response(200 if ready else 503, {"name": model.name, "ready": ready}))
        return self.reply(request, v2.model_metadata(model))

    def score(self, request: Request) -> None:
        """POST and GET /score, and OPTIONS for a script under @rawhttp."""
        if self.guarded:
            if request.method == b"OPTIONS":
                # A preflight request carries no key, and without one nobody reaches the script.
                return self.options(request)
            if self.turned_away(request):
                return None
        return self.enqueue(request)

    def enqueue(self, request: Request) -> None:
        """Queue a request for the model, unless too many wait already."""
        if self.state == STARTING:
            return self.fail(request, 503, NOT_READY)
        if self.scheduler.queued() >= self.max_queue:
            return self.fail(request, 429, f"{self.scheduler.queued()} requests are waiting already.")
        return self.scheduler.submit(request)

    def turned_away(self, request: Request) -> bool:
        """Whether a request without a good key was answered."""
        refusal = self.keys.refuse(request)
        if refusal is None:
            return False
        status, message = refusal
        make = v2.v2_error if request.path.startswith(b"/v2") else error_response
        self.reply(request, make(status, message, CHALLENGE if status == 401 else ()))
        return True

    def fail(self, request: Request, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Turn a request away for now, in the words of the protocol it came by."""
        make = v2.v2_error if request.path.startswith(b"/v2") else error_response
        return self.reply(request, make(status, message, RETRY + headers))

    def reply(self, request: Request, response: Response) -> None:
        """Answer from the I/O thread."""
        if request.answered:
            return
        write_response(self.front, request, response)
        self.metrics.observe(
            request.route, b"%d" % response.status, perf_counter() - request.started, request.executed_ms
        )
        if response.status in (429, 503) and self.state == READY:
            # A flood of them is told as a number: writing each down would cost more than the requests.
            self._turned_away += 1
        elif response.status >= 400:
            logs.request_failed(request, response.status, response.body)
        elif self.settings.access_log:
            logs.request_done(request, response.status)

    def refused(self, status: int, message: str) -> None:
        """The HTTP layer answered by itself, or cut a client off."""
        self.metrics.cut_off += 1
        logs.warning(message, status=status or None)

    def left(self, request: Request) -> None:
        """Keep the time of a call that nobody waits for any more: it would hold its worker for good if it hung.

        `answered` is set and only then `running` looked at, a worker does the opposite: a call that this overlooks does
        not begin.
        """
        if request.running:
            self.unattended.add(request)

    def deliver(self) -> None:
        """Send what the workers have finished."""
        done = self.scheduler.results()
        front = self.front
        observe = self.metrics.observe
        while done:
            request, payload = done.popleft()
            if request.answered:
                self.unattended.discard(request)
                continue
            observe(request.route, payload[9:12], perf_counter() - request.started, request.executed_ms)
            if self.tracer is not None:
                self.tracer.record(request, int(payload[9:12]))
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
                self.fail(request, 503, f"No worker was free within {self.settings.max_queue_wait_ms} ms.")
                self.left(request)
        if self.unattended:
            self.end_unattended(now)
        if now > self._each_second_at:
            self._each_second_at = now + 1.0
            self.each_second()
        if self.scheduler.replace_overdue(now):
            logs.warning(f"run() hangs: {self.scheduler.stuck} of its calls cannot be ended; another worker takes over")

    def each_second(self) -> None:
        """What is looked after once a second: files that may have changed, numbers for the other workers."""
        if self.state == STARTING and perf_counter() > self._next_notice:
            self._next_notice += STARTING_NOTICE
            where = where_main_is()
            logs.warning(f"init() has been running for {perf_counter() - self.starting_since:.0f} s{where}")
        if self._turned_away:
            logs.warning(f"{self._turned_away} requests were turned away (429, 503) since the last look, a second ago")
            self._turned_away = 0
        if self.front.large:
            # Once more after the last of them is answered.
            if not any(connection.active is not None for connection in self.front.connections):
                self.front.large = 0
            self.heap.give_back()
        self.keys.reload()
        if self.certificate is not None:
            self.certificate.reload()
        if self.settings.metrics_dir is not None:
            metrics.publish(self.settings.metrics_dir, self.settings.worker, self.snapshot())

    def expire(self, request: Request) -> None:
        """Answer a request that ran out of time and end its `run`."""
        message = f"Scoring timeout after {self.settings.scoring_timeout_ms} ms"
        failed = (("x-ms-run-function-failed", "True"),) if request.running else ()
        self.fail(request, 504, message, failed)
        if request.running:
            self.scheduler.interrupt(request)

    def end_unattended(self, now: float) -> None:
        """End the calls that are past their time and that nobody waits for."""
        for request in [request for request in self.unattended if now - request.started > self.timeout]:
            self.unattended.discard(request)
            logs.warning(
                f"a call whose client had left was ended after {self.settings.scoring_timeout_ms} ms",
                request_id=name(request),
            )
            self.scheduler.interrupt(request)


def plain_path(path: bytes) -> bytes:
    """A path without the scheme and host of an absolute request target, and without percent signs."""
    if not path.startswith(b"/"):
        _, _, rest = path.partition(b"://")
        path = b"/" + rest.partition(b"/")[2]
    return unquote_to_bytes(path)
