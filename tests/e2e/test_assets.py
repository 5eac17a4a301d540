"""A stack with models of every origin, two environments and a larger tier: it goes up, changes and comes down."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import ECHO, Project, descendants_of_supervisors
from tests.ports import free_port

TELLING = (
    ECHO.replace("import json, os", "import json, os, pathlib")
    + """

def run(data):
    root = os.environ["AZUREML_MODEL_DIR"]
    files = [pathlib.Path(folder, name) for folder, _, names in os.walk(root, followlinks=True) for name in names]
    return {str(file.relative_to(root)): file.read_text() for file in sorted(files)}
"""
)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def track(root: Path, run_id: str, accuracy: float) -> None:
    """A finished run in MLflow's file store (the layout of its `FileStore`)."""
    store = root / "mlruns" / "17"
    write(store / "meta.yaml", "experiment_id: '17'\nlifecycle_stage: active\nname: digits\n")
    run = store / run_id
    write(
        run / "meta.yaml",
        f"artifact_uri: {run / 'artifacts'}\nlifecycle_stage: active\nrun_id: {run_id}\nrun_name: {run_id}\n"
        f"start_time: 1\nstatus: 3\n",
    )
    write(run / "metrics" / "accuracy", f"1 {accuracy} 0\n")
    write(run / "params" / "depth", "3")
    write(run / "artifacts" / "model" / "weights.txt", f"trained by {run_id}")


@pytest.fixture
def assets(project: Project) -> Project:
    project.script.write_text(TELLING)
    write(project.root / "folder" / "part.txt", "one of several files")
    track(project.root, "aa01", 0.7)
    project.sections |= {
        "registry": {"tier": "Standard"},
        "environments": {
            "plain": {"clone": "minimal"},
            "more": {"clone": "minimal", "pip": ["tomli-w"]},
        },
        "models": {
            "file": {"path": "model.bin"},
            "folder": {"path": "folder"},
            "trained": {
                "mlflow": {"trackingUri": "mlruns", "experiment": "digits", "metric": "accuracy", "mode": "max"}
            },
        },
    }
    project.service["models"] = ["file", "folder"]
    project.service["inference"]["environment"] = "plain"
    second: dict[str, Any] = copy.deepcopy(project.service)
    second["models"] = ["trained"]
    second["inference"]["environment"] = "more"
    second["deployment"]["port"] = free_port()
    project.sections["services"]["second"] = second
    project.write()
    return project


def test_it_goes_up_changes_and_comes_down(assets: Project) -> None:
    assets.up()

    outputs = assets.stack.outputs()
    assert {name: model["id"] for name, model in outputs["models"].value.items()} == {
        "file": "file:1",
        "folder": "folder:1",
        "trained": "trained:1",
    }
    assert outputs["registry"].value["tier"] == "Standard"
    assert assets.score() == {"file/1/model.bin": "first weights", "folder/1/folder/part.txt": "one of several files"}

    track(assets.root, "aa02", 0.9)
    assets.sections["registry"]["tier"] = "Premium"
    assets.write()
    assert "aa02" in assets.preview()
    assert assets.up() == {"update": 4}, "the tier, the model, its service and that service's endpoint"

    assert assets.stack.outputs()["models"].value["trained"]["id"] == "trained:2"
    assert assets.up() == {}

    assets.stack.destroy()
    assert assets.files() == []
    assert descendants_of_supervisors(assets.home) == []
