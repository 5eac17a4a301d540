"""`MirroredImage`: an image, or an index of images for several platforms, copied by digest from one place to another.

A copy is the same to the byte, so a digest is all that has to be compared. Where it comes from and how it is reached is
no part of it. How it is copied, and when it goes, is `provider.images.mirror`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, ParamSpec, TypeVar

from provider.content.errors import ContentError
from provider.content.names import DIGEST, REPOSITORY
from provider.image_layout import owner_of, watch_of
from provider.images import mirror
from provider.images.tags import mark_of
from provider.location import DEFAULT_PARALLEL, Location, place_problem, way_problems
from provider.registry.errors import RegistryDeniedError, RegistryUnavailableError
from provider.resource import Context, Failure, Input, Resource, ResourceError
from provider.values import UNKNOWN, Properties, is_known

P = ParamSpec("P")
T = TypeVar("T")


class MirroredImage(Resource):
    """See the module. Its id is its reference."""

    token: ClassVar[str] = "slipway:index:MirroredImage"
    inputs: ClassVar[Mapping[str, Input]] = {
        # An absolute path (an OCI image layout), or a registry's address.
        "source": Input("string", silent=True),
        "sourceRepository": Input("string", silent=True),
        "sourceUsername": Input("string", required=False, silent=True),
        "sourcePassword": Input("string", required=False, silent=True),
        "sourceCaCertificate": Input("string", required=False, silent=True),
        "digest": Input("string", replaces=True),
        # As `source`.
        "registry": Input("string", replaces=True),
        "repository": Input("string", replaces=True),
        # No part of the image: a change is taken over, and nothing is sent.
        "username": Input("string", required=False),
        "password": Input("string", required=False),
        "caCertificate": Input("string", required=False),
        # How a registry in a cluster is reached: `cluster`, `namespace`, `statefulSet` and `port`.
        "portForward": Input("map", required=False),
        "parallel": Input("integer", required=False, silent=True),
    }

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        return news, _failures(news)

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        outputs = {**news, "reference": _reference(news)}
        if context.preview:
            return "", outputs
        await _told(news, _copy, context, news)
        return outputs["reference"], outputs

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        return await _told(state, _read, context, state)

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        # Another image or place replaces this one: how it is reached is all that can have changed.
        return {**news, "reference": state["reference"]}

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        await _told(state, _remove, context, state)


async def _told(inputs: Properties, operation: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    try:
        return await asyncio.to_thread(operation, *arguments, **named)
    except ContentError as error:
        raise ResourceError(f"the image {inputs['repository']}@{inputs['digest']}: {error}") from None


def _copy(context: Context, news: Properties) -> None:
    origin, target, watch = _source(news), _target(news), watch_of(context)
    repository = news["sourceRepository"]
    with origin.repository(repository, watch) as source, target.repository(news["repository"], watch) as store:
        mirror.copy(
            source,
            store,
            news["digest"],
            _tag(context, news),
            mounted_from=repository if origin.place == target.place else None,
            watch=watch,
            parallel=target.parallel,
        )


def _read(context: Context, state: Properties) -> Properties | None:
    try:
        with _target(state).repository(state["repository"], watch_of(context)) as store:
            problem = mirror.missing(store, state["digest"], _tag(context, state))
    except (RegistryUnavailableError, RegistryDeniedError) as error:
        # The registry, or what opens it, may be mended by the same deployment; this is no sign that the image is gone.
        context.log.warning(f"{state['reference']} was not looked at: {error}")
        return state
    if problem is None:
        return state
    context.log.warning(f"{state['reference']}: {problem}; it will be copied again")
    return None


def _remove(context: Context, state: Properties) -> None:
    target, watch = _target(state), watch_of(context)
    if (why := target.gone(watch)) is not None:
        context.log.warning(f"{state['reference']} is taken as gone: {why}")
        return
    with target.repository(state["repository"], watch) as store:
        mirror.remove(store, state["digest"], _tag(context, state))


def _tag(context: Context, inputs: Properties) -> str:
    """The tag by which this resource keeps its image. With the place: a registry may get another address, and the copy
    under the old one is then removed after the one under the new was made."""
    return mark_of(owner_of(context.urn), context.name, inputs["digest"], inputs["registry"])


def _source(inputs: Properties) -> Location:
    if inputs["source"] == inputs["registry"] and inputs.get("sourceUsername") is None:
        return _target(inputs)
    return Location(
        inputs["source"],
        inputs.get("sourceUsername"),
        inputs.get("sourcePassword"),
        inputs.get("parallel", DEFAULT_PARALLEL),
        inputs.get("sourceCaCertificate"),
    )


def _target(inputs: Properties) -> Location:
    return Location.of(inputs["registry"], inputs)


def _reference(inputs: Properties) -> Any:
    if not is_known([inputs["registry"], inputs["repository"], inputs["digest"]]):
        return UNKNOWN
    return _target(inputs).reference(inputs["repository"], inputs["digest"])


def _failures(news: Properties) -> list[Failure]:
    failures = way_problems(news)
    failures += [
        Failure(name, f"must be parts of lower-case letters, digits and . _ - with / between, not {news[name]!r}")
        for name in ("repository", "sourceRepository")
        if news[name] is not UNKNOWN and not REPOSITORY.fullmatch(news[name])
    ]
    failures += [
        Failure(name, problem)
        for name in ("source", "registry")
        if news[name] is not UNKNOWN and (problem := place_problem(news[name])) is not None
    ]
    digest, parallel = news["digest"], news.get("parallel")
    if digest is not UNKNOWN and not DIGEST.fullmatch(digest):
        failures.append(
            Failure("digest", f"must be an image's digest, sha256: and 64 hexadecimal digits, not {digest!r}")
        )
    if isinstance(parallel, int) and parallel < 1:
        failures.append(Failure("parallel", f"must be at least 1, not {parallel}"))
    failures += [
        Failure(user, "and password go together: give both, or none")
        for user, password in (("username", "password"), ("sourceUsername", "sourcePassword"))
        if (news.get(user) is None) != (news.get(password) is None)
    ]
    return failures
