"""One repository of a registry: its blobs, manifests and tags. Safe for several threads.

It satisfies the protocol by which images are put together (`BlobStore`)."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urljoin

from provider.content.errors import CorruptBlobError
from provider.registry.address import check_digest, check_reference, is_digest
from provider.registry.answers import Answer
from provider.registry.download import open_blob
from provider.registry.errors import RegistryError
from provider.registry.slots import Slots
from provider.registry.transport import Transport
from provider.registry.upload import Source, Upload

MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_NEXT = re.compile(r"<([^>]*)>\s*;\s*rel=\"?next\"?")
_TAGS_PER_PAGE = 1000


@dataclass(frozen=True)
class Descriptor:
    """What names a manifest: without reading it, for seeing whether a tag has moved."""

    media_type: str
    digest: str
    size: int


class InFlight:
    """One upload at a time of the same blob to the same place: whoever comes second finds it there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: dict[tuple[str, str], tuple[threading.Lock, int]] = {}

    @contextmanager
    def only_one(self, repository: str, digest: str) -> Iterator[None]:
        """Waits until no other thread of this client uploads the same."""
        key = (repository, digest)
        with self._lock:
            busy, users = self._busy.get(key, (threading.Lock(), 0))
            self._busy[key] = (busy, users + 1)
        try:
            with busy:
                yield
        finally:
            with self._lock:
                users = self._busy[key][1] - 1
                if users:
                    self._busy[key] = (busy, users)
                else:
                    del self._busy[key]


