"""Extracted model layers: unpacked once for all services of a workspace, verified, read-only.

A layer comes from the workspace's store or from a registry (`layers`) as one tar whose entries lie under
`models/<name>/`. It is read once, as a stream: its digest is verified on the way, and the result is renamed into place
only when that was right. Who uses a layer, and when it goes, is `shared`'s matter.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from provider.content.errors import CorruptBlobError
from provider.local.layers import Open, in_layout
from provider.local.layout import PARTIAL, hexadecimal, locked, models, remove_tree
from provider.resource import ResourceError

_PIECE = 1024 * 1024


def extracted(home: Path, digest: str, is_cancelled: Callable[[], bool], open_layer: Open | None = None) -> Path:
    """The directory with the content of the layer `digest`, made where it is not there yet.

    `open_layer`: where it comes from; by default the workspace's store. The caller holds the workspace's shared lock.
    Raises `ResourceError` where the store does not have the layer, or a damaged one, and `ContentError`."""
    place = models(home) / hexadecimal(digest)
    if place.is_dir():
        return place
    open_layer = open_layer or in_layout(home / "store", digest)
    with locked(place.with_name(f".{place.name}.lock")):  # two services with one model: the second waits
        if place.is_dir():
            return place
        partial = place.with_name(f"{PARTIAL}{place.name}")
        remove_tree(partial)
        try:
            with open_layer() as file:
                _extract(file, digest, partial, is_cancelled)
            partial.rename(place)
        except FileNotFoundError as error:
            raise ResourceError(
                f"the workspace's store has no layer {digest} ({error.filename} is missing). "
                "Run `pulumi up --refresh`: it registers what is missing again."
            ) from error
        finally:
            remove_tree(partial)
    return place


class _Watched:
    """A file that is read once from its beginning, for as long as somebody wants it."""

    def __init__(self, file: IO[bytes], is_cancelled: Callable[[], bool]) -> None:
        self._file = file
        self._is_cancelled = is_cancelled

    def read(self, size: int) -> bytes:
        if self._is_cancelled():
            raise ResourceError("cancelled while a model was being extracted; what was begun is removed")
        return self._file.read(size)


def _extract(file: IO[bytes], digest: str, target: Path, is_cancelled: Callable[[], bool]) -> None:
    target.mkdir()
    source = _Watched(file, is_cancelled)
    try:
        with tarfile.open(fileobj=source, mode="r|", bufsize=_PIECE) as archive:  # type: ignore[call-overload]
            for entry in archive:
                _place(archive, entry, target)
        while source.read(_PIECE):  # to the end, where it turns out whether all was right
            pass
    except CorruptBlobError as error:
        raise ResourceError(f"layer {digest} is damaged: {error}") from error
    except tarfile.TarError as error:
        raise ResourceError(
            f"layer {digest} is damaged: {error}. Remove it from where it is stored and run `pulumi up --refresh`: the "
            f"model is registered again."
        ) from error
    except OSError as error:
        raise ResourceError(f"layer {digest} could not be extracted to {target.parent}: {error}") from error


def _place(archive: tarfile.TarFile, entry: tarfile.TarInfo, target: Path) -> None:
    parts = PurePosixPath(entry.name).parts
    if not parts or parts[0] != "models" or ".." in parts:
        raise tarfile.TarError(f"the entry {entry.name!r} does not lie under models/")
    path = target.joinpath(*parts)
    if entry.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    content = archive.extractfile(entry) if entry.isreg() else None
    if content is None:
        raise tarfile.TarError(f"the entry {entry.name!r} is neither a file nor a directory")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444)
    with os.fdopen(descriptor, "wb") as file:
        while piece := content.read(_PIECE):
            file.write(piece)
        # A power cut after the rename must not leave an empty model that looks whole.
        file.flush()
        os.fsync(file.fileno())
