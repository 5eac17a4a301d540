"""An image as two documents, the config and the manifest, made from its layers and from what it is to run.

Both follow from their inputs alone, to the byte: no clock, no name of a machine, keys sorted. Formats: OCI image
specification, config.md and manifest.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from provider.content.errors import ContentError
from provider.content.modelpack import MANIFEST, Blob, blob_of
from provider.images.base import BaseImage
from provider.images.environment import ENVIRONMENT, site_packages
from provider.images.layers import APPLICATION, SERVER, ImageLayer, Model, model_directory

CONFIG = "application/vnd.oci.image.config.v1+json"
USER = 10001
"""User and group id of every service: no name in any base image, and not root."""

_EPOCH = "1970-01-01T00:00:00Z"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Service:
    """What an image is to run."""

    name: str
    platform: str
    """`linux/amd64` or `linux/arm64`."""
    python_version: str
    """`3.11`: the base image's, which the packages are for."""
    port: int
    revision: str
    entry_script: str | None
    """Relative to the code; None: the model is served without one."""
    models: tuple[Model, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the user's."""


@dataclass(frozen=True)
class Image:
    """An image that is ready to be sent."""

    config: bytes
    manifest: bytes
    layers: tuple[ImageLayer, ...]

    @property
    def config_blob(self) -> Blob:
        """What names the config."""
        return blob_of(self.config)

    @property
    def digest(self) -> str:
        """What names the image."""
        return blob_of(self.manifest).digest

    @property
    def size(self) -> int:
        """Bytes of everything that the image consists of."""
        return len(self.manifest) + len(self.config) + sum(layer.blob.size for layer in self.layers)


def compose(service: Service, base: BaseImage, layers: Sequence[ImageLayer]) -> Image:
    """The image of `service`: `layers` in their order, upon those of `base`.

    Raises `ContentError` where the packages are for another Python than the base image says it has."""
    _check_python(service, base)
    together = (*base.layers, *layers)
    labels = _labels(service, base)
    config = _canonical(
        {
            "created": _EPOCH,
            "architecture": service.platform.partition("/")[2],
            "os": service.platform.partition("/")[0],
            "config": {
                "User": f"{USER}:{USER}",
                "ExposedPorts": {f"{service.port}/tcp": {}},
                "Env": [f"{name}={value}" for name, value in sorted(_environment(service, base).items())],
                "Entrypoint": ["python3", "-m", "slipway_serving"],
                "WorkingDir": f"/{APPLICATION}",
                "Labels": labels,
                "StopSignal": "SIGTERM",
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in together]},
            "history": [{"created": _EPOCH, "created_by": f"slipway: {layer.kind}"} for layer in together],
        }
    )
    manifest = _canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, blob_of(config)),
            "layers": [_layer_descriptor(layer) for layer in together],
            "annotations": labels,
        }
    )
    return Image(config, manifest, together)


def _check_python(service: Service, base: BaseImage) -> None:
    # The official images of Python say which one they have; of others nothing is known.
    version = base.environment.get("PYTHON_VERSION", service.python_version)
    if version != service.python_version and not version.startswith(f"{service.python_version}."):
        raise ContentError(
            f"the base image {base.reference} has Python {version}, and the environment is for Python "
            f"{service.python_version}; choose a base image that fits, or another version for the environment"
        )


def _environment(service: Service, base: BaseImage) -> dict[str, str]:
    scripts = f"/{site_packages(service.python_version)}/bin"
    variables = service.variables
    server = f"/{SERVER}"
    environment = {
        **base.environment,
        "PYTHONUNBUFFERED": "1",
        # The root file system is read-only.
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/tmp",  # noqa: S108 - the one folder that a service may be given to write in
        **variables,
        "PATH": f"{scripts}:{variables.get('PATH', base.environment.get('PATH', _PATH))}",
        # As Python's user base, the packages are found like installed ones, .pth files included.
        "PYTHONUSERBASE": f"/{ENVIRONMENT}",
        "PYTHONPATH": f"{server}:{variables['PYTHONPATH']}" if variables.get("PYTHONPATH") else server,
        "AML_APP_ROOT": f"/{APPLICATION}",
        "SLIPWAY_HOST": "0.0.0.0",  # noqa: S104 - inside a container; what reaches it is the target's to decide
        "SERVER_PORT": str(service.port),
        "SERVICE_NAME": service.name,
        "SLIPWAY_REVISION": service.revision,
    }
    if service.entry_script is not None:
        environment["AZUREML_ENTRY_SCRIPT"] = service.entry_script
    directory = model_directory(service.models)
    if directory is not None:
        environment["AZUREML_MODEL_DIR"] = directory
    return environment


def _labels(service: Service, base: BaseImage) -> dict[str, str]:
    """Names of the OCI image specification (annotations.md), and the models."""
    return {
        "org.opencontainers.image.title": service.name,
        "org.opencontainers.image.revision": service.revision,
        "org.opencontainers.image.base.name": base.reference,
        "org.opencontainers.image.base.digest": base.digest,
        "slipway.models": ",".join(f"{model.name}:{model.version}" for model in service.models),
    }


def _layer_descriptor(layer: ImageLayer) -> dict[str, Any]:
    descriptor = _descriptor(layer.media_type, layer.blob)
    return {**descriptor, "annotations": dict(layer.annotations)} if layer.annotations else descriptor


def _descriptor(media_type: str, blob: Blob) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
