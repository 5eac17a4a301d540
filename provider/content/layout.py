"""An OCI image layout on disk: blobs by digest and an index of manifests, safe for many writers and for kill -9.

The format is that of the OCI image specification (image-layout.md). Beside its files a layout here has `incoming/`,
where blobs are written, and a lock file. The rules that keep it whole:

- Changes are made under the lock (flock: it ends with its process). Big blobs are written outside of it, into a file
  in `incoming/` that is locked by its writer for as long as it lives; one that nobody locks was left by a killed
  writer, and the next change clears it.
- A blob comes to `blobs/` by a rename, complete and flushed; an index names it only after that. A blob that nothing
  names is a leftover as well.

Which manifests there are, and who may remove them, is decided in `store`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from provider.content.cache import DigestCache, Remembered
from provider.content.errors import ContentError, CorruptBlobError
from provider.content.modelpack import Blob, blob_of
from provider.content.names import DIGEST
from provider.content.tree import signature_of
from provider.content.watch import Watch, human_size

_READ_BYTES = 1024 * 1024
_LARGEST_DOCUMENT = 4 * 1024 * 1024
_POLL_SECONDS = 0.02
_BLOCK = 512  # what st_blocks counts, whatever the file system's own blocks are
_OWN_FILES = ("index.json", "slipway-store.json", "oci-layout")
_LOCK = "slipway.lock"
_MARK = b'{"imageLayoutVersion":"1.0.0"}'


class Layout:
    """An image layout at `root`, which need not exist yet. Reading needs no lock: blobs never change."""

    def __init__(self, root: Path, cache: DigestCache) -> None:
        self.root = root
        self._cache = cache

    @property
    def exists(self) -> bool:
        """Whether there is a layout, or what a killed operation left of one."""
        return any((self.root / name).exists() for name in (*_OWN_FILES, _LOCK))

    def blob_path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        if not DIGEST.fullmatch(digest):
            raise ContentError(f"{digest!r} is no sha256 digest; expected sha256: and 64 hexadecimal digits")
        return self.root / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def has(self, blob: Blob) -> bool:
        """Whether the blob is there with the right size."""
        try:
            return self.blob_path(blob.digest).stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def verify(self, blob: Blob, watch: Watch | None = None) -> None:
        """Raises `CorruptBlobError` where the blob is missing or is not what its digest says.

        Reads it only where its stat signature is not the one it was last found sound with."""
        path = self.blob_path(blob.digest)
        looked_ns = time.time_ns()
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_size != blob.size:
                    raise CorruptBlobError(
                        f"the stored blob {path} has {status.st_size} bytes instead of {blob.size}; {_MENDED_BY}"
                    )
                signature = str(signature_of(status))
                known = self._cache.get(_subject(path), signature)
                if known is None or known.digest != blob.digest:
                    self._verify_bytes(path, file.fileno(), blob, watch or Watch())
                    newest_ns = max(status.st_mtime_ns, status.st_ctime_ns)
                    value = Remembered(blob.digest, blob.size)
                    self._cache.put(_subject(path), signature, value, looked_ns=looked_ns, newest_ns=newest_ns)
        except FileNotFoundError:
            raise CorruptBlobError(f"the stored blob {path} is missing; {_MENDED_BY}") from None
        except OSError as error:
            raise ContentError(f"the stored blob {path} cannot be read: {error.strerror}") from error

    def _verify_bytes(self, path: Path, handle: int, blob: Blob, watch: Watch) -> None:
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(_READ_BYTES))
        done = 0
        while count := os.readv(handle, [buffer]):
            digest.update(buffer[:count])
            done += count
            watch.advance(f"verifying {path.name[:12]}", done, blob.size)
        if f"sha256:{digest.hexdigest()}" != blob.digest:
            raise CorruptBlobError(f"the stored blob {path} is corrupt: its content has another digest; {_MENDED_BY}")

    def trust(self, blob: Blob) -> None:
        """Remembers a blob that was just written as sound, so that it need not be read to be believed."""
        path = self.blob_path(blob.digest)
        status = path.stat()
        value = Remembered(blob.digest, blob.size)
        # No race to fear, unlike with a user's file: nothing rewrites a blob, and whoever unpacks it hashes it anyway.
        self._cache.put(_subject(path), str(signature_of(status)), value, looked_ns=time.time_ns(), newest_ns=0)

    def read_document(self, blob: Blob) -> bytes:
        """A small blob's bytes, verified."""
        path = self.blob_path(blob.digest)
        if blob.size > _LARGEST_DOCUMENT:
            raise ContentError(f"{path} is no document: it has {human_size(blob.size)}")
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise CorruptBlobError(f"the stored blob {path} is missing; {_MENDED_BY}") from None
        if blob_of(data) != blob:
            raise CorruptBlobError(f"the stored blob {path} is corrupt: its content has another digest; {_MENDED_BY}")
        return data

    def index(self) -> list[dict[str, Any]]:
        """The descriptors in index.json."""
        document = self.read_json("index.json")
        manifests = document.get("manifests", [])
        if not isinstance(manifests, list) or not all(isinstance(item, dict) for item in manifests):
            raise _damaged(self.root / "index.json")
        return manifests

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON object among the layout's own files; empty where the file is missing."""
        path = self.root / name
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            raise _damaged(path) from None
        except OSError as error:
            raise ContentError(f"{path} cannot be read: {error.strerror}") from error
        if not isinstance(document, dict):
            raise _damaged(path)
        return document

    def used_bytes(self) -> int:
        """Bytes of all blobs, those that are being written included."""
        return sum(_size_of(path) for folder in ("blobs/sha256", "incoming") for path in _files(self.root / folder))

    def leftovers(self, referenced: Collection[str]) -> list[Path]:
        """What killed writers left: files that nobody writes to any more, and blobs that are not `referenced`."""
        incoming = [path for path in _files(self.root / "incoming") if not _is_locked(path)]
        blobs = [path for path in _files(self.root / "blobs" / "sha256") if f"sha256:{path.name}" not in referenced]
        return [*incoming, *blobs]

    def leftover_bytes(self, referenced: Collection[str]) -> tuple[int, int]:
        """How much of `used_bytes` that is, and how much it takes of the disk, which it need not fill."""
        statuses = []
        for path in self.leftovers(referenced):
            with contextlib.suppress(FileNotFoundError):  # moved or removed meanwhile
                statuses.append(path.stat())
        return sum(status.st_size for status in statuses), _BLOCK * sum(status.st_blocks for status in statuses)

    @contextmanager
    def locked(self, watch: Watch | None = None) -> Iterator[Writer]:
        """Holds the layout's lock; makes the layout where it is missing."""
        watch = watch or Watch()
        while True:
            with disk_errors(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
                try:
                    lock = os.open(self.root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                except FileNotFoundError:  # the layout was removed between the two steps
                    continue
            try:
                while not try_lock(lock):
                    watch.check(f"waiting for another operation on {self.root}")
                    time.sleep(_POLL_SECONDS)
                if _is_still(lock, self.root / _LOCK):
                    writer = Writer(self)
                    with disk_errors(self.root):
                        writer.prepare()
                    yield writer
                    return
            finally:
                os.close(lock)


_MENDED_BY = "`pulumi up --refresh` registers the model anew from its files"


class Writer:
    """The changes that need the layout's lock, which whoever has a Writer holds."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._root = layout.root

    def prepare(self) -> None:
        """Makes what a layout always has."""
        for folder in ("blobs/sha256", "incoming"):
            (self._root / folder).mkdir(parents=True, exist_ok=True)
        if not (self._root / "oci-layout").exists():
            self._replace("oci-layout", _MARK)
        if not (self._root / "index.json").exists():
            self.write_index([])

    def write_index(self, manifests: list[dict[str, Any]]) -> None:
        """Replaces the descriptors in index.json."""
        media_type = "application/vnd.oci.image.index.v1+json"
        self.write_json("index.json", {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests})

    def write_json(self, name: str, document: Mapping[str, Any]) -> None:
        """Replaces one of the layout's own files, at once and for good."""
        self._replace(name, json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n")

    def add_document(self, data: bytes) -> Blob:
        """Stores a small blob."""
        blob = blob_of(data)
        path = self._layout.blob_path(blob.digest)
        # Compared by content: a damaged one is put right.
        if not path.exists() or path.read_bytes() != data:
            self._replace(str(path.relative_to(self._root)), data, mode=0o444)
        return blob

    def _replace(self, name: str, data: bytes, mode: int = 0o644) -> None:
        temporary = self._root / "incoming" / f"{secrets.token_hex(8)}.part"
        with disk_errors(self._root, len(data)):
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fchmod(file.fileno(), mode)
                    os.fsync(file.fileno())
                temporary.replace(self._root / name)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _flush_folder((self._root / name).parent)

    def reserve(self, blob: Blob) -> Incoming:
        """A place to write a big blob into. Its whole size counts as used from now on."""
        path = self._root / "incoming" / f"{blob.digest.removeprefix('sha256:')}-{secrets.token_hex(4)}.part"
        with disk_errors(self._root, blob.size):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        incoming = Incoming(path, handle, blob)
        with disk_errors(self._root, blob.size):
            try:
                os.ftruncate(handle, blob.size)
            except BaseException:
                incoming.close()
                raise
        return incoming

    def accept(self, incoming: Incoming) -> None:
        """Makes a blob of what was written, which is complete and on the disk."""
        path = self._layout.blob_path(incoming.blob.digest)
        with disk_errors(self._root, incoming.blob.size):
            os.fchmod(incoming.handle, 0o444)
            incoming.path.replace(path)
            _flush_folder(path.parent)
        self._layout.trust(incoming.blob)

    def discard(self, blob: Blob) -> None:
        """Removes a blob that is there but not sound."""
        self._layout.blob_path(blob.digest).unlink(missing_ok=True)

    def being_written(self, blob: Blob) -> Path | None:
        """The file into which another writer is putting this blob just now."""
        prefix = blob.digest.removeprefix("sha256:") + "-"
        return next((path for path in _files(self._root / "incoming") if path.name.startswith(prefix)), None)

    def clear_leftovers(self, referenced: Collection[str]) -> None:
        """Removes what killed writers left, and blobs that are not among the `referenced` digests."""
        for path in self._layout.leftovers(referenced):
            path.unlink(missing_ok=True)

    def remove(self) -> list[str]:
        """Removes the layout with all it holds, and its folder. Returns what else lies there, which stays."""
        if any(_is_locked(path) for path in _files(self._root / "incoming")):
            raise ContentError(f"{self._root} is being written to by another operation; try again when that has ended")
        # Before what it names, which the next change would miss. The mark and the lock go last: until then, a removal
        # that was cut short is known as one.
        (self._root / "index.json").unlink(missing_ok=True)
        for path in (*_files(self._root / "incoming"), *_files(self._root / "blobs" / "sha256")):
            path.unlink(missing_ok=True)
        for name in _OWN_FILES:
            (self._root / name).unlink(missing_ok=True)
        for folder in ("incoming", "blobs/sha256", "blobs"):
            with contextlib.suppress(OSError):  # not empty: told below
                (self._root / folder).rmdir()
        (self._root / _LOCK).unlink(missing_ok=True)
        strangers = sorted(path.name for path in self._root.iterdir())
        if not strangers:
            self._root.rmdir()
        return strangers


class Incoming:
    """A blob that is being written; the file goes when it is closed, unless it was accepted."""

    def __init__(self, path: Path, handle: int, blob: Blob) -> None:
        self.path = path
        self.handle = handle
        self.blob = blob

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the file where it still is, and ends its lock."""
        self.path.unlink(missing_ok=True)
        os.close(self.handle)


def wait_until_written(path: Path, watch: Watch) -> None:
    """Waits until the writer of `path` (a file in `incoming/`) has finished or ended."""
    while _is_locked(path):
        watch.check(f"waiting for another operation that writes {path.name[:12]}")
        time.sleep(_POLL_SECONDS)


@contextmanager
def disk_errors(place: Path, needed: int | None = None) -> Iterator[None]:
    """Turns what a disk may answer into a `ContentError` with figures. `needed`: bytes that were to be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(place, needed) from error
        where = error.filename or place
        raise ContentError(f"{where} cannot be written: {error.strerror}; mend that, then try again") from error


def disk_full(place: Path, needed: int | None) -> ContentError:
    """The error of a full disk."""
    wanted = "" if needed is None else f"{human_size(needed)} needed, "
    return ContentError(
        f"the disk of {place} is full: {wanted}{human_size(free_bytes(place))} free; "
        f"free some space, then try again (nothing half-written was left)"
    )


def free_bytes(place: Path) -> int:
    """What the file system of `place` has left for this user."""
    while not place.exists():
        place = place.parent
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


def _subject(path: Path) -> str:
    return f"blob\0{path}"


def _damaged(path: Path) -> ContentError:
    return ContentError(
        f"{path} is damaged: it is no such JSON document; restore it, or remove {path.parent} and run "
        f"`pulumi up --refresh`, which registers the models anew from their files"
    )


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # moved or removed meanwhile
        return 0


def try_lock(handle: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Takes the lock `kind` of an open file; False where another has it."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(handle: int, path: Path) -> bool:
    """Whether `path` is the file that is open: a removed lock file locks nobody out."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _is_locked(path: Path) -> bool:
    """Whether a living writer holds `path`."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared: two who ask at once must not take each other for the writer.
        return not try_lock(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
