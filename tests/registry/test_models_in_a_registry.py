"""A model version in a registry: the same artifact as in the store, and readable with `oras`."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import oras.client
import pytest

from provider.content.cache import DigestCache
from provider.content.errors import ContentError, CorruptBlobError
from provider.content.layer import layer_digest
from provider.content.store import Registration, Request, Store
from provider.registry.client import Registry
from provider.registry.models import publish
from tests.registry.faulty_proxy import FaultyProxy
from tests.registry.registry_process import RegistryProcess


class Models:
    """A store with one model of two files."""

    def __init__(self, folder: Path) -> None:
        cache = DigestCache(folder / "cache")
        self.source = folder / "mnist"
        self.source.mkdir()
        (self.source / "weights.bin").write_bytes(b"weights" * 1000)
        (self.source / "labels.txt").write_text("0 1 2")
        self.store = Store(folder / "store", cache)
        digest = layer_digest(self.source, "mnist", cache).digest
        self.registered: Registration = self.store.register(Request("mnist", self.source, digest, "dev/p"))


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(tmp_path)


def test_a_published_model_is_the_same_artifact_under_its_version_and_tags(
    models: Models, registry: Registry, name: str
) -> None:
    repository = registry.repository(name)
    assert publish(models.store, "mnist", 1, repository, ["champion"]) == models.registered.digest
    assert repository.tags() == ["1", "champion"]
    found = repository.find_manifest("champion")
    assert found is not None
    assert found.digest == models.registered.digest


def test_a_model_that_is_published_sends_nothing_more(
    models: Models, registry: Registry, proxy: FaultyProxy, name: str
) -> None:
    publish(models.store, "mnist", 1, registry.repository(name))
    before = len(proxy.asked("PUT", "/blobs/"))
    publish(models.store, "mnist", 1, registry.repository(name))
    assert len(proxy.asked("PUT", "/blobs/")) == before == 2


def test_oras_pulls_the_same_bytes(
    models: Models, registry: Registry, running: RegistryProcess, name: str, tmp_path: Path
) -> None:
    publish(models.store, "mnist", 1, registry.repository(name))
    target = f"{running.address}/{name}:1"
    client = oras.client.OrasClient(hostname=running.address, insecure=True)
    manifest = client.get_manifest(target)
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    (layer,) = manifest["layers"]
    pulled = Path(client.download_blob(target, layer["digest"], str(tmp_path / "pulled.tar")))
    assert f"sha256:{hashlib.sha256(pulled.read_bytes()).hexdigest()}" == layer["digest"]
    with tarfile.open(pulled) as archive:
        files = {item.name: archive.extractfile(item) for item in archive if item.isfile()}
        contents = {name: file.read() for name, file in files.items() if file is not None}
    assert contents == {f"models/mnist/mnist/{file.name}": file.read_bytes() for file in models.source.iterdir()}


def test_a_model_that_is_damaged_on_disk_is_named_and_not_published(
    models: Models, registry: Registry, name: str
) -> None:
    (layer,) = json.loads(models.store.layout.blob_path(models.registered.digest).read_bytes())["layers"]
    path = models.store.layout.blob_path(layer["digest"])
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(CorruptBlobError, match=str(path)):
        publish(models.store, "mnist", 1, registry.repository(name))
    assert registry.repository(name).tags() == []


def test_a_version_that_is_not_stored_is_named(models: Models, registry: Registry, name: str) -> None:
    with pytest.raises(ContentError, match="does not hold version 7 of the model mnist"):
        publish(models.store, "mnist", 7, registry.repository(name))
