"""`ModelVersion` with a real registry as its store."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oras.client
import pytest

from provider.content.modelpack import Blob, artifact
from provider.content.store import Request, Store
from provider.registry.client import Registry
from provider.registry.model_record import StackRecord, record_from, repository_of, tag_of
from provider.resource import ResourceError
from provider.values import UNKNOWN
from tests.registry.faulty_proxy import FaultyProxy, Handler
from tests.registry.models import ModelStack
from tests.registry.registry_process import RegistryProcess
from tests.registry.support import MANIFEST, MIB, content, manifest_of, put


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


@pytest.fixture
def stack(tmp_path: Path, proxy: FaultyProxy, name: str) -> ModelStack:
    return ModelStack(tmp_path, f"{proxy.address}/{name}")


@pytest.fixture
def other(tmp_path: Path, stack: ModelStack) -> ModelStack:
    """Another stack with the same model name in the same place."""
    return ModelStack(tmp_path, stack.address, "test")


def sent(proxy: FaultyProxy) -> int:
    """Bytes of blobs."""
    return sum(request.received for method in ("PUT", "PATCH") for request in proxy.asked(method, "/blobs/"))


# --- registering


def test_a_model_is_the_same_artifact_as_in_a_layout_under_its_version(stack: ModelStack, tmp_path: Path) -> None:
    state = stack.up()
    store = Store(tmp_path / "layout")
    kept = store.register(Request("mnist", stack.source, state["contentDigest"], "dev/p"))
    assert state["digest"] == kept.digest == stack.version_of("1")
    assert (state["version"], state["versions"], state["sizes"]) == (1, kept.versions, kept.sizes)
    assert state["repository"] == "models/mnist"
    assert stack.tags() == ["1"]


def test_the_same_again_asks_for_nothing(stack: ModelStack, proxy: FaultyProxy) -> None:
    state = stack.up(tags={"area": "mnist"})
    before = len(proxy.requests)
    assert stack.changes(tags={"area": "mnist"}) == []
    assert len(proxy.requests) == before
    assert stack.refresh() == state
    assert stack.log.lines == []


def test_changed_content_is_the_next_version_and_what_comes_back_is_what_it_was(
    stack: ModelStack, proxy: FaultyProxy
) -> None:
    stack.up(b"first")
    second = stack.up(b"second")
    before = sent(proxy)
    third = stack.up(b"first")
    assert (second["version"], third["version"]) == (2, 1)
    assert third["versions"] == second["versions"]
    assert sent(proxy) - before < 10  # the stack's record, which is empty as a blob
    assert stack.tags() == ["1", "2"]


def test_metadata_and_access_change_in_place_and_send_nothing(stack: ModelStack, proxy: FaultyProxy) -> None:
    first = stack.up(tags={"area": "mnist"})
    before = sent(proxy)
    changed = {"tags": {"area": "digits"}, "username": "u", "password": "p"}
    assert {change.path for change in stack.changes(**changed)} == {"tags.area", "username", "password"}
    second = stack.up(**changed)
    assert sent(proxy) == before
    assert (second["digest"], second["tags"], second["password"]) == (first["digest"], {"area": "digits"}, "p")


def test_a_large_model_goes_up_from_its_files_without_a_copy(
    stack: ModelStack, tmp_path: Path, proxy: FaultyProxy
) -> None:
    large = content(16 * MIB, seed=600)
    state = stack.up(large.data)
    with stack.repository.open_blob(state["contentDigest"]) as blob:
        tar = io.BytesIO(blob.read())
    with tarfile.open(fileobj=tar) as archive:
        file = archive.extractfile("models/mnist/weights.bin")
        assert file is not None
        assert file.read() == large.data
    here = [path for path in (tmp_path / "caches").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in here) < 10_000


def test_a_name_that_no_repository_can_have_gets_one_like_it(stack: ModelStack, tmp_path: Path) -> None:
    named = ModelStack(tmp_path, stack.address, "named", "MNIST_v2.")
    state = named.up()
    assert state["repository"].startswith("models/mnist-v2-")
    assert Registry(stack.address).repository(state["repository"]).tags()[0] == "1"
    assert repository_of("mnist.v2") == "models/mnist.v2"
    assert repository_of("Mnist") != repository_of("mnist")


# --- another machine, another stack


def test_a_machine_that_has_never_seen_the_model_goes_on_counting(
    stack: ModelStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: FaultyProxy
) -> None:
    stack.up(b"first")
    stack.up(b"second")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    before = sent(proxy)
    machine = ModelStack(tmp_path / "machine", stack.address)
    assert machine.up(b"second")["version"] == 2
    assert sent(proxy) - before < 10
    assert machine.up(b"third")["version"] == 3
    assert set(machine.state["versions"]) == {"1", "2", "3"}


def test_a_state_that_was_lost_finds_even_versions_that_went(stack: ModelStack) -> None:
    for data in (b"first", b"second", b"third"):
        stack.up(data, keepVersions=1)
    assert stack.tags() == ["3"]
    stack.state = {}
    assert stack.up(b"first", keepVersions=1)["version"] == 1
    assert stack.tags() == ["1", "3"]


def test_a_registry_that_was_emptied_gets_the_versions_they_were(stack: ModelStack, tmp_path: Path) -> None:
    stack.up(b"first")
    stack.up(b"second")
    elsewhere = {**stack.state, "store": f"{stack.address}/moved"}
    stack.address, stack.state = f"{stack.address}/moved", elsewhere
    stack.refresh()
    assert [change.path for change in stack.changes()] == ["drift"]
    assert stack.up()["version"] == 2
    assert stack.tags() == ["2"]


def test_two_stacks_share_what_is_the_same(stack: ModelStack, other: ModelStack, proxy: FaultyProxy) -> None:
    stack.up(b"first")
    before = sent(proxy)
    assert other.up(b"first")["version"] == 1
    assert sent(proxy) - before < 10
    assert other.up(b"second")["version"] == 2
    assert stack.up(b"third")["version"] == 3


def test_a_version_of_other_tools_counts_and_is_left_to_them(stack: ModelStack) -> None:
    layer = content(2048, seed=610)
    documents = artifact("mnist", Blob(layer.digest, layer.size), "models/mnist/weights.bin")
    put(stack.repository, layer)
    config = documents.config_blob
    stack.repository.put_blob(config.digest, config.size, lambda: io.BytesIO(documents.config))
    stack.repository.put_manifest("4", MANIFEST, documents.manifest)
    state = stack.up(keepVersions=1)
    assert state["version"] == 5
    assert state["versions"]["4"] == layer.digest
    stack.down()
    assert stack.repository.tags() == ["4"]


def test_a_number_that_somebody_uses_for_something_else_is_passed_over(stack: ModelStack) -> None:
    blob = content(100, seed=611)
    put(stack.repository, blob)
    stack.repository.put_manifest("7", MANIFEST, manifest_of(blob))
    state = stack.up()
    assert state["version"] == 8
    assert set(state["versions"]) == {"8"}


# --- at once


def meanwhile(work: Callable[[], Any]) -> Callable[[Handler], None]:
    """Does something before a request goes on."""

    def act(handler: Handler) -> None:
        work()
        handler.forward()

    return act


def test_who_claims_a_number_second_steps_back(stack: ModelStack, other: ModelStack, proxy: FaultyProxy) -> None:
    stack.source.write_bytes(b"first")
    other.source.write_bytes(b"second")
    news = stack.checked()
    # The other one is done between this one's looking at the versions and its own claim.
    proxy.when("PUT", "/manifests/slipway-", meanwhile(other.deploy))
    state = asyncio.run(stack.resource.create(stack.context(), news))[1]
    assert (other.state["version"], state["version"]) == (1, 2)
    assert stack.version_of("1") == other.state["digest"]
    assert stack.version_of("2") == state["digest"]


def test_who_finds_the_other_s_claim_waits_for_its_tag(
    stack: ModelStack, other: ModelStack, proxy: FaultyProxy
) -> None:
    stack.source.write_bytes(b"first")
    other.source.write_bytes(b"second")
    # This one has claimed and seen nobody; the other one comes before its tag is there.
    proxy.when("PUT", "/manifests/1$", meanwhile(other.deploy))
    state = asyncio.run(stack.resource.create(stack.context(), stack.checked()))[1]
    assert (state["version"], other.state["version"]) == (1, 2)
    assert [stack.version_of("1"), stack.version_of("2")] == [state["digest"], other.state["digest"]]


def test_two_that_see_each_other_both_step_back_and_come_again(
    stack: ModelStack, other: ModelStack, proxy: FaultyProxy
) -> None:
    other.source.write_bytes(b"second")
    together = threading.Barrier(2, timeout=180)
    # Both look at once, so that they claim the same number, and both have claimed it before either looks again.
    proxy.when("GET", "/tags/list", meanwhile(together.wait), times=4)
    thread = threading.Thread(target=other.deploy)
    thread.start()
    stack.deploy()
    thread.join()
    assert {stack.state["version"], other.state["version"]} == {1, 2}
    for done in (stack, other):
        assert stack.version_of(str(done.state["version"])) == done.state["digest"]


def test_ups_at_once_get_versions_of_their_own(stack: ModelStack, tmp_path: Path) -> None:
    stacks = [ModelStack(tmp_path / "crowd", stack.address, f"stack{number}") for number in range(5)]
    errors: list[BaseException] = []

    def deploy(number: int) -> None:
        try:
            stacks[number].source.write_bytes(f"content {number // 2}".encode())
            stacks[number].deploy()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=deploy, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    by_version = {item.state["version"]: item.state["digest"] for item in stacks}
    assert len(by_version) == len(set(by_version.values())) == 3
    assert {version: stack.version_of(str(version)) for version in by_version} == by_version


def test_a_version_that_another_stack_begins_to_need_is_not_lost(
    stack: ModelStack, other: ModelStack, proxy: FaultyProxy
) -> None:
    stack.up(b"first")
    other.source.write_bytes(b"first")
    stack.source.write_bytes(b"second")
    proxy.when("DELETE", "/manifests/", meanwhile(other.deploy), times=1)
    stack.deploy(keepVersions=1)
    other.refresh()
    assert "drift" not in other.state
    assert stack.version_of("1") == other.state["digest"]


# --- what stays, and what goes


def test_old_versions_go_unless_they_are_needed(stack: ModelStack) -> None:
    stack.up(b"1")
    for data in (b"2", b"3", b"4"):
        state = stack.up(data, keepVersions=1, pinned=[1], aliases={"champion": 2} if data != b"2" else {})
    assert set(state["versions"]) == {"1", "2", "4"}
    assert stack.tags() == ["1", "2", "4", "champion"]


def test_what_another_stack_needs_is_not_pruned(stack: ModelStack, other: ModelStack) -> None:
    stack.up(b"first")
    other.up(b"first")
    stack.up(b"second", keepVersions=1)
    assert stack.tags() == ["1", "2"]


def test_a_change_of_what_is_pinned_alone_is_told_to_the_registry(stack: ModelStack, other: ModelStack) -> None:
    stack.up(b"first")
    stack.up(b"second")
    assert [change.path for change in stack.changes(pinned=[1])] == ["pinned"]
    stack.up(pinned=[1])
    other.up(b"third", keepVersions=1)
    assert stack.tags() == ["1", "2", "3"]


@pytest.mark.parametrize("named", [{"pinned": [3]}, {"aliases": {"champion": 3}}])
def test_a_version_that_is_not_there_is_refused_in_a_preview(stack: ModelStack, named: dict[str, Any]) -> None:
    stack.up()
    what = "is pinned" if "pinned" in named else "has the alias champion"
    with pytest.raises(ResourceError, match=f"^model mnist: version 3 {what}, but is not in .*, which holds 1;"):
        stack.preview(**named)


def test_an_alias_is_a_tag_that_moves_and_goes(stack: ModelStack) -> None:
    stack.up(b"first", aliases={"champion": 1})
    stack.up(b"second", aliases={"champion": 1, "latest": 2.0})
    assert stack.version_of("champion") == stack.version_of("1")
    stack.up(aliases={"champion": 2})
    assert stack.version_of("champion") == stack.version_of("2")
    assert stack.tags() == ["1", "2", "champion"]
    assert stack.log.lines == []


def test_an_alias_that_stacks_do_not_agree_on_names_none(stack: ModelStack, other: ModelStack) -> None:
    stack.up(b"first", aliases={"champion": 1})
    other.up(b"second", aliases={"champion": 2})
    assert stack.tags() == ["1", "2"]
    assert other.log.lines == ["the alias champion is another version's in another stack: it names none now"]
    stack.refresh()
    assert "drift" not in stack.state
    other.up()
    stack.up(aliases={"champion": 1, "best": 2})
    assert stack.version_of("champion") == stack.version_of("1")


def test_deleting_leaves_nothing(stack: ModelStack) -> None:
    stack.up(b"first", aliases={"champion": 1})
    stack.up(b"second", aliases={"champion": 1})
    digests = [stack.version_of("1"), stack.version_of("2")]
    stack.down()
    repository = stack.repository
    assert repository.tags() == []
    assert [repository.get_manifest(str(digest)) for digest in digests] == [None, None]
    stack.state = {"store": stack.address, "name": "mnist"}
    stack.down()


def test_deleting_leaves_what_another_stack_knows(stack: ModelStack, other: ModelStack) -> None:
    stack.up(b"first", aliases={"champion": 1})
    other.up(b"second")
    stack.up(b"third", aliases={"champion": 1})
    stack.down()
    assert other.tags() == ["1", "2"]
    other.refresh()
    assert "drift" not in other.state
    other.down()
    assert other.repository.tags() == []


def test_what_somebody_put_a_tag_on_stays(stack: ModelStack) -> None:
    stack.up()
    found = stack.repository.get_manifest("1")
    assert found is not None
    stack.repository.put_manifest("release", *found)
    stack.down()
    assert stack.log.lines == ["version 1 stays: the tag release names it"]
    assert stack.repository.tags() == ["1", "release"]


# --- reading


def test_oras_pulls_the_same_bytes(stack: ModelStack, running: RegistryProcess, name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for file, data in (("weights.bin", b"weights" * 1000), ("labels.txt", b"0 1 2")):
        (tmp_path / "folder" / file).write_bytes(data)
    state = stack.up(path=str(tmp_path / "folder"), aliases={"champion": 1})
    target = f"{running.address}/{name}/models/mnist:champion"
    client = oras.client.OrasClient(hostname=running.address, insecure=True)
    manifest = client.get_manifest(target)
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    (layer,) = manifest["layers"]
    assert layer["digest"] == state["contentDigest"]
    (found,) = client.pull(target, outdir=str(tmp_path / "pulled"))
    pulled = Path(found)
    assert f"sha256:{hashlib.sha256(pulled.read_bytes()).hexdigest()}" == layer["digest"]
    with tarfile.open(pulled) as archive:
        files = {item.name: archive.extractfile(item) for item in archive if item.isfile()}
        contents = {name: file.read() for name, file in files.items() if file is not None}
    source = tmp_path / "folder"
    assert contents == {f"models/mnist/folder/{file.name}": file.read_bytes() for file in source.iterdir()}


# --- drift


def test_a_version_that_was_deleted_is_put_back(stack: ModelStack) -> None:
    stack.up(b"first")
    state = stack.up(b"second")
    stack.repository.delete_manifest(state["digest"])
    found = stack.refresh()
    assert stack.log.lines == [f"model mnist: version 2 is gone in {stack.address}/models/mnist"]
    assert set(found["versions"]) == {"1"}
    assert [(change.path, change.of_input) for change in stack.changes()] == [("drift", False)]
    assert stack.up() == state
    assert stack.refresh() == state


def test_a_layer_that_was_deleted_is_sent_again(stack: ModelStack, proxy: FaultyProxy) -> None:
    state = stack.up()
    stack.repository.delete_blob(state["contentDigest"])
    stack.refresh()
    assert "version 1 is damaged" in stack.state["drift"]
    before = sent(proxy)
    assert stack.up() == state
    assert sent(proxy) - before == state["size"]
    assert stack.refresh() == state


def test_an_older_version_that_is_damaged_is_no_longer_listed(stack: ModelStack) -> None:
    first = stack.up(b"first")
    stack.up(b"second")
    stack.repository.delete_blob(first["contentDigest"])
    stack.refresh()
    assert set(stack.state["versions"]) == set(stack.state["sizes"]) == {"2"}
    assert "drift" not in stack.state


def test_a_version_whose_tag_was_moved_is_not_overwritten(stack: ModelStack) -> None:
    stack.up()
    blob = content(100, seed=620)
    put(stack.repository, blob)
    theirs = stack.repository.put_manifest("1", MANIFEST, manifest_of(blob))
    stack.refresh()
    assert stack.state["drift"] == f"the tag 1 of {stack.address}/models/mnist was moved to {theirs}"
    with pytest.raises(ResourceError, match=f"the tag 1 names {theirs}, and no longer .* somebody else moved it"):
        stack.deploy()
    assert stack.version_of("1") == theirs
    ours = stack.repository.get_manifest(stack.state["digest"])
    assert ours is not None
    stack.repository.put_manifest("1", *ours)
    stack.refresh()
    assert "drift" not in stack.state


def test_another_version_whose_tag_was_moved_is_not_listed_and_cannot_be_pinned(stack: ModelStack) -> None:
    stack.up(b"first")
    stack.up(b"second")
    blob = content(100, seed=621)
    put(stack.repository, blob)
    stack.repository.put_manifest("1", MANIFEST, manifest_of(blob))
    assert stack.up(b"third")["version"] == 3
    assert set(stack.state["versions"]) == {"2", "3"}
    with pytest.raises(ResourceError, match=r"the tag 1 names .* somebody else moved it"):
        stack.preview(pinned=[1])


def test_an_alias_that_was_moved_is_put_back_and_told(stack: ModelStack) -> None:
    stack.up(b"first", aliases={"champion": 1})
    stack.up(b"second", aliases={"champion": 1})
    second = stack.repository.get_manifest("2")
    assert second is not None
    stack.repository.put_manifest("champion", *second)
    stack.refresh()
    assert "the alias champion in" in stack.state["drift"]
    stack.log.lines.clear()
    stack.up(aliases={"champion": 1})
    assert stack.version_of("champion") == stack.version_of("1")
    assert stack.log.lines == [f"the tag champion was put on {stack.version_of('2')} by somebody else: it names 1 now"]


def test_a_stack_s_record_that_was_deleted_is_written_anew(stack: ModelStack) -> None:
    state = stack.up()
    record = stack.repository.find_manifest(tag_of("dev/slipway"))
    assert record is not None
    stack.repository.delete_manifest(record.digest)
    stack.refresh()
    assert stack.state["drift"].startswith("this stack's record in ")
    assert stack.up() == state
    assert stack.refresh() == state


def test_only_one_record_of_a_stack_is_kept(stack: ModelStack, running: RegistryProcess, name: str) -> None:
    for number in range(4):
        stack.up(str(number).encode())
    folder = running.data / "docker/registry/v2/repositories" / name / "models/mnist/_manifests/revisions/sha256"
    linked = [path for path in folder.iterdir() if (path / "link").exists()]
    assert len(linked) == 4 + 1


def test_a_record_is_read_as_it_was_written(stack: ModelStack) -> None:
    state = stack.up(b"first", aliases={"champion": 1}, pinned=[1])
    found = stack.repository.get_manifest(tag_of("dev/slipway"))
    assert found is not None
    record = record_from(found[1])
    assert isinstance(record, StackRecord)
    assert record.manifest() == found[1]
    assert record.owner == "dev/slipway"
    assert record.needs(1)
    assert not record.needs(2)
    assert record.versions[1].manifest == state["digest"]
    assert json.loads(found[1])["annotations"]["slipway.stack"] == "dev/slipway"


@pytest.mark.parametrize("manifest", [b"", b"{}", b"[]", manifest_of(content(1)), b'{"artifactType": 1}'])
def test_what_is_no_record_is_none(manifest: bytes) -> None:
    assert record_from(manifest) is None


# --- previews


@pytest.mark.parametrize("name", ["store", "username", "password"])
def test_what_is_not_known_yet_is_left_open(stack: ModelStack, name: str, proxy: FaultyProxy) -> None:
    more = {"username": "u", "password": "p", name: UNKNOWN}
    state = stack.preview(**more)
    assert (state["version"], state["digest"], state["sizes"]) == (UNKNOWN, UNKNOWN, UNKNOWN)
    assert proxy.requests == []
