"""HTTP/1.1 on an asyncio transport: reads requests, keeps their order, enforces the limits of a connection.

Written on the protocol callbacks rather than on ASGI, because an ASGI server costs a task and two queues a request
(docs/decisions/0009-http-without-asgi.md), and because draining and slow clients need the connection itself.
What a request means is `Front.handle`'s business; this module answers only what never became a request.
All of it runs in the I/O thread.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import gmtime, perf_counter, time
from typing import cast

import httptools

from slipway_serving import logs
from slipway_serving.heap import LARGE
from slipway_serving.messages import Request, Response, error_response, identifiers, serialise

IDLE, HEAD, BODY = range(3)
MAX_HEADERS = 100
PLAIN_HEAD = 4096
"""Bytes up to which the head of a request cannot break a rule about sizes."""
MAX_TARGET = 8192
"""Bytes of a request target: path and query."""
LINGER_BYTES = 4 * 1024 * 1024
LINGER_TIME = 2.0
"""How much and how long a connection is read, after its last answer, before it is closed the hard way."""
MIN_RATE = 1024.0
"""Bytes a second under which a client counts as stalled."""


def date_line(seconds: float) -> str:
    """The Date header. By hand, since `strftime` would use the language that a script sets."""
    now = gmtime(seconds)
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[now.tm_wday]
    month = "JanFebMarAprMayJunJulAugSepOctNovDec"[now.tm_mon * 3 - 3 : now.tm_mon * 3]
    clock = f"{now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
    return f"date: {day}, {now.tm_mday:02} {month} {now.tm_year} {clock} GMT\r\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost. Times in seconds, sizes in bytes."""

    body: int
    """Largest request body, also after decompression."""
    head_time: float
    """From the first byte of a request to the end of its headers."""
    stall_time: float
    """What a body may take to arrive, or a response to leave, on top of the time its size needs at `MIN_RATE`."""
    idle_time: float
    """Between requests on a kept connection."""
    head: int = 64 * 1024
    """Largest request head."""
    pipelined: int = 16
    """Requests read ahead of the one in work."""


@dataclass(slots=True)
class Front:
    """What the connections of a process share. Lives in the I/O thread."""

    handle: Callable[[Request], None]
    """Takes a complete request; answers it at once or later through `Connection.answer`."""
    limits: Limits
    common: str = ""
    """Header lines that every response carries."""
    lines: Callable[[Request], str] = identifiers
    """Header lines that depend on the request."""
    refused: Callable[[int, str], None] = lambda status, message: None
    """Told of every answer that this module gives by itself, for the log and the metrics."""
    left: Callable[[Request], None] = lambda request: None
    """Told of the request in work, already marked as answered, whose client is gone."""
    connections: set[Connection] = field(default_factory=set)
    draining: bool = False
    now: float = field(default_factory=perf_counter)
    """A coarse clock, renewed by `tick`: exact enough for time limits, and free to read."""
    date: str = field(default_factory=lambda: date_line(time()))
    date_second: int = 0
    large: int = 0
    """Large bodies that came since whoever looks after the memory set this to 0."""

    def tick(self) -> None:
        """Renew the clock and end the connections that are past a time limit."""
        self.now = perf_counter()
        second = int(time())
        if second != self.date_second:
            self.date_second = second
            self.date = date_line(second)
        for connection in tuple(self.connections):
            connection.check_time(self.now)


