"""The model's resource: what it checks, foresees, does, and finds on a refresh."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from asyncio import run
from pathlib import Path
from typing import Any

import pytest

from provider.image_layout import ImageLayout
from provider.model_version import ModelVersion
from provider.resource import Context, Failure, ResourceError
from provider.values import UNKNOWN, Properties
from tests.operations import Lines, context

KIND = "slipway:index:Model$slipway:index:ModelVersion"
MIB = 2**20


class Stack:
    """A store and one model, as the engine would drive them."""

    def __init__(self, tmp_path: Path) -> None:
        self.log = Lines()
        self.home = tmp_path / "stack" / "demo"
        self.store = self.home / "store"
        self.model = tmp_path / "model.pkl"
        self.model.write_bytes(b"weights")
        self.resource = ModelVersion()

    def context(self, *, preview: bool = False) -> Context:
        return context(KIND, "m", log=self.log, preview=preview)

    def inputs(self, **more: Any) -> Properties:
        return {"store": str(self.store), "name": "m", "path": str(self.model), **more}

    def check(self, **more: Any) -> tuple[Properties, list[Failure]]:
        return run(self.resource.check(self.context(preview=True), self.inputs(**more)))

    def checked(self, **more: Any) -> Properties:
        news, failures = self.check(**more)
        assert failures == []
        return news

    def up(self, state: Properties | None = None, **more: Any) -> Properties:
        """Checks, previews and does; what the preview says is what happens."""
        news = self.checked(**more)
        before = sorted(self.home.rglob("*"))
        if state is None:
            foreseen = run(self.resource.create(self.context(preview=True), news))
            assert sorted(self.home.rglob("*")) == before
            done = run(self.resource.create(self.context(), news))
            assert done == foreseen
            return done[1]
        outputs = run(self.resource.update(self.context(preview=True), "m", state, news))
        assert sorted(self.home.rglob("*")) == before
        assert run(self.resource.update(self.context(), "m", state, news)) == outputs
        return outputs

    def refresh(self, state: Properties) -> Properties | None:
        return run(self.resource.read(self.context(), "m", state))

    def blob(self, digest: str) -> Path:
        return self.store / "blobs" / "sha256" / digest.removeprefix("sha256:")


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return Stack(tmp_path)


# --- check


def test_the_content_is_named_in_check_without_touching_the_store(stack: Stack) -> None:
    news = stack.checked()
    assert news["contentDigest"].startswith("sha256:")
    assert not stack.home.exists()


@pytest.mark.parametrize(
    ("inputs", "failures"),
    [
        ({"path": "model"}, [Failure("path", "must be an absolute path, not 'model'")]),
        (
            {"store": "stacks/store"},
            [
                Failure(
                    "store",
                    "must be a registry's address (HOST[:PORT][/PATH], where HOST has a dot, a port or is localhost) "
                    "or an absolute path, for an image layout on this machine, not 'stacks/store'",
                )
            ],
        ),
        ({"username": "me"}, [Failure("username", "and password go together: give both, or none")]),
        ({"parallel": 0}, [Failure("parallel", "must be at least 1, not 0")]),
        (
            {"store": "registry.example", "aliases": {"3": 1}},
            [
                Failure(
                    "aliases.3",
                    "is a tag in the registry: up to 128 letters, digits and _ . -, a letter, digit or _ first, no "
                    "number alone, and not beginning with slipway-",
                )
            ],
        ),
        (
            {"name": "a/b"},
            [
                Failure(
                    "name",
                    "'a/b' is no model name; use up to 128 letters, digits and _ . -, a letter or digit first",
                )
            ],
        ),
        ({"tags": {"area": 3}}, [Failure("tags.area", "must be a string, not 3; put it in quotes")]),
        ({"properties": {"a b": True}}, [Failure('properties["a b"]', "must be a string, not True; put it in quotes")]),
        ({"keepVersions": 0}, [Failure("keepVersions", "must be at least 1, not 0")]),
        (
            {"pinned": [1, "2", 0]},
            [
                Failure("pinned[1]", "must be a version, 1 or more, not '2'"),
                Failure("pinned[2]", "must be a version, 1 or more, not 0"),
            ],
        ),
        (
            {"name": "..", "keepVersions": -1},
            [
                Failure(
                    "name", "'..' is no model name; use up to 128 letters, digits and _ . -, a letter or digit first"
                ),
                Failure("keepVersions", "must be at least 1, not -1"),
            ],
        ),
    ],
)
def test_values_that_cannot_be_accepted(stack: Stack, inputs: Properties, failures: list[Failure]) -> None:
    assert stack.check(**inputs)[1] == failures


def test_a_model_that_cannot_be_read(stack: Stack, tmp_path: Path) -> None:
    (_, failures) = stack.check(path=str(tmp_path / "none"))
    assert failures == [Failure("path", f"{tmp_path}/none is missing; create it, or correct the path")]


def test_a_model_that_does_not_fit(stack: Stack) -> None:
    stack.model.write_bytes(bytes(2 * MIB))
    ((failure,), news) = stack.check(quotaBytes=MIB)[1], stack.check(quotaBytes=MIB)[0]
    assert failure.property == "path"
    assert "2.0 MiB needed, 0 bytes used, 1.0 MiB allowed" in failure.reason
    assert "contentDigest" in news


def test_a_pinned_version_that_is_not_in_the_store(stack: Stack) -> None:
    stack.up()
    stack.model.write_bytes(b"other")
    assert stack.check(pinned=[1, 2])[1] == []
    assert stack.check(pinned=[1, 3])[1] == [
        Failure("pinned[1]", "version 3 of the model m is not in the store, which holds 1, 2; name one of these")
    ]


def test_a_damaged_store(stack: Stack) -> None:
    stack.up()
    (stack.store / "slipway-store.json").write_text("{")
    ((failure,), _) = stack.check()[1], None
    assert failure.property == "store"
    assert "slipway-store.json is damaged" in failure.reason


@pytest.mark.parametrize("name", ["path", "name", "store", "tags", "keepVersions", "pinned"])
def test_what_is_not_known_yet_is_left_open(stack: Stack, name: str) -> None:
    news, failures = stack.check(**{name: UNKNOWN})
    assert failures == []
    _, outputs = run(stack.resource.create(stack.context(preview=True), news))
    assert (outputs["version"] is UNKNOWN) == (name != "tags")


# --- diff


def test_the_same_again_is_no_change(stack: Stack, tmp_path: Path) -> None:
    state = stack.up(tags={"area": "mnist"})
    moved = tmp_path / "elsewhere" / "model.pkl"
    moved.parent.mkdir()
    stack.model.rename(moved)
    news = stack.checked(path=str(moved), tags={"area": "mnist"}, pinned=[1], quotaBytes=MIB)
    assert stack.resource.diff(state, news) == []


def test_changed_content_is_a_change_in_place(stack: Stack) -> None:
    state = stack.up(tags={"area": "mnist"})
    stack.model.write_bytes(b"better")
    changes = stack.resource.diff(state, stack.checked(tags={"area": "digits"}))
    assert [(change.path, change.kind, change.replaces) for change in changes] == [
        ("contentDigest", "update", False),
        ("tags.area", "update", False),
    ]


# --- operations


def test_a_folder_keeps_its_name_below_the_models(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "bundle" / "sub").mkdir(parents=True)
    (tmp_path / "bundle" / "sub" / "w.bin").write_bytes(b"w")
    state = stack.up(path=str(tmp_path / "bundle"))
    data = stack.blob(state["contentDigest"]).read_bytes()
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == state["contentDigest"]
    assert len(data) == state["size"]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames()[-1] == "models/m/bundle/sub/w.bin"


def test_a_new_version_of_changed_content_and_the_old_one_when_it_comes_back(stack: Stack) -> None:
    first = stack.up()
    stack.model.write_bytes(b"better")
    second = stack.up(first)
    stack.model.write_bytes(b"weights")
    third = stack.up(second)
    assert [first["version"], second["version"], third["version"]] == [1, 2, 1]
    assert third["versions"] == {"1": first["contentDigest"], "2": second["contentDigest"]}


def test_old_versions_go_unless_pinned(stack: Stack) -> None:
    state = stack.up()
    for content in (b"2", b"3"):
        stack.model.write_bytes(content)
        state = stack.up(state, keepVersions=1, pinned=[1])
    assert set(state["versions"]) == {"1", "3"}


def test_metadata_is_no_part_of_the_artifact(stack: Stack) -> None:
    first = stack.up(framework="ScikitLearn")
    second = stack.up(first, description="digits", tags={"area": "mnist"})
    assert first["digest"] == second["digest"]
    (entry,) = json.loads((stack.store / "index.json").read_text())["manifests"]
    assert "slipway.model.framework" not in entry["annotations"]
    assert entry["annotations"]["slipway.model.tags.area"] == "mnist"


def test_creating_again_after_a_kill_is_the_same(stack: Stack) -> None:
    assert stack.up() == stack.up()


def test_an_error_names_the_model(stack: Stack) -> None:
    news = stack.checked()
    stack.model.write_bytes(b"changed")
    with pytest.raises(ResourceError, match=rf"^model m: {stack.model} changed since it was checked"):
        run(stack.resource.create(stack.context(), news))


def test_the_engines_wish_to_stop_is_heeded(stack: Stack) -> None:
    context = stack.context()
    context.cancelled.set()
    with pytest.raises(ResourceError, match="cancelled while reading m"):
        run(stack.resource.check(context, stack.inputs()))


# --- read and delete


def test_a_refresh_of_a_sound_model_changes_nothing(stack: Stack) -> None:
    state = stack.up(tags={"area": "mnist"}, quotaBytes=MIB)
    assert stack.refresh(state) == state
    assert stack.log.lines == []


def test_a_refresh_finds_metadata_that_was_changed_by_hand(stack: Stack) -> None:
    state = stack.up(tags={"area": "mnist"})
    record = stack.store / "slipway-store.json"
    record.write_text(record.read_text().replace("mnist", "else"))
    found = stack.refresh(state)
    assert found is not None
    assert [change.path for change in stack.resource.diff(found, stack.checked(tags={"area": "mnist"}))] == [
        "tags.area"
    ]


@pytest.mark.parametrize("part", ["contentDigest", "digest"])
@pytest.mark.parametrize("damage", ["missing", "short", "corrupt"])
def test_a_damaged_model_is_registered_anew(stack: Stack, part: str, damage: str) -> None:
    state = stack.up()
    blob = stack.blob(state[part])
    data = blob.read_bytes()
    blob.unlink()
    if damage != "missing":
        blob.write_bytes(data[:-1] if damage == "short" else bytes([data[0] ^ 1]) + data[1:])
    assert stack.refresh(state) is None
    (line,) = stack.log.lines
    assert line.startswith(f"model m: the stored blob {blob} ")
    assert line.endswith("it is taken as gone, so that the next `up` registers it anew")
    assert stack.up() == state
    assert blob.read_bytes() == data


def test_an_older_version_that_is_gone_is_no_longer_listed(stack: Stack) -> None:
    first = stack.up()
    stack.model.write_bytes(b"better")
    second = stack.up(first)
    stack.blob(first["contentDigest"]).unlink()
    found = stack.refresh(second)
    assert found is not None
    assert set(found["versions"]) == {"2"}


def test_a_store_that_is_gone(stack: Stack) -> None:
    state = stack.up()
    stack.store.rename(stack.home / "elsewhere")
    assert stack.refresh(state) is None
    assert "does not hold version 1 of the model m" in stack.log.lines[0]
    run(stack.resource.delete(stack.context(), "m", state))
    assert not stack.store.exists()


def test_deleting_leaves_nothing_of_a_workspace(stack: Stack) -> None:
    layout = ImageLayout()
    inputs = {"path": str(stack.store), "tier": "Basic", "quotaBytes": 10 * MIB}
    resource_id, layout_state = run(layout.create(stack.context(), inputs))
    state = stack.up()
    run(stack.resource.delete(stack.context(), "m", state))
    assert list((stack.store / "blobs" / "sha256").iterdir()) == []
    run(stack.resource.delete(stack.context(), "m", state))
    run(layout.delete(stack.context(), resource_id, layout_state))
    assert not stack.home.exists()


def tags_of(stack: Stack) -> dict[str, str]:
    """Tag -> version, as the index of the store has them."""
    index = json.loads((stack.store / "index.json").read_text())
    annotations = [item["annotations"] for item in index["manifests"]]
    return {item["org.opencontainers.image.ref.name"]: item["slipway.model.version"] for item in annotations}


def test_an_alias_is_a_tag_that_moves_and_its_version_stays(stack: Stack) -> None:
    state = stack.up(aliases={"champion": 1})
    assert tags_of(stack) == {"m-1": "1", "m-champion": "1"}

    for content in (b"second", b"third"):
        stack.model.write_bytes(content)
        # Pulumi's numbers are doubles.
        state = stack.up(state, aliases={"champion": 1.0}, keepVersions=1)
    assert tags_of(stack) == {"m-1": "1", "m-champion": "1", "m-3": "3"}

    news = stack.checked(aliases={"champion": 3}, keepVersions=1)
    assert [change.path for change in stack.resource.diff(state, news)] == ["aliases.champion"]
    stack.up(state, aliases={"champion": 3}, keepVersions=1)
    assert tags_of(stack) == {"m-3": "3", "m-champion": "3"}


def test_an_alias_of_a_version_that_is_not_in_the_store(stack: Stack) -> None:
    stack.up()
    assert stack.check(aliases={"champion": 4})[1] == [
        Failure("aliases.champion", "version 4 of the model m is not in the store, which holds 1; name one of these")
    ]
    assert stack.check(aliases={"champion": 0.5})[1] == [
        Failure("aliases.champion", "must be a version, 1 or more, not 0.5")
    ]


def test_an_alias_that_stacks_do_not_agree_on_is_no_tag(stack: Stack) -> None:
    state = stack.up(aliases={"champion": 1, "first": 1})
    stack.model.write_bytes(b"second")
    other = context(KIND, "m", log=stack.log, stack="test")
    news = run(stack.resource.check(other, stack.inputs(aliases={"champion": 2})))[0]
    run(stack.resource.create(other, news))
    assert tags_of(stack) == {"m-1": "1", "m-2": "2", "m-first": "1"}

    stack.model.write_bytes(b"weights")
    run(stack.resource.delete(other, "m", news))
    stack.up(state, aliases={"champion": 1})
    assert tags_of(stack)["m-champion"] == "1"


def test_samples_are_kept_with_the_version(stack: Stack) -> None:
    state = stack.up(sampleInput="[1]", sampleOutput="[2]")
    held = json.loads((stack.store / "slipway-store.json").read_text())["models"]["m"]["held"]["1"]
    assert (held["metadata"]["sampleInput"], held["metadata"]["sampleOutput"]) == ("[1]", "[2]")

    changed = stack.checked(sampleInput="[3]", sampleOutput="[2]")
    assert [change.path for change in stack.resource.diff(state, changed)] == ["sampleInput"]
    assert stack.up(state, sampleInput="[3]", sampleOutput="[2]")["version"] == 1
