"""The tar of a model: the same bytes whatever the circumstances, readable by anyone, never half old and half new."""

from __future__ import annotations

import hashlib
import io
import os
import random
import tarfile
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider.content import layer as module
from provider.content import ustar
from provider.content.cache import DigestCache
from provider.content.errors import CancelledError, ContentChangedError
from provider.content.layer import Layer, LayerDigest, layer_digest, write_layer
from provider.content.tree import walk
from provider.content.watch import Watch

Files = dict[str, tuple[bytes, bool]]
"""Relative path -> content, and whether it is executable."""

NAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=60).filter(
    lambda name: name not in (".", "..") and not name.startswith(".wh.")
)
CONTENTS = st.one_of(st.binary(max_size=2000), st.integers(0, 3).map(lambda blocks: bytes(512 * blocks)))


@st.composite
def file_trees(draw: st.DrawFn) -> Files:
    """Files in folders of up to three levels; a path is never a file and a folder."""
    folders = draw(st.lists(st.lists(NAMES, max_size=3), min_size=1, max_size=4))
    files: Files = {}
    for folder in folders:
        for name in draw(st.sets(NAMES, min_size=1, max_size=3)):
            # A letter in front tells files from folders.
            path = "/".join([*(f"d{part}" for part in folder), f"f{name}"])
            files[path] = (draw(CONTENTS), draw(st.booleans()))
    return files


def build(root: Path, files: Files, order: list[str], mtime: int) -> None:
    for path in order:
        content, executable = files[path]
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        place.chmod((0o755 if executable else 0o644) & ~(mtime % 0o70))
        os.utime(place, (mtime, mtime))
        if os.geteuid() == 0:
            os.chown(place, mtime, mtime)


def forgetful(root: Path) -> DigestCache:
    """A cache that remembers nothing."""
    return DigestCache(root / "no-cache", racy_ns=2**63)


def remembering(root: Path) -> DigestCache:
    """A cache that remembers what changed a moment ago, too."""
    return DigestCache(root / "cache", racy_ns=-(2**63))


def written(source: Path, name: str, cache: DigestCache, watch: Watch | None = None) -> tuple[bytes, LayerDigest]:
    with tempfile.TemporaryFile() as target:
        digest = write_layer(source, name, target.fileno(), cache, watch)
        target.seek(0)
        return target.read(), digest


@settings(max_examples=60)
@given(files=file_trees(), seed=st.integers(0, 2**31 - 1))
def test_what_goes_in_comes_out_and_circumstances_do_not_count(files: Files, seed: int) -> None:
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        order = sorted(files)
        build(Path(first) / "folder", files, order, mtime=1)
        random.Random(seed).shuffle(order)  # noqa: S311 - an order, no secret
        build(Path(second) / "folder", files, order, mtime=seed)
        data, digest = written(Path(first) / "folder", "m", forgetful(Path(first)))
        assert written(Path(second) / "folder", "m", forgetful(Path(second))) == (data, digest)
    assert digest == LayerDigest(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found: Files = {}
        for entry in archive:
            assert (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) == (0, 0, "", "", 0)
            if entry.isdir():
                assert entry.mode == 0o755
            else:
                content = archive.extractfile(entry)
                assert content is not None
                assert entry.mode in (0o644, 0o755)
                found[entry.name.removeprefix("models/m/folder/")] = (content.read(), entry.mode == 0o755)
    assert found == files


@settings(max_examples=60)
@given(files=file_trees())
def test_every_folder_comes_once_before_what_it_holds(files: Files) -> None:
    with tempfile.TemporaryDirectory() as root:
        build(Path(root) / "folder", files, sorted(files), mtime=1)
        data, _ = written(Path(root) / "folder", "m", forgetful(Path(root)))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = archive.getnames()
    assert names[:3] == ["models", "models/m", "models/m/folder"]
    assert len(names) == len(set(names))
    for position, name in enumerate(names[1:], 1):
        assert name.rpartition("/")[0] in names[:position]


def test_the_bytes_of_a_layer_are_for_ever(tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "weights").mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "weights" / "größe.bin").write_bytes(bytes(range(256)) * 5)
    (model / "run").touch(mode=0o755)
    digest = layer_digest(model, "sklearn_mnist", forgetful(tmp_path))
    assert digest == LayerDigest("sha256:473a551d8b75dfcaf6e6a6a9cf7a011a5bf9dd06f9e77b504b7be432c42ee0c4", 7680)


def test_a_file_lies_below_the_models_name(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"weights")
    data, _ = written(tmp_path / "model.pkl", "mnist", forgetful(tmp_path))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["models", "models/mnist", "models/mnist/model.pkl"]


def test_an_empty_file_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    data, digest = written(tmp_path / "empty", "m", forgetful(tmp_path))
    assert digest.size == len(data) == 5 * 512


def test_a_size_beyond_eight_gib_is_kept() -> None:
    header = ustar.tar_header("models/m/big", 0o644, 9 * 2**30 + 1, b"0")
    with tarfile.open(fileobj=io.BytesIO(header), mode="r|") as archive:
        entry = archive.next()
    assert entry is not None
    assert (entry.name, entry.size) == ("models/m/big", 9 * 2**30 + 1)


@given(st.integers(1, 12000))
def test_a_pax_record_counts_its_own_digits(length: int) -> None:
    record = ustar._pax_record(b"path", b"x" * length)
    assert int(record.partition(b" ")[0]) == len(record)


