"""A stack with one model in a registry, as the engine would drive it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provider.model_version import ModelVersion
from provider.registry.client import Registry
from provider.registry.repository import RegistryRepository
from provider.resource import Change, Context, Failure
from provider.values import Properties


@dataclass
class Lines:
    """Keeps what is said for good."""

    lines: list[str] = field(default_factory=list)

    def info(self, message: str) -> None:
        self.lines.append(message)

    warning = info

    def status(self, message: str) -> None:
        """Progress is not kept."""


class ModelStack:
    """The stack `stack`, whose model's files are in `folder`. `address`: the registry, and a path that no other has."""

    def __init__(self, folder: Path, address: str, stack: str = "dev", name: str = "mnist") -> None:
        self.source = folder / stack / "weights.bin"
        self.source.parent.mkdir(parents=True)
        self.source.write_bytes(b"first")
        self.address, self.stack, self.name = address, stack, name
        self.resource, self.log = ModelVersion(), Lines()
        self.state: Properties = {}

    @property
    def repository(self) -> RegistryRepository:
        return Registry(self.address).repository(f"models/{self.name}")

    def context(self, *, preview: bool = False) -> Context:
        urn = f"urn:pulumi:{self.stack}::slipway::slipway:components:Model$slipway:index:ModelVersion::m"
        return Context(urn, self.log, preview)

    def inputs(self, **more: Any) -> Properties:
        return {"store": self.address, "name": self.name, "path": str(self.source), **more}

    def check(self, **more: Any) -> tuple[Properties, list[Failure]]:
        return asyncio.run(self.resource.check(self.context(preview=True), self.inputs(**more)))

    def checked(self, **more: Any) -> Properties:
        news, failures = self.check(**more)
        assert failures == []
        return news

    def changes(self, **more: Any) -> list[Change]:
        return self.resource.diff(self.state, self.checked(**more))

    def preview(self, **more: Any) -> Properties:
        news = self.checked(**more)
        if self.state:
            return asyncio.run(self.resource.update(self.context(preview=True), self.name, self.state, news))
        return asyncio.run(self.resource.create(self.context(preview=True), news))[1]

    def deploy(self, **more: Any) -> Properties:
        news = self.checked(**more)
        if self.state:
            self.state = asyncio.run(self.resource.update(self.context(), self.name, self.state, news))
        else:
            self.state = asyncio.run(self.resource.create(self.context(), news))[1]
        return self.state

    def up(self, content: bytes | None = None, **more: Any) -> Properties:
        """Previews and deploys; what the preview says is what happens."""
        if content is not None:
            self.source.write_bytes(content)
        foreseen = self.preview(**more)
        assert self.deploy(**more) == foreseen
        return self.state

    def refresh(self) -> Properties:
        found = asyncio.run(self.resource.read(self.context(), self.name, self.state))
        assert found is not None
        self.state = found
        return found

    def down(self) -> None:
        asyncio.run(self.resource.delete(self.context(), self.name, self.state))
        self.state = {}

    def tags(self) -> list[str]:
        """Those that are for people."""
        return [tag for tag in self.repository.tags() if not tag.startswith("slipway-")]

    def version_of(self, tag: str) -> str | None:
        found = self.repository.find_manifest(tag)
        return None if found is None else found.digest