class RegistryRepository:
    """A repository; `client.Registry.repository` makes one. It need not exist yet."""

    def __init__(
        self, transport: Transport, name: str, slots: Slots, in_flight: InFlight, piece_bytes: int | None
    ) -> None:
        self._transport = transport
        self.name = transport.address.full_name(name)
        """The full name within the registry."""
        self._slots = slots
        self._in_flight = in_flight
        self._piece_bytes = piece_bytes
        self._pull = f"repository:{self.name}:pull"
        self._push = f"repository:{self.name}:pull,push"
        self._delete = f"repository:{self.name}:delete"

    @property
    def reference(self) -> str:
        """As a container runtime names it: `registry.example/team/mnist`."""
        return f"{self._transport.host}/{self.name}"

    # --- blobs

    def has_blob(self, digest: str) -> bool:
        """Whether the repository holds the blob."""
        path = self._blob_path(digest)
        doing = f"look for the blob {digest[:19]} in {self.name}"
        answer = self._transport.call("HEAD", path, scope=self._pull, doing=doing, expect=(200, 404))
        return answer.status == 200

    def mount_blob(self, digest: str, source_repository: str) -> bool:
        """Takes the blob over from another repository of the same registry; False where that is not possible.

        `source_repository`: its name, as `client.Registry.repository` takes it."""
        source = self._transport.address.full_name(source_repository)
        answer = self._transport.call(
            "POST",
            f"/v2/{self.name}/blobs/uploads/?mount={check_digest(digest)}&from={source}",
            scope=f"{self._push} repository:{source}:pull",
            doing=f"mount the blob {digest[:19]} of {source} in {self.name}",
            # A source that may not be read, or is none, is no reason to fail: the blob is uploaded then.
            expect=(201, 202, 400, 401, 403, 404, 405),
            headers={"Content-Length": "0"},
        )
        location = answer.headers.get("Location")
        if answer.status == 202 and location:  # an upload was begun in its place: it is not needed
            url = urljoin(f"{self._transport.address.url}/v2/{self.name}/blobs/uploads/", location)
            self._transport.call(
                "DELETE", url, scope=self._push, doing=f"end an upload to {self.name}", expect=range(200, 500)
            )
        return answer.status == 201

    def put_blob(self, digest: str, size: int, source: Source) -> None:
        """Uploads a blob of `size` bytes where it is not there yet; the registry compares it with its digest.

        `source` opens the bytes from the beginning, anew for each attempt. Raises `ContentChangedError` where they are
        not what the digest says, `RegistryFullError`, `RegistryDeniedError`, `RegistryUnavailableError`."""
        check_digest(digest)
        with self._in_flight.only_one(self.name, digest):
            if self.has_blob(digest):
                return
            upload = Upload(self._transport, self.name, self._push, digest, size, source)
            with self._slots.take():
                upload.run(lambda: self.has_blob(digest), self._piece_bytes)

    def open_blob(self, digest: str) -> BinaryIO:
        """The blob's bytes, as a file to read once and close; verified while it is read.

        Raises `MissingBlobError`; reading raises `CorruptBlobError`."""
        check_digest(digest)
        return open_blob(self._transport, self.name, self._pull, digest, self._slots.take())

    def delete_blob(self, digest: str) -> bool:
        """Deletes the blob from this repository (not from others); False where it was gone."""
        doing = f"delete the blob {digest[:19]} of {self.name}"
        path = self._blob_path(digest)
        return self._transport.call("DELETE", path, scope=self._delete, doing=doing, expect=(202, 404)).status == 202

    # --- manifests and tags

    def put_manifest(self, reference: str, media_type: str, content: bytes) -> str:
        """Stores a manifest under a tag or its own digest; returns the digest.

        Raises `MissingBlobError` where it names blobs that the repository does not hold."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if is_digest(check_reference(reference)) and reference != digest:
            raise RegistryError(f"the manifest for {self.name} is to be stored as {reference}, but is {digest}")
        self._transport.call(
            "PUT",
            f"/v2/{self.name}/manifests/{reference}",
            scope=self._push,
            doing=f"store the manifest {self.name}:{reference}",
            expect=(200, 201),
            headers={"Content-Type": media_type},
            body=content,
        )
        return digest

    def get_manifest(self, reference: str) -> tuple[str, bytes] | None:
        """The media type and the verified bytes of a manifest; None where there is none."""
        answer = self._manifest("GET", reference)
        if answer is None:
            return None
        found = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        expected = reference if is_digest(reference) else answer.headers.get("Docker-Content-Digest", found)
        if found != expected and is_digest(expected):
            raise CorruptBlobError(
                f"the manifest {self.name}:{reference} is corrupt: the registry {self._transport.host} says "
                f"{expected}, and serves {found}; delete it there and run `pulumi up --refresh`"
            )
        return _media_type(answer), answer.body

    def find_manifest(self, reference: str) -> Descriptor | None:
        """What a tag or digest names now; None: nothing. The manifest itself is not read where the registry says."""
        answer = self._manifest("HEAD", reference)
        if answer is None:
            return None
        digest, size = answer.headers.get("Docker-Content-Digest", ""), answer.headers.get("Content-Length", "")
        if is_digest(digest) and size.isdigit():
            return Descriptor(_media_type(answer), digest, int(size))
        found = self.get_manifest(reference)
        if found is None:
            return None
        return Descriptor(found[0], f"sha256:{hashlib.sha256(found[1]).hexdigest()}", len(found[1]))

    def delete_manifest(self, digest: str) -> bool:
        """Deletes a manifest with all its tags; False where it was gone.

        Raises `RegistryUnsupportedError` where the registry is set up not to delete."""
        check_digest(digest)
        doing = f"delete the manifest {digest[:19]} of {self.name}"
        path = f"/v2/{self.name}/manifests/{digest}"
        return (
            self._transport.call("DELETE", path, scope=self._delete, doing=doing, expect=(200, 202, 404)).status != 404
        )

    def tags(self) -> list[str]:
        """All tags, sorted; none where the repository does not exist."""
        url: str | None = f"/v2/{self.name}/tags/list?n={_TAGS_PER_PAGE}"
        tags: set[str] = set()
        doing = f"list the tags of {self.name}"
        while url is not None:
            answer = self._transport.call("GET", url, scope=self._pull, doing=doing, expect=(200, 404))
            if answer.status == 404:
                break
            tags |= self._listed(answer)
            following = _NEXT.search(answer.headers.get("Link", ""))
            url = urljoin(urljoin(self._transport.address.url, url), following[1]) if following else None
        return sorted(tags)

    def _listed(self, answer: Answer) -> set[str]:
        try:
            listed = json.loads(answer.body)["tags"] or []  # null where the last tag was deleted
            return {str(tag) for tag in listed}
        except (ValueError, KeyError, TypeError):
            raise RegistryError(
                f"could not list the tags of {self.name}: the registry {self._transport.host} answered something else; "
                f"check that the address is that of a registry"
            ) from None

    def _manifest(self, method: str, reference: str) -> Answer | None:
        answer = self._transport.call(
            method,
            f"/v2/{self.name}/manifests/{check_reference(reference)}",
            scope=self._pull,
            doing=f"read the manifest {self.name}:{reference}",
            expect=(200, 404),
            headers={"Accept": ", ".join(MANIFEST_TYPES)},
        )
        return None if answer.status == 404 else answer

    def _blob_path(self, digest: str) -> str:
        return f"/v2/{self.name}/blobs/{check_digest(digest)}"


def _media_type(answer: Answer) -> str:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip()
