"""The models of a workspace: their versions, who uses them, and the quota, kept in an OCI image layout.

A version is an integer that counts up per model name. The history remembers which layer was which version, for as long
as the store exists, so that the same content is the same version again even after it went away and came back. What the
store holds at present is a part of that.

`slipway-store.json` is the truth; index.json is written after it, from it, and put right by the next change where a
kill came between the two. Entries of index.json that are not ours stay as they are, with the blobs they name.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from provider.content.cache import DigestCache
from provider.content.errors import ContentError, CorruptBlobError
from provider.content.layer import Layer, write_layer
from provider.content.layer_stream import changed_since_checked
from provider.content.layout import Incoming, Layout, Writer, disk_errors, disk_full, free_bytes, wait_until_written
from provider.content.modelpack import ARTIFACT, MANIFEST, Blob, artifact
from provider.content.models import Found, KnownVersion, Registration, Request
from provider.content.tree import walk
from provider.content.watch import Watch, human_size

RECORD = "slipway-store.json"
_SCHEMA = 1
_NAME = "slipway.model.name"
_VERSION = "slipway.model.version"
IMAGE_REPOSITORY = "slipway.image.repository"
"""The annotation of an entry that is an image (`provider.images.store`)."""
_REFERENCE = "org.opencontainers.image.ref.name"


class QuotaError(ContentError):
    """More would be stored than the tier allows."""


@dataclass
class StoredVersion:
    """A version whose files the store holds."""

    layer: Blob
    config: Blob
    manifest: Blob
    metadata: dict[str, Any] = field(default_factory=dict)
    """What may change about it: framework, description, tags and the like. No part of any digest."""

    def blobs(self) -> tuple[Blob, Blob, Blob]:
        """Everything it consists of."""
        return (self.layer, self.config, self.manifest)


@dataclass
class Use:
    """What one stack needs of a model."""

    version: int
    pinned: list[int] = field(default_factory=list)
    aliases: dict[str, int] = field(default_factory=dict)


@dataclass
class StoredModel:
    """All that is known of one model name."""

    history: dict[str, int] = field(default_factory=dict)
    """Layer digest -> version, for every layer that ever was one."""
    held: dict[int, StoredVersion] = field(default_factory=dict)
    uses: dict[str, Use] = field(default_factory=dict)
    """By stack."""

    def version_of(self, layer_digest: str) -> int:
        """The version that this layer is, or would be."""
        known = self.history.get(layer_digest)
        return max(self.history.values(), default=0) + 1 if known is None else known

    def use(self, owner: str, use: Use, keep: int | None) -> None:
        """Notes what `owner` needs now, and lets go of the versions that nobody does.

        `keep`: how many of the newest stay besides those that a stack uses, pins or has an alias for; None: all."""
        self.uses[owner] = use
        if keep is None:
            return
        needed = set(sorted(self.held)[-keep:])
        for other in self.uses.values():
            needed |= {other.version, *other.pinned, *other.aliases.values()}
        self.held = {number: held for number, held in self.held.items() if number in needed}

    def aliases(self, version: int) -> list[str]:
        """The aliases of a version. Where stacks do not agree on one, it is an alias of none."""
        named = [item for use in self.uses.values() for item in use.aliases.items()]
        return sorted({alias for alias, number in named if number == version} - {a for a, n in named if n != version})

    def versions(self) -> dict[str, str]:
        """Version -> layer digest, of what is held."""
        return {str(number): self.held[number].layer.digest for number in sorted(self.held)}

    def sizes(self) -> dict[str, int]:
        """Version -> bytes of the layer, of what is held."""
        return {str(number): self.held[number].layer.size for number in sorted(self.held)}


@dataclass
class Record:
    """What `slipway-store.json` says."""

    quota_bytes: int | None = None
    tier: str | None = None
    owners: list[str] = field(default_factory=list)
    """The stacks whose workspace this is."""
    models: dict[str, StoredModel] = field(default_factory=dict)

    def blobs(self) -> Iterator[str]:
        """The digests of everything that a held version consists of."""
        for model in self.models.values():
            for version in model.held.values():
                yield from (blob.digest for blob in version.blobs())


class Store:
    """The models in the image layout at `root`."""

    def __init__(self, root: Path, cache: DigestCache | None = None) -> None:
        self._cache = DigestCache() if cache is None else cache
        self.root = root
        self.layout = Layout(root, self._cache)

    def record(self) -> Record:
        """What is stored; empty where there is no store. Reads only."""
        document = self.layout.read_json(RECORD)
        try:
            return _record_from(document) if document else Record()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ContentError(
                f"{self.root / RECORD} is damaged ({error!r}); restore it, or remove {self.root} and run "
                f"`pulumi up --refresh`, which registers the models anew from their files"
            ) from None

    def foresee(self, request: Request) -> Registration:
        """What `register` would answer. Reads the store's record and the stat of the model's files alone."""
        layer = Layer(walk(request.source), request.name)
        blob = Blob(request.layer_digest, layer.size)
        model = self.record().models.get(request.name, StoredModel())
        return _enter(model, request, StoredVersion(blob, *_documents(request.name, blob, layer.prefix)))

    def check_room(self, request: Request) -> None:
        """Raises `QuotaError` where the layer is not stored yet and would not fit. Reads only."""
        layer = Layer(walk(request.source), request.name)
        blob = Blob(request.layer_digest, layer.size)
        if not self.layout.has(blob):
            self._check_quota(self.record(), request, blob)

    def register(self, request: Request, watch: Watch | None = None, *, verify: bool = False) -> Registration:
        """Stores the model where it is not stored yet, and notes that `request.owner` uses it.

        `verify`: do not trust the bytes of a layer that is there already. Idempotent; safe beside others and to kill.
        Raises `ContentError`: no room, files that changed since they were looked at, a disk that does not take it."""
        watch = watch or Watch()
        layer = Layer(walk(request.source), request.name)
        blob = Blob(request.layer_digest, layer.size)
        while True:
            sound = self._is_sound(blob, watch, verify=verify)
            with self.layout.locked(watch) as writer:
                record = self.prepare(writer)
                if sound and self.layout.has(blob):
                    return self._commit(writer, record, request, blob, layer.prefix)
                other = writer.being_written(blob)
                if other is None:
                    writer.discard(blob)
                    self._check_quota(record, request, blob)
                    incoming = writer.reserve(blob)
                    break
            wait_until_written(other, watch)
        with incoming:
            self._fill(incoming, request, watch)
            with self.layout.locked(watch) as writer:
                record = self.prepare(writer)
                return self._commit(writer, record, request, blob, layer.prefix, incoming)

    def forget(self, name: str, owner: str, watch: Watch | None = None) -> None:
        """`owner` no longer uses the model: what no other stack uses is removed. The history stays."""
        if not self.layout.exists:
            return
        with self.layout.locked(watch) as writer:
            record = self.prepare(writer)
            _release(record, name, owner)
            self._save(writer, record)

    def configure(self, owner: str, tier: str, quota_bytes: int, watch: Watch | None = None) -> None:
        """Makes the store where it is missing, and sets what it may hold. Refuses less than it holds."""
        with self.layout.locked(watch) as writer:
            record = self.prepare(writer)
            self._refuse_smaller(quota_bytes)
            record.tier, record.quota_bytes = tier, quota_bytes
            record.owners = sorted({*record.owners, owner})
            self._save(writer, record)

    def check_quota(self, quota_bytes: int) -> None:
        """Raises `QuotaError` where more is stored than `quota_bytes`. Reads only."""
        self._refuse_smaller(quota_bytes)

    def abandon(self, owner: str, watch: Watch | None = None) -> list[str]:
        """`owner` no longer uses the store: it is removed, models and all, unless other stacks use it.

        Returns the names of what stays in its folder because it is not the store's."""
        if not self.layout.exists:
            with contextlib.suppress(OSError):  # a removal that was killed may have left it, empty
                self.root.rmdir()
            return []
        with self.layout.locked(watch) as writer:
            record = self.prepare(writer)
            record.owners = [other for other in record.owners if other != owner]
            if not record.owners:
                return writer.remove()
            for name in list(record.models):
                _release(record, name, owner)
            self._save(writer, record)
            return []

    def damage(self, name: str, version: int, watch: Watch | None = None) -> str | None:
        """Why the version is not whole in the store; None where it is. Documents are read, a layer only where its
        stat signature is not the one it was last found sound with."""
        held = self.record().models.get(name, StoredModel()).held.get(version)
        if held is None:
            return f"{self.root} does not hold version {version} of the model {name}"
        try:
            for blob in held.blobs():
                self.layout.verify(blob, watch)
        except CorruptBlobError as error:
            return str(error)
        return None

    def inspect(self, name: str, owner: str, known: Registration, watch: Watch | None = None) -> Found:
        """See `ModelStore`. Damage of the current version is found, also by its bytes where a file of the store was
        touched since they were last seen."""
        model = self.record().models.get(name)
        damage = self.damage(name, known.version, watch)
        if model is None or damage is not None:
            return Found(None, f"{damage}; it is taken as gone, so that the next `up` registers it anew")
        held = model.held[known.version]
        sound = {
            str(number): version.layer
            for number, version in sorted(model.held.items())
            if all(self.layout.has(blob) for blob in version.blobs())
        }
        versions = {number: layer.digest for number, layer in sound.items()}
        sizes = {number: layer.size for number, layer in sound.items()}
        registration = Registration(known.version, held.manifest.digest, held.layer.size, versions, sizes)
        return Found(registration, metadata=held.metadata)

    def known(self, name: str) -> dict[int, KnownVersion]:
        """The versions of a model that are here."""
        held = self.record().models.get(name, StoredModel()).held
        return {number: KnownVersion(version.layer, version.manifest.digest) for number, version in held.items()}

    # --- the steps of a registration

    def prepare(self, writer: Writer) -> Record:
        """The record, after what killed operations left was cleared."""
        record = self.record()
        writer.clear_leftovers(self._referenced(record))
        return record

    def _referenced(self, record: Record) -> set[str]:
        digests = set(record.blobs())
        for descriptor in self.layout.index():
            annotations = descriptor.get("annotations", {})
            if _NAME in annotations:
                continue
            try:
                self._add_foreign(descriptor, digests)
            except CorruptBlobError:
                # One of ours is made again; of a stranger's, nothing may be lost.
                if IMAGE_REPOSITORY not in annotations:
                    raise
        return digests

    def _add_foreign(self, descriptor: Any, digests: set[str]) -> None:
        """Adds what an entry that is not ours names, down through its manifests."""
        blob = Blob(str(descriptor["digest"]), int(descriptor["size"]))
        if blob.digest in digests:
            return
        digests.add(blob.digest)
        if "manifest" in str(descriptor.get("mediaType")) or "index" in str(descriptor.get("mediaType")):
            document = json.loads(self.layout.read_document(blob))
            parts = [document.get("config"), *document.get("layers", []), *document.get("manifests", [])]
            for part in parts:
                if isinstance(part, dict):
                    self._add_foreign(part, digests)

    def _is_sound(self, blob: Blob, watch: Watch, *, verify: bool) -> bool:
        if not verify or not self.layout.has(blob):
            return True
        try:
            self.layout.verify(blob, watch)
        except CorruptBlobError as error:
            watch.warning(f"{error.args[0].partition(';')[0]}; it is written anew")
            return False
        return True

    def _check_quota(self, record: Record, request: Request, blob: Blob) -> None:
        quota = record.quota_bytes if request.quota_bytes is None else request.quota_bytes
        left, freed = self.layout.leftover_bytes(self._referenced(record))  # which goes before anything is stored
        used = self.layout.used_bytes() - left
        if quota is not None and used + blob.size > quota:
            raise QuotaError(
                f"the model {request.name} does not fit into {self.root}: {human_size(blob.size)} needed, "
                f"{human_size(used)} used, {human_size(quota)} allowed ({blob.size} + {used} > {quota} bytes); "
                f"choose a larger registry tier, or let old versions go with keepVersions"
            )
        if blob.size > free_bytes(self.root) + freed:
            raise disk_full(self.root, blob.size)

    def _refuse_smaller(self, quota_bytes: int) -> None:
        used = self.layout.used_bytes()
        if used > quota_bytes:  # else it does not matter what of that is left over
            used -= self.layout.leftover_bytes(self._referenced(self.record()))[0]
        if used > quota_bytes:
            raise QuotaError(
                f"{self.root} holds {human_size(used)}, and only {human_size(quota_bytes)} would be allowed "
                f"({used} > {quota_bytes} bytes); keep the larger tier, or remove models first"
            )

    def _fill(self, incoming: Incoming, request: Request, watch: Watch) -> None:
        with disk_errors(self.root, incoming.blob.size):
            try:
                written = write_layer(request.source, request.name, incoming.handle, self._cache, watch)
            except OSError:
                os.ftruncate(incoming.handle, 0)  # so that the error tells what is free without this half of a blob
                raise
        if written.digest != incoming.blob.digest:
            raise changed_since_checked(request.source, incoming.blob.digest, written.digest)

    def _commit(
        self,
        writer: Writer,
        record: Record,
        request: Request,
        layer: Blob,
        prefix: str,
        incoming: Incoming | None = None,
    ) -> Registration:
        """Takes what came in, and names the stored layer; from here on it is referenced."""
        before = self._referenced(record)
        try:
            if incoming is not None:
                writer.accept(incoming)
            documents = artifact(request.name, layer, prefix)
            config, manifest = writer.add_document(documents.config), writer.add_document(documents.manifest)
            model = record.models.setdefault(request.name, StoredModel())
            registration = _enter(model, request, StoredVersion(layer, config, manifest))
            self._save(writer, record)
        except ContentError:
            # The record may have been written, and the index not: what it names stays for the next attempt.
            writer.clear_leftovers(before | self._referenced(self.record()))
            raise
        return registration

    def _save(self, writer: Writer, record: Record) -> None:
        """Writes the record, then the index, then removes what they no longer name."""
        writer.write_json(RECORD, _json_of(record))
        others = [item for item in self.layout.index() if _NAME not in item.get("annotations", {})]
        writer.write_index([*others, *_descriptors(record)])
        writer.clear_leftovers(self._referenced(record))


