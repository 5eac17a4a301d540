"""`ModelVersion`: the files of a model as an immutable, content-addressed artifact in the workspace's store.

One resource a model name. `check` reads the files and names them by the digest of their layer; a change of content
adds a version in place, and the same content is the same version again. Metadata changes in place and makes no
version. How files become a layer and where versions are kept is `provider.content`'s.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, ParamSpec, TypeVar

from provider.content.cache import DigestCache
from provider.content.errors import CancelledError, ContentError
from provider.content.layer import layer_digest
from provider.content.store import QuotaError, Registration, Request, Store
from provider.image_layout import owner_of, watch_of
from provider.resource import Context, Failure, Input, Resource, ResourceError
from provider.values import UNKNOWN, Properties, is_known

P = ParamSpec("P")
T = TypeVar("T")

_METADATA = ("framework", "frameworkVersion", "description", "tags", "properties", "sampleInput", "sampleOutput")
# What the outputs follow from.
_DECIDING = ("store", "name", "path", "contentDigest", "keepVersions", "pinned", "aliases")
# A part of a path in the layer, of a tag in the index and of a repository's name later on.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class ModelVersion(Resource):
    """See the module. Its id is the model's name."""

    token: ClassVar[str] = "slipway:index:ModelVersion"
    inputs: ClassVar[Mapping[str, Input]] = {
        # An absolute path (an OCI image layout), or a registry's address.
        "store": Input("string", replaces=True),
        # No part of the model: a change is taken over, and nothing is sent.
        "username": Input("string", required=False),
        "password": Input("string", required=False),
        "caCertificate": Input("string", required=False),
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

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        name = news["name"]
        if context.preview:
            return ("" if name is UNKNOWN else name), await _told(name, _foresee, context, news)
        return name, await _told(name, _register, context, news, True)

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        return await _told(resource_id, _read, context, resource_id, state)

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        if context.preview:
            return await _told(resource_id, _foresee, context, news)
        verify = state.get("contentDigest") != news["contentDigest"]
        return await _told(resource_id, _register, context, news, verify)

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
    failures = []
    for name in ("store", "path"):
        if news[name] is not UNKNOWN and not news[name].startswith("/"):
            failures.append(Failure(name, f"must be an absolute path, not {news[name]!r}"))
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
    for name, lowest in (("keepVersions", 1), ("quotaBytes", 0)):
        value = news.get(name)
        if isinstance(value, int) and value < lowest:
            failures.append(Failure(name, f"must be at least {lowest}, not {value}"))
    aliases = news.get("aliases")
    for alias, version in (aliases if isinstance(aliases, dict) else {}).items():
        if version is not UNKNOWN and not _is_version(version):
            failures.append(Failure(f"aliases.{alias}", f"must be a version, 1 or more, not {version!r}"))
    pinned = news.get("pinned")
    for index, version in enumerate(pinned if isinstance(pinned, list) else []):
        if version is not UNKNOWN and not _is_version(version):
            failures.append(Failure(f"pinned[{index}]", f"must be a version, 1 or more, not {version!r}"))
    return failures


def _is_version(value: object) -> bool:
    # Numbers in a map come from Pulumi as doubles.
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 1 and value == int(value)


def _examine(context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
    """Reads the files and, where there is one, the store's record."""
    try:
        layer = layer_digest(Path(news["path"]), news["name"], DigestCache(), watch_of(context))
    except CancelledError as error:
        raise ResourceError(str(error)) from None
    except ContentError as error:
        return news, [Failure("path", str(error))]
    news = {**news, "contentDigest": layer.digest}
    if not is_known([news.get(name) for name in (*_DECIDING, "quotaBytes")]):
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


def _outputs(news: Properties, registration: Registration) -> Properties:
    return {
        **news,
        "version": registration.version,
        "digest": registration.digest,
        "size": registration.size,
        "versions": registration.versions,
        "sizes": registration.sizes,
    }


def _foresee(context: Context, news: Properties) -> Properties:
    if not is_known([news.get(name) for name in _DECIDING]):
        return {**news, "version": UNKNOWN, "digest": UNKNOWN, "size": UNKNOWN, "versions": UNKNOWN, "sizes": UNKNOWN}
    return _outputs(news, Store(Path(news["store"])).foresee(_request(context, news)))


def _register(context: Context, news: Properties, verify: bool) -> Properties:
    registration = Store(Path(news["store"])).register(_request(context, news), watch_of(context), verify=verify)
    return _outputs(news, registration)


def _read(context: Context, name: str, state: Properties) -> Properties | None:
    """The model as it is stored. Damage of its current version is found here, also by its bytes where a file of the
    store was touched since they were last seen."""
    store = Store(Path(state["store"]))
    model = store.record().models.get(name)
    damage = store.damage(name, state["version"], watch_of(context))
    if model is None or damage is not None:
        context.log.warning(f"model {name}: {damage}; it is taken as gone, so that the next `up` registers it anew")
        return None
    held = model.held[state["version"]]
    sound = {
        str(number): version.layer
        for number, version in sorted(model.held.items())
        if all(store.layout.has(blob) for blob in version.blobs())
    }
    others = {name: value for name, value in state.items() if name not in _METADATA}
    return {
        **others,
        **held.metadata,
        "contentDigest": held.layer.digest,
        "digest": held.manifest.digest,
        "size": held.layer.size,
        "versions": {number: layer.digest for number, layer in sound.items()},
        "sizes": {number: layer.size for number, layer in sound.items()},
    }


def _forget(context: Context, name: str, state: Properties) -> None:
    Store(Path(state["store"])).forget(name, owner_of(context.urn), watch_of(context))
