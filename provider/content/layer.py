"""Makes the files of a model into one deterministic, uncompressed tar: a layer.

The same files give the same bytes on any machine and day: entries sorted by the bytes of their paths, owners, groups
and times zero, modes 0755 (folders, executables) or 0644, every folder on the way written once before what it holds.
How an entry is written is `ustar`'s.

A layer is streamed: memory does not grow with the model. Its size is known before a byte is read. Reading is guarded:
files that change meanwhile are noticed by their signatures, never packed half old and half new.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from provider.content.cache import DigestCache, Remembered
from provider.content.errors import ContentChangedError, ContentError
from provider.content.tree import Signature, Tree, TreeFile, signature_of, walk
from provider.content.ustar import END_BYTES, folders_of, padded, padding, tar_header
from provider.content.watch import Watch

_READ_BYTES = 1024 * 1024
_WORTH_A_THREAD = 64 * 1024  # below that, handing bytes over costs more than hashing them
_FORMAT = "layer-1"  # changes whenever the bytes of a layer do, so that digests remembered before are not used

T = TypeVar("T")


@dataclass(frozen=True)
class LayerDigest:
    """What names a layer."""

    digest: str
    """`sha256:<hex>` of the tar."""
    size: int
    """Bytes of the tar."""


@dataclass(frozen=True)
class Layer:
    """The tar of `tree` as the model `name`, not made yet."""

    tree: Tree
    name: str

    @property
    def prefix(self) -> str:
        """Where the model's file or folder is inside the layer: `models/<name>/<base name>`."""
        return f"models/{self.name}/{self.tree.name}"

    @cached_property
    def size(self) -> int:
        """Bytes of the tar."""
        total = sum(len(header) + (padded(file.size) if file else 0) for header, file in self.entries())
        return total + END_BYTES

    def entries(self) -> Iterator[tuple[bytes, TreeFile | None]]:
        """Headers in order, each with the file whose content follows it (none after a folder's)."""
        written: set[str] = set()
        for file in self.tree.files:
            path = f"{self.prefix}/{file.path}" if self.tree.is_folder else self.prefix
            for folder in folders_of(path):
                if folder not in written:
                    written.add(folder)
                    yield tar_header(folder + "/", 0o755, 0, b"5"), None
            yield tar_header(path, 0o755 if file.executable else 0o644, file.size, b"0"), file


def layer_digest(source: Path, name: str, cache: DigestCache, watch: Watch | None = None) -> LayerDigest:
    """The digest of `source` (file or folder) as a layer of the model `name`; reads no file that `cache` vouches for.

    Raises `ContentError`; `ContentChangedError` where the files changed during two attempts to read them."""
    watch = watch or Watch()

    def attempt(layer: Layer) -> LayerDigest:
        known = recall(layer, cache)
        if known is None:
            known = _hash(layer, watch)
            verify_unchanged(layer.tree)
            remember(layer, known, cache)
        return known

    return _twice(source, name, watch, attempt)


def write_layer(source: Path, name: str, target: int, cache: DigestCache, watch: Watch | None = None) -> LayerDigest:
    """Writes the layer into the file descriptor `target` (a regular file, from its start) and onto the disk.

    What `cache` knows already is copied without being hashed again; anything else is hashed while it is copied.
    Raises as `layer_digest` does, and `OSError` where `target` cannot be written."""
    watch = watch or Watch()

    def attempt(layer: Layer) -> LayerDigest:
        os.lseek(target, 0, os.SEEK_SET)
        known = recall(layer, cache)
        written = _hash_and_copy(layer, target, watch) if known is None else _copy(layer, target, known, watch)
        os.ftruncate(target, written.size)
        os.fdatasync(target)
        verify_unchanged(layer.tree)
        if known is None:
            remember(layer, written, cache)
        return written

    return _twice(source, name, watch, attempt)


def recall(layer: Layer, cache: DigestCache) -> LayerDigest | None:
    """The digest remembered for the layer's files as they are."""
    known = cache.get(_subject(layer), layer.tree.signature)
    return LayerDigest(known.digest, known.size) if known is not None and known.size == layer.size else None


def remember(layer: Layer, digest: LayerDigest, cache: DigestCache) -> None:
    """Remembers the digest of the layer's files as they are."""
    tree = layer.tree
    value = Remembered(digest.digest, digest.size)
    cache.put(_subject(layer), tree.signature, value, looked_ns=tree.walked_ns, newest_ns=tree.newest_ns)


def _subject(layer: Layer) -> str:
    return f"{_FORMAT}\0{layer.name}\0{layer.tree.root}"


def _twice(source: Path, name: str, watch: Watch, attempt: Callable[[Layer], T]) -> T:
    """Runs `attempt`; once more where the files changed under it."""
    try:
        return attempt(Layer(walk(source), name))
    except ContentChangedError as error:
        watch.warning(f"{error}; reading it once more")
    try:
        return attempt(Layer(walk(source), name))
    except ContentChangedError as error:
        raise ContentChangedError(
            f"{error}, and so it did at the first attempt; wait until nothing writes to {source}, then try again"
        ) from error


