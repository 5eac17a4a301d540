"""Copies of images, between layouts on disk."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from provider.content.cache import DigestCache
from provider.content.errors import ContentError, CorruptBlobError
from provider.content.layout import Writer
from provider.content.modelpack import MANIFEST, blob_of
from provider.images import mirror
from provider.images.compose import CONFIG
from provider.images.layers import LAYER
from provider.images.store import ImageLayoutStore
from provider.images.tags import PREFIX, mark_of, remove_tag
from tests.unit.images.support import put

INDEX = "application/vnd.oci.image.index.v1+json"
TAG = mark_of("dev/p", "python")


def image(store: ImageLayoutStore, *layers: bytes, tag: str = "1") -> str:
    """Puts an image of such layers; returns its digest."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, **put(store, b'{"of":"' + layers[0] + b'"}')},
        "layers": [{"mediaType": LAYER, **put(store, layer)} for layer in layers],
    }
    return store.put_manifest(tag, MANIFEST, json.dumps(manifest).encode())


def index(store: ImageLayoutStore, *children: str, tag: str = "all") -> str:
    entries: list[dict[str, Any]] = []
    for child in children:
        found = store.get_manifest(child)
        assert found is not None
        entries.append({"mediaType": MANIFEST, "digest": child, "size": len(found[1])})
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    return store.put_manifest(tag, INDEX, json.dumps(document).encode())


@pytest.fixture
def source(tmp_path: Path) -> ImageLayoutStore:
    return ImageLayoutStore(tmp_path / "source", "base/python", DigestCache(tmp_path / "cache"))


@pytest.fixture
def target(tmp_path: Path) -> ImageLayoutStore:
    return ImageLayoutStore(tmp_path / "target", "mirror/python", DigestCache(tmp_path / "cache"))


def blobs(store: ImageLayoutStore, root: Path) -> set[str]:
    return {path.name for path in (root / "blobs" / "sha256").iterdir()}


def test_a_copy_is_the_same_to_the_byte_and_whole(source: ImageLayoutStore, target: ImageLayoutStore) -> None:
    digest = image(source, b"debian", b"python")
    mirror.copy(source, target, digest, TAG)
    assert target.get_manifest(TAG) == source.get_manifest(digest)
    with target.open_blob(blob_of(b"python").digest) as blob:
        assert blob.read() == b"python"
    assert mirror.missing(target, digest, TAG) is None
    mirror.copy(source, target, digest, TAG)
    assert target.tags() == [TAG]


