"""Tags that stacks put on what they use, and how a tag goes.

The distribution specification deletes manifests, with all their tags; a tag alone it leaves to the registry, and most
take no such request. So a tag is first set on a manifest of its own, which then goes with it.
"""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

from provider.content.modelpack import MANIFEST, blob_of
from provider.images.store import BlobStore

PREFIX = "slipway-"
"""Of all tags that are marks, and not for people."""
_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_DIGITS = 16


def mark_of(*parts: str) -> str:
    """The tag by which somebody, told by `parts`, marks what is theirs: the same every time."""
    return f"{PREFIX}{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:_DIGITS]}"


def empty_artifact(artifact_type: str, annotations: dict[str, str]) -> bytes:
    """A manifest that names no content but the empty one (OCI image specification, manifest.md, "Guidance for an empty
    descriptor")."""
    blob = blob_of(_EMPTY)
    empty: dict[str, Any] = {"mediaType": _EMPTY_TYPE, "digest": blob.digest, "size": blob.size}
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": artifact_type,
        "config": empty,
        "layers": [empty],
        "annotations": annotations,
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def put_empty(store: BlobStore, tag: str, manifest: bytes) -> str:
    """Stores a manifest of `empty_artifact` as `tag`; returns its digest."""
    blob = blob_of(_EMPTY)
    store.put_blob(blob.digest, blob.size, lambda: io.BytesIO(_EMPTY))
    return store.put_manifest(tag, MANIFEST, manifest)


def remove_tag(store: BlobStore, tag: str) -> None:
    """Removes a tag and leaves what it named.

    Raises `RegistryUnsupportedError` where the registry deletes nothing; the tag names an empty artifact then."""
    manifest = empty_artifact("application/vnd.slipway.removed.v1+json", {"slipway.tag": tag})
    store.delete_manifest(put_empty(store, tag, manifest))