# --- reading


@contextmanager
def opened(file: TreeFile) -> Iterator[int]:
    """Opens a file of a tree for reading; raises `ContentChangedError` where it is not, or does not stay, as listed."""
    with _opened(file, lambda signature: signature) as handle:
        yield handle


@contextmanager
def opened_linked(file: TreeFile) -> Iterator[int]:
    """As `opened`, for a file whose other names come and go: that changes the time of its inode (ctime) alone."""
    with _opened(file, lambda signature: (*signature[:4], *signature[5:])) as handle:
        yield handle


@contextmanager
def _opened(file: TreeFile, identity: Callable[[Signature], tuple[int, ...]]) -> Iterator[int]:
    changed = ContentChangedError(f"{file.source} changed while it was being read")
    try:
        # Not blocking: something else may be there by now, and a named pipe would wait for a writer.
        handle = os.open(file.source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise changed from None
    except OSError as error:
        raise ContentError(f"{file.source} cannot be read: {error.strerror}") from error
    try:
        if identity(signature_of(os.fstat(handle))) != identity(file.signature):
            raise changed
        yield handle
        if identity(signature_of(os.fstat(handle))) != identity(file.signature):
            raise changed
    finally:
        os.close(handle)


def _read(handle: int, buffer: memoryview, file: TreeFile) -> int:
    """Reads into `buffer`; at least one byte."""
    try:
        count = os.readv(handle, [buffer])
    except OSError as error:
        raise ContentError(f"{file.source} cannot be read: {error.strerror}") from error
    if count == 0:
        raise ContentChangedError(f"{file.source} changed while it was being read")
    return count


def verify_unchanged(tree: Tree) -> None:
    """Raises `ContentChangedError` where the files are no longer as they were listed."""
    if walk(tree.root).signature != tree.signature:
        raise ContentChangedError(f"{tree.root} changed while it was being read")


class Hasher:
    """sha256 in a thread of its own, beside the reading and writing of what comes next. Use it as a context."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Hasher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread."""
        self._pool.shutdown(wait=True)

    def update(self, data: bytes | memoryview) -> None:
        """Adds `data`, which must stay as it is until the next update has begun."""
        self._wait()
        if len(data) < _WORTH_A_THREAD:
            self._digest.update(data)
        else:
            self._pending = self._pool.submit(self._digest.update, data)

    def finish(self) -> str:
        """`sha256:<hex>` of everything."""
        self._wait()
        return f"sha256:{self._digest.hexdigest()}"

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None


def _hash(layer: Layer, watch: Watch) -> LayerDigest:
    with Hasher() as hasher:
        for data in pieces(layer, watch, "reading"):
            hasher.update(data)
        return LayerDigest(hasher.finish(), layer.size)


def pieces(layer: Layer, watch: Watch, verb: str) -> Iterator[bytes | memoryview]:
    """The bytes of the layer in order. A piece stays as it is until the next but one is asked for."""
    buffers = [memoryview(bytearray(_READ_BYTES)) for _ in range(2)]
    doing = f"{verb} {layer.name}"
    done = 0
    for header, file in layer.entries():
        yield header
        done += len(header)
        if file is None:
            continue
        watch.advance(doing, done, layer.size)
        with opened(file) as handle:
            left = file.size
            while left:
                buffers.reverse()
                count = _read(handle, buffers[0][: min(left, _READ_BYTES)], file)
                yield buffers[0][:count]
                left -= count
                done += count
                watch.advance(doing, done, layer.size)
        yield padding(file.size)
    yield bytes(END_BYTES)


# --- copying


def _copy(layer: Layer, target: int, known: LayerDigest, watch: Watch) -> LayerDigest:
    # Not inside the kernel (sendfile): a tar's contents begin anywhere in a page, and moving pages to such places
    # takes half as long again as this (0.64 s and 0.45 s for 1 GiB on ext4).
    for data in pieces(layer, watch, "copying"):
        _write(target, data)
    return known


def _hash_and_copy(layer: Layer, target: int, watch: Watch) -> LayerDigest:
    """Takes the time of hashing or of copying, whichever is longer."""
    with Hasher() as hasher:
        for data in pieces(layer, watch, "copying"):
            hasher.update(data)
            _write(target, data)
        return LayerDigest(hasher.finish(), layer.size)


def _write(target: int, data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(target, left) :]
    if len(data) == _READ_BYTES and hasattr(os, "posix_fadvise"):
        # What is written starts for the disk now, so that the flush at the end has little to wait for.
        position = os.lseek(target, 0, os.SEEK_CUR)
        os.posix_fadvise(target, position - len(data), len(data), os.POSIX_FADV_DONTNEED)