def test_a_copy_that_was_killed_before_anything_named_its_layers_is_completed(
    source: ImageLayoutStore, target: ImageLayoutStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Stands in for SIGKILL."""

    def killed(*_: object) -> None:
        raise Killed

    digest = image(source, b"debian", b"python")
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "add_document", killed)
        with pytest.raises(Killed):
            mirror.copy(source, target, digest, TAG)
    assert blob_of(b"debian").digest.removeprefix("sha256:") in blobs(target, tmp_path / "target")
    mirror.copy(source, target, digest, TAG)
    assert mirror.missing(target, digest, TAG) is None


def test_an_index_is_copied_with_all_that_it_lists(
    source: ImageLayoutStore, target: ImageLayoutStore, tmp_path: Path
) -> None:
    children = [image(source, b"common", b"amd64", tag="amd64"), image(source, b"common", b"arm64", tag="arm64")]
    digest = index(source, *children)
    mirror.copy(source, target, digest, TAG)
    assert blobs(target, tmp_path / "target") == blobs(source, tmp_path / "source")
    target._layout.blob_path(blob_of(b"arm64").digest).unlink()
    assert mirror.missing(target, digest, TAG) == f"its blob {blob_of(b'arm64').digest} is gone"


def test_a_layout_of_others_has_no_entries_for_what_an_index_lists(
    source: ImageLayoutStore, target: ImageLayoutStore, tmp_path: Path
) -> None:
    digest = index(source, image(source, b"common", b"amd64", tag="amd64"))
    entries = tmp_path / "source" / "index.json"
    document = json.loads(entries.read_text())
    document["manifests"] = [{"mediaType": INDEX, "digest": digest, "size": document["manifests"][-1]["size"]}]
    entries.write_text(json.dumps(document))
    mirror.copy(source, target, digest, TAG)
    assert mirror.missing(target, digest, TAG) is None


def test_what_is_not_there_is_told(source: ImageLayoutStore, target: ImageLayoutStore) -> None:
    absent = f"sha256:{'0' * 64}"
    with pytest.raises(ContentError, match=f"{absent} is not there; correct the digest or the repository"):
        mirror.copy(source, target, absent, TAG)
    assert mirror.missing(target, absent, TAG) == "it is gone"
    assert target.tags() == []


def test_what_is_no_image_is_refused(source: ImageLayoutStore, target: ImageLayoutStore) -> None:
    image(source, b"debian")
    with pytest.raises(ContentError, match="is no image, but None; name the digest of an image"):
        mirror.copy(source, target, blob_of(b'{"of":"debian"}').digest, TAG)


def test_a_damaged_layer_is_not_copied(source: ImageLayoutStore, target: ImageLayoutStore) -> None:
    digest = image(source, b"debian")
    source._layout.blob_path(blob_of(b"debian").digest).write_bytes(b"DEBIAN")
    with pytest.raises(CorruptBlobError):
        mirror.copy(source, target, digest, TAG)
    assert target.tags() == []


def test_layers_that_may_not_be_passed_on_stay_where_they_are(
    source: ImageLayoutStore, target: ImageLayoutStore
) -> None:
    elsewhere = {"digest": f"sha256:{'1' * 64}", "size": 9, "urls": ["https://example.org/layer"]}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, **put(source, b"{}")},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", **elsewhere}],
    }
    content = json.dumps(manifest).encode()
    blob = blob_of(content)
    source.put_blob(blob.digest, blob.size, lambda: io.BytesIO(content))
    assert mirror._document(source, blob.digest).parts() == {blob_of(b"{}").digest: 2}


# --- removing


def test_removing_leaves_nothing(source: ImageLayoutStore, target: ImageLayoutStore, tmp_path: Path) -> None:
    digest = index(source, image(source, b"common", b"amd64", tag="amd64"), image(source, b"common", b"arm64", tag="b"))
    mirror.copy(source, target, digest, TAG)
    mirror.remove(target, digest, TAG)
    assert blobs(target, tmp_path / "target") == set()
    mirror.remove(target, digest, TAG)


def test_what_another_one_uses_stays(source: ImageLayoutStore, target: ImageLayoutStore, tmp_path: Path) -> None:
    digest, other = image(source, b"debian"), mark_of("test/p", "python")
    mirror.copy(source, target, digest, TAG)
    mirror.copy(source, target, digest, other)
    mirror.remove(target, digest, TAG)
    assert target.tags() == [other]
    assert mirror.missing(target, digest, other) is None
    mirror.remove(target, digest, other)
    assert blobs(target, tmp_path / "target") == set()


def test_a_part_of_an_index_that_is_an_image_of_another_one_stays(
    source: ImageLayoutStore, target: ImageLayoutStore
) -> None:
    child = image(source, b"common", b"amd64", tag="amd64")
    digest, other = index(source, child, image(source, b"common", b"arm64", tag="arm64")), mark_of("test/p", "python")
    mirror.copy(source, target, digest, TAG)
    mirror.copy(source, target, child, other)
    mirror.remove(target, digest, TAG)
    assert mirror.missing(target, child, other) is None
    assert target.get_manifest(digest) is None


def test_what_is_half_removed_goes_with_the_next_attempt(
    source: ImageLayoutStore, target: ImageLayoutStore, tmp_path: Path
) -> None:
    children = [image(source, b"common", b"amd64", tag="amd64"), image(source, b"common", b"arm64", tag="arm64")]
    digest = index(source, *children)
    mirror.copy(source, target, digest, TAG)
    # As a killed removal leaves it; the layout still has the blob, which the index names.
    assert target.delete_manifest(children[0])
    mirror.remove(target, digest, TAG)
    assert blobs(target, tmp_path / "target") == set()


def test_a_tag_goes_and_what_it_named_stays(source: ImageLayoutStore) -> None:
    digest = image(source, b"debian", tag="one")
    found = source.get_manifest(digest)
    assert found is not None
    source.put_manifest("two", *found)
    remove_tag(source, "one")
    assert source.tags() == ["two"]
    assert mirror.missing(source, digest, "two") is None


def test_marks_are_tags_of_their_own() -> None:
    assert mark_of("dev/p", "a") != mark_of("dev/p", "b") != mark_of("dev", "p", "b")
    assert mark_of("dev/p", "a").startswith(PREFIX)
    assert len(mark_of("x" * 1000)) == len(PREFIX) + 16
