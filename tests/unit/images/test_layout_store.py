"""An OCI image layout as a repository of images."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from provider.content.cache import DigestCache
from provider.content.errors import ContentError, CorruptBlobError
from provider.content.store import QuotaError, Request, Store
from provider.images.store import ImageLayoutStore

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def source(data: bytes) -> Callable[[], BinaryIO]:
    return lambda: io.BytesIO(data)


def manifest_of(*blobs: bytes) -> bytes:
    config, *layers = [{"digest": digest_of(data), "size": len(data)} for data in blobs]
    return json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()


def open_store(root: Path, repository: str = "services/mnist") -> ImageLayoutStore:
    return ImageLayoutStore(root / "layout", repository, DigestCache(root / "cache"))


def push(store: ImageLayoutStore, reference: str, *blobs: bytes) -> str:
    for data in blobs:
        store.put_blob(digest_of(data), len(data), source(data))
    return store.put_manifest(reference, MANIFEST, manifest_of(*blobs))


def stored(root: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in (root / "layout" / "blobs" / "sha256").iterdir()}


def test_what_was_put_is_read_back(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        digest = push(store, "1", b"config", b"layer")
    with open_store(tmp_path) as store:
        assert store.get_manifest("1") == store.get_manifest(digest) == (MANIFEST, manifest_of(b"config", b"layer"))
        assert store.open_blob(digest_of(b"layer")).read() == b"layer"


def test_a_repository_knows_its_own_manifests_alone(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, open_store(tmp_path, "services/other") as other:
        digest = push(store, "1", b"config", b"layer")
        assert other.get_manifest("1") is None
        assert other.get_manifest(digest) is None
        assert other.mount_blob(digest_of(b"layer"), "services/mnist")


def test_a_tag_moves(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        push(store, "1", b"config", b"layer")
        push(store, "1", b"config", b"other")
        assert store.get_manifest("1") == (MANIFEST, manifest_of(b"config", b"other"))
        assert store.tags() == ["1"]


def test_a_blob_that_no_manifest_names_goes(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.put_blob(digest_of(b"layer"), 5, source(b"layer"))
        assert store.has_blob(digest_of(b"layer"))
    assert not open_store(tmp_path).has_blob(digest_of(b"layer"))
    assert list((tmp_path / "layout" / "incoming").iterdir()) == []


def test_an_operation_on_models_leaves_what_is_being_put(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"weights")
    with open_store(tmp_path) as store:
        store.put_blob(digest_of(b"layer"), 5, source(b"layer"))
        Store(tmp_path / "layout", DigestCache(tmp_path / "cache")).configure("dev/demo", "Basic", 10**6)
        push(store, "1", b"config", b"layer")
    assert open_store(tmp_path).open_blob(digest_of(b"layer")).read() == b"layer"


def test_other_content_is_refused(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for wrong in (b"other", b"layers", b"l"):
            with pytest.raises(CorruptBlobError, match="is something else"):
                store.put_blob(digest_of(b"layer"), 5, source(wrong))
        assert not store.has_blob(digest_of(b"layer"))


def test_a_corrupt_blob_is_named_and_not_served(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        push(store, "1", b"config", b"layer")
        path = tmp_path / "layout" / "blobs" / "sha256" / hashlib.sha256(b"layer").hexdigest()
        path.chmod(0o644)
        path.write_bytes(b"sayer")
        with pytest.raises(CorruptBlobError, match=path.name), store.open_blob(digest_of(b"layer")) as blob:
            blob.read()


def test_a_manifest_that_names_a_missing_blob_is_refused(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, pytest.raises(CorruptBlobError, match=digest_of(b"gone")):
        store.put_manifest("1", MANIFEST, manifest_of(b"gone"))


def test_deleting_leaves_what_others_use(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, open_store(tmp_path, "services/other") as other:
        digest = push(store, "1", b"config", b"shared", b"own")
        kept = push(other, "1", b"config", b"shared")
        assert store.delete_manifest(digest)
        assert not store.delete_manifest(digest)
        assert store.get_manifest("1") is None
        assert stored(tmp_path) == {digest_of(b"config"), digest_of(b"shared"), kept}


def test_a_model_and_an_image_share_a_layer(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"weights")
    models = Store(tmp_path / "layout", DigestCache(tmp_path / "cache"))
    layer = layer_of(tmp_path, models)
    with open_store(tmp_path) as store:
        assert store.mount_blob(layer, "models/m")
        store.put_blob(digest_of(b"config"), 6, source(b"config"))
        document = {"config": {"digest": digest_of(b"config"), "size": 6}, "layers": [{"digest": layer, "size": 4096}]}
        manifest = json.dumps(document).encode()
        size = (tmp_path / "layout" / "blobs" / "sha256" / layer.removeprefix("sha256:")).stat().st_size
        manifest = manifest.replace(b"4096", str(size).encode())
        digest = store.put_manifest("1", MANIFEST, manifest)
        models.forget("m", "dev/demo")
        assert store.has_blob(layer)
        store.delete_manifest(digest)
        assert not store.has_blob(layer)


def layer_of(root: Path, models: Store) -> str:
    from provider.content.layer import layer_digest

    digest = layer_digest(root / "model", "m", DigestCache(root / "cache")).digest
    models.register(Request("m", root / "model", digest, "dev/demo"))
    return digest


def test_the_quota_is_kept(tmp_path: Path) -> None:
    Store(tmp_path / "layout", DigestCache(tmp_path / "cache")).configure("dev/demo", "Basic", 1000)
    with (
        open_store(tmp_path) as store,
        pytest.raises(QuotaError, match="needed, 0 bytes used, 1000 bytes allowed"),
    ):
        store.put_blob(digest_of(b"x" * 1001), 1001, source(b"x" * 1001))


def test_a_hostile_digest_is_refused(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for digest in ("sha256:../../etc/passwd", "sha512:" + "0" * 128, ""):
            with pytest.raises(ContentError, match="is no sha256 digest"):
                store.has_blob(digest)


def put_and_die(root: Path) -> None:
    store = open_store(root)
    store.put_blob(digest_of(b"layer"), 5, source(b"layer"))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_push_leaves_nothing_that_is_named(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=put_and_die, args=(tmp_path,))
    process.start()
    process.join(180)
    assert process.exitcode == -signal.SIGKILL
    assert stored(tmp_path) == set()
    with open_store(tmp_path) as store:
        push(store, "1", b"config", b"layer")
    assert list((tmp_path / "layout" / "incoming").iterdir()) == []