def test_a_thousand_files(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / "many" / str(number % 10)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "many" / str(number % 10) / f"{number}.bin").write_bytes(b"%d" % number)
    data, digest = written(tmp_path / "many", "m", forgetful(tmp_path))
    assert len(data) == digest.size == Layer(walk(tmp_path / "many"), "m").size
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert sum(entry.isfile() for entry in archive) == 1000


# --- digests remembered


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(range(256)) * 20_000)
    return path


def test_an_unchanged_model_is_not_read_again(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = layer_digest(model, "m", remembering(tmp_path))

    def opened(file: object) -> None:
        raise AssertionError(f"{file} was read")

    monkeypatch.setattr(module, "opened", opened)
    assert layer_digest(model, "m", remembering(tmp_path)) == first


def test_another_name_is_another_layer(model: Path, tmp_path: Path) -> None:
    cache = remembering(tmp_path)
    assert layer_digest(model, "m", cache) != layer_digest(model, "n", cache)


def test_a_changed_byte_is_another_layer(model: Path, tmp_path: Path) -> None:
    cache = remembering(tmp_path)
    before = layer_digest(model, "m", cache)
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    os.utime(model, ns=(1, 1))
    assert layer_digest(model, "m", cache) != before


def test_a_known_layer_is_copied_without_hashing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = written(model, "m", forgetful(tmp_path))
    layer_digest(model, "m", remembering(tmp_path))
    monkeypatch.setattr(hashlib, "sha256", _refuse_large(hashlib.sha256))
    assert written(model, "m", remembering(tmp_path)) == hashed


def _refuse_large(real: Callable[..., object]) -> Callable[..., object]:
    """sha256 for signatures alone: one that is fed piece by piece from empty would be the layer's."""

    def sha256(data: bytes | None = None) -> object:
        assert data is not None, "the layer was hashed"
        return real(data)

    return sha256


# --- models that change while they are read


class Meddling(Watch):
    """Runs `meddle` whenever the operation tells its progress, up to `times` times."""

    def __init__(self, meddle: Callable[[], object], times: int) -> None:
        self.warnings: list[str] = []
        super().__init__(warning=self.warnings.append)
        self._meddle = meddle
        self._left = times

    def advance(self, doing: str, done: int, total: int) -> None:
        super().advance(doing, done, total)
        if self._left:
            self._left -= 1
            self._meddle()


@pytest.mark.parametrize("known", [False, True], ids=["hashed", "known"])
def test_a_model_that_changes_once_is_read_once_more(model: Path, tmp_path: Path, known: bool) -> None:
    cache = remembering(tmp_path) if known else forgetful(tmp_path)
    layer_digest(model, "m", cache)
    watch = Meddling(lambda: model.write_bytes(b"new content"), times=1)
    data, digest = written(model, "m", cache, watch)
    assert watch.warnings == [f"{model} changed while it was being read; reading it once more"]
    assert digest == LayerDigest(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
    assert b"new content" in data


@pytest.mark.parametrize("known", [False, True], ids=["hashed", "known"])
def test_a_model_that_goes_on_changing_is_refused(model: Path, tmp_path: Path, known: bool) -> None:
    cache = remembering(tmp_path) if known else forgetful(tmp_path)
    layer_digest(model, "m", cache)
    sizes = iter(range(1, 100))
    watch = Meddling(lambda: model.write_bytes(bytes(next(sizes))), times=50)
    with pytest.raises(ContentChangedError) as caught:
        written(model, "m", cache, watch)
    assert str(caught.value) == (
        f"{model} changed while it was being read, and so it did at the first attempt; "
        f"wait until nothing writes to {model}, then try again"
    )


def test_a_change_while_the_digest_is_computed(model: Path, tmp_path: Path) -> None:
    watch = Meddling(lambda: model.write_bytes(b"new content"), times=1)
    digest = layer_digest(model, "m", forgetful(tmp_path), watch)
    assert len(watch.warnings) == 1
    assert digest == layer_digest(model, "m", forgetful(tmp_path))


def test_a_file_that_joins_or_leaves_meanwhile_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").touch()
    (folder / "b").touch()
    watch = Meddling((folder / "c").touch, times=1)
    layer_digest(folder, "m", forgetful(tmp_path), watch)
    assert watch.warnings == [f"{folder} changed while it was being read; reading it once more"]
    watch = Meddling((folder / "b").unlink, times=1)
    layer_digest(folder, "m", forgetful(tmp_path), watch)
    assert watch.warnings == [f"{folder}/b changed while it was being read; reading it once more"]


def test_a_pipe_in_a_files_place_does_not_block(model: Path, tmp_path: Path) -> None:
    def replace() -> None:
        model.unlink()
        os.mkfifo(model)

    with pytest.raises(Exception, match="is a named pipe"):
        layer_digest(model, "m", forgetful(tmp_path), Meddling(replace, times=1))


def test_cancelling_ends_it(model: Path, tmp_path: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(CancelledError, match="cancelled while reading m; nothing half-done is left"):
        layer_digest(model, "m", forgetful(tmp_path), Watch(cancelled=cancelled))
    with pytest.raises(CancelledError, match="cancelled while copying m"):
        written(model, "m", forgetful(tmp_path), Watch(cancelled=cancelled))


def test_progress_is_told_in_bytes_of_the_whole(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1, 1000))
    monkeypatch.setattr("provider.content.watch.time.monotonic", lambda: float(next(clock)))
    lines: list[str] = []
    layer_digest(model, "m", forgetful(tmp_path), Watch(status=lines.append))
    assert lines[-1] == "reading m: 4.9 MiB of 4.9 MiB"
    assert lines[0] == "reading m: 1.0 MiB of 4.9 MiB"
