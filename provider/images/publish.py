"""Sends an image to where it is kept: only what is missing there, the manifest last.

A layer is looked for in the repository, then taken over from another one of the same registry, and sent only after
that. Killed at any point, it leaves blobs that nothing names, and the next run sends what is still missing.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial

from provider.content.errors import ContentError
from provider.content.modelpack import MANIFEST
from provider.content.watch import Watch, human_size
from provider.images.compose import Image
from provider.images.layers import ImageLayer
from provider.images.parallel import run_all
from provider.images.store import BlobStore

_SMALL_REQUESTS = 2  # threads that ask for what is there, beside those that may be sending


def publish(image: Image, store: BlobStore, tag: str, watch: Watch | None = None, parallel: int = 2) -> str:
    """Stores `image` as `tag`; returns its digest. `parallel`: layers that are sent at once.

    Raises `ContentError`: a layer that is nowhere, and whatever `store` raises."""
    watch = watch or Watch()
    # The same layer twice (a base image may have empty ones) is sent once.
    layers = {layer.blob.digest: layer for layer in image.layers}
    config = image.config_blob
    work: list[Callable[[], None]] = [partial(_send, layer, store, watch) for layer in layers.values()]
    work.append(lambda: store.put_blob(config.digest, config.size, lambda: io.BytesIO(image.config)))
    # The last are those that change most: they are sent while the others are only asked for.
    run_all(work[::-1], parallel + _SMALL_REQUESTS)
    watch.check("storing the image's manifest")
    digest = store.put_manifest(tag, MANIFEST, image.manifest)
    if digest != image.digest:
        raise ContentError(f"the image {tag} is {image.digest}, but was stored as {digest}; run `pulumi up` again")
    return digest


def missing_from(store: BlobStore, image_manifest: bytes) -> list[str]:
    """The digests that a manifest names and `store` does not have."""
    document = json.loads(image_manifest)
    return [item["digest"] for item in (document["config"], *document["layers"]) if not store.has_blob(item["digest"])]


def _send(layer: ImageLayer, store: BlobStore, watch: Watch) -> None:
    digest = layer.blob.digest
    watch.check("sending the image")
    # Putting a blob asks for it first: only what may be elsewhere, or nowhere, is asked for here.
    if (layer.open is None or layer.repositories) and (
        store.has_blob(digest) or any(store.mount_blob(digest, repository) for repository in layer.repositories)
    ):
        return
    if layer.open is None:
        raise ContentError(
            f"the {layer.kind} layer {digest} is in none of {', '.join(layer.repositories) or 'the places known'}; "
            f"run `pulumi up --refresh`, which stores what is missing again"
        )
    watch.status(f"storing the {layer.kind} layer: {human_size(layer.blob.size)}")
    store.put_blob(digest, layer.blob.size, layer.open)
