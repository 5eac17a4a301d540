"""Which virtual environments of a workspace are in use, and the removal of those that are not.

An environment's folder is needed while a `PythonEnvironment` refers to it or a revision's spec names its interpreter.
The supervisor collects too, after it removed an old revision, so this imports little. What makes them is
`provider.environments`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from provider.local import shared
from provider.local.layout import locked, remove_if_empty, remove_tree


def root_of(home: Path) -> Path:
    """The folder with all environments of a workspace."""
    return home / "environments"


def lock(home: Path, *, wait: bool = True) -> AbstractContextManager[int]:
    """Holds the workspace's environments alone, by a descriptor. Raises `layout.BusyError` where another does and
    `wait` is false."""
    return locked(root_of(home) / ".lock", wait=wait)


def refer(home: Path, name: str, key: str) -> None:
    """Notes that the environment named `name` is the folder `key`."""
    references = _references_of(home)
    references.mkdir(parents=True, exist_ok=True)
    partial = references / f".{name}.partial"
    partial.write_text(key)
    partial.rename(references / name)


def forget(home: Path, name: str) -> None:
    """Takes the reference of `name` back."""
    (_references_of(home) / name).unlink(missing_ok=True)


def collect(home: Path, *, wait: bool = True) -> None:
    """Removes the environments that nothing refers to, and the empty folders above them up to the stack's.

    Raises `layout.BusyError` where `wait` is false and somebody is making or collecting just now."""
    root = root_of(home)
    if not root.is_dir():
        return
    with lock(home, wait=wait):
        used = set(_in_use(home))
        for name in _visible(root):
            if name not in used:
                remove_tree(root / name)
        if not _visible(root) and not _visible(_references_of(home)):
            remove_tree(root)
    remove_if_empty(home, home.parent)


def _references_of(home: Path) -> Path:
    return root_of(home) / ".references"


def _in_use(home: Path) -> Iterator[str]:
    references = _references_of(home)
    for name in _visible(references):
        yield (references / name).read_text()
    for spec in shared.specs(home):
        yield Path(spec["python"]).parent.parent.name


def _visible(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]  # noqa: PTH208 - names are wanted
    except FileNotFoundError:
        return []
