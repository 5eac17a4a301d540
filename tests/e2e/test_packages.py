"""A package: an image of models that is made beside the services and not deployed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provider.content.watch import Watch
from provider.images.store import ImageLayoutStore
from tests.e2e.project import Project
from tests.unit.images.support import push_base


def image_to_begin_with(home: Path) -> None:
    """An image that was made on this machine, as `python -m airgap.images` leaves it: of one empty layer."""
    folder = home / "images"
    folder.mkdir(parents=True)
    entry = {"repository": "base", "digest": push_base(folder), "pythonVersion": "3.11", "platforms": ["linux/amd64"]}
    (folder / "images.json").write_text(json.dumps({"python": entry}))


@pytest.fixture
def packaged(project: Project) -> Project:
    image_to_begin_with(project.home)
    project.sections["environments"] = {"more": {"clone": "minimal", "pip": ["tomli-w"]}}
    inference = {**project.service["inference"], "environment": "more"}
    project.sections["packages"] = {"app": {"models": ["weights"], "inference": inference}}
    project.write()
    return project


def package(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = project.stack.outputs()["packages"].value["app"]
    return found


def test_a_package_is_made_changes_and_goes(packaged: Project) -> None:
    assert packaged.up()["create"] > 0
    first = package(packaged)
    assert first["image"] == f"packages/app@{first['digest']}"
    assert packaged.up() == {}

    store = packaged.home / "test" / "demo" / "store"
    with ImageLayoutStore(store, "packages/app", watch=Watch()) as images:
        found = images.get_manifest(first["digest"])
    assert found is not None
    assert json.loads(found[1])["annotations"]["slipway.models"] == "weights:1"
    assert len(list(store.parent.glob("environments/*/bin/python"))) == 1, (
        "the one of the service: the package's is a lock alone"
    )
    assert "tomli-w==" in (packaged.root / "stacks" / "locks" / "test.more.txt").read_text()

    packaged.model.write_bytes(b"second weights")
    preview = packaged.preview()
    assert "slipway:index:ServiceImage: (replace)" in preview
    assert packaged.up() == {"update": 3, "replace": 1}, "the model, its service and that one's endpoint; the package"
    assert package(packaged)["revision"] != first["revision"]

    del packaged.sections["models"]["weights"]
    packaged.write()
    said = packaged.failing_up()
    assert "packages.app.models[0]: no model is named 'weights'" in said
    packaged.stack.destroy()
    assert not (packaged.home / "test").exists()
