"""What keeps the versions of a workspace's models, whatever it is: what is asked of it, and what it answers.

`store` does it in an OCI image layout on disk, `provider.registry.model_store` in a registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from provider.content.errors import ContentError
from provider.content.modelpack import Blob
from provider.content.watch import Watch


class MissingVersionError(ContentError):
    """A version is named that the store does not hold."""


@dataclass(frozen=True)
class KnownVersion:
    """What is known of a version, whether its files are there or not."""

    layer: Blob
    manifest: str
    """The digest of its artifact."""
    put: bool = True
    """Whether a stack of Slipway's put it there, so that stacks may remove it."""


@dataclass(frozen=True)
class Request:
    """What is to be registered, and for whom."""

    name: str
    source: Path
    layer_digest: str
    """What the files were when they were looked at: anything else is refused."""
    owner: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    pinned: tuple[int, ...] = ()
    aliases: Mapping[str, int] = field(default_factory=dict)
    """Names for versions, which stay as the pinned ones do."""
    keep: int | None = None
    quota_bytes: int | None = None
    """Overrides the store's own, which may not be written yet."""


@dataclass(frozen=True)
class Registration:
    """A model as it is registered, or would be."""

    version: int
    digest: str
    """Of the artifact's manifest."""
    size: int
    """Bytes of the layer."""
    versions: dict[str, str]
    """Version -> layer digest, of what the store holds."""
    sizes: dict[str, int]
    """Version -> bytes of the layer, of the same versions."""
    history: dict[int, KnownVersion] = field(default_factory=dict)
    """All versions that ever were, for a store that does not remember them by itself."""


@dataclass(frozen=True)
class Found:
    """A registered model as it is now."""

    registration: Registration | None
    """None: it is to be registered from the beginning."""
    problem: str | None = None
    """What is not as it was left, for people."""
    metadata: Mapping[str, Any] | None = None
    """Where the store keeps it."""
    looked: bool = True
    """Whether the store could be looked at."""


class ModelStore(Protocol):
    """Keeps the versions of models. All methods raise `ContentError`."""

    def foresee(self, request: Request) -> Registration:
        """What `register` would answer. Reads only."""

    def register(self, request: Request, watch: Watch | None = None, *, verify: bool = False) -> Registration:
        """Stores the model where it is not stored yet, and notes that `request.owner` uses it.

        `verify`: do not trust what is there already. Idempotent; safe beside others and to kill."""

    def inspect(self, name: str, owner: str, known: Registration, watch: Watch | None = None) -> Found:
        """How the model is that was `known` when it was registered last. Reads only."""

    def forget(self, name: str, owner: str, watch: Watch | None = None) -> None:
        """`owner` no longer uses the model: what no other stack uses is removed."""
