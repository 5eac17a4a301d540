"""What a stack notes of a model in a registry: the versions it knows, and those it needs; and where that is.

A registry has no operation that changes something only if it is still as it was seen. So each stack has a record of its
own, which it alone writes: a manifest without content, under a tag that is made from the stack's name. Whoever wants to
give a version its number, or remove one, reads the records of all the others (`model_store`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from provider.content.modelpack import Blob
from provider.content.models import KnownVersion
from provider.content.names import REPOSITORY_PART
from provider.content.store import Use
from provider.images.tags import empty_artifact, mark_of

_TYPE = "application/vnd.slipway.model.record.v1+json"
_STACK = "slipway.stack"
_RECORD = "slipway.record"
_DIGITS = 8


def repository_of(name: str) -> str:
    """The repository of a model: `models/<name>`, and where a repository cannot have that name, one like it."""
    if REPOSITORY_PART.fullmatch(name):
        return f"models/{name}"
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    return f"models/{'-'.join([*re.findall('[a-z0-9]+', name.lower()), digest])}"


@dataclass(frozen=True)
class StackRecord:
    """The record of one stack."""

    owner: str
    """`<stack>/<project>`."""
    versions: Mapping[int, KnownVersion] = field(default_factory=dict)
    """All that it ever knew of, and the one that it is about to put there."""
    use: Use | None = None
    """What it needs; None where it only notes what it knows."""

    def needs(self, version: int) -> bool:
        """Whether the version must stay for this stack."""
        use = self.use
        return use is not None and version in {use.version, *use.pinned, *use.aliases.values()}

    def manifest(self) -> bytes:
        """As it is stored: the same record is the same bytes."""
        document = {"use": None if self.use is None else asdict(self.use), "versions": json_of(self.versions)}
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return empty_artifact(_TYPE, {_STACK: self.owner, _RECORD: text})


def tag_of(owner: str) -> str:
    """The tag of a stack's record."""
    return mark_of("model", owner)


def record_from(manifest: bytes) -> StackRecord | None:
    """The record that a manifest holds; None where it is none."""
    try:
        document = json.loads(manifest)
        if document["artifactType"] != _TYPE:
            return None
        annotations = document["annotations"]
        content = json.loads(annotations[_RECORD])
        use = content["use"]
        needed = None
        if use is not None:
            aliases = {str(alias): int(version) for alias, version in use["aliases"].items()}
            needed = Use(int(use["version"]), [int(version) for version in use["pinned"]], aliases)
        return StackRecord(str(annotations[_STACK]), history_from(content["versions"]), needed)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def json_of(versions: Mapping[int, KnownVersion]) -> dict[str, dict[str, Any]]:
    """Versions as Pulumi's state and a record hold them."""
    return {
        str(number): {
            "layer": known.layer.digest,
            "size": known.layer.size,
            "manifest": known.manifest,
            "put": known.put,
        }
        for number, known in sorted(versions.items())
    }


def history_from(document: Mapping[str, Mapping[str, Any]]) -> dict[int, KnownVersion]:
    """What `json_of` made. Raises `KeyError`, `TypeError` or `ValueError` where it is something else."""
    return {
        int(number): KnownVersion(
            Blob(str(known["layer"]), int(known["size"])), str(known["manifest"]), bool(known["put"])
        )
        for number, known in document.items()
    }
