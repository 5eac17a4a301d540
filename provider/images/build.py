"""Makes the image of a service from its inputs and stores it: the steps of `provider.service_image`, without Pulumi."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from provider.content.errors import ContentChangedError, ContentError, CorruptBlobError
from provider.content.modelpack import Blob
from provider.content.source import code_digest
from provider.content.watch import Watch
from provider.images import environment
from provider.images.base import read_base
from provider.images.compose import Image, Service, compose
from provider.images.layers import (
    ENVIRONMENT_KEY,
    ImageLayer,
    code_layer,
    environment_layer,
    links_layer,
    model_layer,
    server_layer,
)
from provider.images.publish import publish
from provider.images.store import BlobStore, ImageLayoutStore
from provider.location import Location


@dataclass(frozen=True)
class Sources:
    """What an image is made from, and what each of it was when it was looked at."""

    base: str
    """`<repository>@<digest>`."""
    base_location: Location
    lock_file: Path
    environment_digest: str
    server: Path
    server_digest: str
    code: Path | None
    code_digest: str | None
    model_repositories: Mapping[str, str] = field(default_factory=dict)
    """Repository of each model's artifact, in the registry that the image goes to."""
    model_layout: Path | None = None
    """An image layout on this machine from which models are copied that the registry does not have."""


def revision_of(service: Service, sources: Sources) -> str:
    """Names what an image is made from: 16 hexadecimal digits, the same on every machine."""
    identity: dict[str, Any] = {
        "base": sources.base,
        "code": sources.code_digest,
        "entryScript": service.entry_script,
        "environment": sources.environment_digest,
        "models": [[model.name, model.version, model.layer.digest] for model in service.models],
        "name": service.name,
        "platform": service.platform,
        "port": service.port,
        "python": service.python_version,
        "server": sources.server_digest,
    }
    if service.variables:
        identity["variables"] = dict(service.variables)
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def build(service: Service, sources: Sources, target: Location, repository: str, watch: Watch) -> Image:
    """Makes the image and stores it in `repository` of `target`, tagged with its revision. Idempotent.

    Raises `ContentError`: something is missing, is another by now than when it was checked, or cannot be stored."""
    try:
        return _build(service, sources, target, repository, watch)
    except (CorruptBlobError, ContentChangedError) as error:
        # What was there is damaged, or was cleared meanwhile: what is missing now is made anew.
        key = environment.key_of(sources.environment_digest, service.platform, service.python_version)
        if environment.forget_damaged(key):
            watch.warning(f"the environment's layer in this machine's cache is damaged; it is made anew ({key})")
        else:
            watch.warning(f"{error}; trying once more")
    return _build(service, sources, target, repository, watch)


def _build(service: Service, sources: Sources, target: Location, repository: str, watch: Watch) -> Image:
    base_repository, _, base_digest = sources.base.partition("@")
    with (
        target.repository(repository, watch) as store,
        sources.base_location.repository(base_repository, watch) as bases,
    ):
        base = read_base(bases, base_repository, base_digest, service.platform)
        layers: list[ImageLayer] = [_environment(service, sources, store, watch)]
        layers.append(_unchanged(sources.server, sources.server_digest, server_layer))
        for model in service.models:
            source = sources.model_repositories.get(model.name)
            layers.append(
                model_layer(model, _copied_from(sources.model_layout, model.layer), () if source is None else (source,))
            )
        layers.append(links_layer(service.models))
        if sources.code is not None and sources.code_digest is not None:
            layers.append(_unchanged(sources.code, sources.code_digest, code_layer))
        image = compose(service, base, layers)
        publish(image, store, service.revision, watch, target.parallel)
    return image


def _environment(service: Service, sources: Sources, store: BlobStore, watch: Watch) -> ImageLayer:
    """From the cache; from an image in the repository that has the same one already; else made."""
    key = environment.key_of(sources.environment_digest, service.platform, service.python_version)
    known = environment.known_layer(key)
    if known is None and (published := _published(store, key)) is not None:
        return environment_layer(published, key, None)
    if known is None:
        lock = _lock(sources)
        known = environment.environment_layer(lock, service.platform, service.python_version, watch)
    return environment_layer(known.blob, key, known.open)


def _lock(sources: Sources) -> str:
    try:
        lock = sources.lock_file.read_text()
    except OSError as error:
        raise ContentError(
            f"the lock of the environment, {sources.lock_file}, cannot be read: {error.strerror}"
        ) from None
    if environment.lock_digest(lock) != sources.environment_digest:
        raise ContentError(
            f"{sources.lock_file} holds other packages than those asked for ({sources.environment_digest}); "
            f"run `pulumi up` again"
        )
    return lock


def _published(store: BlobStore, key: str) -> Blob | None:
    """The layer of the environment `key`, where an image in the repository has it."""
    for tag in store.tags():
        found = store.get_manifest(tag)
        for entry in json.loads(found[1]).get("layers", []) if found is not None else ():
            if (entry.get("annotations") or {}).get(ENVIRONMENT_KEY) == key and store.has_blob(entry["digest"]):
                return Blob(str(entry["digest"]), int(entry["size"]))
    return None


def _unchanged(directory: Path, digest: str, make: Callable[[Path], ImageLayer]) -> ImageLayer:
    layer = make(directory)
    if code_digest(directory) != digest:
        raise ContentError(
            f"{directory} changed since it was checked; wait until nothing writes to it, then run `pulumi up` again"
        )
    return layer


def _copied_from(layout: Path | None, blob: Blob) -> Callable[[], BinaryIO] | None:
    if layout is None:
        return None
    store = ImageLayoutStore(layout, "models")
    return (lambda: store.open_blob(blob.digest)) if store.has_blob(blob.digest) else None
