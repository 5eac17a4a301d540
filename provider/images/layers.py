"""The layers of a service's image: what each holds, and where it is in the image.

All of ours are uncompressed tars (docs/decisions): their digest is the digest of their content, whatever compressor a
machine has, and a model's is the very blob of the model's artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from provider.content.errors import ContentError
from provider.content.modelpack import Blob
from provider.content.source import walk_code
from provider.images.archive import Archive, Entry, Folder, Link, files_below

LAYER = "application/vnd.oci.image.layer.v1.tar"
APPLICATION = "var/azureml-app"
"""Where the code is in an image (without the leading slash), as in Azure's."""
SERVER = "opt/slipway/server"
"""The folder on the path of Python that holds the scoring server's package."""

ENVIRONMENT_KEY = "slipway.environment"
"""The annotation by which the layer of an environment is found again in an image."""

_LINKS = "azureml-models"
_SERVER_PACKAGE = "slipway_serving"

Kind = Literal["base", "environment", "server", "model", "links", "code"]


@dataclass(frozen=True)
class ImageLayer:
    """One layer of an image."""

    kind: Kind
    blob: Blob
    diff_id: str
    """Digest of the uncompressed tar."""
    media_type: str
    open: Callable[[], BinaryIO] | None
    """The layer's bytes, where it has to be sent; None: nobody here has them."""
    repositories: tuple[str, ...] = ()
    """Where in the same registry it may be, to be taken over from there."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """What its descriptor says about it in the image's manifest."""


@dataclass(frozen=True)
class Model:
    """A version of a model, as an image holds it."""

    name: str
    version: int
    layer: Blob


def model_layer(
    model: Model, open_layer: Callable[[], BinaryIO] | None, repositories: tuple[str, ...] = ()
) -> ImageLayer:
    """The layer of a model: the blob of its artifact, neither read nor hashed here."""
    return ImageLayer("model", model.layer, model.layer.digest, LAYER, open_layer, repositories)


def environment_layer(blob: Blob, key: str, open_layer: Callable[[], BinaryIO] | None) -> ImageLayer:
    """The layer of an environment, which `environment.key_of` calls `key`."""
    return ImageLayer("environment", blob, blob.digest, LAYER, open_layer, annotations={ENVIRONMENT_KEY: key})


def server_layer(directory: Path) -> ImageLayer:
    """The layer of the scoring server, from the folder of its package. Raises `ContentError`."""
    return _made("server", files_below(f"{SERVER}/{_SERVER_PACKAGE}", walk_code(directory)))


def links_layer(models: Sequence[Model]) -> ImageLayer:
    """The layer that gives the models Azure's paths: `azureml-models/<name>/<version>` in the application's folder."""
    entries: dict[str, Entry] = {APPLICATION: Folder()}
    for model in models:
        entries[f"{APPLICATION}/{_LINKS}/{model.name}/{model.version}"] = Link(f"/models/{model.name}")
    return _made("links", entries)


def code_layer(directory: Path) -> ImageLayer:
    """The layer of a folder of code. Raises `ContentError`."""
    tree = walk_code(directory)
    taken = next((file.path for file in tree.files if file.path.split("/")[0] == _LINKS), None)
    if taken is not None:
        raise ContentError(
            f"{directory} holds {taken}, where an image has the paths of its models; rename the folder {_LINKS}, or "
            f"name it in {directory / '.amlignore'}"
        )
    return _made("code", files_below(APPLICATION, tree))


def model_directory(models: Sequence[Model]) -> str | None:
    """Where Azure's AZUREML_MODEL_DIR points: to the version's folder for one model, above all models for several."""
    if not models:
        return None
    if len(models) == 1:
        return f"/{APPLICATION}/{_LINKS}/{models[0].name}/{models[0].version}"
    return f"/{APPLICATION}/{_LINKS}"


def _made(kind: Kind, entries: dict[str, Entry]) -> ImageLayer:
    archive = Archive(entries)
    return ImageLayer(kind, archive.blob, archive.blob.digest, LAYER, archive.open)
