"""A request as the HTTP layer hands it on, a response as a handler gives it back, and the bytes between them.

Nothing here knows of sockets, threads or routes: `http1` reads and writes, `service` decides.
"""

from __future__ import annotations

import http
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from slipway_serving.http1 import Connection

REASONS = {status.value: f"{status.value} {status.phrase}" for status in http.HTTPStatus}
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


class Request:
    """One HTTP request, read to its end.

    `headers` has lower-case names; a header that came several times is joined with ", ".
    `started` is `time.perf_counter()` at the moment the last byte was read. `answered` is set in the I/O thread alone,
    the moment a response is on its way, or the client gone: whatever comes later is dropped.
    """

    __slots__ = (
        "answered",
        "body",
        "connection",
        "context",
        "executed_ms",
        "headers",
        "keep_alive",
        "method",
        "path",
        "query",
        "request_id",
        "route",
        "running",
        "started",
    )

    def __init__(
        self,
        connection: Connection,
        method: bytes,
        path: bytes,
        query: bytes,
        headers: dict[bytes, bytes],
        body: bytes,
        keep_alive: bool,
        started: float,
    ) -> None:
        self.connection = connection
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.keep_alive = keep_alive
        self.started = started
        self.answered = False
        self.running = False
        self.request_id = ""
        self.route = "other"
        self.executed_ms: float | None = None
        self.context: Any = None


class Response:
    """Status, body and headers of an answer. Header names and values are latin-1 text without line breaks."""

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self, status: int, body: bytes, content_type: str = JSON, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers


def json_response(status: int, value: object, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """`value` as a JSON body."""
    return Response(status, orjson.dumps(value), JSON, headers)


def error_response(status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """An error as Azure's server words it: a JSON object with the one member `message`."""
    return Response(status, orjson.dumps({"message": message.encode("utf-8", "replace").decode()}), JSON, headers)


def serialise(response: Response, extra: str, *, close: bool, without_body: bool = False) -> bytes:
    """The bytes of a response. `extra` is finished header lines, each with its CR LF.

    Raises ValueError where a header would break out of its line, which is how a response is split by an attacker.
    """
    lines = ""
    if response.headers:
        for name, value in response.headers:
            if not name or any(c in "\r\n\0: " for c in name) or any(c in "\r\n\0" for c in value):
                raise ValueError(f"the response header {name!r} holds a line break or is no header name")
            lines += f"{name}: {value}\r\n"
    body = response.body
    if close:
        lines += "connection: close\r\n"
    status = response.status
    reason = REASONS.get(status) or f"{status} Status"
    if status == 204 or status == 304 or status < 200:
        return f"HTTP/1.1 {reason}\r\n{extra}{lines}\r\n".encode("latin-1", "replace")
    kind = f"content-type: {response.content_type}\r\ncontent-length: {len(body)}\r\n"
    head = f"HTTP/1.1 {reason}\r\n{kind}{extra}{lines}\r\n".encode("latin-1", "replace")
    return head if without_body else head + body


def identifiers(request: Request) -> str:
    """The header lines that name a request, by Azure's rules for the old and the new name of the client's own."""
    headers = request.headers
    number = request.request_id
    if b"x-ms-client-request-id" in headers or b"x-ms-request-id" in headers:
        legacy = headers.get(b"x-ms-request-id", b"").decode("latin-1")
        client = headers.get(b"x-ms-client-request-id", b"").decode("latin-1") or legacy
        lines = f"x-request-id: {number}\r\nx-ms-request-id: {legacy or client}\r\nx-ms-client-request-id: {client}\r\n"
    else:
        lines = f"x-request-id: {number}\r\nx-ms-request-id: {number}\r\n"
    if b"traceid" in headers:
        lines += f"TraceId: {headers[b'traceid'].decode('latin-1')}\r\n"
    if request.executed_ms is not None:
        lines += f"x-ms-run-fn-exec-ms: {request.executed_ms:.3f}\r\n"
    return lines
