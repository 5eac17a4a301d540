"""Collects what services share: extracted models and snapshots of the server that no revision refers to any more.

A reference is a revision's `spec.json`, which is written before the thing it refers to is made. Making holds the
workspace's lock shared, collecting holds it alone: nothing is collected from under who is about to use it. The
supervisor collects too, after it removed an old revision.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from provider.local.layout import (
    SPEC,
    hexadecimal,
    locked,
    models,
    read_json,
    remove_if_empty,
    remove_tree,
    servers,
)


def lock_of(home: Path) -> Path:
    """The lock file of what is shared in a workspace."""
    return home / "services" / ".shared.lock"


def collect(home: Path, *, wait: bool = True) -> None:
    """Removes unused models and server snapshots, and the directories that are empty then.

    Raises `layout.BusyError` where `wait` is false and somebody is making or collecting just now."""
    if not (home / "services").is_dir() and not models(home).is_dir() and not servers(home).is_dir():
        return
    with locked(lock_of(home), wait=wait):
        used = set(_references(home))
        for place in (models(home), servers(home)):
            for child in _children(place):
                if child.name not in used:
                    remove_tree(child)
            remove_if_empty(place)
        if [child.name for child in _children(home / "services")] == [lock_of(home).name]:
            lock_of(home).unlink(missing_ok=True)
            remove_if_empty(home / "services")
    remove_if_empty(home, home.parent)


def specs(home: Path) -> Iterator[dict[str, Any]]:
    """The specs of all revisions in the workspace, the half-made ones too."""
    for service in _children(home / "services"):
        for revision in _children(service / "revisions"):
            spec = read_json(revision / SPEC)
            if isinstance(spec, dict):
                yield spec


def _references(home: Path) -> Iterator[str]:
    for spec in specs(home):
        yield hexadecimal(spec["serverDigest"])
        for model in spec["models"]:
            yield hexadecimal(model["digest"])


def _children(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder))]  # noqa: PTH208 - one call
    except (FileNotFoundError, NotADirectoryError):
        return []
