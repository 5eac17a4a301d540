"""Content, and how the tests look at a registry."""

from __future__ import annotations

import hashlib
import io
import json
import random
from dataclasses import dataclass
from typing import BinaryIO

from provider.registry.patience import Patience
from provider.registry.repository import RegistryRepository

MIB = 2**20
QUICK = Patience(attempts=4, first_pause=0.01, longest_pause=0.02, answer=30.0, connect=5.0)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Content:
    """Bytes and what names them."""

    data: bytes

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    @property
    def size(self) -> int:
        return len(self.data)

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)


def content(size: int, seed: int = 0) -> Content:
    """`size` bytes that are the same with the same seed."""
    return Content(random.Random(seed).randbytes(size))  # noqa: S311


def put(repository: RegistryRepository, blob: Content) -> None:
    repository.put_blob(blob.digest, blob.size, blob.open)


def read(repository: RegistryRepository, digest: str) -> bytes:
    with repository.open_blob(digest) as file:
        return file.read()


def manifest_of(*blobs: Content) -> bytes:
    """A manifest whose config is the first blob."""
    descriptors = [{"mediaType": "application/octet-stream", "digest": b.digest, "size": b.size} for b in blobs]
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptors[0], "layers": descriptors[1:]}
    return json.dumps(document).encode()
