"""Debian's HAProxy as an image of one layer, stored where services' images are."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from airgap.base import debian, image
from provider.content.cache import default_directory
from provider.content.modelpack import Blob
from provider.images.store import BlobStore
from provider.router.container import CONFIGURATION, SOCKETS, STOP_SIGNAL, USER

PACKAGES = ("haproxy",)
_FORMAT = 1
_UNUSED = (
    # Packages are not installed later: what would do it, and what it would do it with.
    *("usr/bin/apt*", "usr/lib/apt", "usr/lib/*/libapt-*", "etc/apt", "var/lib/apt", "usr/bin/gpgv"),
    *("usr/lib/*/libgnutls*", "var/lib/dpkg/info", "usr/share/debconf", "usr/share/zoneinfo"),
    *("etc/init.d", "etc/rc*.d", "usr/lib/systemd", "usr/share/bash-completion", "usr/lib/*/gconv"),
)
"""Not in the image, as glob patterns."""


def recipe() -> str:
    """Names what the image is made of: as long as it stays, an image that was made is good."""
    identity = [_FORMAT, debian.SUITE, PACKAGES, _UNUSED, debian.architecture()]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def cached_layer(mirror: str | None = None) -> tuple[Path, Blob]:
    """The layer: its tar, and what names it. Made once on a machine; needs root. Raises `debian.BaseImageError`."""
    directory, key = default_directory().with_name("router"), recipe()
    layer, note = directory / f"{key}.tar", directory / f"{key}.json"
    if note.is_file() and layer.is_file():
        known = json.loads(note.read_bytes())
        return layer, Blob(known["digest"], known["size"])
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as work:
        root, packed = Path(work) / "root", Path(work) / "layer.tar"
        debian.make_root(root, mirror, PACKAGES)
        prepare(root)
        blob = image.pack(root, packed, shared={SOCKETS.lstrip("/")})
        packed.replace(layer)
        (Path(work) / "note.json").write_text(json.dumps({"digest": blob.digest, "size": blob.size}))
        (Path(work) / "note.json").replace(note)
    return layer, blob


def prepare(root: Path) -> None:
    """Takes out what a router does not need, and makes the folders whose owner fresh volumes take over."""
    for pattern in _UNUSED:
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for folder, mode in ((SOCKETS, 0o3770), (CONFIGURATION, 0o770)):
        place = root / folder.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        # In this order: chown takes the set-id bits away.
        shutil.chown(place, USER, USER)
        place.chmod(mode)


def push(store: BlobStore, tag: str, layer: Path, blob: Blob) -> str:
    """Stores the layer as an image; returns the image's digest."""
    run = {
        "User": f"{USER}:{USER}",
        "Env": [f"PATH={image.PATH}", "LANG=C.UTF-8"],
        "Cmd": ["haproxy", "-v"],
        "StopSignal": STOP_SIGNAL,
    }
    return image.push_with(store, tag, layer, blob, run)
