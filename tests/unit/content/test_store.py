"""Versions, quota, who uses what; and all that may go wrong while a model is stored."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provider.content import layer as layer_module
from provider.content import layout as layout_module
from provider.content import store as store_module
from provider.content.cache import DigestCache
from provider.content.errors import CancelledError, ContentChangedError, ContentError
from provider.content.layer import layer_digest
from provider.content.modelpack import Blob, artifact
from provider.content.store import QuotaError, Registration, Request, Store
from provider.content.watch import Watch

ROOT = Path(__file__).parents[3]
MIB = 2**20
DEADLINE = 180.0


class Bench:
    """A store and models to put into it."""

    def __init__(self, tmp_path: Path) -> None:
        self.models = tmp_path / "models"
        self.models.mkdir()
        self.cache = DigestCache(tmp_path / "cache", racy_ns=-(2**63))
        self.store = Store(tmp_path / "home" / "store", self.cache)

    def request(self, name: str = "m", content: bytes | None = None, **more: Any) -> Request:
        source = self.models / f"{name}.bin"
        if content is not None:
            source.write_bytes(content)
        digest = layer_digest(source, name, self.cache).digest
        return Request(**{"name": name, "source": source, "layer_digest": digest, "owner": "dev/p", **more})

    def register(self, name: str = "m", content: bytes | None = None, **more: Any) -> Registration:
        return self.store.register(self.request(name, content, **more))

    def blobs(self) -> set[str]:
        return {path.name for path in (self.store.root / "blobs" / "sha256").iterdir()}

    def incoming(self) -> list[Path]:
        return list((self.store.root / "incoming").iterdir())

    def index(self) -> list[dict[str, Any]]:
        manifests = json.loads((self.store.root / "index.json").read_text())["manifests"]
        assert isinstance(manifests, list)
        return manifests

    def assert_whole(self) -> None:
        """Everything that is named is there, and nothing else is."""
        named = {digest.removeprefix("sha256:") for digest in self.store.record().blobs()}
        assert self.blobs() == named
        assert self.incoming() == []
        for entry in self.index():
            manifest = json.loads(self.store.layout.read_document(Blob(entry["digest"], entry["size"])))
            for part in (manifest["config"], *manifest["layers"]):
                self.store.layout.verify(Blob(part["digest"], part["size"]))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# --- versions


def test_a_registered_model_is_an_artifact_in_an_image_layout(bench: Bench) -> None:
    registration = bench.register(content=b"weights", metadata={"framework": "ScikitLearn", "tags": {"area": "mnist"}})
    assert json.loads((bench.store.root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = bench.index()
    assert entry == {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.cncf.model.manifest.v1+json",
        "digest": registration.digest,
        "size": entry["size"],
        "annotations": {
            "org.opencontainers.image.ref.name": "m-1",
            "slipway.model.name": "m",
            "slipway.model.version": "1",
            "slipway.model.framework": "ScikitLearn",
            "slipway.model.tags.area": "mnist",
        },
    }
    bench.assert_whole()


def test_versions_count_up_and_the_same_content_is_the_same_version(bench: Bench) -> None:
    first = bench.register(content=b"one")
    second = bench.register(content=b"two")
    again = bench.register(content=b"one")
    assert [first.version, second.version, again.version] == [1, 2, 1]
    assert again.digest == first.digest
    assert set(again.versions) == {"1", "2"}
    bench.assert_whole()


def test_models_count_apart(bench: Bench) -> None:
    bench.register("a", b"one")
    bench.register("a", b"two")
    assert bench.register("b", b"one").version == 1


def test_content_that_went_away_comes_back_as_the_version_it_was(bench: Bench) -> None:
    first = bench.register(content=b"one")
    bench.register(content=b"two")
    bench.store.forget("m", "dev/p")
    assert bench.blobs() == set()
    third = bench.register(content=b"three")
    assert third.version == 3
    assert bench.register(content=b"one") == Registration(
        1,
        first.digest,
        first.size,
        {"1": first.versions["1"], "3": third.versions["3"]},
        {"1": first.size, "3": third.size},
    )


def test_what_is_foreseen_is_what_happens(bench: Bench) -> None:
    for content in (b"one", b"two", b"one"):
        request = bench.request(content=content, keep=1)
        before = sorted(bench.store.root.rglob("*"))
        foreseen = bench.store.foresee(request)
        assert sorted(bench.store.root.rglob("*")) == before
        assert bench.store.register(request) == foreseen


def test_metadata_changes_in_place(bench: Bench) -> None:
    first = bench.register(content=b"one", metadata={"tags": {"a": "1"}})
    assert bench.register(metadata={"description": "new"}) == first
    assert "slipway.model.tags.a" not in bench.index()[0]["annotations"]
    assert bench.index()[0]["annotations"]["slipway.model.description"] == "new"


def test_only_the_newest_versions_stay_and_those_that_are_needed(bench: Bench) -> None:
    for content in (b"one", b"two", b"three", b"four"):
        bench.register(content=content)
    assert set(bench.register(content=b"four", keep=2, pinned=(1,)).versions) == {"1", "3", "4"}
    assert set(bench.register(content=b"one", keep=1).versions) == {"1", "4"}
    bench.assert_whole()


def test_what_another_stack_uses_stays(bench: Bench) -> None:
    bench.register(content=b"one", owner="other/p")
    assert set(bench.register(content=b"two", keep=1).versions) == {"1", "2"}
    bench.store.forget("m", "dev/p")
    assert "1" in bench.store.record().models["m"].versions()
    bench.store.forget("m", "other/p")
    assert bench.blobs() == set()


def test_forgetting_what_is_gone_is_no_error(bench: Bench) -> None:
    bench.store.forget("m", "dev/p")
    assert not bench.store.root.exists()
    bench.register(content=b"one")
    bench.store.forget("other", "dev/p")
    bench.assert_whole()


def test_entries_of_others_stay_with_all_they_name(bench: Bench) -> None:
    bench.register(content=b"one")
    entry, blobs = put_foreign(bench)
    bench.register(content=b"two")
    bench.store.forget("m", "dev/p")
    assert bench.index() == [entry]
    assert bench.blobs() == {blob.digest.removeprefix("sha256:") for blob in blobs}


def put_foreign(bench: Bench) -> tuple[dict[str, Any], list[Blob]]:
    """Has an entry in the index that is nobody's here. Returns it with its blobs."""
    layer = Blob("sha256:" + "0" * 64, 3)
    documents = artifact("image", layer, "x")
    with bench.store.layout.locked() as writer:
        config, manifest = writer.add_document(documents.config), writer.add_document(documents.manifest)
        entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", **vars(manifest)}
        writer.write_index([*bench.store.layout.index(), entry])
    bench.store.layout.blob_path(layer.digest).write_bytes(b"tar")
    return entry, [layer, config, manifest]


