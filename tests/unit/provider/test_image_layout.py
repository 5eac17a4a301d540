"""The store's resource: made, resized, found and removed."""

from __future__ import annotations

import json
from asyncio import run
from pathlib import Path

import pytest

from provider.content.layer import layer_digest
from provider.content.store import Request, Store
from provider.image_layout import ImageLayout, owner_of
from provider.resource import Context, Failure, ResourceError
from provider.values import UNKNOWN, Properties
from tests import operations
from tests.operations import Lines

MIB = 2**20


def context(stack: str = "dev", *, preview: bool = False, log: Lines | None = None) -> Context:
    kind = "slipway:index:Workspace$slipway:index:ImageLayout"
    return operations.context(kind, "store", log=log, stack=stack, preview=preview)


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Properties:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return {"path": str(tmp_path / "stack" / "demo" / "store"), "tier": "Standard", "quotaBytes": 4 * MIB}


@pytest.fixture
def resource() -> ImageLayout:
    return ImageLayout()


def fill(inputs: Properties, tmp_path: Path, size: int) -> Store:
    store = Store(Path(inputs["path"]))
    model = tmp_path / "model.bin"
    model.write_bytes(bytes(size))
    digest = layer_digest(model, "m", store._cache).digest
    store.register(Request("m", model, digest, "dev/slipway"))
    return store


def failures_of(resource: ImageLayout, inputs: Properties) -> list[Failure]:
    return run(resource.check(context(preview=True), inputs))[1]


def test_the_owner_is_the_stack_of_the_urn() -> None:
    assert owner_of(context("prod").urn) == "prod/slipway"


def test_a_preview_touches_nothing(resource: ImageLayout, inputs: Properties, tmp_path: Path) -> None:
    assert failures_of(resource, inputs) == []
    assert run(resource.create(context(preview=True), inputs)) == (inputs["path"], inputs)
    run(resource.update(context(preview=True), inputs["path"], inputs, inputs))
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_not_known_yet(resource: ImageLayout, inputs: Properties) -> None:
    assert failures_of(resource, {**inputs, "path": UNKNOWN}) == []


def test_it_is_an_empty_image_layout(resource: ImageLayout, inputs: Properties) -> None:
    run(resource.create(context(), inputs))
    root = Path(inputs["path"])
    assert json.loads((root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((root / "index.json").read_text()) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
    }


def test_creating_again_keeps_what_is_stored(resource: ImageLayout, inputs: Properties, tmp_path: Path) -> None:
    run(resource.create(context(), inputs))
    store = fill(inputs, tmp_path, MIB)
    run(resource.create(context(), inputs))
    assert store.damage("m", 1) is None


def test_a_tier_changes_in_place(resource: ImageLayout, inputs: Properties, tmp_path: Path) -> None:
    run(resource.create(context(), inputs))
    store = fill(inputs, tmp_path, MIB)
    smaller = {**inputs, "tier": "Basic", "quotaBytes": 2 * MIB}
    changes = resource.diff(inputs, smaller)
    assert [(change.path, change.replaces) for change in changes] == [("tier", False), ("quotaBytes", False)]
    assert failures_of(resource, smaller) == []
    assert run(resource.update(context(), inputs["path"], inputs, smaller)) == smaller
    assert (store.record().tier, store.record().quota_bytes) == ("Basic", 2 * MIB)
    assert store.damage("m", 1) is None


def test_less_than_is_stored_is_refused(resource: ImageLayout, inputs: Properties, tmp_path: Path) -> None:
    run(resource.create(context(), inputs))
    fill(inputs, tmp_path, 3 * MIB)
    smaller = {**inputs, "tier": "Basic", "quotaBytes": MIB}
    (failure,) = failures_of(resource, smaller)
    assert failure.property == "quotaBytes"
    assert f"{inputs['path']} holds 3.0 MiB, and only 1.0 MiB would be allowed" in failure.reason
    with pytest.raises(ResourceError, match="keep the larger tier, or remove models first"):
        run(resource.update(context(), inputs["path"], inputs, smaller))


def test_a_folder_with_other_files_is_refused(resource: ImageLayout, inputs: Properties) -> None:
    root = Path(inputs["path"])
    root.mkdir(parents=True)
    assert failures_of(resource, inputs) == []
    (root / "thesis.tex").touch()
    assert failures_of(resource, inputs) == [
        Failure("path", f"{root} holds other files and is no image layout; choose an empty or a new folder")
    ]


def test_paths_that_cannot_be_a_store(resource: ImageLayout, inputs: Properties, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert failures_of(resource, {**inputs, "path": "store"}) == [
        Failure("path", "must be an absolute path, not 'store'")
    ]
    assert failures_of(resource, {**inputs, "path": str(tmp_path / "file")}) == [
        Failure("path", f"{tmp_path}/file is there already and is no folder; choose another path")
    ]
    assert failures_of(resource, {**inputs, "quotaBytes": 0}) == [
        Failure("quotaBytes", "must be at least 1 byte, not 0")
    ]


def test_a_refresh_finds_the_tier_in_force(resource: ImageLayout, inputs: Properties) -> None:
    run(resource.create(context(), inputs))
    assert run(resource.read(context(), inputs["path"], inputs)) == inputs
    Store(Path(inputs["path"])).configure("dev/slipway", "Premium", 8 * MIB)
    found = run(resource.read(context(), inputs["path"], inputs))
    assert found == {**inputs, "tier": "Premium", "quotaBytes": 8 * MIB}


def test_a_refresh_finds_that_it_is_gone(resource: ImageLayout, inputs: Properties) -> None:
    log = Lines()
    assert run(resource.read(context(log=log), inputs["path"], inputs)) is None
    assert log.lines == [f"the store {inputs['path']} is gone or no longer this stack's: it will be made again"]


def test_deleting_takes_models_that_no_resource_remembers(
    resource: ImageLayout, inputs: Properties, tmp_path: Path
) -> None:
    run(resource.create(context(), inputs))
    fill(inputs, tmp_path, MIB)
    run(resource.delete(context(), inputs["path"], inputs))
    assert not (tmp_path / "stack" / "demo").exists()
    run(resource.delete(context(), inputs["path"], inputs))


def test_deleting_leaves_what_another_stack_uses(resource: ImageLayout, inputs: Properties, tmp_path: Path) -> None:
    run(resource.create(context("other"), inputs))
    run(resource.create(context(), inputs))
    store = fill(inputs, tmp_path, MIB)
    store.register(
        Request("m", tmp_path / "model.bin", next(iter(store.record().models["m"].history)), "other/slipway")
    )
    run(resource.delete(context(), inputs["path"], inputs))
    assert store.damage("m", 1) is None
    run(resource.delete(context("other"), inputs["path"], inputs))
    assert not (tmp_path / "stack" / "demo").exists()


def test_deleting_leaves_other_files_and_says_so(resource: ImageLayout, inputs: Properties) -> None:
    run(resource.create(context(), inputs))
    (Path(inputs["path"]) / "notes.txt").touch()
    log = Lines()
    run(resource.delete(context(log=log), inputs["path"], inputs))
    assert log.lines == [f"{inputs['path']} stays: it holds what is not the store's: notes.txt"]
    assert (Path(inputs["path"]) / "notes.txt").exists()
