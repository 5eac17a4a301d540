"""Copies an image from one place to another, by digest: as it is, to the byte, with all its platforms.

What is copied carries a tag of whoever copied it, for registries that clear away what has none. It is removed with the
last tag that names it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from provider.content.errors import ContentError, CorruptBlobError
from provider.content.watch import Watch, human_size
from provider.images.parallel import run_all
from provider.images.store import BlobStore
from provider.images.tags import remove_tag

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_SMALL_REQUESTS = 2  # threads that ask for what is there, beside those that may be sending
# Layers that may not be passed on are where they always were (OCI image specification, layer.md).
_NOT_PASSED_ON = ("nondistributable", "foreign")


@dataclass(frozen=True)
class _Document:
    """A manifest or an index."""

    digest: str
    media_type: str
    content: bytes

    def parts(self) -> dict[str, int]:
        """Digest -> bytes, of the blobs that it names itself."""
        document = json.loads(self.content)
        named = [document.get("config"), *document.get("layers", [])]
        return {
            str(part["digest"]): int(part["size"])
            for part in named
            if isinstance(part, dict) and not any(word in str(part.get("mediaType")) for word in _NOT_PASSED_ON)
        }

    def children(self) -> list[str]:
        """The digests of the manifests that it lists."""
        return [str(item["digest"]) for item in json.loads(self.content).get("manifests", [])]


def copy(
    source: BlobStore,
    target: BlobStore,
    digest: str,
    tag: str,
    *,
    mounted_from: str | None = None,
    watch: Watch | None = None,
    parallel: int = 2,
) -> None:
    """Copies the image or index `digest` and tags it `tag`. `mounted_from`: the source's repository, where it is one of
    the target's own registry. What is there already is not sent.

    Raises `ContentError`: it is not there, it is damaged, and whatever the two places raise."""
    watch = watch or Watch()
    documents = list(_tree(source, digest))
    blobs = {name: size for document in documents for name, size in document.parts().items()}
    work: list[Callable[[], None]] = [
        partial(_send, source, target, name, size, mounted_from, watch) for name, size in blobs.items()
    ]
    run_all(work, parallel + _SMALL_REQUESTS)
    try:
        _put_documents(target, documents, digest, tag, watch)
    except CorruptBlobError as error:
        # What a killed copy left in a layout was there when it was asked for, and went with the first change.
        watch.warning(f"{str(error).partition(';')[0]}; sending it again")
        run_all(work, parallel + _SMALL_REQUESTS)
        _put_documents(target, documents, digest, tag, watch)


def missing(store: BlobStore, digest: str, tag: str) -> str | None:
    """What is wrong with a copy, for people; None where it is whole. Blobs are asked for, not read."""
    try:
        tagged = store.get_manifest(tag)
        if tagged is None or _digest_of(tagged[1]) != digest:
            return f"its tag {tag} is gone" if store.get_manifest(digest) is not None else "it is gone"
        for document in _tree(store, digest):
            for blob in document.parts():
                if not store.has_blob(blob):
                    return f"its blob {blob} is gone"
    except CorruptBlobError as error:
        return str(error)
    except MissingImageError as error:
        return f"its manifest {error.digest} is gone"
    return None


def remove(store: BlobStore, digest: str, tag: str) -> None:
    """Removes the copy that `tag` stands for, or only the tag where another one names the image as well."""
    tags = store.tags()
    used = {name for other in tags if other != tag for name in _named_by(store, other)}
    if digest in used:
        if tag in tags:
            remove_tag(store, tag)
        return
    # The index last: as long as it is there, its parts can be found.
    for document in _found(store, digest):
        if document.digest not in used:
            store.delete_manifest(document.digest)
    store.delete_manifest(digest)


class MissingImageError(ContentError):
    """A manifest is not where it should be."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"{digest} is not there; correct the digest or the repository, or copy the image there first")
        self.digest = digest


def _tree(store: BlobStore, digest: str) -> Iterator[_Document]:
    """The manifest `digest` and those that it lists, itself last."""
    document = _document(store, digest)
    for child in document.children():
        yield from _tree(store, child)
    yield document


def _found(store: BlobStore, digest: str) -> list[_Document]:
    """As `_tree`, of what a half-done removal or some damage left."""
    try:
        document = _document(store, digest)
    except (MissingImageError, CorruptBlobError):
        return []
    return [*(item for child in document.children() for item in _found(store, child)), document]


def _document(store: BlobStore, digest: str) -> _Document:
    found = store.get_manifest(digest)
    if found is None:
        # A layout that others made names only what was tagged; the rest are blobs among blobs.
        if not store.has_blob(digest):
            raise MissingImageError(digest)
        with store.open_blob(digest) as blob:
            content = blob.read()
        found = str(json.loads(content).get("mediaType")), content
    if _digest_of(found[1]) != digest:
        raise CorruptBlobError(f"the manifest {digest} is corrupt: its content is {_digest_of(found[1])}; push it anew")
    _check_form(digest, found[0], found[1])
    return _Document(digest, *found)


def _check_form(digest: str, media_type: str, content: bytes) -> None:
    document: Any = json.loads(content)
    known = isinstance(document, dict) and ("manifests" in document) == (media_type in _INDEXES)
    if not known or ("layers" not in document and "manifests" not in document):
        raise ContentError(f"{digest} is no image, but {media_type}; name the digest of an image or of an index")


def _named_by(store: BlobStore, tag: str) -> list[str]:
    found = store.get_manifest(tag)
    if found is None:
        return []
    return [item.digest for item in _found(store, _digest_of(found[1]))]


def _send(source: BlobStore, target: BlobStore, digest: str, size: int, mounted_from: str | None, watch: Watch) -> None:
    watch.check("copying an image")
    if target.has_blob(digest) or (mounted_from is not None and target.mount_blob(digest, mounted_from)):
        return
    watch.status(f"copying {digest[7:19]}: {human_size(size)}")
    target.put_blob(digest, size, lambda: source.open_blob(digest))


def _put_documents(target: BlobStore, documents: Sequence[_Document], digest: str, tag: str, watch: Watch) -> None:
    for document in documents:
        watch.check("copying an image")
        reference = tag if document.digest == digest else document.digest
        target.put_manifest(reference, document.media_type, document.content)


def _digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
