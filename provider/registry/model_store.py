"""The versions of one model in a registry: its store, where the workspace has one.

A model is the repository `models/<name>`, each version an artifact with the version's number as its tag, each alias a
tag beside it. The layer goes up straight from the model's files. Nothing is kept on this machine: what is known comes
from the registry and from Pulumi's state, so that any machine can go on where another one stopped.

A version's number is first claimed in the stack's own record (`model_record`); only then are the others' records read,
and the tag is put where nobody else claims it. Of two that claim the same number at once at least one sees the other,
and steps back. Removing is done the same way: what another stack turns out to need after all is put back.
"""

from __future__ import annotations

import io
import random
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress

from provider.content.cache import DigestCache
from provider.content.errors import CorruptBlobError
from provider.content.layer import Layer
from provider.content.layer_stream import open_layer
from provider.content.modelpack import MANIFEST, Artifact, Blob, artifact, blob_of
from provider.content.models import Found, KnownVersion, MissingVersionError, Registration, Request
from provider.content.store import Use
from provider.content.tree import walk
from provider.content.watch import Watch, human_size
from provider.images import mirror
from provider.images.store import BlobStore
from provider.images.tags import PREFIX, empty_artifact, mark_of, put_empty, remove_tag
from provider.registry.client import Registry
from provider.registry.errors import (
    MissingBlobError,
    RegistryDeniedError,
    RegistryError,
    RegistryUnavailableError,
    RegistryUnsupportedError,
)
from provider.registry.model_record import StackRecord, repository_of, tag_of
from provider.registry.model_view import View, is_contested, look, read_records
from provider.registry.repository import RegistryRepository

_MOST_CLAIMS = 20
_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 8.0
_SLICE_SECONDS = 0.05
_PROBE = "application/vnd.slipway.probe.v1+json"


