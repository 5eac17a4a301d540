"""A request as the HTTP layer hands it on, a response as a handler gives it back, and the bytes between them.

Nothing here knows of sockets, threads or routes: `http1` reads and writes, `service` decides.
"""

from __future__ import annotations

import http
import uuid
from itertools import count
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

    # Defaults of the class, so that making a request sets only what every request has.
    answered = False
    running = False
    request_id = ""
    route = "other"
    executed_ms: float | None = None
    context: Any = None

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


class Response:
    """Status, body and headers of an answer. Header names and values are latin-1 text without line breaks.

    `tail` is what follows `body`: large buffers that are copied once, into what is sent.
    """

    __slots__ = ("body", "content_type", "headers", "status", "tail")

    def __init__(
        self,
        status: int,
        body: bytes,
        content_type: str = JSON,
        headers: tuple[tuple[str, str], ...] = (),
        tail: tuple[memoryview, ...] = (),
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.tail = tail


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
    status = response.status
    body = response.body
    if status == 200 and not response.headers and not close and not without_body:
        kind = response.content_type
        return (
            f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{extra}\r\n".encode(
                "latin-1", "replace"
            )
            + body
        )
    lines = ""
    for name, value in (("content-type", response.content_type), *response.headers):
        if not name or any(c in "\r\n\0: " for c in name) or any(c in "\r\n\0" for c in value):
            raise ValueError(f"the response header {name!r} holds a line break or is no header name")
        lines += f"{name}: {value}\r\n"
    if close:
        lines += "connection: close\r\n"
    reason = REASONS.get(status) or f"{status} Status"
    if status in (204, 304):
        return f"HTTP/1.1 {reason}\r\n{extra}{lines}\r\n".encode("latin-1", "replace")
    length = len(body) + sum(part.nbytes for part in response.tail)
    head = f"HTTP/1.1 {reason}\r\n{lines}content-length: {length}\r\n{extra}\r\n".encode("latin-1", "replace")
    return head if without_body else b"".join([head, body, *response.tail])


_prefix = str(uuid.uuid4())[:24]
_numbers = count(int.from_bytes(uuid.uuid4().bytes[:5], "big"))


def name(request: Request) -> str:
    """The request's identifier: the client's, or one made now, unique by the process and a count."""
    if not request.request_id:
        request.request_id = f"{_prefix}{next(_numbers) & 0xFFFFFFFFFFFF:012x}"
    return request.request_id


def identifiers(request: Request) -> str:
    """The header lines that name a request, by Azure's rules for the old and the new name of the client's own."""
    headers = request.headers
    number = request.request_id or name(request)
    lines = f"x-request-id: {number}\r\n"
    if b"x-ms-client-request-id" in headers or b"x-ms-request-id" in headers:
        legacy = headers.get(b"x-ms-request-id", b"").decode("latin-1")
        client = headers.get(b"x-ms-client-request-id", b"").decode("latin-1") or legacy
        lines += f"x-ms-request-id: {legacy or client}\r\nx-ms-client-request-id: {client}\r\n"
    else:
        lines += f"x-ms-request-id: {number}\r\n"
    if b"traceid" in headers:
        lines += f"TraceId: {headers[b'traceid'].decode('latin-1')}\r\n"
    return lines
