"""The tar of a layer that is put together from files, generated contents and links: uncompressed and deterministic.

Entries are sorted by the bytes of their paths, each folder stands before what it holds, owners and times are zero. The
tar is never held as a whole: it is read once to know its digest, and again by whoever stores it. A file that changes
in between is noticed by its signature (`ContentChangedError`), and by the receiver's digest.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO, cast

from provider.content.errors import ContentChangedError, ContentError
from provider.content.layer import opened, opened_linked
from provider.content.modelpack import Blob
from provider.content.tree import Tree, TreeFile
from provider.content.ustar import END_BYTES, FILE, FOLDER, LINK, folders_of, padding, tar_header

_READ_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Generated:
    """A file whose content is not on the disk."""

    content: bytes
    executable: bool = False


@dataclass(frozen=True)
class Linked:
    """A file that has other names, as one that is linked to an installer's cache: they come and go while it is read."""

    file: TreeFile


@dataclass(frozen=True)
class Folder:
    """A folder that is there even where it holds nothing."""


Entry = TreeFile | Linked | Generated | Link | Folder


def files_below(prefix: str, tree: Tree) -> dict[str, Entry]:
    """The files of `tree` as entries below `prefix`."""
    return {f"{prefix}/{file.path}": file for file in tree.files}


class Archive:
    """A tar with `entries` by path (relative, no slash at the end)."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = sorted(entries.items(), key=lambda item: item[0].encode())

    @cached_property
    def blob(self) -> Blob:
        """Digest and size of the tar; reads the files."""
        digest, size = hashlib.sha256(), 0
        for piece in self.pieces():
            digest.update(piece)
            size += len(piece)
        return Blob(f"sha256:{digest.hexdigest()}", size)

    def open(self) -> BinaryIO:
        """The tar as a stream."""
        return cast(BinaryIO, io.BufferedReader(_Pieces(self.pieces()), _READ_BYTES))

    def pieces(self) -> Iterator[bytes]:
        """The bytes of the tar in order."""
        written: set[str] = set()
        for path, entry in self._entries:
            for folder in folders_of(path if not isinstance(entry, Folder) else f"{path}/"):
                if folder not in written:
                    written.add(folder)
                    yield tar_header(f"{folder}/", 0o755, 0, FOLDER)
            match entry:
                case Folder():
                    pass
                case Link():
                    yield tar_header(path, 0o777, 0, LINK, entry.target)
                case Generated():
                    size = len(entry.content)
                    yield tar_header(path, _mode(entry.executable), size, FILE) + entry.content + padding(size)
                case TreeFile():
                    yield from _file(path, entry, opened(entry))
                case Linked():
                    yield from _file(path, entry.file, opened_linked(entry.file))
        yield bytes(END_BYTES)


def _file(path: str, file: TreeFile, opening: AbstractContextManager[int]) -> Iterator[bytes]:
    yield tar_header(path, _mode(file.executable), file.size, FILE)
    left = file.size
    with opening as handle:
        while left:
            try:
                data = os.read(handle, min(left, _READ_BYTES))
            except OSError as error:
                raise ContentError(f"{file.source} cannot be read: {error.strerror}") from error
            if not data:
                raise ContentChangedError(f"{file.source} changed while it was being read")
            left -= len(data)
            yield data
    yield padding(file.size)


def _mode(executable: bool) -> int:
    return 0o755 if executable else 0o644


class _Pieces(io.RawIOBase):
    """Pieces of bytes as a file to read."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
