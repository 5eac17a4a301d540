"""Where images are kept: the protocol of a repository, and an OCI image layout on disk that satisfies it.

A layout is shared by the models of a workspace and by images, so a blob that is there is there for every repository.
What comes in is held in `incoming/`, locked, until the manifest that names it arrives: an operation on the models,
which clears what nothing names, does not see it before, and one that was killed leaves nothing but that.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from provider.content.cache import DigestCache
from provider.content.errors import ContentError, CorruptBlobError
from provider.content.layout import Incoming, Layout, Writer, disk_errors, disk_full, free_bytes
from provider.content.modelpack import Blob, blob_of
from provider.content.store import IMAGE_REPOSITORY, QuotaError, Store
from provider.content.watch import Watch, human_size

_REFERENCE = "org.opencontainers.image.ref.name"
_READ_BYTES = 1024 * 1024


class BlobStore(Protocol):
    """One repository of a registry, or of what stands in for one. Digests are `sha256:<hex>`; a reference is a tag or
    a digest."""

    def has_blob(self, digest: str) -> bool:
        """Whether the repository has the blob."""

    def mount_blob(self, digest: str, source_repository: str) -> bool:
        """Takes the blob over from another repository of the same registry; False where that is not possible."""

    def put_blob(self, digest: str, size: int, source: Callable[[], BinaryIO]) -> None:
        """Stores a blob, streamed; `source` may be called again for another attempt. Idempotent; the receiver verifies
        the digest."""

    def open_blob(self, digest: str) -> BinaryIO:
        """The blob's bytes, verified while they are read: the end is only reached where they are right."""

    def put_manifest(self, reference: str, media_type: str, content: bytes) -> str:
        """Stores a manifest whose blobs are there; returns its digest."""

    def get_manifest(self, reference: str) -> tuple[str, bytes] | None:
        """Media type and content of a manifest; None where there is none."""

    def delete_manifest(self, digest: str) -> bool:
        """Removes a manifest, and lets go of what only it used; False where it was gone."""

    def tags(self) -> list[str]:
        """All tags of the repository, sorted."""


