"""Images of services as `ServiceImage` makes them, with models of a store on this machine or in the registry.

For the tests under a real engine, and for the benchmarks beside one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provider.images.environment import lock_digest
from provider.model_version import ModelVersion
from provider.resource import Context, Resource
from provider.service_image import ServiceImage
from provider.values import Properties
from tests.operations import context

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "sklearn_mnist"
LOCK = ROOT / "stacks" / "locks" / "dev.sklearn.txt"
CONTEXT = context("slipway:index:ServiceImage", "mnist", stack="test")


def created(resource: Resource, where: Context, inputs: Properties) -> Properties:
    """Checks and creates; gives the outputs."""
    news, failures = asyncio.run(resource.check(where, inputs))
    assert failures == []
    return asyncio.run(resource.create(where, news))[1]


def register(name: str, source: Path, store: str) -> dict[str, Any]:
    """Registers a model in a store (a folder on this machine, or a registry's address); gives its version."""
    where = context("slipway:index:ModelVersion", name, stack="test")
    model = created(ModelVersion(), where, {"store": store, "name": name, "path": str(source)})
    version = model["version"]
    return {"name": name, "version": version, "digest": model["versions"][str(version)], "size": model["size"]}


@dataclass
class Images:
    """Makes images in the registry at `address` from the models of a store below `root`, and from the registry's."""

    address: str
    base: str
    root: Path
    name: str = "mnist"

    @property
    def store(self) -> Path:
        """The store on this machine."""
        return self.root / "store"

    def model(self, name: str, source: Path) -> dict[str, Any]:
        """Registers a model on this machine."""
        return register(name, source, str(self.store))

    def make(self, code: Path, models: list[dict[str, Any]], lock: Path = LOCK, **more: Any) -> Properties:
        """Checks and creates an image."""
        inputs = {
            "registry": self.address,
            "repository": f"services/{self.name}",
            "name": self.name,
            "base": self.base,
            "platform": "linux/amd64",
            "pythonVersion": "3.11",
            "lockFile": str(lock),
            "environmentDigest": lock_digest(lock.read_text()),
            "serverDirectory": str(ROOT / "serving" / "slipway_serving"),
            "models": models,
            "modelLayout": str(self.store),
            "sourceDirectory": str(code),
            "entryScript": "score.py",
            "port": 8890,
            **more,
        }
        return created(ServiceImage(), CONTEXT, inputs)
