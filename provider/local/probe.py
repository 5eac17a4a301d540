"""A small HTTP client: one request, one answer, over a Unix socket or TCP.

For the readiness checks and the sample request of a rollout, in the supervisor and in the provider. It asks for the
connection to be closed after the answer and understands `content-length`, `chunked` and bodies that end with the
connection. What an answer means is decided elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl  # of no use to a supervisor, which does without its memory

REVISION_HEADER = "slipway-revision"
MAX_BODY = 64 * 1024
"""How much of a body is kept, in bytes; the rest is read and dropped."""


@dataclass(frozen=True)
class Answer:
    """An HTTP response: status, headers by lower-case name, and the beginning of the body."""

    status: int
    headers: dict[str, str]
    body: bytes
    certificate: bytes | None = None
    """What the server showed of itself, over TLS (DER)."""

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def revision(self) -> str | None:
        """The revision that answered, where the answer says so."""
        return self.headers.get(REVISION_HEADER)

    def excerpt(self, length: int = 500) -> str:
        """The beginning of the body as one line of text."""
        return " ".join(self.body.decode("utf-8", "replace").split())[:length]


class NoAnswerError(Exception):
    """No HTTP response came: nobody listens, the connection broke, or what came is not HTTP."""


Address = Path | tuple[str, int]
"""A Unix socket's path, or host and port."""


async def ask(
    address: Address,
    path: str,
    *,
    timeout: float,  # noqa: ASYNC109 - the caller has one number for connecting and answering
    body: bytes | None = None,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """GET `path`, or POST `body` to it. Raises `NoAnswerError`, also when `timeout` seconds have passed."""
    try:
        async with asyncio.timeout(timeout):
            return await _exchange(address, path, body, {**(headers or {}), "content-type": content_type}, tls)
    except TimeoutError:
        raise NoAnswerError(f"no answer to {path} within {timeout:g} s") from None
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise NoAnswerError(f"no answer to {path}: {error or type(error).__name__}") from error


async def _exchange(
    address: Address, path: str, body: bytes | None, fields: Mapping[str, str], tls: ssl.SSLContext | None
) -> Answer:
    if isinstance(address, Path):
        reader, writer = await asyncio.open_unix_connection(address)
        host = "localhost"
    else:
        reader, writer = await asyncio.open_connection(*address, ssl=tls)
        host = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
    try:
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"
        sent = fields if body is not None else {name: text for name, text in fields.items() if name != "content-type"}
        head += "".join(f"{name}: {text}\r\n" for name, text in sent.items())
        if body is not None:
            head += f"content-length: {len(body)}\r\n"
        writer.write(head.encode("latin-1") + b"\r\n" + (body or b""))
        await writer.drain()
        shown = writer.get_extra_info("ssl_object")
        certificate = None if shown is None else shown.getpeercert(binary_form=True)
        return replace(await _answer(reader), certificate=certificate)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> Answer:
    while True:
        status_line = (await reader.readuntil(b"\r\n")).decode("latin-1")
        version, _, rest = status_line.partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(f"what answers does not speak HTTP: {status_line.strip()[:80]!r}")
        status = int(rest[:3])
        headers = await _headers(reader)
        if status >= 200:
            return Answer(status, headers, await _body(reader, headers))


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    while (line := (await reader.readuntil(b"\r\n")).decode("latin-1").strip()) and len(headers) < 200:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return headers


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body = (body + await reader.readexactly(size))[:MAX_BODY]
            await reader.readexactly(2)
        return body
    length = headers.get("content-length")
    if length is not None:
        return (await reader.readexactly(int(length)))[:MAX_BODY]
    body = b""
    while piece := await reader.read(65536):
        body = (body + piece)[:MAX_BODY]
    return body
