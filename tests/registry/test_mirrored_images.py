"""`MirroredImage` from a layout and from a registry into a real registry, and what faults leave."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from provider.images.tags import mark_of
from provider.mirrored_image import MirroredImage
from provider.registry.client import Registry
from provider.resource import Context, Failure, ResourceError
from provider.values import UNKNOWN, Properties
from tests.operations import Lines, urn
from tests.registry.faulty_proxy import FaultyProxy, answers, cuts_download, cuts_upload, loses_answer
from tests.registry.registry_process import RegistryProcess
from tests.registry.support import MANIFEST, MIB, QUICK, Content, content, manifest_of, put

URN = urn("slipway:index:MirroredImage", "python")
INDEX = "application/vnd.oci.image.index.v1+json"


class Mirror:
    """A resource that copies an image of two layers into `target/<name>` of the registry behind the proxy."""

    def __init__(self, origin: Registry, proxy: FaultyProxy, name: str) -> None:
        self.origin, self.proxy, self.name = origin.repository(f"origin/{name}"), proxy, name
        self.layers = [content(2000, seed=len(name)), content(3000, seed=len(name) + 1)]
        for blob in self.layers:
            put(self.origin, blob)
        self.digest = self.origin.put_manifest("1", MANIFEST, manifest_of(*self.layers))
        self.resource, self.log = MirroredImage(), Lines()
        self.target = Registry(proxy.address).repository(f"target/{name}")

    def context(self, urn: str = URN, *, preview: bool = False) -> Context:
        return Context(urn, self.log, preview)

    def inputs(self, **more: Any) -> Properties:
        places = {"source": self.origin.reference.partition("/")[0], "registry": self.proxy.address}
        repositories = {"sourceRepository": f"origin/{self.name}", "repository": f"target/{self.name}"}
        return {**places, **repositories, "digest": self.digest, **more}

    def failures(self, **more: Any) -> list[Failure]:
        return asyncio.run(self.resource.check(self.context(), self.inputs(**more)))[1]

    def up(self, urn: str = URN, **more: Any) -> Properties:
        assert self.failures(**more) == []
        foreseen = asyncio.run(self.resource.create(self.context(urn, preview=True), self.inputs(**more)))[1]
        resource_id, state = asyncio.run(self.resource.create(self.context(urn), self.inputs(**more)))
        assert state == foreseen
        assert resource_id == state["reference"]
        return state

    def refresh(self, state: Properties, urn: str = URN) -> Properties | None:
        return asyncio.run(self.resource.read(self.context(urn), state["reference"], state))

    def down(self, state: Properties, urn: str = URN) -> None:
        asyncio.run(self.resource.delete(self.context(urn), state["reference"], state))

    def sent(self) -> int:
        return sum(request.received for request in self.proxy.asked("PUT", "/blobs/"))


@pytest.fixture
def other(tmp_path: Path) -> Any:
    """A second registry."""
    process = RegistryProcess(tmp_path / "other")
    try:
        process.start()
        yield process
    finally:
        process.stop()


@pytest.fixture
def mirror(other: RegistryProcess, proxy: FaultyProxy, name: str) -> Mirror:
    return Mirror(Registry(other.address), proxy, name)


def test_a_copy_is_named_as_it_will_be_pulled_and_whole(mirror: Mirror) -> None:
    state = mirror.up()
    assert state["reference"] == f"{mirror.proxy.address}/target/{mirror.name}@{mirror.digest}"
    assert mirror.target.get_manifest(mirror.digest) == mirror.origin.get_manifest(mirror.digest)
    assert mirror.refresh(state) == state
    assert mirror.log.lines == []


def test_a_copy_that_is_there_sends_nothing(mirror: Mirror) -> None:
    state, before = mirror.up(), mirror.sent()
    assert before == sum(layer.size for layer in mirror.layers)
    assert mirror.up() == state
    assert mirror.sent() == before


def test_within_a_registry_layers_are_taken_over(running: RegistryProcess, proxy: FaultyProxy, name: str) -> None:
    mirror = Mirror(Registry(running.address), proxy, name)
    mirror.up(source=proxy.address)
    assert mirror.sent() == 0
    assert len(proxy.asked("POST", "mount=")) == len(mirror.layers)


def test_an_index_comes_with_its_images_and_goes_with_them(mirror: Mirror) -> None:
    document = manifest_of(*mirror.layers)
    child = {"mediaType": MANIFEST, "digest": mirror.digest, "size": len(document)}
    listed = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]}
    index = mirror.origin.put_manifest("all", INDEX, json.dumps(listed).encode())
    state = mirror.up(digest=index)
    assert mirror.target.get_manifest(mirror.digest) is not None
    mirror.down(state)
    assert mirror.target.get_manifest(mirror.digest) is None
    assert mirror.target.tags() == []
    mirror.down(state)


def test_another_stack_s_copy_stays(mirror: Mirror) -> None:
    urn = URN.replace("dev", "test")
    first, second = mirror.up(), mirror.up(urn)
    mirror.down(first)
    assert mirror.target.tags() == [mark_of("test/slipway", "python", mirror.digest, mirror.proxy.address)]
    assert mirror.refresh(second, urn) == second
    mirror.down(second, urn)
    assert mirror.target.get_manifest(mirror.digest) is None


def test_a_tag_that_somebody_put_on_the_copy_keeps_it(mirror: Mirror) -> None:
    state = mirror.up()
    found = mirror.target.get_manifest(mirror.digest)
    assert found is not None
    mirror.target.put_manifest("theirs", *found)
    mirror.down(state)
    assert mirror.target.tags() == ["theirs"]


def test_a_registry_that_got_another_address_keeps_the_copy(mirror: Mirror) -> None:
    first = mirror.up()
    address = mirror.proxy.address.replace("127.0.0.1", "localhost")
    second = mirror.up(registry=address)
    mirror.down(first)
    assert mirror.refresh(second) == second
    mirror.down(second)
    assert mirror.target.get_manifest(mirror.digest) is None


def test_a_registry_on_this_machine_that_is_gone_has_nothing_to_be_removed_from(
    mirror: Mirror, other: RegistryProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provider.registry.client.Patience", lambda: QUICK)
    state = mirror.up(registry=other.address)
    other.stop()
    mirror.down(state)
    (line,) = mirror.log.lines
    assert line.startswith(f"{state['reference']} is taken as gone: could not reach it: ")
    with pytest.raises(ResourceError, match="cannot be reached"):
        mirror.down({**state, "registry": "registry.invalid"})


# --- drift


def test_a_copy_that_was_deleted_is_made_again(mirror: Mirror) -> None:
    state = mirror.up()
    mirror.target.delete_manifest(mirror.digest)
    assert mirror.refresh(state) is None
    assert mirror.log.lines == [f"{state['reference']}: it is gone; it will be copied again"]
    assert mirror.refresh(mirror.up()) == state


def test_a_layer_that_is_gone_is_copied_again(mirror: Mirror) -> None:
    state, lost = mirror.up(), mirror.layers[1]
    mirror.target.delete_blob(lost.digest)
    assert mirror.refresh(state) is None
    assert f"its blob {lost.digest} is gone" in mirror.log.lines[0]
    assert mirror.refresh(mirror.up()) == state


def test_a_tag_that_was_moved_is_put_back(mirror: Mirror) -> None:
    state = mirror.up()
    mirror.target.put_manifest(mirror.target.tags()[0], MANIFEST, manifest_of(mirror.layers[0]))
    assert mirror.refresh(state) is None
    assert "its tag slipway-" in mirror.log.lines[0]
    assert mirror.refresh(mirror.up()) == state


def test_a_registry_that_lets_nobody_in_is_no_drift(mirror: Mirror) -> None:
    state = mirror.up()
    mirror.proxy.when("GET", "/manifests/", answers(401, WWW_Authenticate="Basic realm=x"), times=100)
    assert mirror.refresh(state) == state
    assert "was not looked at" in mirror.log.lines[0]


# --- faults


def test_faults_on_the_way_are_got_over(mirror: Mirror) -> None:
    proxy = mirror.proxy
    proxy.when("POST", "/blobs/uploads/", answers(503))
    proxy.when("PUT", "/blobs/uploads/", cuts_upload(100))
    proxy.when("PUT", "/blobs/uploads/", loses_answer)
    proxy.when("PUT", "/manifests/", answers(429, Retry_After="0"))
    state = mirror.up()
    assert mirror.refresh(state) == state


def test_a_source_that_closes_in_the_middle_is_got_over(mirror: Mirror, other: RegistryProcess) -> None:
    with FaultyProxy(other.port) as before_source:
        before_source.when("GET", "/blobs/", cuts_download(500))
        state = mirror.up(source=before_source.address)
    assert mirror.refresh(state) == state


def test_an_image_that_is_not_there_is_told_by_its_repository(mirror: Mirror) -> None:
    absent = f"sha256:{'0' * 64}"
    with pytest.raises(ResourceError, match=rf"^the image target/.*@{absent}: {absent} is not there; correct the"):
        asyncio.run(mirror.resource.create(mirror.context(), mirror.inputs(digest=absent)))


def test_a_layer_that_the_source_lost_is_told_and_nothing_is_named(mirror: Mirror) -> None:
    lost = mirror.layers[1]
    mirror.origin.delete_blob(lost.digest)
    with pytest.raises(ResourceError, match=f"read the blob {lost.digest[:19]}.*does not hold it"):
        mirror.up()
    assert mirror.target.tags() == []


def test_a_large_layer_is_streamed(mirror: Mirror) -> None:
    large = content(32 * MIB, seed=510)
    put(mirror.origin, large)
    digest = mirror.origin.put_manifest("large", MANIFEST, manifest_of(large))
    state = mirror.up(digest=digest)
    with mirror.target.open_blob(large.digest) as blob:
        assert Content(blob.read()).digest == large.digest
    assert mirror.refresh(state) == state


# --- inputs


def test_how_it_is_reached_is_no_other_image(mirror: Mirror) -> None:
    state = mirror.up()
    changed = mirror.inputs(source="registry.example", username="u", password="p", parallel=6)
    assert [(change.path, change.replaces) for change in mirror.resource.diff(state, changed)] == [
        ("username", False),
        ("password", False),
    ]
    before = mirror.proxy.requests.copy()
    asyncio.run(mirror.resource.update(mirror.context(), state["reference"], state, changed))
    assert mirror.proxy.requests == before


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"digest": "latest"}, "must be an image's digest"),
        ({"repository": "Team/Python"}, "lower-case letters"),
        ({"registry": "user@registry.example"}, "holds a user name or a password"),
        ({"parallel": 0}, "must be at least 1"),
        ({"username": "u"}, "and password go together"),
    ],
)
def test_what_cannot_be_is_refused(mirror: Mirror, wrong: Properties, words: str) -> None:
    ((name, _),) = wrong.items()
    (failure,) = mirror.failures(**wrong)
    assert failure.property == name
    assert words in failure.reason


def test_what_is_not_known_yet_is_left_open(mirror: Mirror) -> None:
    unknown = mirror.inputs(registry=UNKNOWN, password=UNKNOWN, username="u")
    assert asyncio.run(mirror.resource.check(mirror.context(), unknown))[1] == []
    state = asyncio.run(mirror.resource.create(mirror.context(preview=True), unknown))[1]
    assert state["reference"] is UNKNOWN
