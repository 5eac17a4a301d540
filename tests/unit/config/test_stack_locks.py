"""The locks that are committed with the stacks fit the stacks' environments."""

import asyncio
import json
from pathlib import Path

import pytest
import yaml

from components.environment import server_requirements
from infra.load import load
from provider.python_environment import PythonEnvironment
from tests.operations import context

ROOT = Path(__file__).resolve().parents[3]
STACKS = sorted((ROOT / "stacks").glob("Pulumi.*.yaml"))


@pytest.mark.parametrize("file", STACKS, ids=lambda file: file.name)
def test_the_lock_of_each_environment_is_the_one_for_its_requirements(file: Path, tmp_path: Path) -> None:
    stack = file.name.split(".")[1]
    raw = {key: json.dumps(value) for key, value in yaml.safe_load(file.read_text())["config"].items()}
    image = {
        "repository": "made",
        "digest": f"sha256:{'1' * 64}",
        "platforms": ["linux/amd64"],
        "pythonVersion": "3.11",
    }
    (tmp_path / "images.json").write_text(json.dumps({"python": image, "router": image}))
    plan = load(raw, (), ROOT, stack, tmp_path)

    for name in {item.environment for service in plan.services.values() for item in service.deployments.values()}:
        lock = ROOT / "stacks" / "locks" / f"{stack}.{name}.txt"
        inputs = {
            "workspace": "/nowhere",
            "requirements": [*server_requirements(), *plan.environments[name].pip],
            "lockFile": str(lock),
        }
        where = context("slipway:index:PythonEnvironment", name, stack=stack)
        news, failures = asyncio.run(PythonEnvironment().check(where, inputs))
        assert failures == []
        assert "lockDigest" in news, f"{lock.name} was made for other requirements: run `make up STACK={stack}`"
        assert "://" not in lock.read_text(), "a lock holds no address"


def test_there_are_stacks() -> None:
    assert "Pulumi.dev.yaml" in [file.name for file in STACKS]