class RegistryModelStore:
    """The store of the model `name` in `registry`; see `ModelStore`.

    `known`: the versions that Pulumi's state knows. `arriving`: those that another store has, and that are to be copied
    (`take_over`) before anything is registered."""

    def __init__(
        self,
        registry: Registry,
        name: str,
        known: Mapping[int, KnownVersion] | None = None,
        arriving: Mapping[int, KnownVersion] | None = None,
        cache: DigestCache | None = None,
    ) -> None:
        self._registry = registry
        self.repository = registry.repository(repository_of(name))
        self._name = name
        self._arriving = arriving or {}
        self._known = {**(known or {}), **self._arriving}
        self._cache = DigestCache() if cache is None else cache

    def foresee(self, request: Request) -> Registration:
        """See `ModelStore`."""
        model = _Model(request)
        view = self._look(request.owner)
        number = view.number_of(model.manifest)
        arriving = {n: version for n, version in self._arriving.items() if _is_free(n, version, view)}
        held = {**arriving, **view.held, number: model.known(view, number)}
        self._refuse_missing(view, request, held)
        for dropped in _superfluous(held, request.keep, [_own(request, number, {}), *view.others]):
            del held[dropped]
        return _registration(model, number, held, {**view.history, number: model.known(view, number)})

    def register(self, request: Request, watch: Watch | None = None, *, verify: bool = False) -> Registration:
        """See `ModelStore`. A layer that the registry has is not sent; its bytes are the registry's matter."""
        watch = watch or Watch()
        model = _Model(request)
        view = self._look(request.owner)
        self._refuse_missing(view, request, {**view.held, view.number_of(model.manifest): None})
        self._send(model, watch)
        before = view.own.use if view.own is not None else None
        number, view, record = self._claim(view, request, model, watch)
        held = {**view.held, number: record.versions[number]}
        self._name_versions(before, record, view.others, held, watch)
        dropped = _superfluous(held, request.keep, [record, *view.others])
        for gone in self._remove({n: held[n] for n in dropped}, StackRecord.needs, record, (), watch):
            del held[gone]
        return _registration(model, number, held, dict(record.versions))

    def take_over(self, source: BlobStore, owner: str, watch: Watch) -> None:
        """Copies the versions that arrive from `source`, under the numbers that they have; one whose number is somebody
        else's here is left behind. Idempotent."""
        view = self._look(owner)
        free = {number: version for number, version in self._arriving.items() if _is_free(number, version, view)}
        record = StackRecord(owner, {**free, **view.history}, view.own.use if view.own is not None else None)
        self._write(record, view.own)
        others = self._others(owner)
        for number, version in sorted(self._arriving.items()):
            if number not in free or is_contested(number, version.manifest, others):
                if number not in view.held or view.held[number].manifest != version.manifest:
                    watch.warning(f"version {number} stays behind: {self.repository.reference} has another {number}")
                continue
            try:
                mirror.copy(source, self.repository, version.manifest, str(number), watch=watch)
            except (mirror.MissingImageError, MissingBlobError, CorruptBlobError, RegistryUnavailableError) as error:
                watch.warning(f"version {number} stays behind: {error}")

    def is_in(self, other: RegistryRepository, owner: str) -> bool:
        """Whether `other` is this very repository by another address: what is put into one is seen in the other."""
        tag, text = mark_of("probe", owner), secrets.token_hex(8)
        digest = put_empty(self.repository, tag, empty_artifact(_PROBE, {"slipway.probe": text}))
        try:
            found = other.find_manifest(tag)
            return found is not None and found.digest == digest
        finally:
            with suppress(RegistryUnsupportedError):
                self.repository.delete_manifest(digest)

    def inspect(self, name: str, owner: str, known: Registration, watch: Watch | None = None) -> Found:
        """See `ModelStore`. Blobs are asked for, not read."""
        try:
            view = self._look(owner)
            sound = self._sound(view)
            problem = self._problem(view, sound, known.version)
        except (RegistryUnavailableError, RegistryDeniedError) as error:
            # The registry, or what opens it, may be mended by the same deployment: this is no sign that it is gone.
            return Found(known, str(error), looked=False)
        versions = {str(number): version.layer.digest for number, version in sound.items()}
        sizes = {str(number): version.layer.size for number, version in sound.items()}
        registration = Registration(known.version, known.digest, known.size, versions, sizes, view.mine)
        return Found(registration, problem)

    def forget(self, name: str, owner: str, watch: Watch | None = None) -> None:
        """See `ModelStore`. What others than stacks put there stays, and what they put a tag on."""
        watch = watch or Watch()
        view = self._look(owner)
        if not view.tags:
            return
        own = view.own or StackRecord(owner, view.mine)
        theirs = {number for other in view.others for number in other.versions}
        mine = {number: version for number, version in view.held.items() if number in view.mine and version.put}
        aliases = own.use.aliases if own.use is not None else {}
        self._unname(aliases, {}, view.others, {n: mine[n] for n in mine if n in theirs}, watch)
        dropped = {number: version for number, version in mine.items() if number not in theirs}
        self._remove(dropped, lambda record, number: number in record.versions, own, aliases, watch)
        if (record := self.repository.find_manifest(tag_of(owner))) is not None:
            with suppress(RegistryUnsupportedError):  # told with the versions
                self.repository.delete_manifest(record.digest)

    # --- looking

    def _look(self, owner: str) -> View:
        view = look(self._registry, self.repository, owner, self._known)
        if self._arriving and view.moved:
            # What arrives may find its number taken; nobody has moved a tag of this stack for that.
            self._known = {number: version for number, version in self._known.items() if number not in view.moved}
            view = look(self._registry, self.repository, owner, self._known)
        return view

    def _others(self, owner: str) -> list[StackRecord]:
        records = read_records(self._registry, self.repository, self.repository.tags())
        return [record for tag, record in records.items() if tag != tag_of(owner)]

    def _refuse_missing(self, view: View, request: Request, held: Mapping[int, object]) -> None:
        """Raises where what is pinned or has an alias is not there."""
        for what, number in [("is pinned", n) for n in request.pinned] + [
            (f"has the alias {alias}", number) for alias, number in request.aliases.items()
        ]:
            if number not in held:
                view.refuse_moved(number)
                raise MissingVersionError(
                    f"version {number} {what}, but is not in {self.repository.reference}, which holds "
                    f"{', '.join(map(str, sorted(held))) or 'none'}; name one of these"
                )

    def _sound(self, view: View) -> dict[int, KnownVersion]:
        """The versions whose files are there."""

        def is_sound(version: KnownVersion) -> bool:
            blobs = (version.layer.digest, self._config(version))
            return all(self.repository.has_blob(digest) for digest in blobs)

        sound = self._registry.each(is_sound, view.held.values())
        return {number: view.held[number] for number, is_there in zip(view.held, sound, strict=True) if is_there}

    def _config(self, version: KnownVersion) -> str:
        # A config tells of the name and the layer alone.
        return artifact(self._name, version.layer, "").config_blob.digest

    def _problem(self, view: View, sound: Mapping[int, KnownVersion], version: int) -> str | None:
        """What is not as this stack left it."""
        where = self.repository.reference
        if version in view.moved:
            return f"the tag {version} of {where} was moved to {view.moved[version]}"
        if version not in sound:
            return f"version {version} is {'damaged' if version in view.held else 'gone'} in {where}"
        if view.own is None or view.own.use is None:
            return f"this stack's record in {where} is gone"
        for alias, number in view.own.use.aliases.items():
            if any(other.use is not None and alias in other.use.aliases for other in view.others):
                continue
            found = self.repository.find_manifest(alias)
            if number in sound and (found is None or found.digest != sound[number].manifest):
                return f"the alias {alias} in {where} {'is gone' if found is None else f'was moved to {found.digest}'}"
        return None

    # --- registering

    def _send(self, model: _Model, watch: Watch) -> None:
        """Sends what the registry does not have."""
        layer, config = model.layer, model.documents.config
        watch.status(f"storing {self._name}: {human_size(layer.size)}")
        quiet = watch.quiet()
        self.repository.put_blob(
            model.blob.digest, layer.size, lambda: open_layer(layer, model.blob.digest, self._cache, quiet)
        )
        blob = blob_of(config)
        self.repository.put_blob(blob.digest, blob.size, lambda: io.BytesIO(config))

    def _claim(self, view: View, request: Request, model: _Model, watch: Watch) -> tuple[int, View, StackRecord]:
        """Gives the artifact its version. Returns it with what was seen and noted last."""
        for attempt in range(_MOST_CLAIMS):
            number = view.number_of(model.manifest)
            history = {**view.history, number: model.known(view, number)}
            record = _own(request, number, history)
            self._write(record, view.own)
            others = self._others(request.owner)
            there = self.repository.find_manifest(str(number))
            if there is None and not is_contested(number, model.manifest, others):
                self._put_version(number, model, watch)
                return number, view, record
            if there is not None and there.digest == model.manifest:
                return number, view, record
            self._write(view.own or StackRecord(request.owner, view.mine), record)
            _pause(attempt, watch)
            view = self._look(request.owner)
        raise RegistryError(
            f"could not give a version to what is to be registered in {self.repository.reference}: other deployments "
            f"register versions of the same model all the time; wait for them, then run `pulumi up` again"
        )

    def _put_version(self, number: int, model: _Model, watch: Watch) -> None:
        try:
            self.repository.put_manifest(str(number), MANIFEST, model.documents.manifest)
        except MissingBlobError as error:
            # Cleared away since it was asked for, as what nothing names may be at any time.
            watch.warning(f"{str(error).partition(';')[0]}; sending it again")
            self._send(model, watch)
            self.repository.put_manifest(str(number), MANIFEST, model.documents.manifest)

    def _write(self, record: StackRecord, before: StackRecord | None) -> None:
        content, old = record.manifest(), None if before is None else before.manifest()
        if content == old:
            return
        put_empty(self.repository, tag_of(record.owner), content)
        if old is not None:
            # Where nothing can be deleted, it is one more manifest that no tag names.
            with suppress(RegistryUnsupportedError, RegistryDeniedError):
                self.repository.delete_manifest(blob_of(old).digest)

    # --- aliases

    def _name_versions(
        self,
        before: Use | None,
        record: StackRecord,
        others: Collection[StackRecord],
        held: Mapping[int, KnownVersion],
        watch: Watch,
    ) -> None:
        """Puts the aliases on their versions. Where stacks do not agree on one, it is an alias of none."""
        wanted = record.use.aliases if record.use is not None else {}
        previous = before.aliases if before is not None else {}
        disputed = {
            alias
            for alias, number in wanted.items()
            for other in others
            if other.use is not None and other.use.aliases.get(alias, number) != number
        }
        for alias, number in sorted(wanted.items()):
            there = self.repository.find_manifest(alias)
            if alias in disputed:
                watch.warning(f"the alias {alias} is another version's in another stack: it names none now")
                if there is not None:
                    self._untag(alias, watch)
            elif there is None or there.digest != held[number].manifest:
                if there is not None and there.digest not in _manifests(previous.get(alias), held):
                    watch.warning(f"the tag {alias} was put on {there.digest} by somebody else: it names {number} now")
                self._tag(alias, held[number].manifest)
        self._unname(previous, wanted, others, held, watch)

    def _unname(
        self,
        previous: Mapping[str, int],
        wanted: Collection[str],
        others: Iterable[StackRecord],
        held: Mapping[int, KnownVersion],
        watch: Watch,
    ) -> None:
        """Removes the aliases that no stack wants any more, from versions that stay."""
        theirs = {alias for other in others if other.use is not None for alias in other.use.aliases}
        for alias in sorted(previous.keys() - set(wanted) - theirs):
            there = self.repository.find_manifest(alias)
            if there is None or previous[alias] not in held:
                continue
            if there.digest == held[previous[alias]].manifest:
                self._untag(alias, watch)
            else:
                watch.warning(f"the tag {alias} stays: somebody else put it on {there.digest}")

    def _tag(self, tag: str, manifest: str) -> None:
        found = self.repository.get_manifest(manifest)
        if found is None:
            raise RegistryError(
                f"could not put the tag {tag} on {manifest}: {self.repository.reference} does not hold it any "
                f"more; run `pulumi up --refresh`"
            )
        self.repository.put_manifest(tag, *found)

    def _untag(self, tag: str, watch: Watch) -> None:
        try:
            remove_tag(self.repository, tag)
        except RegistryUnsupportedError as error:
            watch.warning(f"{error}; until then the tag {tag} names an empty artifact")

    # --- removing

    def _remove(
        self,
        dropped: Mapping[int, KnownVersion],
        is_needed: Callable[[StackRecord, int], bool],
        own: StackRecord,
        aliases: Collection[str],
        watch: Watch,
    ) -> list[int]:
        """Removes versions, and puts back what another stack began to need meanwhile. Returns those that are gone.

        `aliases`: tags that go with them. A version that somebody else has put a tag on stays."""
        if not dropped:
            return []
        named = self._named(aliases)
        removed: dict[int, tuple[str, bytes]] = {}
        for number, version in dropped.items():
            watch.check("removing versions")
            if version.manifest in named:
                watch.warning(f"version {number} stays: the tag {named[version.manifest]} names it")
                continue
            found = self.repository.get_manifest(version.manifest)
            try:
                self.repository.delete_manifest(version.manifest)
            except RegistryUnsupportedError as error:
                watch.warning(f"{error}; until then all versions stay in {self.repository.reference}")
                break
            if found is not None:
                removed[number] = found
        others = self._others(own.owner)
        for number in list(removed):
            if any(is_needed(record, number) for record in others):
                self.repository.put_manifest(str(number), *removed.pop(number))
        return list(removed)

    def _named(self, aliases: Collection[str]) -> dict[str, str]:
        """Digest -> tag, of the tags that are neither versions, nor marks, nor `aliases`."""
        tags = [
            tag
            for tag in self.repository.tags()
            if not tag.isdecimal() and not tag.startswith(PREFIX) and tag not in aliases
        ]
        found = self._registry.each(self.repository.find_manifest, tags)
        return {item.digest: tag for tag, item in zip(tags, found, strict=True) if item is not None}


