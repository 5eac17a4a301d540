"""A model whose store becomes another one: what a registry takes over, and what stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provider.content.store import Store
from provider.registry.client import Registry
from provider.resource import ResourceError
from provider.values import UNKNOWN
from tests.registry.faulty_proxy import FaultyProxy, answers, cuts_upload
from tests.registry.models import ModelStack
from tests.registry.registry_process import RegistryProcess
from tests.registry.support import MANIFEST, QUICK, content, manifest_of, put


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr("provider.registry.client.Patience", lambda: QUICK)


@pytest.fixture
def address(proxy: FaultyProxy, name: str) -> str:
    return f"{proxy.address}/{name}"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[RegistryProcess]:
    process = RegistryProcess(tmp_path / "other")
    try:
        process.start()
        yield process
    finally:
        process.stop()


def three_versions(tmp_path: Path, store: str) -> ModelStack:
    """A model with the versions 1 to 3, of which the second is current."""
    stack = ModelStack(tmp_path, store)
    for data in (b"first", b"second", b"third", b"second"):
        stack.up(data, tags={"area": "mnist"})
    assert stack.state["version"] == 2
    return stack


def moved(stack: ModelStack, address: str) -> None:
    before = stack.state
    stack.address = address
    changes = stack.changes(tags={"area": "mnist"})
    assert [(change.path, change.replaces) for change in changes] == [("store", False)]
    stack.up(tags={"area": "mnist"})
    for name in ("version", "digest", "versions", "sizes", "contentDigest", "tags"):
        assert stack.state[name] == before[name]
    assert stack.changes(tags={"area": "mnist"}) == []


def test_from_this_machine_all_versions_come_under_their_numbers(tmp_path: Path, address: str) -> None:
    stack = three_versions(tmp_path, str(tmp_path / "layout"))
    moved(stack, address)
    assert stack.tags() == ["1", "2", "3"]
    assert stack.log.lines == []
    assert stack.refresh() == stack.state
    assert Store(tmp_path / "layout").record().models["mnist"].held == {}
    assert stack.up(b"fourth")["version"] == 4


def test_to_a_registry_that_is_made_by_the_same_deployment_nothing_seems_to_change(tmp_path: Path) -> None:
    stack = three_versions(tmp_path, str(tmp_path / "layout"))
    stack.address = "127.0.0.1:5000"
    foreseen = stack.preview(tags={"area": "mnist"}, username=UNKNOWN, password=UNKNOWN)
    assert [foreseen[name] for name in ("version", "versions")] == [
        stack.state[name] for name in ("version", "versions")
    ]


def test_from_another_registry_too(tmp_path: Path, address: str, other: RegistryProcess) -> None:
    stack = three_versions(tmp_path, other.address)
    before = stack.repository
    moved(stack, address)
    assert stack.refresh() == stack.state
    assert before.tags() == []
    assert stack.log.lines == []


def test_a_registry_that_got_another_address_keeps_everything(tmp_path: Path, address: str, proxy: FaultyProxy) -> None:
    stack = three_versions(tmp_path, address)
    before = sum(request.received for request in proxy.asked("PUT", "/blobs/"))
    moved(stack, address.replace("127.0.0.1", "localhost"))
    assert sum(request.received for request in proxy.asked("PUT", "/blobs/")) - before < 10
    assert stack.refresh() == stack.state
    assert len(stack.repository.tags()) == 4
    stack.down()
    assert stack.repository.tags() == []


def test_a_registry_on_this_machine_that_got_another_port_keeps_everything(
    tmp_path: Path, other: RegistryProcess
) -> None:
    with FaultyProxy(other.port) as first:
        stack = three_versions(tmp_path, first.address)
    with FaultyProxy(other.port) as second:
        moved(stack, second.address)
        assert stack.refresh() == stack.state


def test_an_old_registry_that_is_away_is_no_obstacle(tmp_path: Path, address: str, other: RegistryProcess) -> None:
    stack = ModelStack(tmp_path, other.address)
    stack.up(b"first")
    stack.up(b"second")
    other.stop()
    stack.address = address
    stack.deploy()
    assert stack.state["version"] == 2
    assert set(stack.state["versions"]) == {"2"}


def test_an_old_registry_that_refuses_is_told(tmp_path: Path, address: str, other: RegistryProcess) -> None:
    with FaultyProxy(other.port) as before:
        stack = ModelStack(tmp_path, before.address)
        stack.up(b"first")
        before.when("DELETE", "", answers(403), times=100)
        stack.address = address
        stack.deploy()
        assert stack.log.lines[0].startswith(f"model mnist: what {before.address} holds of it stays there: could not")
    assert stack.tags() == ["1"]


def test_a_number_that_is_taken_there_stays_behind(tmp_path: Path, address: str) -> None:
    stack = three_versions(tmp_path, str(tmp_path / "layout"))
    other = ModelStack(tmp_path, address, "test")
    other.up(b"other")
    blob = content(10)
    put(other.repository, blob)
    other.repository.put_manifest("2", MANIFEST, manifest_of(blob))
    stack.address = address
    stack.up()
    assert stack.state["version"] == 4
    assert set(stack.state["versions"]) == {"1", "3", "4"}
    assert stack.state["versions"]["1"] == other.state["contentDigest"]
    assert [line.partition(":")[0] for line in stack.log.lines] == ["version 1 stays behind", "version 2 stays behind"]


def test_what_was_cut_off_in_the_middle_is_gone_on_with(tmp_path: Path, address: str, proxy: FaultyProxy) -> None:
    stack = three_versions(tmp_path, str(tmp_path / "layout"))
    stack.address = address
    fault = proxy.when("PUT", "/manifests/2$", answers(403), times=100)
    with pytest.raises(ResourceError, match="does not allow it"):
        stack.deploy()
    fault.times = 0
    proxy.when("PUT", "/blobs/", cuts_upload(100))
    stack.deploy()
    assert stack.tags() == ["1", "2", "3"]
    assert Store(tmp_path / "layout").record().models["mnist"].held == {}


def test_a_registry_on_this_machine_that_is_gone_has_nothing_to_be_removed_from(
    tmp_path: Path, other: RegistryProcess
) -> None:
    stack = ModelStack(tmp_path, other.address)
    state = stack.up()
    other.stop()
    stack.down()
    assert stack.log.lines[0].startswith("model mnist is taken as gone: could not reach it: ")
    stack.state = {**state, "store": "registry.invalid"}
    with pytest.raises(ResourceError, match="cannot be reached"):
        stack.down()


def test_back_to_this_machine_is_a_new_beginning(tmp_path: Path, address: str) -> None:
    stack = ModelStack(tmp_path, address)
    stack.up()
    stack.address = str(tmp_path / "layout")
    assert [(change.path, change.replaces) for change in stack.changes()] == [("store", True)]


def test_nothing_of_the_question_whether_it_is_the_same_stays(tmp_path: Path, address: str) -> None:
    stack = ModelStack(tmp_path, address)
    stack.up()
    before = stack.repository.tags()
    stack.address = address.replace("127.0.0.1", "localhost")
    stack.up()
    assert Registry(address).repository("models/mnist").tags() == before
