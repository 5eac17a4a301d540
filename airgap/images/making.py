"""Makes what is missing of the images, and says which there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airgap.base import debian
from airgap.base import image as base
from airgap.router import image as router
from provider.content.errors import ContentError
from provider.content.watch import Watch
from provider.images.publish import missing_from
from provider.images.store import BlobStore, ImageLayoutStore

Made = tuple[str, Mapping[str, Any]]
"""The digest of an image, and what else is to be known of it."""


@dataclass(frozen=True)
class Recipe:
    """How an image is made."""

    name: str
    repository: str
    what: str
    """In words, for whoever waits."""
    key: Callable[[], str]
    """Names what it is made of."""
    make: Callable[[BlobStore, str | None], Made]
    """Stores it; the text is a mirror of Debian's packages."""


def _python(store: BlobStore, mirror: str | None) -> Made:
    layer, blob, python = base.cached_layer(mirror)
    return base.push(store, f"debian12-python{python}", layer, blob, python), {"pythonVersion": python}


def _router(store: BlobStore, mirror: str | None) -> Made:
    layer, blob = router.cached_layer(mirror)
    return router.push(store, "debian12-haproxy", layer, blob), {}


RECIPES = (
    Recipe("python", "base/python", "Debian 12 with Python, for the services (a minute)", base.recipe, _python),
    Recipe("router", "router", "Debian 12 with HAProxy, for the router (a minute)", router.recipe, _router),
)


def make(home: Path, mirror: str | None, say: Callable[[str], None]) -> Mapping[str, Any]:
    """Makes what is missing below `home`; returns what `images.json` says by then.

    Raises `BaseImageError` or `ContentError`."""
    note, layout = home / "images.json", home / "layout"
    known = _read(note)
    images: dict[str, Any] = {}
    for recipe in RECIPES:
        with ImageLayoutStore(layout, recipe.repository, watch=Watch()) as store:
            images[recipe.name] = _kept(store, recipe, known.get(recipe.name)) or _made(store, recipe, mirror, say)
        home.mkdir(parents=True, exist_ok=True)
        fresh = note.with_suffix(".new")
        fresh.write_text(json.dumps({**known, **images}, indent=2, sort_keys=True) + "\n")
        fresh.replace(note)
    return images


def _made(store: BlobStore, recipe: Recipe, mirror: str | None, say: Callable[[str], None]) -> dict[str, Any]:
    say(f"making the image {recipe.repository}: {recipe.what}")
    digest, more = recipe.make(store, mirror)
    say(f"made {recipe.repository}@{digest}")
    platform = f"linux/{debian.architecture()}"
    return {
        "repository": recipe.repository,
        "digest": digest,
        "platforms": [platform],
        "recipe": recipe.key(),
        **more,
    }


def _kept(store: BlobStore, recipe: Recipe, known: Any) -> dict[str, Any] | None:
    """What is known of an image that was made before; None where it is not there, whole, or made of the same."""
    if not isinstance(known, dict) or known.get("recipe") != recipe.key():
        return None
    try:
        found = store.get_manifest(str(known.get("digest")))
    except ContentError:
        return None
    return known if found is not None and not missing_from(store, found[1]) else None


def _read(note: Path) -> dict[str, Any]:
    try:
        document = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
