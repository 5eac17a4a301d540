"""The images of the cluster's own pods: one program each, as an archive that containerd takes in without a registry."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from airgap.base.debian import architecture
from airgap.cluster.place import CONTAINERD_SOCKET
from airgap.cluster.programs import COREDNS, METRICS_SERVER, PAUSE, VOLUME_PROVISIONER, Module, built, debian
from airgap.cluster.settings import PAUSE_IMAGE
from infra.setup.problem import SetupError
from provider.content.modelpack import MANIFEST
from provider.images.compose import CONFIG
from provider.images.layers import LAYER

_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Image:
    """An image of one static program."""

    name: str
    module: Module
    program: str
    user: str = "65532:65532"


IMAGES = (
    Image(PAUSE_IMAGE, PAUSE, "pause", "65535:65535"),
    Image("slipway.local/coredns:1", COREDNS, "coredns", "0:0"),
    Image("slipway.local/metrics-server:1", METRICS_SERVER, "metrics-server"),
    Image("slipway.local/volume-provisioner:1", VOLUME_PROVISIONER, "volume-provisioner", "0:0"),
)


def import_missing(images: Sequence[Image] = IMAGES) -> None:
    """Gives containerd those of the `images` that it does not have. Raises SetupError."""
    there = names()
    for image in images:
        if image.name not in there:
            import_archive(partial(write, image))


def names() -> set[str]:
    """The images that containerd has. Raises SetupError."""
    return set(ctr("images", "ls", "-q").split())


def import_archive(write_to: Callable[[Path], None]) -> None:
    """Gives containerd the image whose archive `write_to` writes. Raises SetupError."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        write_to(Path(archive.name))
        # It keeps the name in the archive, which is the one that pods ask for.
        ctr("images", "import", archive.name)


def ctr(*arguments: str) -> str:
    """What containerd's own client prints, asked about what Kubernetes runs. Raises SetupError."""
    command = [debian("ctr"), "--address", str(CONTAINERD_SOCKET), "--namespace", "k8s.io", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise SetupError(
            f"containerd refused `ctr {' '.join(arguments[:2])}`: {done.stderr.strip()[-500:]}",
            str(CONTAINERD_SOCKET),
            "run `python -m airgap.cluster down` and `up` again.",
        )
    return done.stdout


def write(image: Image, target: Path) -> None:
    """Writes the image as an archive of an OCI image layout. The same program gives the same image."""
    write_files(image.name, {image.program: built(image.module, image.program)}, image.program, image.user, target)


def write_files(name: str, files: Mapping[str, Path], program: str, user: str, target: Path) -> None:
    """Writes an image `name` of `files`, by their paths in it, which runs one of them: `program`."""
    layer = _layer(files)
    digest = _digest(layer)
    config = _json(
        {
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": [f"/{program}"], "User": user},
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, config),
            "layers": [_descriptor(LAYER, layer)],
        }
    )
    named = {**_descriptor(MANIFEST, manifest), "annotations": {"io.containerd.image.name": name}}
    index = _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [named]})
    with tarfile.open(target, "w") as archive:
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", index)
        for blob in (layer, config, manifest):
            _add(archive, f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}", blob)


def _layer(files: Mapping[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, file in sorted(files.items()):
            _add(archive, name, file.read_bytes(), mode=0o755)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True).encode()
