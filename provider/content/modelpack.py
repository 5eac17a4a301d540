"""Describes a model layer as an artifact of the CNCF ModelPack specification (github.com/modelpack/model-spec).

An artifact is an OCI image manifest with a config and one weight layer. Both documents follow from the model's name
and its layer alone: no times, no version, no tags; so the same files are the same artifact wherever and whenever they
are registered. What may change about a model is kept beside it (`store`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
WEIGHT = "application/vnd.cncf.model.weight.v1.tar"
FILE_PATH = "org.cncf.model.filepath"


@dataclass(frozen=True)
class Blob:
    """Names stored bytes: the two parts of an OCI descriptor that identify content."""

    digest: str
    """`sha256:<hex>`."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Artifact:
    """A model's two documents, as the bytes that are stored."""

    config: bytes
    manifest: bytes

    @property
    def config_blob(self) -> Blob:
        """What names the config."""
        return blob_of(self.config)

    @property
    def manifest_blob(self) -> Blob:
        """What names the manifest, and so the artifact."""
        return blob_of(self.manifest)


def blob_of(data: bytes) -> Blob:
    """What names `data`."""
    return Blob(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))


def artifact(name: str, layer: Blob, file_path: str) -> Artifact:
    """The artifact of the model `name`, whose files lie at `file_path` inside `layer` (an uncompressed tar)."""
    config = _canonical(
        {
            "descriptor": {"name": name},
            "config": {},
            # The diffId is the digest of the uncompressed tar, which the layer is.
            "modelfs": {"type": "layers", "diffIds": [layer.digest]},
        }
    )
    manifest = _canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ARTIFACT,
            "config": _descriptor(CONFIG, blob_of(config)),
            "layers": [_descriptor(WEIGHT, layer) | {"annotations": {FILE_PATH: file_path}}],
        }
    )
    return Artifact(config, manifest)


def _descriptor(media_type: str, blob: Blob) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
