"""A model's repository as it is seen at one moment: its versions, and what stacks note of them. Reading, and what
follows from it; changes are `model_store`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from provider.content.errors import CorruptBlobError
from provider.content.modelpack import ARTIFACT, WEIGHT, Blob
from provider.content.models import KnownVersion
from provider.images.tags import PREFIX
from provider.registry.client import Registry
from provider.registry.errors import RegistryError
from provider.registry.model_record import StackRecord, record_from, tag_of
from provider.registry.repository import RegistryRepository

_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class MovedTagError(RegistryError):
    """A tag names something else than what it was put on."""


@dataclass(frozen=True)
class View:
    """What was seen. Versions of which nothing is known but their tag are in `taken` alone."""

    owner: str
    tags: tuple[str, ...]
    records: Mapping[str, StackRecord]
    """By their tags."""
    known: Mapping[int, KnownVersion]
    """What Pulumi's state knows."""
    held: Mapping[int, KnownVersion]
    """What the registry has."""
    moved: Mapping[int, str]
    """The versions of this stack whose tag names something else now, and what."""
    taken: frozenset[int]
    """All numbers that have a tag."""

    @property
    def own(self) -> StackRecord | None:
        """This stack's record."""
        return self.records.get(tag_of(self.owner))

    @cached_property
    def others(self) -> list[StackRecord]:
        """The records of the other stacks."""
        return [record for tag, record in self.records.items() if tag != tag_of(self.owner)]

    @cached_property
    def mine(self) -> dict[int, KnownVersion]:
        """What this stack knows."""
        return {**self.known, **(self.own.versions if self.own is not None else {})}

    @cached_property
    def history(self) -> dict[int, KnownVersion]:
        """All versions that anybody knows."""
        merged: dict[int, KnownVersion] = {}
        for versions in (*(record.versions for record in self.others), self.mine, self.held):
            for number, known in versions.items():
                before = merged.get(number)
                put = known.put or (before is not None and before.manifest == known.manifest and before.put)
                merged[number] = KnownVersion(known.layer, known.manifest, put)
        return merged

    def number_of(self, manifest: str) -> int:
        """The version that an artifact is, or would be. Raises `MovedTagError`."""
        numbers = sorted(number for number, known in self.history.items() if known.manifest == manifest)
        for number in numbers:
            if number in self.held:  # and so this artifact: what is held comes last in the history
                return number
        for number in numbers:
            if number in self.moved:
                self.refuse_moved(number)
            if not is_contested(number, manifest, self.others):
                return number
        return max([*self.history, *self.taken], default=0) + 1

    def refuse_moved(self, number: int) -> None:
        """Raises `MovedTagError` where the tag of a version was moved."""
        if number in self.moved:
            expected = self.mine[number].manifest
            raise MovedTagError(
                f"the tag {number} names {self.moved[number]}, and no longer {expected}, which this stack registered "
                f"as version {number}: somebody else moved it. It is not overwritten; put it back on that digest or "
                f"delete the tag, then run `pulumi up --refresh`"
            )


def is_contested(number: int, manifest: str, others: Iterable[StackRecord]) -> bool:
    """Whether another stack has another artifact as this version."""
    return any(number in other.versions and other.versions[number].manifest != manifest for other in others)


def look(registry: Registry, repository: RegistryRepository, owner: str, known: Mapping[int, KnownVersion]) -> View:
    """Reads the repository. Raises `RegistryError`."""
    tags = repository.tags()
    records = read_records(registry, repository, tags)
    own = records.get(tag_of(owner))
    mine = {**known, **(own.versions if own is not None else {})}
    numbers = [int(tag) for tag in tags if _VERSION.fullmatch(tag)]
    held: dict[int, KnownVersion] = {}
    moved: dict[int, str] = {}
    unknown: list[tuple[int, str]] = []
    for number, digest in zip(numbers, registry.each(lambda n: _digest(repository, str(n)), numbers), strict=True):
        noted = [versions[number] for versions in (mine, *(r.versions for r in records.values())) if number in versions]
        fitting = [version for version in noted if version.manifest == digest]
        if fitting:
            held[number] = KnownVersion(fitting[0].layer, fitting[0].manifest, any(item.put for item in fitting))
        elif digest is not None and number in mine:
            moved[number] = digest
        elif digest is not None:
            unknown.append((number, digest))
    read = registry.each(lambda item: _foreign(repository, item[1]), unknown)
    held |= {number: found for (number, _), found in zip(unknown, read, strict=True) if found is not None}
    return View(owner, tuple(tags), records, known, dict(sorted(held.items())), moved, frozenset(numbers))


def read_records(registry: Registry, repository: RegistryRepository, tags: Iterable[str]) -> dict[str, StackRecord]:
    """The records among what `tags` name, by their tags."""
    marks = [tag for tag in tags if tag.startswith(PREFIX)]
    found = registry.each(lambda tag: _record(repository, tag), marks)
    return {tag: record for tag, record in zip(marks, found, strict=True) if record is not None}


def _record(repository: RegistryRepository, tag: str) -> StackRecord | None:
    found = repository.get_manifest(tag)
    return None if found is None else record_from(found[1])


def _digest(repository: RegistryRepository, tag: str) -> str | None:
    found = repository.find_manifest(tag)
    return None if found is None else found.digest


def _foreign(repository: RegistryRepository, digest: str) -> KnownVersion | None:
    """A version that others put there, without a record; None where it is no model of one layer."""
    try:
        found = repository.get_manifest(digest)
        document = json.loads(found[1]) if found is not None else {}
        (layer,) = document["layers"]
        if document["artifactType"] != ARTIFACT or layer["mediaType"] != WEIGHT:
            return None
        return KnownVersion(Blob(str(layer["digest"]), int(layer["size"])), digest, put=False)
    except (ValueError, KeyError, TypeError, CorruptBlobError):
        return None
