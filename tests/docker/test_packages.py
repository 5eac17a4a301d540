"""A package of a stack under a real engine: pulled from the stack's own registry, and run with `docker run` alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from airgap.base import image
from provider.content.watch import Watch
from provider.images.store import ImageLayoutStore
from tests.docker.engine import Docker
from tests.docker.test_service_images import running, score
from tests.e2e.project import Project, free_port

SCRIPT = """
import json, os
from pathlib import Path

def init():
    global weights
    weights = Path(os.environ["AZUREML_MODEL_DIR"], "model.bin").read_text()

def run(data):
    import tomli_w
    return {"echo": json.loads(data), "weights": weights, "level": os.environ["LEVEL"], "toml": tomli_w.dumps({})}
"""


@pytest.fixture
def packaged(tmp_path: Path) -> Iterator[Project]:
    """A stack of a registry, a model and a package, on a base image that was made on this machine."""
    project = Project(tmp_path)
    layer, blob, python = image.cached_layer()
    folder = project.home / "images"
    with ImageLayoutStore(folder / "layout", "base/python", watch=Watch()) as store:
        digest = image.push(store, "debian12", layer, blob, python)
    entry = {"repository": "base/python", "digest": digest, "pythonVersion": python, "platforms": ["linux/amd64"]}
    (folder / "images.json").write_text(json.dumps({"python": entry}))
    project.script.write_text(SCRIPT)
    project.sections |= {
        "registry": {"kind": "service", "tier": "Standard", "port": free_port()},
        "environments": {
            "more": {"clone": "minimal", "pip": ["tomli-w"], "environmentVariables": {"LEVEL": "3"}},
        },
        "services": {},
        "packages": {
            "app": {
                "models": ["weights"],
                "inference": {"entryScript": "score.py", "sourceDirectory": "src", "environment": "more"},
            }
        },
    }
    project.write()
    yield project
    project.clear()


def test_a_package_runs_with_docker_run_alone(
    docker: Docker, packaged: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged.up()
    outputs = packaged.stack.outputs()
    registry, package = outputs["registry"].value, outputs["packages"].value["app"]
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    docker.run("login", "--username", registry["username"], "--password", registry["password"], registry["location"])

    with running(docker, package["image"], port=5001) as address:
        answer, revision = score(address, b"[1]")

    assert answer == {"echo": [1], "weights": "first weights", "level": "3", "toml": ""}
    assert revision == package["revision"]
