"""Compressed request bodies: gzip and deflate, unpacked no further than a body may be large."""

from __future__ import annotations

import zlib

from slipway_serving.binding import BadInputError
from slipway_serving.messages import Request

GZIP_OR_ZLIB = 47
RAW_DEFLATE = -15
MAX_LAYERS = 2


def unpack(request: Request, limit: int) -> None:
    """Replace the request's body by what it unpacks to.

    Raises BadInputError: 415 for an unknown Content-Encoding, 400 for a body that is not what the header says, 413
    for one that unpacks to more than `limit` bytes.
    """
    names = request.headers.pop(b"content-encoding").lower().split(b",")
    encodings = [name.strip() for name in names if name.strip() not in (b"", b"identity")]
    if len(encodings) > MAX_LAYERS or any(name not in (b"gzip", b"x-gzip", b"deflate") for name in encodings):
        raise BadInputError(415, "The Content-Encoding of the body is unknown: send it plain, as gzip or as deflate.")
    for name in reversed(encodings):
        try:
            request.body = _inflate(request.body, limit, GZIP_OR_ZLIB)
        except zlib.error as error:
            if name != b"deflate":
                raise BadInputError(
                    400, f"The body is not {name.decode()}, as its Content-Encoding says: {error}."
                ) from None
            # The name stands for zlib's format, but many clients send the bare one.
            try:
                request.body = _inflate(request.body, limit, RAW_DEFLATE)
            except zlib.error:
                raise BadInputError(400, f"The body is not deflate, as its Content-Encoding says: {error}.") from None


def _inflate(body: bytes, limit: int, window: int) -> bytes:
    unpacked: list[bytes] = []
    size = 0
    while True:
        machine = zlib.decompressobj(window)
        # A limit of 0 would mean none
        part = machine.decompress(body, max(1, limit + 1 - size))
        size += len(part)
        unpacked.append(part)
        if size > limit:
            raise BadInputError(413, f"The body of a request is limited to {limit} bytes, also after it is unpacked.")
        if not machine.eof:
            raise zlib.error("it is cut short")
        body = machine.unused_data
        if not body:
            return b"".join(unpacked)
