"""`ImageIndex`: one name for the images of several platforms, an index of the OCI image specification (image-index.md).

It lists images that are in its own repository already, and holds nothing of them: they come and go by themselves, after
the last index that lists them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, ParamSpec, TypeVar

from provider.content.errors import ContentError, CorruptBlobError
from provider.content.names import DIGEST
from provider.image_layout import watch_of
from provider.images.environment import PLATFORMS
from provider.location import Location, way_problems
from provider.registry.errors import RegistryDeniedError, RegistryUnavailableError
from provider.resource import Context, Failure, Input, Resource, ResourceError
from provider.values import UNKNOWN, Properties, is_known

P = ParamSpec("P")
T = TypeVar("T")

INDEX = "application/vnd.oci.image.index.v1+json"


class ImageIndex(Resource):
    """See the module. Its id is its reference."""

    token: ClassVar[str] = "slipway:index:ImageIndex"
    inputs: ClassVar[Mapping[str, Input]] = {
        # An absolute path (an OCI image layout), or a registry's address.
        "registry": Input("string", replaces=True),
        "repository": Input("string", replaces=True),
        # `platform`, `digest` and `revision` of each.
        "images": Input("list", replaces=True),
        # No part of the index: a change is taken over, and nothing is sent.
        "username": Input("string", required=False),
        "password": Input("string", required=False),
        "caCertificate": Input("string", required=False),
        # How a registry in a cluster is reached: `cluster`, `namespace`, `statefulSet` and `port`.
        "portForward": Input("map", required=False),
        "parallel": Input("integer", required=False, silent=True),
    }
    secrets: ClassVar[Collection[str]] = ("password",)

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        return news, _failures(news)

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        if context.preview:
            return "", {**news, "digest": UNKNOWN, "reference": UNKNOWN, "revision": _revision(news)}
        outputs = await _told(news, _create, context, news)
        return str(outputs["reference"]), outputs

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        return await _told(state, _read, context, state)

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        # Another index or place replaces this one: how it is reached is all that can have changed.
        return {**news, **{name: state[name] for name in ("digest", "reference", "revision")}}

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        await _told(state, _delete, context, state)


async def _told(inputs: Properties, operation: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    try:
        return await asyncio.to_thread(operation, *arguments, **named)
    except ContentError as error:
        raise ResourceError(f"the index of images in {inputs['repository']}: {error}") from None


def _create(context: Context, news: Properties) -> Properties:
    location, revision = _location(news), _revision(news)
    with location.repository(news["repository"], watch_of(context)) as store:
        manifests = []
        for image in sorted(news["images"], key=lambda image: str(image["platform"])):
            found = store.get_manifest(image["digest"])
            if found is None:
                raise ContentError(f"{image['digest']} is not there; run `pulumi up --refresh`, which stores it again")
            system, _, architecture = image["platform"].partition("/")
            manifests.append(
                {
                    "mediaType": found[0],
                    "digest": image["digest"],
                    "size": len(found[1]),
                    "platform": {"architecture": architecture, "os": system},
                }
            )
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        content = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        digest = store.put_manifest(revision, INDEX, content)
    return {
        **news,
        "digest": digest,
        "reference": location.reference(news["repository"], digest),
        "revision": revision,
    }


def _read(context: Context, state: Properties) -> Properties | None:
    try:
        with _location(state).repository(state["repository"], watch_of(context)) as store:
            found = store.get_manifest(state["digest"])
    except (RegistryUnavailableError, RegistryDeniedError) as error:
        # The registry, or what opens it, may be mended by the same deployment; this is no sign that the index is gone.
        context.log.warning(f"{state['reference']} was not looked at: {error}")
        return state
    except CorruptBlobError as error:
        context.log.warning(f"{state['reference']} is damaged and will be made again ({error})")
        return None
    if found is None:
        context.log.warning(f"{state['reference']} is gone: it will be made again")
        return None
    return state


def _delete(context: Context, state: Properties) -> None:
    with _location(state).repository(state["repository"], watch_of(context)) as store:
        store.delete_manifest(state["digest"])


def _location(inputs: Properties) -> Location:
    return Location.of(inputs["registry"], inputs)


def _revision(news: Properties) -> Any:
    """Names what the images are made from: 16 hexadecimal digits."""
    images = news["images"]
    # In a preview their digests may be unknown, and what they are made from is known.
    if (
        images is UNKNOWN
        or UNKNOWN in images
        or not is_known([[image["platform"], image["revision"]] for image in images])
    ):
        return UNKNOWN
    identity = sorted([image["platform"], image["revision"]] for image in images)
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def _failures(news: Properties) -> list[Failure]:
    failures = way_problems(news)
    if (news.get("username") is None) != (news.get("password") is None):
        failures.append(Failure("username", "and password go together: give both, or none"))
    images = news["images"] if news["images"] is not UNKNOWN else []
    platforms = [image.get("platform") for image in images if isinstance(image, dict)]
    for index, image in enumerate(images):
        path = f"images[{index}]"
        if image is UNKNOWN:
            continue
        if not isinstance(image, dict) or not {"platform", "digest", "revision"} <= image.keys():
            failures.append(Failure(path, "needs platform, digest and revision"))
        elif image["platform"] not in PLATFORMS:
            failures.append(Failure(f"{path}.platform", f"must be one of {', '.join(PLATFORMS)}"))
        elif platforms.index(image["platform"]) < index:
            failures.append(Failure(f"{path}.platform", f"{image['platform']} is there twice"))
        elif image["digest"] is not UNKNOWN and not DIGEST.fullmatch(str(image["digest"])):
            failures.append(Failure(f"{path}.digest", f"{image['digest']!r} is no sha256 digest"))
    if not images and news["images"] is not UNKNOWN:
        failures.append(Failure("images", "is empty; name the images of at least one platform"))
    return failures
