"""`ImageIndex`: one name for the images of several platforms."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from provider.content.watch import Watch
from provider.image_index import INDEX, ImageIndex
from provider.images.store import ImageLayoutStore
from provider.resource import Failure, ResourceError
from provider.values import UNKNOWN, Properties
from tests.operations import Lines, context
from tests.unit.images.support import push_base

RESOURCE = ImageIndex()
KIND = "slipway:index:ImageIndex"


@pytest.fixture
def inputs(tmp_path: Path) -> Properties:
    """Two images in the repository `base`."""
    return {
        "registry": str(tmp_path / "layout"),
        "repository": "base",
        "images": [
            {"platform": platform, "digest": push_base(tmp_path, platform), "revision": revision}
            for platform, revision in (("linux/arm64", "b" * 16), ("linux/amd64", "a" * 16))
        ],
    }


def checked(inputs: Properties) -> Properties:
    news, failures = asyncio.run(RESOURCE.check(context(KIND, "app"), inputs))
    assert failures == []
    return news


def created(inputs: Properties, **more: Any) -> Properties:
    return asyncio.run(RESOURCE.create(context(KIND, "app", **more), checked(inputs)))[1]


def stored(state: Properties) -> tuple[str, bytes] | None:
    with ImageLayoutStore(Path(state["registry"]), state["repository"], watch=Watch()) as store:
        return store.get_manifest(state["digest"])


def test_another_way_to_the_registry_is_taken_over(inputs: Properties) -> None:
    state = created(inputs)
    way = {"cluster": {}, "namespace": "demo-registry", "statefulSet": "slipway-registry", "port": 5000}
    news = checked({**inputs, "username": "ci", "password": "word", "portForward": way})

    after = asyncio.run(RESOURCE.update(context(KIND, "app"), state["reference"], state, news))

    assert after["digest"] == state["digest"]
    assert RESOURCE.diff(after, news) == []


def test_it_lists_an_image_for_each_platform(inputs: Properties) -> None:
    state = created(inputs)

    found = stored(state)
    assert found is not None
    assert found[0] == INDEX
    document = json.loads(found[1])
    arm, amd = inputs["images"]
    assert [(item["platform"], item["digest"]) for item in document["manifests"]] == [
        ({"architecture": "amd64", "os": "linux"}, amd["digest"]),
        ({"architecture": "arm64", "os": "linux"}, arm["digest"]),
    ]
    assert all(item["size"] > 0 for item in document["manifests"])
    assert state["reference"] == f"base@{state['digest']}"
    assert RESOURCE.diff(state, checked(inputs)) == []


def test_the_order_of_the_platforms_is_no_matter(inputs: Properties) -> None:
    first = created(inputs)
    second = created({**inputs, "images": inputs["images"][::-1]})
    assert (second["digest"], second["revision"]) == (first["digest"], first["revision"])


def test_a_preview_knows_what_can_be_known_and_stores_nothing(inputs: Properties) -> None:
    unmade = [{**image, "digest": UNKNOWN} for image in inputs["images"]]
    foreseen = created({**inputs, "images": unmade}, preview=True)

    assert foreseen["digest"] is UNKNOWN
    assert foreseen["revision"] == created(inputs)["revision"]
    changed = [{**image, "revision": UNKNOWN} for image in unmade]
    assert created({**inputs, "images": changed}, preview=True)["revision"] is UNKNOWN


def test_it_goes_alone_and_twice_is_fine(inputs: Properties) -> None:
    state = created(inputs)
    for _ in range(2):
        asyncio.run(RESOURCE.delete(context(KIND, "app"), state["reference"], state))

    assert stored(state) is None
    assert stored({**state, "digest": inputs["images"][0]["digest"]}) is not None


def test_one_that_is_gone_is_found_and_made_again(inputs: Properties) -> None:
    state, log = created(inputs), Lines()
    assert asyncio.run(RESOURCE.read(context(KIND, "app", log=log), state["reference"], state)) == state
    asyncio.run(RESOURCE.delete(context(KIND, "app"), state["reference"], state))

    assert asyncio.run(RESOURCE.read(context(KIND, "app", log=log), state["reference"], state)) is None
    assert log.warnings == [f"{state['reference']} is gone: it will be made again"]


def test_an_image_that_is_not_there_is_told(inputs: Properties) -> None:
    missing = {**inputs, "images": [{**inputs["images"][0], "digest": f"sha256:{'0' * 64}"}]}
    with pytest.raises(ResourceError, match=r"^the index of images in base: sha256:0+ is not there; run `pulumi up"):
        created(missing)


@pytest.mark.parametrize(
    ("images", "failure"),
    [
        ([], Failure("images", "is empty; name the images of at least one platform")),
        ([{"platform": "linux/amd64"}], Failure("images[0]", "needs platform, digest and revision")),
        (
            [{"platform": "linux/s390x", "digest": "d", "revision": "r"}],
            Failure("images[0].platform", "must be one of linux/amd64, linux/arm64"),
        ),
        (
            [{"platform": "linux/amd64", "digest": UNKNOWN, "revision": "r"}] * 2,
            Failure("images[1].platform", "linux/amd64 is there twice"),
        ),
        (
            [{"platform": "linux/amd64", "digest": "latest", "revision": "r"}],
            Failure("images[0].digest", "'latest' is no sha256 digest"),
        ),
    ],
)
def test_what_is_no_index(inputs: Properties, images: Any, failure: Failure) -> None:
    _, failures = asyncio.run(RESOURCE.check(context(KIND, "app"), {**inputs, "images": images}))
    assert failures == [failure]
