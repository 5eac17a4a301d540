"""Reads one blob, verifies it, and goes on after a cut connection.

What does not fit the digest is never served to its end: a piece is handed over only when the next one is there, or
when the whole is known to be right."""

from __future__ import annotations

import hashlib
import io
import re
from typing import Any, BinaryIO

from urllib3.exceptions import HTTPError

from provider.content.errors import CorruptBlobError
from provider.registry.errors import MissingBlobError
from provider.registry.patience import Interrupted
from provider.registry.slots import Slot
from provider.registry.transport import Response, Transport

_PIECE_BYTES = 1024 * 1024


def open_blob(transport: Transport, repository: str, scope: str, digest: str, slot: Slot) -> BinaryIO:
    """The blob's bytes, as a file that can be read once. Closing it gives `slot` back.

    Raises `MissingBlobError`; reading raises `CorruptBlobError` where the registry serves other bytes."""
    blob = _Blob(transport, repository, scope, digest, slot)
    try:
        blob.connect()
    except BaseException:
        blob.close()
        raise
    return io.BufferedReader(blob, _PIECE_BYTES)


class _Blob(io.RawIOBase):
    def __init__(self, transport: Transport, repository: str, scope: str, digest: str, slot: Slot) -> None:
        self._transport = transport
        self._repository = repository
        self._scope = scope
        self._digest = digest
        self._slot = slot
        self._attempts = transport.attempts(f"read the blob {digest[:19]} of {repository}")
        self._response: Response | None = None
        self._hash = hashlib.sha256()
        self._received = 0
        self._ready = memoryview(b"")
        self._ahead = b""
        self._ended = False

    def readable(self) -> bool:
        """Always."""
        return True

    def connect(self) -> None:
        """Begins, or goes on where the last connection broke."""
        while self._response is None:
            try:
                self._response = self._request()
            except Interrupted as interrupted:
                self._attempts.pause(interrupted)

    def readinto(self, buffer: Any) -> int:
        """The next bytes that are known to be right so far."""
        while not self._ready and not self._ended:
            self._step()
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._ready))
        target[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        """Ends the transfer."""
        if not self.closed:
            self._drop()
            self._slot.close()
        super().close()

    def _step(self) -> None:
        piece = self._receive()
        self._ready, self._ahead = memoryview(self._ahead), piece
        if piece:
            self._hash.update(piece)
            self._received += len(piece)
            return
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._digest:
            self._ready = memoryview(b"")
            raise CorruptBlobError(
                f"the blob {self._digest} of {self._repository} is corrupt: the registry {self._transport.host} serves "
                f"{self._received} bytes whose digest is {found}; delete it there and run `pulumi up --refresh`"
            )
        self._ended = True

    def _receive(self) -> bytes:
        while True:
            self.connect()
            assert self._response is not None  # noqa: S101 - what connect() is for
            self._transport.watch.check(f"reading the blob {self._digest[:19]}")
            try:
                piece = self._response.read(_PIECE_BYTES)
            except HTTPError:
                self._drop()
                self._attempts.pause(Interrupted("closed the connection"))
                continue
            if piece:
                self._attempts.progressed()
            return piece

    def _drop(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            if self._ended:
                response.release_conn()
            else:
                response.close()

    def _request(self) -> Response:
        headers = {"Range": f"bytes={self._received}-"} if self._received else {}
        path = f"/v2/{self._repository}/blobs/{self._digest}"
        response = self._transport.open("GET", path, scope=self._scope, headers=headers)
        doing = f"read the blob {self._digest[:19]} of {self._repository}"
        if response.status == 206 and self._received:
            begin = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if begin and int(begin[1]) == self._received:
                return response
        elif response.status == 200:
            return self._skipped(response)
        answer = self._transport.read(response)
        if answer.status == 404:
            raise MissingBlobError(
                f"could not {doing}: the registry {self._transport.host} does not hold it; run `pulumi up --refresh`, "
                f"which uploads what is missing",
                [self._digest],
            )
        self._transport.refuse(answer, doing)
        raise AssertionError  # refuse() always raises

    def _skipped(self, response: Response) -> Response:
        """A response from the beginning, where one from the middle was asked for."""
        left = self._received
        while left:
            try:
                piece = response.read(min(left, _PIECE_BYTES))
            except HTTPError as error:
                response.close()
                raise Interrupted("closed the connection") from error
            if not piece:
                break
            left -= len(piece)
        return response
