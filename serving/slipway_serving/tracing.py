"""OpenTelemetry traces over OTLP/HTTP (JSON), when OTEL_EXPORTER_OTLP_ENDPOINT or ..._TRACES_ENDPOINT is set.

One span for each request of the model, and one inside it for the call of `run`; a `traceparent` header is continued.
Spans are sent by a thread of their own, in batches; where the collector is away they are dropped, and no request
waits for it. Source: the OTLP 1.x specification and the HTTP semantic conventions of OpenTelemetry.
"""

from __future__ import annotations

import http.client
import os
import queue
import re
import threading
import urllib.request
from collections.abc import Mapping
from time import perf_counter, time_ns
from typing import Any
from urllib.parse import unquote

import orjson

from slipway_serving import __version__, logs
from slipway_serving.messages import Request, name

QUEUE = 4096
BATCH = 512
INTERVAL = 2.0
"""Seconds between two batches."""
TIMEOUT = 5.0
PARENT = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
SERVER, INTERNAL = 2, 1
FAILED = 2


class Tracer:
    """Collects the spans of a process and sends them."""

    def __init__(self, endpoint: str, environ: Mapping[str, str], service: str, revision: str) -> None:
        self._endpoint = endpoint
        self._headers = {"Content-Type": "application/json"}
        for pair in (environ.get("OTEL_EXPORTER_OTLP_HEADERS") or "").split(","):
            name, found, value = pair.partition("=")
            if found:
                self._headers[name.strip()] = unquote(value.strip())
        resource = {"service.name": environ.get("OTEL_SERVICE_NAME") or service, "service.version": revision}
        self._resource = {"attributes": _attributes({name: value for name, value in resource.items() if value})}
        try:
            self._share = min(1.0, max(0.0, float(environ.get("OTEL_TRACES_SAMPLER_ARG") or 1.0)))
        except ValueError:
            self._share = 1.0
        self._offset = time_ns() - int(perf_counter() * 1e9)
        self._spans: queue.Queue[dict[str, Any]] = queue.Queue(QUEUE)
        self._stopping = threading.Event()
        self._complained = False
        self._thread = threading.Thread(target=self._send_all, name="slipway-traces", daemon=True)
        self._thread.start()

    def record(self, request: Request, status: int) -> None:
        """Keep the span of an answered request. Called in the I/O thread; never waits."""
        found = PARENT.match(request.headers.get(b"traceparent", b"").decode("latin-1"))
        trace = found[1] if found else os.urandom(16).hex()
        if found is not None:
            if not int(found[3], 16) & 1:
                return
        elif int(trace[16:], 16) >= self._share * 2**64:
            return
        span = os.urandom(8).hex()
        end = perf_counter()
        method = request.method.decode("latin-1")
        attributes = {
            "http.request.method": method,
            "http.route": request.route,
            "http.response.status_code": status,
            "slipway.request_id": name(request),
        }
        self._keep(
            f"{method} {request.route}",
            trace,
            span,
            found[2] if found else "",
            SERVER,
            request.started,
            end,
            attributes,
            status,
        )
        if request.executed_ms is not None:
            # The call ended just before the answer; its own start is not kept, to spare every request a clock.
            self._keep("run", trace, os.urandom(8).hex(), span, INTERNAL, end - request.executed_ms / 1000, end, {}, 0)

    def _keep(
        self,
        name: str,
        trace: str,
        span: str,
        parent: str,
        kind: int,
        start: float,
        end: float,
        attributes: dict[str, Any],
        status: int,
    ) -> None:
        entry: dict[str, Any] = {
            "traceId": trace,
            "spanId": span,
            "name": name,
            "kind": kind,
            "startTimeUnixNano": str(self._offset + int(start * 1e9)),
            "endTimeUnixNano": str(self._offset + int(end * 1e9)),
            "attributes": _attributes(attributes),
        }
        if parent:
            entry["parentSpanId"] = parent
        if status >= 500:
            entry["status"] = {"code": FAILED}
        try:
            self._spans.put_nowait(entry)
        except queue.Full:
            return

    def close(self) -> None:
        """Send what is left, for at most the time one batch may take."""
        self._stopping.set()
        self._thread.join(TIMEOUT)

    def _send_all(self) -> None:
        while True:
            last = self._stopping.wait(INTERVAL)
            while not self._spans.empty():
                batch = [self._spans.get_nowait() for _ in range(min(BATCH, self._spans.qsize()))]
                self._send(batch)
            if last:
                return

    def _send(self, spans: list[dict[str, Any]]) -> None:
        scope = {"name": "slipway-serving", "version": __version__}
        message = {"resourceSpans": [{"resource": self._resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]}
        request = urllib.request.Request(self._endpoint, orjson.dumps(message), self._headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310 - the operator's own setting
                self._complained = False
        except (OSError, ValueError, http.client.HTTPException) as error:
            if not self._complained:
                self._complained = True
                logs.warning(f"traces cannot be sent and are dropped until they can: {error}")


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": name, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for name, value in values.items()
    ]
