"""Curated environments: one small TOML file each, beside this module.

They name packages with ranges; what is installed is decided by the lock of the stack that uses one.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class CuratedEnvironment:
    """What the file of a curated environment says."""

    description: str
    pip: tuple[str, ...]
    torch_backend: str | None
    """Which builds of PyTorch's packages to take, in uv's words (`cpu`); None: those of the index."""


@cache
def curated_environments() -> Mapping[str, CuratedEnvironment]:
    """Every curated environment, by its name and by its other names."""
    found = {}
    for file in sorted(_FOLDER.glob("*.toml")):
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        environment = CuratedEnvironment(document["description"], tuple(document["pip"]), document.get("torchBackend"))
        found.update(dict.fromkeys((file.stem, *document.get("aliases", ())), environment))
    return found
