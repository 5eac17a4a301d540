"""A layer that is sent while it is made: the same bytes as on disk, and nothing else is ever sent to its end."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from provider.content.cache import DigestCache
from provider.content.errors import CancelledError, ContentChangedError
from provider.content.layer import Layer, layer_digest, recall, write_layer
from provider.content.layer_stream import open_layer
from provider.content.tree import walk
from provider.content.watch import Watch

MIB = 2**20


@pytest.fixture
def cache(tmp_path: Path) -> DigestCache:
    return DigestCache(tmp_path / "cache", racy_ns=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "many").mkdir(parents=True)
    (folder / "big.bin").write_bytes(os.urandom(3 * MIB + 7))
    (folder / "even.bin").write_bytes(os.urandom(64 * 1024))
    (folder / "empty").touch()
    for number in range(50):
        (folder / "many" / f"{number}.txt").write_bytes(os.urandom(number * 40))
    return folder


def on_disk(folder: Path, target: Path) -> bytes:
    with target.open("w+b") as file:
        write_layer(folder, "m", file.fileno(), DigestCache(target.with_name("none")))
    return target.read_bytes()


def read(layer: Layer, digest: str, cache: DigestCache, size: int) -> bytes:
    with open_layer(layer, digest, cache) as stream:
        data = bytearray()
        while piece := stream.read(size):
            assert len(piece) <= size
            data += piece
        return bytes(data)


@pytest.mark.parametrize("size", [1, 4096, 64 * 1024, MIB, 5 * MIB])
def test_the_bytes_are_those_of_the_layer(folder: Path, cache: DigestCache, tmp_path: Path, size: int) -> None:
    digest = layer_digest(folder, "m", cache).digest
    expected = on_disk(folder, tmp_path / "layer.tar")
    assert read(Layer(walk(folder), "m"), digest, cache, size) == expected
    with open_layer(Layer(walk(folder), "m"), digest, cache) as stream:
        assert stream.read() == expected


def test_small_files_are_put_together(folder: Path, cache: DigestCache) -> None:
    digest = layer_digest(folder, "m", cache).digest
    with open_layer(Layer(walk(folder), "m"), digest, cache) as stream:
        pieces = list(iter(lambda: len(stream.read(MIB)), 0))
    assert len(pieces) < 12


def test_what_is_not_remembered_is_hashed_on_the_way_and_remembered_then(
    folder: Path, cache: DigestCache, tmp_path: Path
) -> None:
    layer = Layer(walk(folder), "m")
    expected = on_disk(folder, tmp_path / "layer.tar")
    digest = f"sha256:{hashlib.sha256(expected).hexdigest()}"
    assert recall(layer, cache) is None
    assert read(layer, digest, cache, MIB) == expected
    known = recall(layer, cache)
    assert known is not None
    assert known.digest == digest


def test_what_is_remembered_as_another_is_not_even_begun(folder: Path, cache: DigestCache) -> None:
    layer_digest(folder, "m", cache)
    with pytest.raises(ContentChangedError, match=f"{folder} changed since it was checked"):
        open_layer(Layer(walk(folder), "m"), f"sha256:{'0' * 64}", cache)


def test_what_turns_out_to_be_another_never_ends(folder: Path, cache: DigestCache) -> None:
    layer = Layer(walk(folder), "m")
    received: list[int] = []
    with open_layer(layer, f"sha256:{'0' * 64}", cache) as stream:
        with pytest.raises(ContentChangedError, match="it was sha256:0000"):
            received.extend(len(piece) for piece in iter(lambda: stream.read(MIB), b""))
        assert 0 < sum(received) < layer.size


def test_a_file_that_changes_meanwhile_is_told(folder: Path, cache: DigestCache) -> None:
    digest = layer_digest(folder, "m", cache).digest
    with open_layer(Layer(walk(folder), "m"), digest, cache) as stream:
        stream.read(1024)
        (folder / "many" / "49.txt").write_bytes(b"other")
        with pytest.raises(ContentChangedError, match=r"49\.txt changed while it was being read"):
            stream.read()


def test_a_file_that_is_added_meanwhile_is_told(folder: Path, cache: DigestCache) -> None:
    digest = layer_digest(folder, "m", cache).digest
    with open_layer(Layer(walk(folder), "m"), digest, cache) as stream:
        stream.read(1024)
        (folder / "new").touch()
        with pytest.raises(ContentChangedError, match=f"{folder} changed while it was being read"):
            stream.read()


def test_the_wish_to_stop_is_heeded(folder: Path, cache: DigestCache) -> None:
    digest = layer_digest(folder, "m", cache).digest
    watch = Watch()
    with open_layer(Layer(walk(folder), "m"), digest, cache, watch) as stream:
        stream.read(1024)
        watch._cancelled.set()
        with pytest.raises(CancelledError):
            stream.read()


def _open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_nothing_stays_open(folder: Path, cache: DigestCache) -> None:
    digest = layer_digest(folder, "m", cache).digest
    before = _open_files()
    stream = open_layer(Layer(walk(folder), "m"), digest, cache)
    stream.read(MIB)
    stream.close()
    assert _open_files() == before
