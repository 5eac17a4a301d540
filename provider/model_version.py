"""`ModelVersion`: the files of a model as an immutable, content-addressed artifact in the workspace's store.

One resource a model name. `check` reads the files and names them by the digest of their layer; a change of content
adds a version in place, and the same content is the same version again. Metadata changes in place and makes no
version. How files become a layer is `provider.content`'s. Versions are kept in an image layout on this machine
(`provider.content.store`) or in a registry (`provider.registry.model_store`), which are alike in what they do; a
registry may not be there yet in a preview, and keeps no metadata.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, ParamSpec, TypeVar

from provider.content.cache import DigestCache
from provider.content.errors import CancelledError, ContentError
from provider.content.layer import layer_digest
from provider.content.models import KnownVersion, ModelStore, Registration, Request
from provider.content.store import QuotaError, Store
from provider.content.watch import Watch
from provider.image_layout import owner_of, watch_of
from provider.images.tags import PREFIX
from provider.location import Location, place_problem, way_problems
from provider.registry.errors import RegistryUnavailableError
from provider.registry.model_record import history_from, json_of, repository_of
from provider.resource import Change, Context, Failure, Input, Resource, ResourceError, declared_changes
from provider.values import UNKNOWN, Properties, is_known

if TYPE_CHECKING:
    from provider.registry.model_store import RegistryModelStore

P = ParamSpec("P")
T = TypeVar("T")

_METADATA = ("framework", "frameworkVersion", "description", "tags", "properties", "sampleInput", "sampleOutput")
# What the outputs follow from.
_DECIDING = ("store", "name", "path", "contentDigest", "keepVersions", "pinned", "aliases")
_PLACE = ("store", "path")
_ACCESS = ("username", "password", "caCertificate", "portForward", "parallel")
_OUTPUTS = ("version", "digest", "size", "versions", "sizes")
# A part of a path in the layer, of a tag in the index and of a repository's name later on.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class ModelVersion(Resource):
    """See the module. Its id is the model's name."""

    token: ClassVar[str] = "slipway:index:ModelVersion"
    inputs: ClassVar[Mapping[str, Input]] = {
        # An absolute path (an OCI image layout), or a registry's address. A registry takes the versions over.
        "store": Input("string", replaces=True),
        # No part of the model: a change is taken over, and nothing is sent.
        "username": Input("string", required=False),
        "password": Input("string", required=False),
        "caCertificate": Input("string", required=False),
        # How a registry in a cluster is reached: `cluster`, `namespace`, `statefulSet` and `port`.
        "portForward": Input("map", required=False),
        "parallel": Input("integer", required=False, silent=True),
        "name": Input("string", replaces=True),
        "path": Input("string", silent=True),
        # Computed by check: what the files at `path` are.
        "contentDigest": Input("string", required=False),
        "framework": Input("string", required=False),
        "frameworkVersion": Input("string", required=False),
        "description": Input("string", required=False),
        "tags": Input("map", required=False),
        "properties": Input("map", required=False),
        "keepVersions": Input("integer", required=False),
        "sampleInput": Input("string", required=False),
        "sampleOutput": Input("string", required=False),
        # Alias -> version. These versions stay, as the pinned ones do.
        "aliases": Input("map", required=False),
        "pinned": Input("list", required=False, silent=True),
        "quotaBytes": Input("integer", required=False, silent=True),
    }

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        failures = _value_failures(news)
        if failures:
            return news, failures
        if not is_known([news["path"], news["name"]]):
            return {**news, "contentDigest": UNKNOWN}, []
        return await asyncio.to_thread(_examine, context, news)

    def diff(self, state: Properties, news: Properties) -> list[Change]:
        changes = super().diff(state, news)
        if _is_registry(news["store"]):
            changes = [Change(item.path, item.kind) if item.path == "store" else item for item in changes]
            # A registry is told what must stay, since nobody can ask the stack.
            pinned = {"pinned": Input("list", required=False)}
            changes += declared_changes(pinned, state, news)
        if "drift" in state and not changes:
            changes.append(Change("drift", "delete", of_input=False))
        return changes

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        name = news["name"]
        if context.preview:
            return ("" if name is UNKNOWN else name), await _told(name, _foresee, context, news, {})
        return name, await _told(name, _register, context, news, {})

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        return await _told(resource_id, _read, context, resource_id, state)

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        if context.preview:
            return await _told(resource_id, _foresee, context, news, state)
        return await _told(resource_id, _register, context, news, state)

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        await _told(resource_id, _forget, context, resource_id, state)


