"""Images of services under a real engine: pulled from a registry, and run with `docker run` alone."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from provider.service_image import ServiceImage
from tests.docker.engine import SECONDS, Docker
from tests.docker.images import CONTEXT, EXAMPLE, Images

# Answers with what it finds where Azure's scripts look.
TELLS = """
import json, os
from pathlib import Path

def init():
    pass

def run(data):
    models = Path(os.environ["AZUREML_MODEL_DIR"])
    found = {str(path.relative_to(models)): path.read_text() for path in models.glob(json.loads(data)["pattern"])}
    try:
        Path("/var/azureml-app/new").write_text("x")
        writable = True
    except OSError:
        writable = False
    same = os.path.samefile(models, Path("azureml-models"))
    return {"models": found, "uid": os.getuid(), "writable": writable, "same": same}
"""


@pytest.fixture
def images(address: str, base: str, tmp_path: Path) -> Images:
    return Images(address, base, tmp_path)


@contextmanager
def running(docker: Docker, reference: str, *options: str, port: int = 8890) -> Iterator[str]:
    """Runs an image with a read-only root file system; gives the address of its port."""
    arguments = ("--detach", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
    container = docker.run("run", *arguments, f"--publish=127.0.0.1::{port}", *options, reference)
    try:
        address = docker.run("port", container, f"{port}/tcp").splitlines()[0]
        deadline = time.monotonic() + SECONDS
        while not _is_ready(f"http://{address}/ready"):
            state = docker.run("inspect", "--format={{.State.Running}}", container)
            logs = docker.attempt("logs", container)
            assert state == "true", f"it ended: {logs.stdout}{logs.stderr}"
            assert time.monotonic() < deadline, f"not ready after {SECONDS} s: {logs.stdout}{logs.stderr}"
        yield f"http://{address}"
    finally:
        docker.run("rm", "--force", container)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, HTTPException):  # nobody listens yet, or the engine's proxy closes
        return False


def score(address: str, data: bytes) -> tuple[Any, str]:
    """The answer, and the revision that gave it."""
    request = urllib.request.Request(f"{address}/score", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer), answer.headers["slipway-revision"]


def test_the_example_runs_with_docker_run_alone(docker: Docker, images: Images) -> None:
    image = images.make(EXAMPLE, [images.model("sklearn_mnist", EXAMPLE / "model")])
    sample = (EXAMPLE / "sample-request.json").read_bytes()
    with running(docker, image["reference"]) as address:
        digits, revision = score(address, sample)
    assert digits == [0, 1]
    assert revision == image["revision"]
    labels = json.loads(docker.run("inspect", "--format={{json .Config.Labels}}", image["reference"]))
    assert labels["org.opencontainers.image.revision"] == revision
    assert labels["slipway.models"] == "sklearn_mnist:1"


def test_several_models_are_where_azure_has_them(docker: Docker, images: Images, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "score.py").write_text(TELLS)
    models = [images.model("one", tmp_path / "one" / "weights"), images.model("other", tmp_path / "other")]
    image = images.make(tmp_path / "code", models)
    with running(docker, image["reference"]) as address:
        answer, _ = score(address, b'{"pattern": "*/1/**/weights"}')
    assert answer == {
        "models": {"one/1/weights": "one", "other/1/other/weights": "other"},
        "uid": 10001,
        "writable": False,
        "same": True,
    }


def test_a_changed_script_is_pulled_alone(docker: Docker, images: Images, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "score.py").write_text(TELLS)
    models = [images.model("sklearn_mnist", EXAMPLE / "model")]
    first = images.make(tmp_path / "code", models)
    docker.run("pull", first["reference"])
    (tmp_path / "code" / "score.py").write_text(TELLS + "# changed\n")
    second = images.make(tmp_path / "code", models)
    said = docker.run("pull", second["reference"])
    assert said.count("Already exists") == len(second["layers"]) - 1
    assert said.count("Pull complete") == 1


def test_a_deleted_image_is_gone(docker: Docker, images: Images) -> None:
    image = images.make(EXAMPLE, [images.model("sklearn_mnist", EXAMPLE / "model")], repository="services/other")
    resource = ServiceImage()
    assert asyncio.run(resource.read(CONTEXT, image["reference"], image)) == image
    asyncio.run(resource.delete(CONTEXT, image["reference"], image))
    asyncio.run(resource.delete(CONTEXT, image["reference"], image))
    assert asyncio.run(resource.read(CONTEXT, image["reference"], image)) is None
    assert "manifest unknown" in docker.attempt("pull", image["reference"]).stderr
