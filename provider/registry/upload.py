"""Sends one blob: in a single request, or in pieces where the registry takes no large ones; after a cut connection it
goes on where the registry stopped receiving, or begins anew.

The steps are those of the distribution specification ("Pushing blobs"). The registry compares what it received with
the digest; until then the blob cannot be seen.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, cast
from urllib.parse import urljoin

from provider.content.errors import ContentChangedError, ContentError
from provider.content.watch import Watch
from provider.registry.answers import Answer
from provider.registry.errors import RegistryError
from provider.registry.patience import Interrupted
from provider.registry.transport import Transport

_PIECE_BYTES = 16 * 1024 * 1024  # for a registry or a proxy that answered 413
_BINARY = "application/octet-stream"

Source = Callable[[], BinaryIO]


@dataclass(frozen=True)
class Upload:
    """One blob on its way into one repository."""

    transport: Transport
    repository: str
    """The full name."""
    scope: str
    digest: str
    size: int
    source: Source

    @property
    def doing(self) -> str:
        """Reads on from "could not"."""
        return f"upload the blob {self.digest[:19]} ({self.size} bytes) to {self.repository}"

    def run(self, is_there: Callable[[], bool], piece_bytes: int | None = None) -> None:
        """Uploads. `is_there`: whether the registry holds the blob by now, which a lost answer leaves open.

        `piece_bytes`: the size of the requests; None: one for all."""
        attempts = self.transport.attempts(self.doing)
        session = _Session(self, piece_bytes)
        rejected = False
        while True:
            try:
                session.go_on()
                return
            except Interrupted as interrupted:
                if session.moved_on():
                    attempts.progressed()
                attempts.pause(interrupted)
                if session.sent_all and is_there():
                    return
            except _TooLargeError as error:
                session.give_up()
                if session.piece_bytes is not None:
                    self.transport.refuse(error.answer, self.doing)
                session = _Session(self, _PIECE_BYTES)
            except _OtherDigestError:
                session.give_up()
                if rejected:
                    raise ContentChangedError(
                        f"could not {self.doing}: what was read is not what the digest says; wait until nothing writes "
                        f"to the files, then run `pulumi up` again"
                    ) from None
                rejected = True
                session = _Session(self, session.piece_bytes)
            except ContentError:
                session.give_up()
                raise


class _TooLargeError(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class _OtherDigestError(Exception):
    """The registry received other bytes than the digest says."""


class _Session:
    """What the registry knows of an upload."""

    def __init__(self, upload: Upload, piece_bytes: int | None) -> None:
        self._upload = upload
        self._transport = upload.transport
        self.piece_bytes = piece_bytes
        self.sent_all = False
        self._location: str | None = None
        self._offset = 0
        self._interrupted = False
        self._best = 0

    def moved_on(self) -> bool:
        """Whether the registry has more than when it was last asked."""
        moved, self._best = self._offset > self._best, max(self._offset, self._best)
        return moved

    def go_on(self) -> None:
        """Sends what is missing. Raises `Interrupted` where that may be tried again."""
        if self._interrupted:
            self._find_out()
        if self._location is None:
            self._begin()
        self._interrupted = True  # until it is known otherwise
        if self._offset == 0 and self.piece_bytes is None:
            self._finish(self._body(0, self._upload.size), self._upload.size)
            return
        while self._offset < self._upload.size:
            self._send_piece()
        self._finish(b"", 0)

    def give_up(self) -> None:
        """Tells the registry that nothing more comes, as far as it still listens; it also finds out by itself."""
        location, self._location = self._location, None
        if location is not None:
            with contextlib.suppress(Interrupted, RegistryError):
                self._transport.send("DELETE", location, scope=self._upload.scope)

    def _begin(self) -> None:
        path = f"/v2/{self._upload.repository}/blobs/uploads/"
        answer = self._transport.send("POST", path, scope=self._upload.scope, headers={"Content-Length": "0"})
        if answer.status != 202:
            self._transport.refuse(answer, self._upload.doing)
        self._offset = 0
        self._take_location(answer, path)
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        if self.piece_bytes is not None and least.isdigit():
            self.piece_bytes = max(self.piece_bytes, int(least))

    def _find_out(self) -> None:
        """Asks how much of the upload has arrived; where the registry does not say, the upload begins anew."""
        location, self._interrupted = self._location, False
        if location is None:
            return
        try:
            answer = self._transport.send("GET", location, scope=self._upload.scope)
        except Interrupted:
            self._interrupted = True
            raise
        if answer.is_retried:
            self._interrupted = True
            self._transport.refuse(answer, self._upload.doing)
        received = _received(answer)
        if received is None or received > self._upload.size:
            self.give_up()
            return
        self._offset = received
        self._take_location(answer, location)

    def _send_piece(self) -> None:
        size = self._upload.size - self._offset
        if self.piece_bytes is not None:
            size = min(size, self.piece_bytes)
        headers = {
            "Content-Type": _BINARY,
            "Content-Length": str(size),
            "Content-Range": f"{self._offset}-{self._offset + size - 1}",
        }
        location = self._location or ""
        answer = self._transport.send(
            "PATCH", location, scope=self._upload.scope, headers=headers, body=self._body(self._offset, size)
        )
        if answer.status not in (201, 202, 204):
            self._refuse(answer)
        self._take_location(answer, location)
        self._offset += size

    def _finish(self, body: bytes | Callable[[], BinaryIO], size: int) -> None:
        location = self._location or ""
        url = f"{location}{'&' if '?' in location else '?'}digest={self._upload.digest}"
        headers = {"Content-Type": _BINARY, "Content-Length": str(size)}
        self.sent_all = True
        answer = self._transport.send("PUT", url, scope=self._upload.scope, headers=headers, body=body)
        if answer.status not in (201, 204):
            self._refuse(answer)

    def _refuse(self, answer: Answer) -> None:
        if answer.status == 413:
            raise _TooLargeError(answer)
        codes = answer.codes()
        if "DIGEST_INVALID" in codes:
            raise _OtherDigestError
        if answer.status in (404, 416) or codes & {"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "RANGE_INVALID"}:
            # The registry lost the upload, or has another part of it than was thought: nothing to go on with.
            self.give_up()
            raise Interrupted(f"lost the upload (it answered {answer.said()})")
        self._transport.refuse(answer, self._upload.doing)

    def _take_location(self, answer: Answer, base: str) -> None:
        location = answer.headers.get("Location")
        if not location:
            raise RegistryError(
                f"could not {self._upload.doing}: the registry {self._transport.host} does not say where to; check "
                f"that the address is that of a registry"
            )
        self._location = urljoin(urljoin(self._transport.address.url, base), location)

    def _body(self, offset: int, size: int) -> Callable[[], BinaryIO]:
        upload = self._upload
        return lambda: cast(BinaryIO, _Part(upload.source(), offset, size, upload, self._transport.watch))


def _received(answer: Answer) -> int | None:
    """How many bytes of an upload the registry has; None where it does not know the upload any more.

    `Range: 0-N` names the last byte, so that one byte and none look alike for some registries: none is believed."""
    match = re.fullmatch(r"(?:bytes=)?0-(\d+)", answer.headers.get("Range", ""))
    if answer.status not in (200, 202, 204) or not match:
        return None
    last = int(match[1])
    return last + 1 if last > 0 else 0


class _Part(io.BufferedIOBase):
    """`size` bytes of a source from `offset` on, with progress; a source that ends early is an error of its own."""

    def __init__(self, source: BinaryIO, offset: int, size: int, upload: Upload, watch: Watch) -> None:
        self._source = source
        self._left = size
        self._upload = upload
        self._watch = watch
        self._done = offset
        self._skip(offset)

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes; empty after the last."""
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        if not wanted:
            return b""
        self._watch.advance(f"uploading {self._upload.digest[7:19]}", self._done, self._upload.size)
        data = self._take(wanted)
        self._left -= len(data)
        self._done += len(data)
        return data

    def readable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Closes the source as well."""
        if not self.closed:
            self._source.close()
        super().close()

    def _skip(self, offset: int) -> None:
        if offset and self._source.seekable():
            self._source.seek(offset)
            return
        while offset:
            offset -= len(self._take(min(offset, 1024 * 1024)))

    def _take(self, wanted: int) -> bytes:
        try:
            data = self._source.read(wanted)
        except OSError as error:
            # Not to be taken for a fault of the connection.
            raise ContentError(
                f"could not {self._upload.doing}: reading it failed: {error.strerror or error}"
            ) from error
        if not data:
            raise ContentChangedError(
                f"could not {self._upload.doing}: it ended {self._upload.size - self._done} bytes too early; wait "
                f"until nothing writes to the files, then run `pulumi up` again"
            )
        return data
