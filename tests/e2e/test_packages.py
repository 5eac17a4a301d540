"""A package: an image of models that is made beside the services and not deployed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provider.content.watch import Watch
from provider.image_index import INDEX
from provider.images.store import ImageLayoutStore
from tests.e2e.project import Project
from tests.unit.images.support import push_base


def image_to_begin_with(home: Path, *platforms: str) -> None:
    """An image that was made on this machine, as `python -m airgap.images` leaves it: of one empty layer."""
    folder = home / "images"
    folder.mkdir(parents=True, exist_ok=True)
    digests = {platform: push_base(folder, platform) for platform in platforms or ("linux/amd64",)}
    digest = next(iter(digests.values())) if len(digests) == 1 else index_of(folder, digests)
    entry = {"repository": "base", "digest": digest, "pythonVersion": "3.11.9", "platforms": list(digests)}
    (folder / "images.json").write_text(json.dumps({"python": entry}))


def index_of(folder: Path, digests: dict[str, str]) -> str:
    """Puts an index of these images, by platform, beside them; returns its digest."""
    with ImageLayoutStore(folder / "layout", "base", watch=Watch()) as store:
        manifests = []
        for platform, digest in digests.items():
            found = store.get_manifest(digest)
            assert found is not None
            system, architecture = platform.split("/")
            where = {"os": system, "architecture": architecture}
            manifests.append({"mediaType": found[0], "digest": digest, "size": len(found[1]), "platform": where})
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        return store.put_manifest("index", INDEX, json.dumps(document).encode())


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


def test_a_package_for_several_platforms_has_one_name(packaged: Project) -> None:
    platforms = ["linux/amd64", "linux/arm64"]
    image_to_begin_with(packaged.home, *platforms)
    packaged.sections["packages"]["app"]["platforms"] = platforms
    packaged.sections["services"] = {}
    packaged.write()
    packaged.up()

    found = package(packaged)
    with ImageLayoutStore(packaged.home / "test" / "demo" / "store", "packages/app", watch=Watch()) as images:
        index = images.get_manifest(found["digest"])
        assert index is not None
        listed = {item["platform"]["architecture"]: item["digest"] for item in json.loads(index[1])["manifests"]}
        assert sorted(listed) == ["amd64", "arm64"]
        assert all(images.get_manifest(digest) for digest in listed.values())
    assert packaged.up() == {}

    packaged.sections["packages"]["app"]["platforms"] = platforms[1:]
    packaged.write()
    assert packaged.up() == {"delete": 3}, "the index, and the component and the image of the other platform"
    assert package(packaged)["digest"] == listed["arm64"]


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