class _Model:
    """What is to be registered, as a layer and its documents."""

    def __init__(self, request: Request) -> None:
        self.layer = Layer(walk(request.source), request.name)
        self.blob = Blob(request.layer_digest, self.layer.size)
        self.documents: Artifact = artifact(request.name, self.blob, self.layer.prefix)
        self.manifest = self.documents.manifest_blob.digest

    def known(self, view: View, number: int) -> KnownVersion:
        """It as a version; what others put there is theirs."""
        held = view.held.get(number)
        return KnownVersion(self.blob, self.manifest, put=held is None or held.put)


def _own(request: Request, number: int, history: Mapping[int, KnownVersion]) -> StackRecord:
    use = Use(number, sorted(set(request.pinned)), dict(request.aliases))
    return StackRecord(request.owner, history, use)


def _superfluous(held: Mapping[int, KnownVersion], keep: int | None, records: Collection[StackRecord]) -> list[int]:
    """The versions that need not stay. `keep`: how many of the newest do besides what stacks need; None: all."""
    if keep is None:
        return []
    newest = sorted(held)[-keep:]
    return [
        number
        for number, version in held.items()
        if version.put and number not in newest and not any(record.needs(number) for record in records)
    ]


def _is_free(number: int, version: KnownVersion, view: View) -> bool:
    """Whether a version that arrives can have its number."""
    return number not in view.taken and not is_contested(number, version.manifest, view.others)


def _manifests(number: int | None, held: Mapping[int, KnownVersion]) -> set[str]:
    return {held[number].manifest} if number is not None and number in held else set()


def _registration(
    model: _Model, number: int, held: Mapping[int, KnownVersion], history: dict[int, KnownVersion]
) -> Registration:
    return Registration(
        number,
        model.manifest,
        model.blob.size,
        {str(version): held[version].layer.digest for version in sorted(held)},
        {str(version): held[version].layer.size for version in sorted(held)},
        dict(sorted(history.items())),
    )


def _pause(attempt: int, watch: Watch) -> None:
    """By chance, and the longer the more often, so that two who saw each other do not meet again: how long the steps
    between looking and claiming take is the network's matter."""
    until = time.monotonic() + random.uniform(0, min(_LONGEST_PAUSE_SECONDS, _PAUSE_SECONDS * 2**attempt))  # noqa: S311
    while (left := until - time.monotonic()) > 0:
        watch.check("waiting for another deployment that registers the same model")
        time.sleep(min(_SLICE_SECONDS, left))