async def _told(name: object, operation: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    try:
        return await asyncio.to_thread(operation, *arguments, **named)
    except ContentError as error:
        raise ResourceError(f"model {name}: {error}") from None


# --- check


def _value_failures(news: Properties) -> list[Failure]:
    """What is wrong with the values themselves, whatever the files are."""
    failures = way_problems(news)
    path, store = news["path"], news["store"]
    if path is not UNKNOWN and not path.startswith("/"):
        failures.append(Failure("path", f"must be an absolute path, not {path!r}"))
    if store is not UNKNOWN and (problem := place_problem(store)) is not None:
        failures.append(Failure("store", problem))
    if (news.get("username") is None) != (news.get("password") is None):
        failures.append(Failure("username", "and password go together: give both, or none"))
    name = news["name"]
    if name is not UNKNOWN and _NAME.fullmatch(name) is None:
        failures.append(
            Failure(
                "name", f"{name!r} is no model name; use up to 128 letters, digits and _ . -, a letter or digit first"
            )
        )
    for group in ("tags", "properties"):
        for key, value in (news.get(group) or {}).items() if news.get(group) is not UNKNOWN else ():
            if value is not UNKNOWN and not isinstance(value, str):
                path = f"{group}.{key}" if key.isidentifier() else f"{group}[{json.dumps(key)}]"
                failures.append(Failure(path, f"must be a string, not {value!r}; put it in quotes"))
    for name, lowest in (("keepVersions", 1), ("quotaBytes", 0), ("parallel", 1)):
        value = news.get(name)
        if isinstance(value, int) and value < lowest:
            failures.append(Failure(name, f"must be at least {lowest}, not {value}"))
    aliases = news.get("aliases")
    for alias, version in (aliases if isinstance(aliases, dict) else {}).items():
        if version is not UNKNOWN and not _is_version(version):
            failures.append(Failure(f"aliases.{alias}", f"must be a version, 1 or more, not {version!r}"))
        if _is_registry(store) and not _is_alias(alias):
            failures.append(
                Failure(
                    f"aliases.{alias}",
                    f"is a tag in the registry: up to 128 letters, digits and _ . -, a letter, digit or _ first, no "
                    f"number alone, and not beginning with {PREFIX}",
                )
            )
    pinned = news.get("pinned")
    for index, version in enumerate(pinned if isinstance(pinned, list) else []):
        if version is not UNKNOWN and not _is_version(version):
            failures.append(Failure(f"pinned[{index}]", f"must be a version, 1 or more, not {version!r}"))
    return failures


def _is_version(value: object) -> bool:
    # Numbers in a map come from Pulumi as doubles.
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 1 and value == int(value)


def _is_alias(name: str) -> bool:
    return _TAG.fullmatch(name) is not None and not name.isdecimal() and not name.startswith(PREFIX)


def _is_registry(store: object) -> bool:
    return isinstance(store, str) and not store.startswith("/")


def _examine(context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
    """Reads the files and, where there is one, the record of a store on this machine. A registry is asked when there is
    something to do, so that an `up` without a change does not need it."""
    try:
        layer = layer_digest(Path(news["path"]), news["name"], DigestCache(), watch_of(context))
    except CancelledError as error:
        raise ResourceError(str(error)) from None
    except ContentError as error:
        return news, [Failure("path", str(error))]
    news = {**news, "contentDigest": layer.digest}
    if not is_known([news.get(name) for name in (*_DECIDING, "quotaBytes")]) or _is_registry(news["store"]):
        return news, []
    return news, _store_failures(context, news)


def _store_failures(context: Context, news: Properties) -> list[Failure]:
    request = _request(context, news)
    store = Store(Path(news["store"]))
    try:
        versions = store.foresee(request).versions
        store.check_room(request)
    except QuotaError as error:
        return [Failure("path", str(error))]
    except ContentError as error:
        return [Failure("store", str(error))]
    named = [(f"pinned[{index}]", version) for index, version in enumerate(news.get("pinned") or ())]
    named += [(f"aliases.{alias}", int(version)) for alias, version in (news.get("aliases") or {}).items()]
    return [
        Failure(
            path,
            f"version {version} of the model {request.name} is not in the store, which holds "
            f"{', '.join(versions) or 'none'}; name one of these",
        )
        for path, version in named
        if str(version) not in versions
    ]


# --- operations


def _request(context: Context, news: Properties) -> Request:
    return Request(
        name=news["name"],
        source=Path(news["path"]),
        layer_digest=news["contentDigest"],
        owner=owner_of(context.urn),
        metadata={name: news[name] for name in _METADATA if news.get(name) is not None},
        pinned=tuple(news.get("pinned") or ()),
        aliases={alias: int(version) for alias, version in (news.get("aliases") or {}).items()},
        keep=news.get("keepVersions"),
        quota_bytes=news.get("quotaBytes"),
    )


def _location(inputs: Properties) -> Location:
    return Location.of(inputs["store"], inputs)


def _store(news: Properties, state: Properties, watch: Watch) -> ModelStore:
    return _in_registry(news, state, watch) if _is_registry(news["store"]) else Store(Path(news["store"]))


def _in_registry(news: Properties, state: Properties, watch: Watch) -> RegistryModelStore:
    # Here, so that what stays on this machine does not wait for the import.
    from provider.registry.model_store import RegistryModelStore

    registry, history = _location(news).registry(watch), history_from(state.get("history") or {})
    arriving: Mapping[int, KnownVersion] = {}
    if _is_moving(news, state):
        held = {int(number) for number in state["versions"]}
        if not _is_registry(state["store"]):
            history = Store(Path(state["store"])).known(news["name"])
        arriving = {number: version for number, version in history.items() if number in held}
    return RegistryModelStore(registry, news["name"], history, arriving)


def _is_moving(news: Properties, state: Properties) -> bool:
    return "store" in state and state["store"] != news["store"]


def _outputs(news: Properties, registration: Registration) -> Properties:
    outputs = {
        **news,
        "version": registration.version,
        "digest": registration.digest,
        "size": registration.size,
        "versions": registration.versions,
        "sizes": registration.sizes,
    }
    if not _is_registry(news["store"]):
        return outputs
    return {**outputs, "history": json_of(registration.history), "repository": repository_of(news["name"])}


def _foresee(context: Context, news: Properties, state: Properties) -> Properties:
    if not is_known([news.get(name) for name in _DECIDING]):
        return {**news, **dict.fromkeys(_OUTPUTS, UNKNOWN)}
    if not is_known([news.get(name) for name in _ACCESS]):
        return _unasked(news, state)
    try:
        return _outputs(news, _store(news, state, watch_of(context)).foresee(_request(context, news)))
    except RegistryUnavailableError as error:
        context.log.warning(f"model {news['name']}: its versions are known only when it is deployed: {error}")
        return _unasked(news, state)


def _unasked(news: Properties, state: Properties) -> Properties:
    """Outputs of a preview that cannot ask the registry, which may be made by the same deployment. Where nothing
    has changed that decides on them, they do not change either."""
    decided = "version" in state and "drift" not in state
    if decided and all(state.get(name) == news.get(name) for name in _DECIDING if name not in _PLACE):
        kept = {name: state[name] for name in _OUTPUTS}
        return {**news, **kept, "history": state.get("history", UNKNOWN), "repository": repository_of(news["name"])}
    return {**news, **dict.fromkeys(_OUTPUTS, UNKNOWN), "history": UNKNOWN, "repository": repository_of(news["name"])}


def _register(context: Context, news: Properties, state: Properties) -> Properties:
    watch = watch_of(context)
    if _is_moving(news, state):
        return _move(context, news, state, watch)
    verify = state.get("contentDigest") != news["contentDigest"]
    return _outputs(news, _store(news, state, watch).register(_request(context, news), watch, verify=verify))


def _move(context: Context, news: Properties, state: Properties, watch: Watch) -> Properties:
    """Registers the model in another place, which is a registry, with all versions that the old place has."""
    before, owner = _location(state), owner_of(context.urn)
    store, gone = _in_registry(news, state, watch), before.gone(watch)
    if gone is None:
        with before.repository(repository_of(news["name"]), watch) as source:
            store.take_over(source, owner, watch)
    outputs = _outputs(news, store.register(_request(context, news), watch))
    try:
        if gone is None and not (
            _is_registry(state["store"])
            and store.is_in(before.registry(watch).repository(repository_of(news["name"])), owner)
        ):
            _store(state, state, watch).forget(news["name"], owner, watch)
    except ContentError as error:
        # The new place has everything; a deployment must not fail for ever because the old one cannot be reached.
        context.log.warning(f"model {news['name']}: what {state['store']} holds of it stays there: {error}")
    return outputs


def _read(context: Context, name: str, state: Properties) -> Properties | None:
    """The model as it is stored."""
    watch = watch_of(context)
    versions, sizes = state["versions"], state.get("sizes", {})
    history = history_from(state.get("history") or {})
    known = Registration(state["version"], state["digest"], state["size"], versions, sizes, history)
    found = _store(state, state, watch).inspect(name, owner_of(context.urn), known, watch)
    if not found.looked:
        context.log.warning(f"model {name} was not looked at: {found.problem}")
        return state
    if found.problem is not None:
        context.log.warning(f"model {name}: {found.problem}")
    if found.registration is None:
        return None
    others = {key: value for key, value in state.items() if key not in _METADATA or found.metadata is None}
    others.pop("drift", None)
    read = _outputs({**others, **(found.metadata or {})}, found.registration)
    if found.problem is not None:
        return {**read, "drift": found.problem}
    return {**read, "contentDigest": found.registration.versions[str(state["version"])]}


def _forget(context: Context, name: str, state: Properties) -> None:
    watch = watch_of(context)
    if (why := _location(state).gone(watch)) is not None:
        context.log.warning(f"model {name} is taken as gone: {why}")
        return
    _store(state, state, watch).forget(name, owner_of(context.urn), watch)
