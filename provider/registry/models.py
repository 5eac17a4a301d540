"""Publishes a model version from the store on disk in a registry, as the same artifact: same bytes, same digests."""

from __future__ import annotations

from collections.abc import Iterable

from provider.content.errors import ContentError
from provider.content.modelpack import MANIFEST
from provider.content.store import Store
from provider.content.watch import Watch
from provider.registry.repository import RegistryRepository


def publish(
    store: Store,
    name: str,
    version: int,
    repository: RegistryRepository,
    tags: Iterable[str] = (),
    watch: Watch | None = None,
) -> str:
    """Uploads what `repository` does not have yet, tags it with the version and with `tags`; returns the manifest's
    digest. A tag comes last: what it names is complete.

    Raises `ContentError`: a version that is not stored, `CorruptBlobError` where it is not sound on disk, and what
    `RegistryRepository` raises."""
    model = store.record().models.get(name)
    held = None if model is None else model.held.get(version)
    if held is None:
        raise ContentError(
            f"{store.root} does not hold version {version} of the model {name}; run `pulumi up --refresh`, which "
            f"registers models anew from their files"
        )
    for blob in (held.layer, held.config):
        if not repository.has_blob(blob.digest):
            store.layout.verify(blob, watch)
            path = store.layout.blob_path(blob.digest)
            repository.put_blob(blob.digest, blob.size, lambda path=path: path.open("rb"))  # type: ignore[misc]
    manifest = store.layout.read_document(held.manifest)
    for tag in dict.fromkeys([held.manifest.digest, str(version), *tags]):
        repository.put_manifest(tag, MANIFEST, manifest)
    return held.manifest.digest
