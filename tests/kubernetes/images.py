"""Images for the pods of these tests, on whichever cluster they run: with Python, and of a registry."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from pathlib import Path

from airgap.base import image as base
from airgap.cluster import images, registry
from airgap.cluster import place as at
from provider.content.watch import Watch
from provider.images.store import ImageLayoutStore

_HERE = "slipway.local/python:1"
_ELSEWHERE = "docker.io/library/python:3.11-slim"
"""Where a cluster pulls its images from the internet."""
VARIABLE = "SLIPWAY_TEST_PYTHON_IMAGE"


def python_image() -> str:
    """An image with `python3` that the cluster's nodes have, or can pull."""
    if VARIABLE in os.environ:
        return os.environ[VARIABLE]
    if not at.CONTAINERD_SOCKET.exists():
        return _ELSEWHERE
    if _HERE not in images.ctr("images", "ls", "-q").split():
        _import()
    return _HERE


def give_registry_image() -> None:
    """Sees that nodes have the image of a registry that stacks have by default, or can pull it."""
    if at.CONTAINERD_SOCKET.exists():
        registry.import_image()


def _import() -> None:
    layer, blob, python = base.cached_layer()
    with tempfile.TemporaryDirectory() as work:
        layout = Path(work) / "layout"
        with ImageLayoutStore(layout, "python", watch=Watch()) as store:
            base.push(store, "1", layer, blob, python)
        index = json.loads((layout / "index.json").read_bytes())
        for entry in index["manifests"]:
            entry["annotations"] = {"io.containerd.image.name": _HERE}
        (layout / "index.json").write_text(json.dumps(index))
        packed = Path(work) / "image.tar"
        with tarfile.open(packed, "w") as archive:
            for name in ("oci-layout", "index.json", "blobs"):
                archive.add(layout / name, name)
        images.ctr("images", "import", str(packed))