def _documents(name: str, layer: Blob, prefix: str) -> tuple[Blob, Blob]:
    documents = artifact(name, layer, prefix)
    return documents.config_blob, documents.manifest_blob


def _enter(model: StoredModel, request: Request, stored: StoredVersion) -> Registration:
    """Enters a version into `model`, as current for its owner."""
    version = model.version_of(stored.layer.digest)
    stored.metadata = dict(request.metadata)
    model.history[stored.layer.digest] = version
    model.held[version] = stored
    use = Use(version, sorted(set(request.pinned)), dict(request.aliases))
    model.use(request.owner, use, request.keep)
    return Registration(version, stored.manifest.digest, stored.layer.size, model.versions(), model.sizes())


def _release(record: Record, name: str, owner: str) -> None:
    model = record.models.get(name)
    if model is not None:
        model.uses.pop(owner, None)
        if not model.uses:
            model.held.clear()


def _descriptors(record: Record) -> Iterator[dict[str, Any]]:
    """The index entries of all held versions, in a fixed order."""
    for name, model in sorted(record.models.items()):
        for version, held in sorted(model.held.items()):
            annotations = {_NAME: name, _VERSION: str(version)}
            for key, value in held.metadata.items():
                if isinstance(value, Mapping):
                    annotations |= {f"slipway.model.{key}.{inner}": str(item) for inner, item in value.items()}
                else:
                    annotations[f"slipway.model.{key}"] = str(value)
            for tag in (str(version), *model.aliases(version)):
                yield {
                    "mediaType": MANIFEST,
                    "artifactType": ARTIFACT,
                    "digest": held.manifest.digest,
                    "size": held.manifest.size,
                    # ref.name is what tools take for a tag: a dash, since a colon is none of a tag's characters.
                    "annotations": {_REFERENCE: f"{name}-{tag}", **annotations},
                }


