"""A proxy before a registry that does wrong what it is told to, and remembers what was asked of it."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PIECE = 64 * 1024
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass
class Request:
    """What a client asked."""

    method: str
    path: str
    headers: dict[str, str]
    received: int = 0
    """Bytes of the body that were read."""


@dataclass
class Fault:
    """What to do with a request that matches."""

    method: str
    path: str
    """A regular expression, searched for."""
    act: Callable[[Handler], None]
    times: int = 1
    met: int = field(default=0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy
    asked: Request

    def log_message(self, *_: Any) -> None:
        """Silent."""

    def _handle(self) -> None:
        self.asked = Request(self.command, self.path, dict(self.headers.items()))
        fault = self.proxy.take(self.asked)
        if fault is None:
            self.forward()
        else:
            fault.act(self)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

    # --- what faults are made of

    def body(self, most: int | None = None) -> bytes:
        """The request's body, or the first bytes of it."""
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length if most is None else min(most, length))
        self.asked.received += len(data)
        return data

    def forward(
        self,
        *,
        change: Callable[[dict[str, str], bytes], bytes] | None = None,
        answer: bool = True,
        cut_answer_after: int | None = None,
    ) -> None:
        """Hands the request on, and the registry's answer back."""
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.upstream, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            left = int(self.headers.get("Content-Length") or 0)
            while left and (data := self.rfile.read1(min(_PIECE, left))):
                left -= len(data)
                self.asked.received += len(data)
                connection.send(data)
            response = connection.getresponse()
            content = response.read()
            if not answer:
                self.cut()
                return
            got = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP}
            if change is not None:
                content = change(got, content)
            self._reply(response.status, got, content, cut_answer_after)
        finally:
            connection.close()

    def answer(self, status: int, headers: dict[str, str] | None = None, content: bytes = b"") -> None:
        """An answer of the proxy's own, after the whole request was read."""
        self.body()
        self._reply(status, {"Content-Length": str(len(content)), **(headers or {})}, content, None)

    def _reply(self, status: int, headers: dict[str, str], content: bytes, cut_after: int | None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:cut_after])
        self.wfile.flush()
        if cut_after:
            # Without a reset, which would throw away what the client has not read yet.
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_WR)
        elif cut_after == 0:
            self.cut()

    def cut(self) -> None:
        """Ends the connection as a machine does that vanishes: with a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


class FaultyProxy(ThreadingHTTPServer):
    """Listens on a port of its own while it is entered."""

    daemon_threads = True

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self.requests: list[Request] = []
        self.released = threading.Event()
        """Set at the end: whatever stands still goes on."""
        handler = type("BoundHandler", (Handler,), {"proxy": self})
        super().__init__(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: connections break here on purpose."""

    def when(self, method: str, path: str, act: Callable[[Handler], None], times: int = 1) -> Fault:
        """Does `act` with the next `times` requests that match."""
        fault = Fault(method, path, act, times)
        with self._lock:
            self._faults.append(fault)
        return fault

    def take(self, asked: Request) -> Fault | None:
        with self._lock:
            self.requests.append(asked)
            for fault in self._faults:
                if fault.met < fault.times and fault.method == asked.method and re.search(fault.path, asked.path):
                    fault.met += 1
                    return fault
        return None

    def asked(self, method: str, path: str = "") -> list[Request]:
        """The requests so far that match."""
        with self._lock:
            return [item for item in self.requests if item.method == method and re.search(path, item.path)]


def answers(status: int, content: bytes = b"", **headers: str) -> Callable[[Handler], None]:
    """Answers instead of the registry."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.answer(status, named, content)


def cuts_upload(after: int) -> Callable[[Handler], None]:
    """Reads `after` bytes of the body, then resets the connection. The registry hears nothing of it."""

    def act(handler: Handler) -> None:
        handler.body(after)
        handler.cut()

    return act


def keeps_upload(after: int) -> Callable[[Handler], None]:
    """As `cuts_upload`, before a registry that keeps what it received (as Distribution 3 and Harbor do).

    The registry here gets those bytes as a whole PATCH, and the next question about the upload is asked at the
    place that it named then."""

    def act(handler: Handler) -> None:
        data = handler.body(after)
        path = re.sub(r"&digest=[^&]*", "", handler.path)
        connection = http.client.HTTPConnection("127.0.0.1", handler.proxy.upstream, timeout=60)
        connection.request("PATCH", path, data, {"Host": handler.headers["Host"]})
        response = connection.getresponse()
        response.read()
        connection.close()
        place = str(response.headers["Location"]).partition(handler.headers["Host"])[2]

        def ask_there(later: Handler) -> None:
            later.path = place
            later.forward()

        handler.proxy.when("GET", re.escape(path), ask_there)
        handler.cut()

    return act


def loses_answer(handler: Handler) -> None:
    """The registry does it, and the client does not hear of it."""
    handler.forward(answer=False)


def cuts_download(after: int) -> Callable[[Handler], None]:
    """Hands on `after` bytes of the answer, then ends the connection."""
    return lambda handler: handler.forward(cut_answer_after=after)


def stands_still(handler: Handler) -> None:
    """Answers nothing before the end of the test."""
    handler.proxy.released.wait()
    handler.cut()


def changes(change: Callable[[dict[str, str], bytes], bytes]) -> Callable[[Handler], None]:
    """Changes the registry's answer: `change` may edit the headers, and returns the body."""
    return lambda handler: handler.forward(change=change)