class Connection(asyncio.Protocol):
    """One client. Requests are answered in the order they came, one at a time."""

    __slots__ = (
        "active",
        "body",
        "body_size",
        "dead",
        "feed",
        "front",
        "head_size",
        "headers",
        "lingering",
        "parser",
        "paused",
        "since",
        "state",
        "target",
        "transport",
        "waiting",
        "write_left",
        "write_since",
    )

    def __init__(self, front: Front) -> None:
        self.front = front
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.parser = httptools.HttpRequestParser(self)
        self.feed = self.parser.feed_data
        self.state = IDLE
        self.since = front.now
        self.headers: dict[bytes, bytes] = {}
        self.target = b""
        self.body: list[bytes] = []
        self.body_size = 0
        self.head_size = 0
        self.active: Request | None = None
        self.waiting: deque[Request | bytes] = deque()
        self.paused = False
        self.dead = False
        self.lingering = -1
        self.write_since = 0.0
        self.write_left = 0

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.since = self.front.now
        self.front.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.front.connections.discard(self)
        self.dead = True
        if self.active is not None:
            request, self.active = self.active, None
            request.answered = True
            self.front.left(request)
        self.waiting.clear()

    def eof_received(self) -> bool:
        """A client that shut its sending half still gets the answers to what it sent whole."""
        self.dead = True
        return self.active is not None or bool(self.waiting) or bool(self.transport.get_write_buffer_size())

    def pause_writing(self) -> None:
        self.write_since = self.front.now
        self.write_left = self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        self.write_since = 0.0
        self.next()

    def data_received(self, data: bytes) -> None:
        if self.dead:
            if self.lingering >= 0:
                self.lingering += len(data)
                if self.lingering > LINGER_BYTES:
                    self.transport.abort()
            return
        self.head_size += len(data)
        try:
            self.feed(data)
        except httptools.HttpParserUpgrade:
            self.dead = True
        except httptools.HttpParserCallbackError as error:
            logs.error(f"this server failed to take a request: {''.join(traceback.format_exception(error))}")
            if not self.dead:
                self.refuse(500, "The server failed to take the request. Check the logs for more info.")
        except httptools.HttpParserError as error:
            if not self.dead:
                self.refuse(400, f"The request is not valid HTTP/1.1: {error}.")
        else:
            if self.state == HEAD and self.head_size > self.front.limits.head and not self.dead:
                self.refuse(431, f"The head of a request is limited to {self.front.limits.head} bytes.")

    # -- the parser's side

    def on_message_begin(self) -> None:
        self.headers = {}
        self.target = b""
        self.body = []
        self.body_size = 0
        self.state = HEAD
        self.since = self.front.now

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        headers = self.headers
        if name in headers:
            value = headers[name] + b", " + value
        headers[name] = value

    def on_headers_complete(self) -> None:
        front = self.front
        self.state = BODY
        self.since = front.now
        headers = self.headers
        if (
            self.head_size > PLAIN_HEAD
            or b"expect" in headers
            or b"transfer-encoding" in headers
            or b"host" not in headers
            or len(headers) > MAX_HEADERS
            or len(headers.get(b"content-length", b"")) > 3
        ):
            self.check_head()

    def check_head(self) -> None:
        """The rules for a request's head that most requests are too plain to break."""
        if self.dead:
            return None
        headers = self.headers
        limits = self.front.limits
        if self.head_size > limits.head:
            size = len(self.target) + sum(len(name) + len(value) + 4 for name, value in headers.items())
            if size > limits.head:
                return self.refuse(431, f"The head of a request is limited to {limits.head} bytes.")
        if len(headers) > MAX_HEADERS:
            return self.refuse(431, f"A request is limited to {MAX_HEADERS} headers.")
        if len(self.target) > MAX_TARGET:
            return self.refuse(414, f"The target of a request is limited to {MAX_TARGET} bytes.")
        if b"host" not in headers and self.parser.get_http_version() == "1.1":
            return self.refuse(400, "An HTTP/1.1 request needs a Host header.")
        if b"content-length" in headers:
            length = headers[b"content-length"]
            if b"transfer-encoding" in headers:
                return self.refuse(400, "A request has either Content-Length or Transfer-Encoding, not both.")
            if length.isdigit() and int(length[:20]) > limits.body:
                return self.refuse(413, f"The body of a request is limited to {limits.body} bytes.")
        if b"expect" in headers:
            if headers[b"expect"].lower() != b"100-continue":
                return self.refuse(417, "The only expectation that is met is 100-continue.")
            if self.active is None and not self.waiting:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    def on_body(self, body: bytes) -> None:
        if self.dead:
            return None
        self.body_size += len(body)
        if self.body_size > self.front.limits.body:
            return self.refuse(413, f"The body of a request is limited to {self.front.limits.body} bytes.")
        self.body.append(body)
        return None

    def on_message_complete(self) -> None:
        self.state = IDLE
        self.head_size = 0
        if self.dead:
            return
        parser = self.parser
        method = parser.get_method()
        keep_alive = parser.should_keep_alive()
        body = self.body
        path, _, query = self.target.partition(b"?")
        headers = self.headers
        if b"upgrade" in headers or method == b"CONNECT":
            keep_alive = False
            self.dead = True
        if len(body) == 1:
            content = body[0]
        else:
            content = b"".join(body)
            self.body = []
            if len(content) >= LARGE:
                self.front.large += 1
        request = Request(self, method, path, query, headers, content, keep_alive, perf_counter())
        if self.active is None and not self.waiting and not self.write_since:
            self.active = request
            self.front.handle(request)
            return
        self.waiting.append(request)
        if len(self.waiting) >= self.front.limits.pipelined and not self.paused:
            self.paused = True
            self.transport.pause_reading()

    # -- answers

    def answer(self, request: Request, payload: bytes, *, close: bool) -> None:
        """Write the response to the request in work and go on with the next one.

        A request that was answered already (a time limit, a client that left) is passed over.
        """
        if request.answered:
            return
        request.answered = True
        self.active = None
        self.since = self.front.now
        self.transport.write(payload)
        if close:
            self.dead = True
            self.transport.close()
        elif self.waiting:
            self.next()
        elif self.dead:
            self.transport.close()

    def next(self) -> None:
        """Take up requests that were read ahead."""
        while self.waiting and self.active is None and not self.write_since and not self.transport.is_closing():
            item = self.waiting.popleft()
            if self.paused and len(self.waiting) * 2 <= self.front.limits.pipelined:
                self.paused = False
                self.transport.resume_reading()
            if isinstance(item, bytes):
                self.end(item)
                return
            self.active = item
            self.front.handle(item)
        if self.dead and self.active is None and not self.waiting and self.lingering < 0:
            self.transport.close()

    def refuse(self, status: int, message: str) -> None:
        """Answer what is not, or not yet, a request; then this connection ends, after the answers before it."""
        self.dead = True
        self.state = IDLE
        front = self.front
        front.refused(status, message)
        payload = serialise(error_response(status, message), front.date + front.common, close=True)
        if self.active is None and not self.waiting:
            self.end(payload)
        else:
            self.waiting.append(payload)

    def end(self, payload: bytes) -> None:
        """Write the last bytes and close, late enough that a client which is still sending reads them.

        Closing at once while data is unread makes the kernel send a reset, which throws the answer away.
        """
        self.transport.write(payload)
        self.since = self.front.now
        if self.transport.can_write_eof():
            self.lingering = 0
            self.transport.write_eof()
        else:
            self.transport.close()

    def check_time(self, now: float) -> None:
        """End what is past a time limit; called a few times a second."""
        limits = self.front.limits
        age = now - self.since
        if self.write_since and now - self.write_since > limits.stall_time:
            left = self.transport.get_write_buffer_size()
            if self.write_left - left < MIN_RATE * limits.stall_time:
                self.front.refused(0, "a client that did not read its response was cut off")
                self.transport.abort()
            self.write_since, self.write_left = now, left
        elif self.lingering >= 0:
            if age > LINGER_TIME:
                self.transport.abort()
        elif self.active is not None or self.waiting:
            return
        elif self.dead:
            if age > limits.stall_time and not self.write_since:
                self.transport.abort()
        elif self.state == HEAD:
            if age > limits.head_time:
                self.refuse(408, f"The head of the request did not arrive within {limits.head_time:g} s.")
        elif self.state == BODY:
            if age > limits.stall_time + self.body_size / MIN_RATE:
                self.refuse(408, f"The body of the request came too slowly: {self.body_size} bytes in {age:.0f} s.")
        elif age > limits.idle_time:
            self.transport.close()

    def is_idle(self) -> bool:
        """True between requests, with nothing left to write."""
        return self.active is None and not self.waiting and self.state == IDLE


def write_response(front: Front, request: Request, response: Response) -> None:
    """Serialise and send from the I/O thread."""
    close = not request.keep_alive or front.draining
    extra = front.date + front.common + front.lines(request)
    payload = serialise(response, extra, close=close, without_body=request.method == b"HEAD")
    request.connection.answer(request, payload, close=close)
