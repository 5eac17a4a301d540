"""Files to measure with: of random bytes, which nothing compresses and no registry has already."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PIECE = 2**20


@dataclass(frozen=True)
class Source:
    """A model to be made."""

    name: str
    bytes: int
    """Of all its files."""
    make: Callable[[Path], Path]
    """Makes it in a folder; returns its path."""


def random_file(folder: Path, size: int) -> Path:
    """A file of `size` bytes."""
    path = folder / "model.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for begin in range(0, size, _PIECE):
            file.write(os.urandom(min(_PIECE, size - begin)))
    return path


def random_files(folder: Path, count: int, size: int) -> Path:
    """A folder with `count` files of `size` bytes, a hundred in each of its folders."""
    for number in range(count):
        place = folder / "small" / f"{number // 100:03}" / f"{number % 100:02}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(os.urandom(size))
    return folder / "small"


def hash_and_copy(source: Path, target: Path) -> None:
    """The sha256 of each file, and one copy of it."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    for file in files:
        digest_of(file)
        copy = target / file.relative_to(source.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    os.sync()


def digest_of(file: Path) -> str:
    """The file's sha256, in hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def room_for(what: str, needed: int, folder: Path) -> bool:
    """Whether the disk of `folder` has `needed` bytes free; says so where it has not."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        print(f"  {what}: left out: it needs {needed / 2**30:.1f} GiB in {folder}, and {free / 2**30:.1f} are free")
    return free >= needed
