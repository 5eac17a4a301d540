"""Registering models: in a store on this machine, beside a copy of their files; in a registry, beside an upload."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks._choice import rounds, shrink
from benchmarks.assets.files import Source, hash_and_copy, random_file, random_files, room_for
from benchmarks.assets.sides import Sides, timed
from benchmarks.report import Row
from tests.docker.images import ROOT

_MIB = 2**20
_UPLOADS = 1.3  # so many times a plain upload may registering take

_SMALL_BYTES = 10 * 1024


def _of(name: str, count: int, size: int) -> Source:
    """A file of `count` x `size` bytes, or that many files where they are small."""
    count = max(1, count // shrink())
    name = name if shrink() == 1 else f"{name} / {shrink()}"
    if size == _SMALL_BYTES:
        return Source(name, count * size, lambda folder: random_files(folder, count, size))
    return Source(name, count * size, lambda folder: random_file(folder, count * size))


GIB_1 = _of("1 GiB", 1024, _MIB)
GIB_10 = _of("10 GiB", 10 * 1024, _MIB)
SMALL_FILES = _of("10,000 files of 10 KiB", 10_000, _SMALL_BYTES)
_ONCE = GIB_10
"""Takes minutes: measured a single time."""


@dataclass
class _Figures:
    plain: list[float]
    ours: list[float]
    again: list[float]
    peak: list[float]


def stored(sides: Sides, source: Source) -> list[Row]:
    """Into a store on this machine; beside it the sha256 of the files and one copy of them."""
    copy, store = sides.folder / "copy", sides.folder / "store"
    found = _measured(sides, source, lambda files: hash_and_copy(files, copy), lambda _: str(store), (copy, store))
    return [] if found is None else _rows(f"register {source.name}", source, found, "sha256 + copy", None)


def pushed(sides: Sides, source: Source) -> list[Row]:
    """Into a registry; beside it one plain upload: of the file, or of a tar of the folder."""
    found = _measured(sides, source, sides.upload, lambda number: f"{sides.address}/round-{number}", ())
    if found is None:
        return []
    what = f"register {source.name} in a registry"
    ratio = median(ours / plain for ours, plain in zip(found.ours, found.plain, strict=True))
    return [
        *_rows(what, source, found, "sha256 + upload", _UPLOADS),
        Row(f"{what}, to sha256 + upload", "ratio", ratio, _UPLOADS),
    ]


def _measured(
    sides: Sides,
    source: Source,
    plain: Callable[[Path], None],
    store: Callable[[int], str],
    made: tuple[Path, ...],
) -> _Figures | None:
    """Both ways in turn, with other bytes in each round, after which the folders `made` are removed; None where the
    disk has no room for the files, a copy of them and what is stored."""
    if not room_for(source.name, 3 * source.bytes, sides.folder):
        return None
    found = _Figures([], [], [], [])
    for number in range(1 if source is _ONCE else rounds()):
        files = source.make(sides.folder / "source")
        for way in ("plain", "ours") if number % 2 == 0 else ("ours", "plain"):
            if way == "plain":
                found.plain.append(timed(lambda files=files: plain(files)))
            else:
                seconds, peak = _apart(files, store(number))
                found.ours.append(seconds)
                found.peak.append(peak)
                found.again.append(_apart(files, store(number))[0])
        for folder in (sides.folder / "source", *made):
            shutil.rmtree(folder)
    return found


def _apart(source: Path, store: str) -> tuple[float, float]:
    """Seconds and peak memory (bytes) of registering, in a process of its own."""
    os.sync()
    command = [sys.executable, "-m", "benchmarks.assets.register", str(source), store]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'serving'}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return told["seconds"], told["peak"]


def _rows(what: str, source: Source, found: _Figures, beside: str, times: float | None) -> list[Row]:
    plain = median(found.plain)

    def per_byte(seconds: float) -> float:
        return seconds * 1e9 / source.bytes

    return [
        Row(what, "s", median(found.ours), None if times is None else times * plain, {beside: plain}),
        Row(f"{what}: time per byte", "ns/byte", per_byte(median(found.ours)), None, {beside: per_byte(plain)}),
        Row(f"{what} again", "s", median(found.again)),
        Row(f"{what}: peak memory", "MiB", max(found.peak) / 2**20),
    ]
