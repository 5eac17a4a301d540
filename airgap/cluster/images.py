"""The images of the cluster's own pods: one program each, as an archive that containerd takes in without a registry."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
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
    there = set(ctr("images", "ls", "-q").split())
    for image in images:
        if image.name not in there:
            with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
                write(image, Path(archive.name))
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
    layer = _layer(image)
    digest = _digest(layer)
    config = _json(
        {
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": [f"/{image.program}"], "User": image.user},
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
    named = {**_descriptor(MANIFEST, manifest), "annotations": {"io.containerd.image.name": image.name}}
    index = _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [named]})
    with tarfile.open(target, "w") as archive:
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", index)
        for blob in (layer, config, manifest):
            _add(archive, f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}", blob)


def _layer(image: Image) -> bytes:
    content = built(image.module, image.program).read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add(archive, image.program, content, mode=0o755)
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
