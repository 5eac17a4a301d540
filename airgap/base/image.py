"""A root file system as an image of one layer, stored where services' images are."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from airgap.base import debian
from provider.content.cache import default_directory
from provider.content.modelpack import MANIFEST, Blob, blob_of
from provider.images.compose import CONFIG
from provider.images.layers import LAYER
from provider.images.store import BlobStore

_EPOCH = "1970-01-01T00:00:00Z"
_FORMAT = 1
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SET_ID = 0o6000
_SET_USER_ID = 0o4000


def pack(root: Path, target: Path, shared: Collection[str] = ()) -> Blob:
    """Writes the tar of `root` to `target`: sorted, times zero, owners as numbers, no devices, no set-id bits (what
    runs in it may not gain rights); but the folders `shared`, relative to `root`, give what is in them their group."""
    with target.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(_below(root), key=os.fsencode):
            entry = archive.gettarinfo(str(path), str(path.relative_to(root)))
            if not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
                continue
            entry.mtime, entry.uname, entry.gname = 0, "", ""
            entry.mode &= ~(_SET_USER_ID if entry.name in shared else _SET_ID)
            if entry.isreg():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)
    with target.open("rb") as written:
        return Blob(f"sha256:{hashlib.file_digest(written, 'sha256').hexdigest()}", target.stat().st_size)


def _below(folder: Path) -> Iterator[Path]:
    for name, folders, files in os.walk(folder):
        yield from (Path(name, entry) for entry in (*folders, *files))


def recipe() -> str:
    """Names what the image is made of: as long as it stays, an image that was made is good."""
    identity = [_FORMAT, debian.SUITE, debian.PACKAGES, debian.architecture()]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def cached_layer(mirror: str | None = None) -> tuple[Path, Blob, str]:
    """The layer of Debian with Python: its tar, what names it, and Python's version. Made once on a machine."""
    directory = default_directory().with_name("base")
    key = recipe()
    layer, note = directory / f"{key}.tar", directory / f"{key}.json"
    if note.is_file() and layer.is_file():
        known = json.loads(note.read_bytes())
        return layer, Blob(known["digest"], known["size"]), known["python"]
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as work:
        root = Path(work) / "root"
        debian.make_root(root, mirror)
        blob, python = pack(root, Path(work) / "layer.tar"), debian.python_version(root)
        (Path(work) / "layer.tar").replace(layer)
        (Path(work) / "note.json").write_text(json.dumps({"digest": blob.digest, "size": blob.size, "python": python}))
        (Path(work) / "note.json").replace(note)
    return layer, blob, python


def push(store: BlobStore, tag: str, layer: Path, blob: Blob, python: str) -> str:
    """Stores the layer as an image; returns the image's digest."""
    # As the official images of Python name their version, which is compared with that of the packages.
    environment = [f"PATH={PATH}", "LANG=C.UTF-8", f"PYTHON_VERSION={python}"]
    return push_with(store, tag, layer, blob, {"Env": environment, "Cmd": ["python3"]})


def push_with(store: BlobStore, tag: str, layer: Path, blob: Blob, run: Mapping[str, object]) -> str:
    """Stores the layer as an image that is run as `run` says (the member `config` of OCI's image configuration);
    returns the image's digest."""
    config = _json(
        {
            "created": _EPOCH,
            "architecture": debian.architecture(),
            "os": "linux",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [blob.digest]},
            "history": [{"created": _EPOCH, "created_by": f"debootstrap {debian.SUITE}"}],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": blob_of(config).digest, "size": len(config)},
            "layers": [{"mediaType": LAYER, "digest": blob.digest, "size": blob.size}],
        }
    )
    store.put_blob(blob.digest, blob.size, lambda: layer.open("rb"))
    store.put_blob(blob_of(config).digest, len(config), lambda: io.BytesIO(config))
    return store.put_manifest(tag, MANIFEST, manifest)


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