def _json_of(record: Record) -> dict[str, Any]:
    return {
        "schema": _SCHEMA,
        "quotaBytes": record.quota_bytes,
        "tier": record.tier,
        "owners": record.owners,
        "models": {
            name: {
                "history": model.history,
                "held": {str(version): asdict(held) for version, held in model.held.items()},
                "uses": {owner: asdict(use) for owner, use in model.uses.items()},
            }
            for name, model in record.models.items()
        },
    }


def _record_from(document: dict[str, Any]) -> Record:
    if document["schema"] != _SCHEMA:
        raise ValueError(f"schema {document['schema']}, known is {_SCHEMA}")
    quota = document["quotaBytes"]
    return Record(
        quota_bytes=None if quota is None else int(quota),
        tier=document["tier"],
        owners=list(document["owners"]),
        models={name: _model_from(model) for name, model in document["models"].items()},
    )


def _model_from(document: dict[str, Any]) -> StoredModel:
    return StoredModel(
        history={str(digest): int(version) for digest, version in document["history"].items()},
        held={
            int(version): StoredVersion(
                Blob(**held["layer"]), Blob(**held["config"]), Blob(**held["manifest"]), dict(held["metadata"])
            )
            for version, held in document["held"].items()
        },
        uses={
            owner: Use(int(use["version"]), list(use["pinned"]), dict(use.get("aliases", {})))
            for owner, use in document["uses"].items()
        },
    )
