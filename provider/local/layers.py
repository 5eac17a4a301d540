"""Where the layers of a service's models come from: an image layout on this machine, or a registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from provider.content.watch import Watch
from provider.images.store import verified
from provider.local.layout import hexadecimal
from provider.location import DEFAULT_PARALLEL, Location
from provider.registry.model_record import repository_of
from provider.values import Properties

Open = Callable[[], BinaryIO]
"""Opens a layer; what is read is what its digest says, or the end is never reached. Raises `FileNotFoundError`,
`ContentError`."""


def in_layout(layout: Path, digest: str) -> Open:
    """A layer in an image layout."""
    path = layout / "blobs" / "sha256" / hexadecimal(digest)
    return lambda: verified(path.open("rb"), digest, str(path))


def layers_of(inputs: Properties, watch: Watch) -> Callable[[Mapping[str, Any]], Open]:
    """For each of the models that a service's inputs name: how its layer is opened."""
    place = inputs.get("modelRegistry")
    if place is None or place.startswith("/"):
        layout = Path(inputs["workspace"]) / "store" if place is None else Path(place)
        return lambda model: in_layout(layout, model["digest"])
    location = Location(
        place,
        inputs.get("modelUsername"),
        inputs.get("modelPassword"),
        parallel_of(inputs),
        inputs.get("modelCaCertificate"),
        inputs.get("modelPortForward"),
    )
    registry, repositories = location.registry(watch), inputs.get("modelRepositories") or {}

    def fetched(model: Mapping[str, Any]) -> BinaryIO:
        name = str(model["name"])
        watch.status(f"fetching the model {name}")
        repository = registry.repository(repositories.get(name) or repository_of(name))
        return repository.open_blob(str(model["digest"]))

    return lambda model: partial(fetched, model)


def parallel_of(inputs: Properties) -> int:
    """How many layers are taken from there at once."""
    return int(inputs.get("modelParallel") or DEFAULT_PARALLEL)
