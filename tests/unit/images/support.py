"""Images in small: a base image, packages as wheels, a model in a store, and a store that counts what it is sent."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from provider.content.cache import DigestCache
from provider.content.layer import layer_digest
from provider.content.modelpack import MANIFEST, Blob, blob_of
from provider.content.store import Request, Store
from provider.images.compose import CONFIG
from provider.images.layers import LAYER
from provider.images.store import ImageLayoutStore

SCORE = "def init():\n    pass\n\n\ndef run(data):\n    return data\n"


class CountingStore(ImageLayoutStore):
    """Notes what it is sent, and fails after `most` blobs."""

    def __init__(self, root: Path, repository: str = "services/mnist", most: int | None = None) -> None:
        super().__init__(root / "layout", repository, DigestCache(root / "cache"))
        self.sent: dict[str, int] = {}
        self._most = most

    def put_blob(self, digest: str, size: int, source: Callable[[], BinaryIO]) -> None:
        if self.has_blob(digest):
            return
        if self._most is not None and len(self.sent) >= self._most:
            raise ConnectionResetError("the store went away")
        self.sent[digest] = size
        super().put_blob(digest, size, source)

    def put_manifest(self, reference: str, media_type: str, content: bytes) -> str:
        self.sent[reference] = len(content)
        return super().put_manifest(reference, media_type, content)


def put(store: ImageLayoutStore, data: bytes) -> dict[str, Any]:
    blob = blob_of(data)
    store.put_blob(blob.digest, blob.size, lambda: io.BytesIO(data))
    return {"digest": blob.digest, "size": blob.size}


def push_base(root: Path, platform: str = "linux/amd64", variables: tuple[str, ...] = (), **changes: Any) -> str:
    """Puts a base image of one empty layer into the repository `base`; returns its digest."""
    layer = bytes(1024)
    system, architecture = platform.split("/")
    config = {
        "os": system,
        "architecture": architecture,
        "config": {"Env": list(variables)},
        "rootfs": {"type": "layers", "diff_ids": [blob_of(layer).digest]},
    }
    with ImageLayoutStore(root / "layout", "base", DigestCache(root / "cache")) as store:
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **put(store, json.dumps(config).encode())},
            "layers": [{"mediaType": LAYER, **put(store, layer)}],
            **changes,
        }
        return store.put_manifest(architecture, MANIFEST, json.dumps(manifest).encode())


def register_model(root: Path, name: str = "mnist", content: bytes = b"weights") -> Blob:
    """Puts a model of one file into the store; returns its layer."""
    source = root / "sources" / name / "model.bin"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(content)
    cache = DigestCache(root / "cache")
    layer = layer_digest(source, name, cache)
    Store(root / "layout", cache).register(Request(name, source, layer.digest, "dev/demo"))
    return Blob(layer.digest, layer.size)


def write_wheel(folder: Path, name: str, tag: str = "py3-none-any", files: dict[str, str] | None = None) -> str:
    """Makes a wheel with a module and a script; returns its line in a lock."""
    folder.mkdir(parents=True, exist_ok=True)
    information = f"{name}-1.0.dist-info"
    content = {
        f"{name}.py": "def main():\n    print('hello')\n",
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{information}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{information}/entry_points.txt": f"[console_scripts]\n{name}-run = {name}:main\n",
        **(files or {}),
    }
    content[f"{information}/RECORD"] = "".join(f"{path},,\n" for path in [*content, f"{information}/RECORD"])
    wheel = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in content.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def unpacked(stream: BinaryIO) -> dict[str, tarfile.TarInfo]:
    """The entries of a tar by path."""
    with stream, tarfile.open(fileobj=io.BytesIO(stream.read())) as archive:
        return {entry.name: entry for entry in archive}


def contents(stream: BinaryIO) -> dict[str, bytes]:
    """The files of a tar by path."""
    with stream, tarfile.open(fileobj=io.BytesIO(stream.read())) as archive:
        return {
            entry.name: content.read()
            for entry in archive
            if entry.isreg() and (content := archive.extractfile(entry)) is not None
        }