class ImageLayoutStore:
    """The repository `repository` of the OCI image layout at `root`, which is made where it is missing.

    Use it as a context: what was put and never named by a manifest goes at its end."""

    def __init__(
        self, root: Path, repository: str, cache: DigestCache | None = None, watch: Watch | None = None
    ) -> None:
        self._store = Store(root, cache)
        self._layout: Layout = self._store.layout
        self._repository = repository
        self._watch = watch or Watch()
        self._pending: dict[str, Incoming] = {}

    def __enter__(self) -> ImageLayoutStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of what no manifest has named."""
        for incoming in self._pending.values():
            incoming.close()
        self._pending.clear()

    def has_blob(self, digest: str) -> bool:
        """See `BlobStore`."""
        return digest in self._pending or self._layout.blob_path(digest).is_file()

    def mount_blob(self, digest: str, source_repository: str) -> bool:
        """See `BlobStore`: all repositories of a layout have the same blobs."""
        return self.has_blob(digest)

    def put_blob(self, digest: str, size: int, source: Callable[[], BinaryIO]) -> None:
        """See `BlobStore`. Raises `ContentError` where the content is another, or there is no room for it."""
        if self.has_blob(digest):
            return
        blob = Blob(digest, size)
        with self._layout.locked(self._watch) as writer:
            self._store.prepare(writer)
            self._check_room(blob)
            incoming = writer.reserve(blob)
        try:
            with source() as content:
                self._fill(incoming, content)
        except BaseException:
            incoming.close()
            raise
        self._pending[digest] = incoming

    def open_blob(self, digest: str) -> BinaryIO:
        """See `BlobStore`."""
        pending = self._pending.get(digest)
        path = self._layout.blob_path(digest) if pending is None else pending.path
        try:
            return verified(path.open("rb"), digest, str(path))
        except FileNotFoundError:
            raise CorruptBlobError(f"{self._layout.root} has no blob {digest}; push it there again") from None
        except OSError as error:
            raise ContentError(f"{path} cannot be read: {error.strerror}") from error

    def put_manifest(self, reference: str, media_type: str, content: bytes) -> str:
        """See `BlobStore`. Raises `CorruptBlobError` where a blob that it names is missing."""
        manifest = blob_of(content)
        with self._layout.locked(self._watch) as writer:
            self._store.prepare(writer)
            for digest in _named_in(content):
                if not self.has_blob(digest):
                    raise CorruptBlobError(
                        f"the manifest {reference} names the blob {digest}, which {self._layout.root} does not have "
                        f"(any more); run `pulumi up` again"
                    )
            for digest in _named_in(content):
                if (incoming := self._pending.pop(digest, None)) is not None:
                    self._accept(writer, incoming)
            writer.add_document(content)
            annotations = {IMAGE_REPOSITORY: self._repository}
            if reference != manifest.digest:
                annotations[_REFERENCE] = f"{self._repository}:{reference}"
            entry = {"mediaType": media_type, "digest": manifest.digest, "size": manifest.size}
            others = [item for item in self._layout.index() if not self._is_named(item, reference)]
            writer.write_index([*others, {**entry, "annotations": annotations}])
        return manifest.digest

    def get_manifest(self, reference: str) -> tuple[str, bytes] | None:
        """See `BlobStore`. Raises `CorruptBlobError` where its bytes are not what the index says."""
        for item in self._layout.index():
            if self._is_named(item, reference):
                blob = Blob(str(item["digest"]), int(item["size"]))
                return str(item["mediaType"]), self._layout.read_document(blob)
        return None

    def delete_manifest(self, digest: str) -> bool:
        """See `BlobStore`."""
        if not self._layout.exists:
            return False
        with self._layout.locked(self._watch) as writer:
            entries = self._layout.index()
            others = [item for item in entries if not self._is_named(item, digest)]
            writer.write_index(others)
            self._store.prepare(writer)  # clears what nothing names any more
        return len(others) < len(entries)

    def tags(self) -> list[str]:
        """See `BlobStore`."""
        prefix = f"{self._repository}:"
        references = [str(item.get("annotations", {}).get(_REFERENCE, "")) for item in self._layout.index()]
        return sorted(name.removeprefix(prefix) for name in references if name.startswith(prefix))

    def _is_named(self, item: dict[str, Any], reference: str) -> bool:
        annotations = item.get("annotations", {})
        if annotations.get(IMAGE_REPOSITORY) != self._repository:
            return False
        return reference == item.get("digest") or annotations.get(_REFERENCE) == f"{self._repository}:{reference}"

    def _check_room(self, blob: Blob) -> None:
        root, quota = self._layout.root, self._store.record().quota_bytes
        used = self._layout.used_bytes()
        if quota is not None and used + blob.size > quota:
            raise QuotaError(
                f"a layer of {self._repository} does not fit into {root}: {human_size(blob.size)} needed, "
                f"{human_size(used)} used, {human_size(quota)} allowed ({blob.size} + {used} > {quota} bytes); "
                f"choose a larger registry tier, or let old versions of models go with keepVersions"
            )
        if blob.size > free_bytes(root):
            raise disk_full(root, blob.size)

    def _fill(self, incoming: Incoming, content: BinaryIO) -> None:
        blob, digest, done = incoming.blob, hashlib.sha256(), 0
        with disk_errors(self._layout.root, blob.size):
            while data := content.read(_READ_BYTES):
                digest.update(data)
                done += len(data)
                if done > blob.size:
                    break
                left = memoryview(data)
                while left:
                    left = left[os.write(incoming.handle, left) :]
                self._watch.advance(f"storing {blob.digest[7:19]}", done, blob.size)
            os.fdatasync(incoming.handle)
        if done != blob.size or f"sha256:{digest.hexdigest()}" != blob.digest:
            raise CorruptBlobError(
                f"what was to be stored as {blob.digest} ({blob.size} bytes) is something else "
                f"({'more than ' if done > blob.size else ''}{done} bytes); run `pulumi up` again"
            )

    def _accept(self, writer: Writer, incoming: Incoming) -> None:
        writer.accept(incoming)
        os.close(incoming.handle)


def verified(content: BinaryIO, digest: str, where: str) -> BinaryIO:
    """`content`, hashed while it is read; its end raises `CorruptBlobError` where it is not what `digest` says."""
    return cast(BinaryIO, io.BufferedReader(_Verified(content, digest, where), _READ_BYTES))


class _Verified(io.RawIOBase):
    def __init__(self, content: BinaryIO, digest: str, where: str) -> None:
        self._content = content
        self._digest = digest
        self._where = where
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._content.read(len(buffer))
        if not data and f"sha256:{self._hash.hexdigest()}" != self._digest:
            raise CorruptBlobError(
                f"{self._where} is corrupt: its content is not {self._digest}; remove it, then run "
                f"`pulumi up --refresh`, which stores it anew"
            )
        self._hash.update(data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._content.close()
        super().close()


def _named_in(manifest: bytes) -> list[str]:
    """The digests that a manifest, or an index of manifests, names."""
    document = json.loads(manifest)
    parts = [document.get("config"), *document.get("layers", []), *document.get("manifests", [])]
    return list(dict.fromkeys(str(part["digest"]) for part in parts if isinstance(part, dict)))
