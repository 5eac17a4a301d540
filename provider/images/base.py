"""The image that a service's image begins with: read, checked, and its layers taken over as they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

from provider.content.errors import ContentError
from provider.content.modelpack import MANIFEST, Blob
from provider.content.names import DIGEST
from provider.images.layers import LAYER, ImageLayer
from provider.images.store import BlobStore

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
# Docker's own names of the same formats: the blobs need no change.
_LAYERS = {
    LAYER: LAYER,
    f"{LAYER}+gzip": f"{LAYER}+gzip",
    f"{LAYER}+zstd": f"{LAYER}+zstd",
    "application/vnd.docker.image.rootfs.diff.tar": LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{LAYER}+gzip",
}
_LARGEST_CONFIG = 4 * 1024 * 1024


@dataclass(frozen=True)
class BaseImage:
    """What is taken over from a base image."""

    reference: str
    """As it was given: `<repository>@<digest>`."""
    digest: str
    """Of what it was given as: a manifest, or an index of several platforms."""
    layers: tuple[ImageLayer, ...]
    environment: dict[str, str]


def read_base(store: BlobStore, repository: str, digest: str, platform: str) -> BaseImage:
    """The image `digest` in `store`, which is the repository `repository`, for `platform` (`linux/amd64`).

    Raises `ContentError`: it is missing, for another platform, or not what an image should be."""
    where = f"the base image {repository}@{digest}"
    try:
        manifest = _manifest(store, where, digest, platform)
        config = _config(store, str(manifest["config"]["digest"]), int(manifest["config"]["size"]))
        _check_platform(where, config, platform)
        layers = list(_layers(store, repository, manifest, config))
        environment = dict(item.split("=", 1) for item in (config.get("config") or {}).get("Env") or [])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ContentError(f"{where} is no image that can be built on ({error!r}); name another one") from None
    return BaseImage(f"{repository}@{digest}", digest, tuple(layers), environment)


def _manifest(store: BlobStore, where: str, digest: str, platform: str) -> dict[str, Any]:
    found = store.get_manifest(digest)
    if found is None:
        raise ContentError(f"{where} is not there; copy it to that place first, or correct its digest")
    media_type, content = found
    document: dict[str, Any] = json.loads(content)
    if media_type in _INDEXES:
        choice = [item for item in document["manifests"] if _platform_of(item.get("platform") or {}) == platform]
        if not choice:
            offered = sorted({_platform_of(item.get("platform") or {}) for item in document["manifests"]})
            raise ContentError(f"{where} is not made for {platform}, only for {', '.join(offered)}; name another one")
        return _manifest(store, where, str(choice[0]["digest"]), platform)
    if media_type not in _MANIFESTS:
        raise ContentError(f"{where} is no image, but {media_type}; name another one")
    return document


def _config(store: BlobStore, digest: str, size: int) -> dict[str, Any]:
    if size > _LARGEST_CONFIG:
        raise ValueError(f"a config of {size} bytes")
    with store.open_blob(digest) as blob:
        document: dict[str, Any] = json.loads(blob.read())
    return document


def _check_platform(where: str, config: dict[str, Any], platform: str) -> None:
    found = _platform_of(config)
    if found != platform:
        raise ContentError(f"{where} is made for {found}, not for {platform}; name another one")


def _platform_of(document: dict[str, Any]) -> str:
    return f"{document.get('os', '?')}/{document.get('architecture', '?')}"


def _layers(store: BlobStore, repository: str, manifest: dict[str, Any], config: dict[str, Any]) -> list[ImageLayer]:
    entries, diff_ids = manifest["layers"], config["rootfs"]["diff_ids"]
    layers = []
    for entry, diff_id in zip(entries, diff_ids, strict=True):
        digest, media_type = str(entry["digest"]), _LAYERS.get(str(entry["mediaType"]))
        if media_type is None:
            raise ValueError(f"a layer of type {entry['mediaType']}")
        if not DIGEST.fullmatch(digest) or not DIGEST.fullmatch(str(diff_id)):
            raise ValueError(f"a layer named {digest}")
        blob = Blob(digest, int(entry["size"]))
        layers.append(
            ImageLayer("base", blob, str(diff_id), media_type, partial(store.open_blob, digest), (repository,))
        )
    return layers