# --- the store as a whole


def test_the_last_user_takes_the_store_with_it(bench: Bench) -> None:
    bench.store.configure("dev/p", "Basic", MIB)
    bench.store.configure("other/p", "Basic", MIB)
    bench.register(content=b"one")
    assert bench.store.abandon("dev/p") == []
    assert bench.blobs() == set()
    assert bench.store.abandon("other/p") == []
    assert not bench.store.root.exists()
    assert bench.store.abandon("other/p") == []


def test_a_removed_store_leaves_what_is_not_its_own(bench: Bench) -> None:
    bench.store.configure("dev/p", "Basic", MIB)
    (bench.store.root / "notes.txt").touch()
    assert bench.store.abandon("dev/p") == ["notes.txt"]
    assert [path.name for path in bench.store.root.iterdir()] == ["notes.txt"]


def test_a_removal_that_was_cut_short_is_completed(bench: Bench) -> None:
    bench.store.configure("dev/p", "Basic", MIB)
    bench.register(content=b"one")
    for name in ("index.json", "slipway-store.json"):
        (bench.store.root / name).unlink()
    assert bench.store.abandon("dev/p") == []
    assert not bench.store.root.exists()


@pytest.mark.parametrize("after", range(12))
def test_a_removal_that_was_killed_is_completed(bench: Bench, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Three blobs, three files, three folders, the lock, and the folder of it all."""
    bench.store.configure("dev/p", "Basic", MIB)
    put_foreign(bench)
    with monkeypatch.context() as patch, suppress(Killed):
        kill_after(patch, after, "unlink", "rmdir")
        bench.store.abandon("dev/p")
    assert bench.store.abandon("dev/p") == []
    assert not bench.store.root.exists()


class Killed(BaseException):
    """Stands in for SIGKILL."""


def kill_after(patch: pytest.MonkeyPatch, steps: int, *names: str) -> None:
    """Ends what calls these functions of paths for the time after `steps`."""
    left = iter(range(steps))

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **named: Any) -> None:
            if next(left, None) is None:
                raise Killed
            real(*arguments, **named)

        return call

    for name in names:
        patch.setattr(Path, name, counted(getattr(Path, name)))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}', '{"schema": 9, "models": {}}'])
def test_a_damaged_record_is_named(bench: Bench, content: str) -> None:
    bench.register(content=b"one")
    (bench.store.root / "slipway-store.json").write_text(content)
    with pytest.raises(ContentError) as caught:
        bench.register(content=b"two")
    assert str(bench.store.root / "slipway-store.json") in str(caught.value)
    assert "restore it, or remove" in str(caught.value)


def test_a_damaged_index_is_named(bench: Bench) -> None:
    bench.register(content=b"one")
    (bench.store.root / "index.json").write_text('{"manifests": 3}')
    with pytest.raises(ContentError, match=r"index\.json is damaged: .*; restore it, or remove"):
        bench.register(content=b"two")


def test_a_kill_between_record_and_index_is_put_right(bench: Bench) -> None:
    bench.register("a", b"one")
    index = (bench.store.root / "index.json").read_bytes()
    bench.register("b", b"two")
    (bench.store.root / "index.json").write_bytes(index)
    bench.register("a", b"one")
    assert [entry["annotations"]["slipway.model.name"] for entry in bench.index()] == ["a", "b"]
    bench.assert_whole()


# --- quota


def test_what_does_not_fit_is_refused_with_the_figures(bench: Bench) -> None:
    bench.store.configure("dev/p", "Basic", 3 * MIB)
    bench.register("a", bytes(2 * MIB))
    used = bench.store.layout.used_bytes()
    request = bench.request("b", bytes(2 * MIB))
    before = bench.blobs()
    with pytest.raises(QuotaError) as caught:
        bench.store.check_room(request)
    assert str(caught.value) == (
        f"the model b does not fit into {bench.store.root}: 2.0 MiB needed, 2.0 MiB used, 3.0 MiB allowed "
        f"({2 * MIB + 5 * 512} + {used} > {3 * MIB} bytes); "
        f"choose a larger registry tier, or let old versions go with keepVersions"
    )
    with pytest.raises(QuotaError, match="the model b does not fit"):
        bench.store.register(request)
    assert bench.blobs() == before
    bench.assert_whole()


def test_what_is_stored_already_needs_no_room(bench: Bench) -> None:
    bench.register("a", bytes(2 * MIB))
    request = bench.request("a", quota_bytes=MIB)
    bench.store.check_room(request)
    assert bench.store.register(request).version == 1


@pytest.mark.parametrize("place", ["incoming", "blobs/sha256"])
def test_what_a_killed_writer_left_takes_no_room(bench: Bench, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """A preview that counted it would refuse what `up` has room for, and so keep `up` from clearing it."""
    bench.store.configure("dev/p", "Basic", 3 * MIB)
    (bench.store.root / place / f"{'0' * 64}").write_bytes(bytes(2 * MIB))
    for module in (store_module, layout_module):
        monkeypatch.setattr(module, "free_bytes", lambda _: MIB)
    request = bench.request("a", bytes(2 * MIB))
    bench.store.check_room(request)
    bench.store.check_quota(MIB)
    with pytest.raises(QuotaError, match=r"2\.0 MiB needed, 0 bytes used, 1\.0 MiB allowed"):
        bench.store.check_room(replace(request, quota_bytes=MIB))
    monkeypatch.undo()
    assert bench.store.register(request).version == 1
    bench.assert_whole()


def test_two_at_once_do_not_exceed_the_quota_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.store.configure("dev/p", "Basic", 3 * MIB)
    first, second = bench.request("a", bytes(2 * MIB)), bench.request("b", bytes(2 * MIB))
    with paused_copy(monkeypatch) as (started, go_on), ThreadPoolExecutor(1) as pool:
        copying = pool.submit(bench.store.register, first)
        assert started.wait(DEADLINE)
        with pytest.raises(QuotaError, match=r"2\.0 MiB needed, 2\.0 MiB used, 3\.0 MiB allowed"):
            bench.store.register(second)
        go_on.set()
        assert copying.result(DEADLINE).version == 1
    bench.assert_whole()


def test_less_than_is_stored_is_refused_with_the_figures(bench: Bench) -> None:
    bench.store.configure("dev/p", "Standard", 4 * MIB)
    bench.register("a", bytes(2 * MIB))
    with pytest.raises(QuotaError) as caught:
        bench.store.configure("dev/p", "Basic", MIB)
    assert f"{bench.store.root} holds 2.0 MiB, and only 1.0 MiB would be allowed" in str(caught.value)
    assert "keep the larger tier, or remove models first" in str(caught.value)
    assert bench.store.record().quota_bytes == 4 * MIB


# --- full disks


class paused_copy:  # noqa: N801 - used as a function
    """Makes the next copies of content wait: yields (one has begun, let them go on)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started, self.go_on = threading.Event(), threading.Event()
        real = layer_module._write

        def write(target: int, data: bytes) -> None:
            self.started.set()
            assert self.go_on.wait(DEADLINE)
            real(target, data)

        monkeypatch.setattr(layer_module, "_write", write)

    def __enter__(self) -> tuple[threading.Event, threading.Event]:
        return self.started, self.go_on

    def __exit__(self, *_: object) -> None:
        self.go_on.set()


def refuse(number: int) -> Callable[..., Any]:
    def refused(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return refused


def test_a_disk_with_too_little_room_is_refused_before_anything_is_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "free_bytes", lambda _: MIB)
    monkeypatch.setattr(layout_module, "free_bytes", lambda _: MIB)
    monkeypatch.setattr(layout_module.Writer, "reserve", refuse(errno.EIO))
    with pytest.raises(ContentError) as caught:
        bench.register("a", bytes(2 * MIB))
    assert str(caught.value) == (
        f"the disk of {bench.store.root} is full: 2.0 MiB needed, 1.0 MiB free; "
        f"free some space, then try again (nothing half-written was left)"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", ["write", "fdatasync", "ftruncate", "fsync", "fchmod"])
def test_a_disk_that_fills_up_in_any_step(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    bench.register("kept", b"one")
    request = bench.request("a", bytes(MIB))
    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse(number))
        with pytest.raises(ContentError, match=r"the disk of .* is full: .* needed, .* free; free some space"):
            bench.store.register(request)
    bench.assert_whole()
    assert "a" not in bench.store.record().models
    assert bench.store.register(request).version == 1
    bench.assert_whole()


@pytest.mark.parametrize("step", range(4))
def test_a_disk_that_fills_up_while_documents_are_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Config, manifest, record, index: one after the other."""
    bench.register("kept", b"one")
    request = bench.request("a", bytes(MIB))
    real, calls = layout_module.Writer._replace, iter(range(100))

    def replace(self: Any, name: str, data: bytes, mode: int = 0o644) -> None:
        if next(calls) == step:
            raise layout_module.disk_full(bench.store.root, len(data))
        real(self, name, data, mode)

    with monkeypatch.context() as patch:
        patch.setattr(layout_module.Writer, "_replace", replace)
        with pytest.raises(ContentError, match="is full"):
            bench.store.register(request)
    named = [(name, version) for name, model in bench.store.record().models.items() for version in model.held]
    assert ("kept", 1) in named
    assert [bench.store.damage(*version) for version in named] == [None] * len(named)
    assert bench.store.register(request).version == 1
    bench.assert_whole()


def test_the_figure_of_a_full_disk_is_without_the_half_that_was_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.register("kept", b"one")
    request = bench.request("a", bytes(MIB))
    sizes: list[int] = []

    def free(_: Path) -> int:
        sizes.extend(path.stat().st_size for path in bench.incoming())
        return 7 * MIB

    monkeypatch.setattr(layout_module, "free_bytes", free)
    monkeypatch.setattr(layer_module, "_write", refuse(errno.ENOSPC))
    with pytest.raises(ContentError, match=r"is full: 1\.0 MiB needed, 7\.0 MiB free;"):
        bench.store.register(request)
    assert sizes == [0]


def test_a_disk_that_may_not_be_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.register("kept", b"one")
    request = bench.request("a", b"two")
    monkeypatch.setattr(os, "ftruncate", refuse(errno.EROFS))
    with pytest.raises(ContentError, match="cannot be written: Read-only file system; mend that, then try again"):
        bench.store.register(request)
    assert bench.incoming() == []


# --- what is damaged


def test_a_sound_model_is_believed_without_reading_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.register(content=b"one")
    read: list[str] = []
    monkeypatch.setattr(layout_module.Layout, "_verify_bytes", lambda _, path, *rest: read.append(path.name))
    assert bench.store.damage("m", 1) is None
    assert layer_of(bench).name not in read


def layer_of(bench: Bench, version: int = 1) -> Path:
    return bench.store.layout.blob_path(bench.store.record().models["m"].held[version].layer.digest)


def test_a_missing_blob_is_named(bench: Bench) -> None:
    bench.register(content=b"one")
    layer_of(bench).unlink()
    assert bench.store.damage("m", 1) == (
        f"the stored blob {layer_of(bench)} is missing; `pulumi up --refresh` registers the model anew from its files"
    )


def test_a_blob_of_the_wrong_size_is_named(bench: Bench) -> None:
    bench.register(content=b"one")
    os.truncate(layer_of(bench), 100)
    assert f"the stored blob {layer_of(bench)} has 100 bytes instead of 3072;" in str(bench.store.damage("m", 1))


def corrupt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_corrupt_blob_is_named_and_written_anew(bench: Bench) -> None:
    request = bench.request(content=b"one")
    bench.store.register(request)
    corrupt(layer_of(bench))
    assert f"{layer_of(bench)} is corrupt: its content has another digest;" in str(bench.store.damage("m", 1))
    warnings: list[str] = []
    bench.store.register(request, Watch(warning=warnings.append), verify=True)
    assert warnings == [
        f"the stored blob {layer_of(bench)} is corrupt: its content has another digest; it is written anew"
    ]
    assert bench.store.damage("m", 1) is None
    bench.assert_whole()


def test_a_corrupt_document_is_named(bench: Bench) -> None:
    registration = bench.register(content=b"one")
    path = bench.store.layout.blob_path(registration.digest)
    corrupt(path)
    with pytest.raises(ContentError, match=f"{path} is corrupt: its content has another digest"):
        bench.store.layout.read_document(Blob(registration.digest, path.stat().st_size))


def test_a_version_that_is_not_held(bench: Bench) -> None:
    assert bench.store.damage("m", 3) == f"{bench.store.root} does not hold version 3 of the model m"


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc/passwd", "sha512:" + "0" * 128, "0" * 64])
def test_what_is_no_digest_names_no_file(bench: Bench, digest: str) -> None:
    with pytest.raises(ContentError, match="is no sha256 digest; expected sha256: and 64 hexadecimal digits"):
        bench.store.layout.blob_path(digest)


# --- changes, cancelling, killing


@pytest.mark.parametrize("content", [b"two", b"longer than before"])
def test_files_that_changed_since_they_were_checked_are_refused(bench: Bench, content: bytes) -> None:
    request = bench.request(content=b"one")
    request.source.write_bytes(content)
    with pytest.raises(ContentChangedError) as caught:
        bench.store.register(request)
    assert f"{request.source} changed since it was checked (it was {request.layer_digest}, it is " in str(caught.value)
    assert "wait until nothing writes to it, then run `pulumi up` again" in str(caught.value)
    bench.assert_whole()
    assert bench.store.record().models == {}


def test_cancelling_leaves_nothing(bench: Bench) -> None:
    cancelled = threading.Event()

    class Cancelling(Watch):
        def advance(self, doing: str, done: int, total: int) -> None:
            cancelled.set()
            super().advance(doing, done, total)

    with pytest.raises(CancelledError, match="cancelled while copying m; nothing half-done is left"):
        bench.store.register(bench.request(content=bytes(MIB)), Cancelling(cancelled=cancelled))
    bench.assert_whole()


def test_waiting_for_the_lock_can_be_cancelled(bench: Bench) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with (
        bench.store.layout.locked(),
        pytest.raises(CancelledError, match="cancelled while waiting for another operation on"),
        bench.store.layout.locked(Watch(cancelled=cancelled)),
    ):
        raise AssertionError("the lock was taken twice")


REGISTER = """
import sys, threading
from pathlib import Path
from provider.content import layer
from provider.content.cache import DigestCache
from provider.content.layer import layer_digest
from provider.content.store import Request, Store

store, source, name, mode = sys.argv[1:]
cache = DigestCache(Path(store).parent / "cache", racy_ns=-(2**63))
digest = layer_digest(Path(source), name, cache).digest
if mode == "hang":
    real = layer._write
    def write(target, data):
        real(target, data[:4096])
        if len(data) > 4096:
            print("half-way", flush=True)
            threading.Event().wait()
    layer._write = write
else:
    print("ready", flush=True)
    sys.stdin.readline()
print(Store(Path(store), cache).register(Request(name, Path(source), digest, "dev/p")).version)
"""


def start(bench: Bench, name: str, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", REGISTER, str(bench.store.root), str(bench.models / f"{name}.bin"), name, mode]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_what_a_killed_writer_leaves_is_cleared_by_the_next(bench: Bench) -> None:
    request = bench.request(content=bytes(range(256)) * 4096)
    with start(bench, "m", "hang") as process:
        assert first_line(process) == "half-way"
        (half,) = bench.incoming()
        # A living writer's file is its own.
        bench.register("other", b"small")
        assert bench.incoming() == [half]
        process.send_signal(signal.SIGKILL)
    assert "m" not in bench.store.record().models
    assert bench.store.register(request).version == 1
    bench.assert_whole()


def test_a_store_is_not_removed_from_under_a_writer(bench: Bench) -> None:
    bench.request(content=bytes(MIB))
    with start(bench, "m", "hang") as process:
        assert first_line(process) == "half-way"
        with pytest.raises(ContentError, match="is being written to by another operation; try again when that has"):
            bench.store.abandon("dev/p")
        process.send_signal(signal.SIGKILL)
    assert bench.store.abandon("dev/p") == []
    assert not bench.store.root.exists()


@pytest.mark.parametrize("names", [("m", "m", "m"), ("a", "b", "c")], ids=["same", "different"])
def test_processes_at_once(bench: Bench, names: tuple[str, ...]) -> None:
    for name in set(names):
        bench.request(name, bytes(range(256)) * 8192)
    processes = [start(bench, name, "go") for name in names]
    for process in processes:
        assert first_line(process) == "ready"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=180)[0].strip() for process in processes] == ["1"] * len(names)
    assert {entry["annotations"]["slipway.model.name"] for entry in bench.index()} == set(names)
    bench.assert_whole()


def test_threads_at_once(bench: Bench) -> None:
    requests = [bench.request(f"m{number % 4}", bytes([number % 4]) * MIB) for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        assert [done.version for done in pool.map(bench.store.register, requests)] == [1] * 16
    assert len(bench.index()) == 4
    bench.assert_whole()


def test_the_same_model_at_once_is_copied_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    request = bench.request(content=bytes(MIB))
    waiting = threading.Event()
    copies: list[str] = []
    real_wait, real_write = layout_module.wait_until_written, layer_module.write_layer

    def wait(path: Path, watch: Watch) -> None:
        waiting.set()
        real_wait(path, watch)

    def write(source: Path, name: str, *rest: Any) -> Any:
        copies.append(name)
        return real_write(source, name, *rest)

    monkeypatch.setattr(store_module, "wait_until_written", wait)
    monkeypatch.setattr(store_module, "write_layer", write)
    with paused_copy(monkeypatch) as (started, go_on), ThreadPoolExecutor(2) as pool:
        first = pool.submit(bench.store.register, request)
        assert started.wait(DEADLINE)
        second = pool.submit(bench.store.register, request)
        assert waiting.wait(DEADLINE)
        go_on.set()
        assert first.result(DEADLINE) == second.result(DEADLINE)
    assert copies == ["m"]
    bench.assert_whole()
