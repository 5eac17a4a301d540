"""Blobs, manifests and tags of a real registry."""

from __future__ import annotations

import io
import shutil
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, cast

import pytest

from provider.content.errors import CancelledError, ContentChangedError, ContentError, CorruptBlobError
from provider.content.watch import Watch
from provider.registry.client import Registry
from provider.registry.errors import MissingBlobError, RegistryError
from tests.registry.faulty_proxy import FaultyProxy, Handler, answers, changes
from tests.registry.registry_process import DEADLINE, RegistryProcess
from tests.registry.support import MANIFEST, MIB, QUICK, Content, content, manifest_of, put, read

EMPTY = Content(b"")


@pytest.mark.parametrize("size", [0, 1, 2, 3 * MIB + 1])
def test_a_blob_comes_back_as_it_was_sent(registry: Registry, name: str, size: int) -> None:
    repository, blob = registry.repository(name), content(size, seed=1)
    assert not repository.has_blob(blob.digest)
    put(repository, blob)
    assert repository.has_blob(blob.digest)
    assert read(repository, blob.digest) == blob.data


def test_a_blob_that_is_there_is_not_sent_again(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    repository, blob = registry.repository(name), content(1000, seed=2)
    put(repository, blob)
    put(repository, blob)
    assert len(proxy.asked("PUT")) == 1


def test_a_blob_is_mounted_without_being_sent(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    blob = content(1000, seed=3)
    put(registry.repository(f"{name}/from"), blob)
    target = registry.repository(f"{name}/to")
    assert target.mount_blob(blob.digest, f"{name}/from")
    assert read(target, blob.digest) == blob.data
    assert len(proxy.asked("PUT")) == 1


def test_a_blob_that_cannot_be_mounted_leaves_no_upload_open(
    registry: Registry, proxy: FaultyProxy, running: RegistryProcess, name: str
) -> None:
    target = registry.repository(name)
    assert not target.mount_blob(content(10, seed=4).digest, f"{name}/nowhere")
    uploads = running.data / "docker" / "registry" / "v2" / "repositories" / name / "_uploads"
    assert [path for path in uploads.rglob("*") if path.name in ("startedat", "data")] == []
    assert len(proxy.asked("DELETE")) == 1


def test_names_lie_below_the_address_of_the_registry(proxy: FaultyProxy, registry: Registry, name: str) -> None:
    below = Registry(f"{proxy.address}/{name}/team", patience=QUICK)
    blob = content(100, seed=5)
    put(below.repository("a"), blob)
    assert below.repository("b").mount_blob(blob.digest, "a")
    assert registry.repository(f"{name}/team/b").has_blob(blob.digest)
    assert below.repository("a").reference == f"{proxy.address}/{name}/team/a"


def test_a_deleted_blob_is_gone_from_its_repository_alone(registry: Registry, name: str) -> None:
    one, other, blob = registry.repository(f"{name}/1"), registry.repository(f"{name}/2"), content(100, seed=6)
    put(one, blob)
    put(other, blob)
    assert one.delete_blob(blob.digest)
    assert not one.delete_blob(blob.digest)
    assert not one.has_blob(blob.digest)
    assert other.has_blob(blob.digest)


def test_reading_a_blob_that_is_not_there_names_it(registry: Registry, name: str) -> None:
    blob = content(100, seed=7)
    with pytest.raises(MissingBlobError, match=f"{name}: the registry .* does not hold it"):
        registry.repository(name).open_blob(blob.digest)


def test_a_blob_is_sent_in_pieces_when_asked_to(proxy: FaultyProxy, name: str) -> None:
    registry, blob = Registry(proxy.address, patience=QUICK, piece_bytes=MIB), content(3 * MIB + 5, seed=8)
    put(registry.repository(name), blob)
    assert [item.received for item in proxy.asked("PATCH")] == [MIB, MIB, MIB, 5]
    assert read(registry.repository(name), blob.digest) == blob.data


def test_a_registry_that_takes_no_large_requests_gets_pieces(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    proxy.when("PUT", "/blobs/uploads/", answers(413))
    repository, blob = registry.repository(name), content(20 * MIB, seed=9)
    put(repository, blob)
    assert len(proxy.asked("PATCH")) == 2
    assert repository.has_blob(blob.digest)


def test_a_large_blob_passes_through_little_memory(registry: Registry, running: RegistryProcess, name: str) -> None:
    size = 64 * MIB
    block = content(MIB, seed=10).data

    class Long(io.RawIOBase):
        left = size

        def readable(self) -> bool:
            return True

        def read(self, amount: int = -1, /) -> bytes:
            amount = min(amount, self.left, len(block))
            self.left -= amount
            return block[:amount]

    digest = Content(block * (size // MIB)).digest
    repository = Registry(running.address).repository(name)
    tracemalloc.start()
    try:
        repository.put_blob(digest, size, lambda: cast(BinaryIO, Long()))
        with repository.open_blob(digest) as file:
            while file.read(MIB):
                pass
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 12 * MIB


def test_a_source_that_ends_early_is_named_and_nothing_is_stored(registry: Registry, name: str) -> None:
    repository, blob = registry.repository(name), content(MIB, seed=11)
    with pytest.raises(ContentChangedError, match="ended 1048476 bytes too early"):
        repository.put_blob(blob.digest, blob.size, lambda: io.BytesIO(blob.data[:100]))
    assert not repository.has_blob(blob.digest)


def test_a_source_that_has_changed_is_read_once_more_and_then_named(registry: Registry, name: str) -> None:
    repository, blob, opened = registry.repository(name), content(1000, seed=12), []

    def source() -> BinaryIO:
        opened.append(True)
        return io.BytesIO(b"x" * blob.size)

    with pytest.raises(ContentChangedError, match="what was read is not what the digest says"):
        repository.put_blob(blob.digest, blob.size, source)
    assert len(opened) == 2
    assert not repository.has_blob(blob.digest)


def test_a_source_that_cannot_be_read_is_no_fault_of_the_registry(registry: Registry, name: str) -> None:
    blob = content(1000, seed=13)

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(ContentError, match="reading it failed: Input/output error"):
        registry.repository(name).put_blob(blob.digest, blob.size, Broken)


def test_a_blob_that_is_corrupt_on_the_disk_of_the_registry_is_never_served_whole(
    registry: Registry, running: RegistryProcess, name: str
) -> None:
    repository, blob = registry.repository(name), content(3 * MIB, seed=14)
    put(repository, blob)
    running.blob_file(blob.digest).write_bytes(blob.data[:-1] + bytes([blob.data[-1] ^ 1]))
    got = io.BytesIO()
    with repository.open_blob(blob.digest) as file, pytest.raises(CorruptBlobError, match=blob.digest):
        shutil.copyfileobj(file, got, MIB)
    assert len(got.getvalue()) < blob.size


def test_a_blob_that_is_too_short_on_the_disk_of_the_registry_is_named(
    registry: Registry, running: RegistryProcess, name: str
) -> None:
    repository, blob = registry.repository(name), content(1000, seed=15)
    put(repository, blob)
    running.blob_file(blob.digest).write_bytes(blob.data[:500])
    with pytest.raises(CorruptBlobError, match="serves 500 bytes"):
        read(repository, blob.digest)


def test_two_uploads_of_the_same_blob_at_once_are_one(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    repository, blob = registry.repository(name), content(MIB, seed=16)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: put(repository, blob), range(4)))
    assert len(proxy.asked("PUT")) == 1


def test_no_more_transfers_run_at_once_than_the_tier_allows(proxy: FaultyProxy, name: str) -> None:
    registry = Registry(proxy.address, patience=QUICK, parallel=2)
    repository = registry.repository(name)
    together, lock, most, now = threading.Barrier(2), threading.Lock(), 0, 0

    def counted(handler: Handler) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        together.wait(DEADLINE)  # two are there at once, or this fails
        with lock:
            now -= 1
        handler.forward()

    proxy.when("PUT", "/blobs/uploads/", counted, times=6)
    blobs = [content(1000, seed=100 + number) for number in range(6)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda blob: put(repository, blob), blobs))
    assert most == 2
    assert all(repository.has_blob(blob.digest) for blob in blobs)


def test_copying_between_repositories_is_one_transfer(proxy: FaultyProxy, name: str) -> None:
    registry = Registry(proxy.address, patience=QUICK, parallel=1)
    one, other, blob = registry.repository(f"{name}/1"), registry.repository(f"{name}/2"), content(MIB, seed=17)
    put(one, blob)
    other.put_blob(blob.digest, blob.size, lambda: one.open_blob(blob.digest))
    assert read(other, blob.digest) == blob.data


def test_each_works_through_all_items_and_tells_the_first_error(registry: Registry) -> None:
    assert registry.each(lambda number: number * 2, range(5)) == [0, 2, 4, 6, 8]
    with pytest.raises(ZeroDivisionError):
        registry.each(lambda number: 1 // number, [1, 0, 1])


def test_a_cancelled_upload_stops_and_leaves_nothing(proxy: FaultyProxy, running: RegistryProcess, name: str) -> None:
    cancelled = threading.Event()
    registry = Registry(proxy.address, patience=QUICK, watch=Watch(cancelled=cancelled))
    blob = content(4 * MIB, seed=18)

    class Cancels(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            cancelled.set()
            return super().read(size)

    with pytest.raises(CancelledError):
        registry.repository(name).put_blob(blob.digest, blob.size, lambda: Cancels(blob.data))
    assert not registry.repository(name).has_blob(blob.digest)


# --- manifests and tags


def test_a_manifest_is_found_by_tag_and_by_digest(registry: Registry, name: str) -> None:
    repository, blob = registry.repository(name), content(100, seed=20)
    assert repository.get_manifest("1") is None
    assert repository.find_manifest("1") is None
    put(repository, blob)
    manifest = manifest_of(blob)
    digest = repository.put_manifest("1", MANIFEST, manifest)
    assert repository.get_manifest("1") == (MANIFEST, manifest)
    assert repository.get_manifest(digest) == (MANIFEST, manifest)
    found = repository.find_manifest("1")
    assert found is not None
    assert (found.digest, found.size, found.media_type) == (digest, len(manifest), MANIFEST)


def test_a_tag_that_somebody_moved_names_something_else(registry: Registry, name: str) -> None:
    repository, blob, other = registry.repository(name), content(100, seed=21), content(100, seed=22)
    put(repository, blob)
    put(repository, other)
    digest = repository.put_manifest("champion", MANIFEST, manifest_of(blob))
    repository.put_manifest("champion", MANIFEST, manifest_of(other))
    found = repository.find_manifest("champion")
    assert found is not None
    assert found.digest != digest
    assert repository.get_manifest(digest) is not None


def test_a_manifest_that_names_a_missing_blob_is_refused_with_its_digest(registry: Registry, name: str) -> None:
    repository, there, missing = registry.repository(name), content(100, seed=23), content(100, seed=24)
    put(repository, there)
    with pytest.raises(MissingBlobError, match=missing.digest) as raised:
        repository.put_manifest("1", MANIFEST, manifest_of(there, missing))
    assert raised.value.digests == (missing.digest,)
    assert repository.tags() == []


def test_a_manifest_that_the_registry_changed_is_not_taken(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    repository, blob = registry.repository(name), content(100, seed=25)
    put(repository, blob)
    digest = repository.put_manifest("1", MANIFEST, manifest_of(blob))
    proxy.when("GET", "/manifests/", changes(lambda _, body: body.replace(b"layers", b"LAYERS")), times=2)
    with pytest.raises(CorruptBlobError, match=f"says {digest}, and serves"):
        repository.get_manifest("1")
    with pytest.raises(CorruptBlobError):
        repository.get_manifest(digest)


def test_a_manifest_is_not_stored_under_a_digest_that_is_not_its_own(registry: Registry, name: str) -> None:
    with pytest.raises(RegistryError, match="is to be stored as"):
        registry.repository(name).put_manifest(EMPTY.digest, MANIFEST, b"{}")


def test_a_registry_that_does_not_say_what_a_tag_names_is_read(
    registry: Registry, proxy: FaultyProxy, name: str
) -> None:
    repository, blob = registry.repository(name), content(100, seed=26)
    put(repository, blob)
    digest = repository.put_manifest("1", MANIFEST, manifest_of(blob))

    def silent(headers: dict[str, str], body: bytes) -> bytes:
        del headers["Docker-Content-Digest"]
        return body

    proxy.when("HEAD", "/manifests/", changes(silent))
    found = repository.find_manifest("1")
    assert found is not None
    assert found.digest == digest


def test_a_deleted_manifest_takes_its_tags_along(registry: Registry, name: str) -> None:
    repository, blob = registry.repository(name), content(100, seed=27)
    put(repository, blob)
    digest = repository.put_manifest("1", MANIFEST, manifest_of(blob))
    repository.put_manifest("latest", MANIFEST, manifest_of(blob))
    assert repository.tags() == ["1", "latest"]
    assert repository.delete_manifest(digest)
    assert not repository.delete_manifest(digest)
    assert repository.tags() == []


def test_tags_are_read_page_by_page(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    path = f"/v2/{name}/tags/list"
    proxy.when("GET", "last=a", answers(200, b'{"tags": ["b"]}'))
    proxy.when("GET", "n=1000", answers(200, b'{"tags": ["a"]}', Link=f'<{path}?n=1&last=a>; rel="next"'))
    assert registry.repository(name).tags() == ["a", "b"]


def test_a_repository_that_does_not_exist_has_no_tags(registry: Registry, name: str) -> None:
    assert registry.repository(name).tags() == []


@pytest.mark.parametrize("wrong", ["", "Upper", "a//b", "/a", "a/", "a b", "a/../b", "x" * 256])
def test_a_name_that_no_registry_takes_is_refused_at_once(registry: Registry, wrong: str) -> None:
    with pytest.raises(RegistryError, match="is no repository's name"):
        registry.repository(wrong)


@pytest.mark.parametrize("wrong", ["", "a b", ".a", "a/b", "x" * 129, "sha256:12"])
def test_a_reference_that_is_no_tag_and_no_digest_is_refused(registry: Registry, name: str, wrong: str) -> None:
    with pytest.raises(RegistryError, match="is neither a tag"):
        registry.repository(name).get_manifest(wrong)


def test_another_digest_than_sha256_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(RegistryError, match="is no sha256 digest"):
        registry.repository(name).has_blob("sha512:" + "0" * 128)
