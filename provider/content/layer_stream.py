"""A layer as a file that can be read once, made while it is read: for sending it without a copy on disk.

Its end is only reached when the files were the ones that the digest names and did not change meanwhile.
"""

from __future__ import annotations

import io
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO, cast

from provider.content.cache import DigestCache
from provider.content.errors import ContentChangedError
from provider.content.layer import Hasher, Layer, LayerDigest, pieces, recall, remember, verify_unchanged
from provider.content.watch import Watch

_WHOLE = 64 * 1024  # pieces from this size on are handed on as they are, smaller ones put together


def open_layer(layer: Layer, digest: str, cache: DigestCache, watch: Watch | None = None) -> BinaryIO:
    """The tar of `layer`, which was `digest` when it was looked at. What `cache` knows is not hashed again.

    Reading, and opening where `cache` knows of it, raises `ContentChangedError` where it is another by now."""
    known = recall(layer, cache)
    if known is not None and known.digest != digest:
        raise changed_since_checked(layer.tree.root, digest, known.digest)
    return cast(BinaryIO, _Stream(layer, digest, None if known else cache, watch or Watch()))


def changed_since_checked(source: Path, expected: str, found: str) -> ContentChangedError:
    """The error for files whose layer is `found` and no longer `expected`."""
    return ContentChangedError(
        f"{source} changed since it was checked (it was {expected}, it is {found} now); wait until nothing "
        f"writes to it, then run `pulumi up` again"
    )


class _Stream(io.BufferedIOBase):
    """`cache`: where to remember the digest, of which it is not known yet whether it is still right."""

    def __init__(self, layer: Layer, digest: str, cache: DigestCache | None, watch: Watch) -> None:
        self._layer = layer
        self._digest = digest
        self._cache = cache
        self._hasher = Hasher() if cache is not None else None
        self._pieces = self._verified(watch)
        self._left: bytes | memoryview = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes, at most `size`; they may be a view that is good until the next but one call."""
        if size is None or size < 0:
            return b"".join(iter(lambda: bytes(self.read(_WHOLE)), b""))
        if not self._left:
            self._left = next(self._pieces, b"")
        data: bytes | memoryview | bytearray = self._left[:size]
        self._left = self._left[size:]
        if len(data) < min(size, _WHOLE):
            data = self._put_together(bytearray(data), size)
        return cast(bytes, data)  # a view is sent without a copy

    def close(self) -> None:
        """Closes the file that is being read."""
        if not self.closed:
            self._pieces.close()
            if self._hasher is not None:
                self._hasher.close()
        super().close()

    def _put_together(self, data: bytearray, size: int) -> bytearray:
        """Adds to `data` what follows, so long as that is small: many small files are few packets."""
        while len(data) < size:
            if not self._left:
                self._left = next(self._pieces, b"")
            if not self._left or len(self._left) >= _WHOLE:
                break
            count = min(size - len(data), len(self._left))
            data += self._left[:count]
            self._left = self._left[count:]
        return data

    def _verified(self, watch: Watch) -> Generator[bytes | memoryview, None, None]:
        """The pieces that hold something, the last only when all was right."""
        last: bytes | memoryview | None = None
        for piece in pieces(self._layer, watch, "uploading"):
            if not piece:
                continue
            if self._hasher is not None:
                self._hasher.update(piece)
            if last is not None:
                yield last
            last = piece
        self._verify()
        assert last is not None  # noqa: S101 - a tar has an end
        yield last

    def _verify(self) -> None:
        verify_unchanged(self._layer.tree)
        if self._hasher is None or self._cache is None:
            return
        found = self._hasher.finish()
        if found != self._digest:
            raise changed_since_checked(self._layer.tree.root, self._digest, found)
        remember(self._layer, LayerDigest(found, self._layer.size), self._cache)
