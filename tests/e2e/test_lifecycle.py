"""The life of a service on this machine, through a real engine: deployed, left alone, changed under load, deleted."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.load import SteadyLoad
from tests.e2e.project import (
    ECHO,
    Project,
    answers,
    descendants_of_supervisors,
    eventually,
    revision_of,
)
from tests.ports import free_port


def change_code(project: Project) -> None:
    project.script.write_text(project.script.read_text() + "\n# changed\n")


def change_model(project: Project) -> None:
    project.model.write_bytes(project.model.read_bytes() + b"!")


def change_package(project: Project) -> None:
    project.sections.setdefault("environments", {})["more"] = {"clone": "minimal", "pip": ["tomli-w"]}
    project.service["inference"]["environment"] = "more"


def change_setting(project: Project) -> None:
    environments = project.sections.setdefault("environments", {})
    environments.setdefault("more", {"clone": "minimal"})["environmentVariables"] = {"LEVEL": 3}
    project.service["inference"]["environment"] = "more"


def test_a_second_up_changes_nothing(deployed: Project) -> None:
    outputs = deployed.outputs()

    assert deployed.score({"a": 1}) == {"echo": {"a": 1}, "version": 1}
    assert outputs["state"] == "Healthy"
    assert outputs["scoringUri"] == f"{deployed.url}/score"
    assert revision_of(deployed.url) == outputs["revision"]
    assert deployed.up() == {}
    assert deployed.up(refresh=True) == {}


@pytest.mark.parametrize("change", [change_code, change_model, change_package, change_setting])
def test_an_update_under_load_fails_no_request(deployed: Project, change: Callable[[Project], None]) -> None:
    before = deployed.outputs()["revision"]
    change(deployed)
    deployed.write()

    with SteadyLoad(deployed.port) as load:
        deployed.up()

    after = deployed.outputs()["revision"]
    assert after != before
    assert load.failures == []
    assert load.answers[before] > 0
    assert revision_of(deployed.url) == after
    assert set(load.answers) <= {before, after}


def test_what_the_old_revision_needed_goes_with_it(deployed: Project) -> None:
    deployed.service["inference"]["environment"] = "minimal"
    change_model(deployed)
    deployed.write()

    deployed.up()

    home = deployed.home / "test" / "demo"
    eventually(lambda: len(list(home.glob("services/echo/revisions/*"))) == 1, "the old revision is removed")
    eventually(lambda: len(list(home.glob("environments/[!.]*"))) == 1, "its environment is removed")
    eventually(lambda: len(list(home.glob("models/[!.]*"))) == 1, "its model is removed")


def test_a_preview_shows_the_change_and_touches_nothing(deployed: Project) -> None:
    files = deployed.files()
    deployed.model.write_bytes(b"other weights")

    text = deployed.preview()

    assert "contentDigest" in text
    assert "echo-service" in text
    deployed.script.write_text(deployed.script.read_text() + "# seen")
    assert "score.py" in deployed.preview()
    assert deployed.files() == files
    assert deployed.score() is not None
    deployed.up()


def test_a_failing_update_keeps_the_old_revision(deployed: Project) -> None:
    good = deployed.script.read_text()
    before = deployed.outputs()["revision"]
    deployed.script.write_text(ECHO.replace("    global started", "    raise RuntimeError('no weights today')"))

    with SteadyLoad(deployed.port) as load:
        text = deployed.failing_up()

    assert "RuntimeError: no weights today" in text
    assert "Failed" in text
    assert load.failures == []
    assert revision_of(deployed.url) == before
    deployed.script.write_text(good)
    deployed.up()
    assert revision_of(deployed.url) == before
    assert deployed.up() == {}


def test_a_port_changes_with_the_service_running(deployed: Project) -> None:
    old, new = deployed.port, free_port()
    deployed.service["deployment"]["port"] = new
    deployed.write()

    deployed.up()

    deployed.port, deployed.url = new, f"http://127.0.0.1:{new}"
    assert deployed.score(1)["echo"] == 1
    eventually(lambda: not answers(f"http://127.0.0.1:{old}/"), "the old port is closed")


def test_the_same_content_again_is_the_same_version(deployed: Project) -> None:
    deployed.model.write_bytes(b"first weights")
    deployed.up()

    assert deployed.stack.outputs()["models"].value["weights"]["id"] == "weights:1"


def test_destroy_leaves_nothing(project: Project) -> None:
    project.up()
    assert descendants_of_supervisors(project.home)

    project.stack.destroy()

    assert project.files() == []
    assert not answers(project.url)
    assert descendants_of_supervisors(project.home) == []
    assert project.stack.export_stack().deployment.get("resources", []) == []


def test_the_example_recognises_digits(project: Project) -> None:
    example = project.root / "examples" / "sklearn_mnist"
    assert (example / "model").is_dir(), "`make test` trains the example's model first"
    project.sections["environments"] = {"sklearn": {"clone": "minimal", "pip": ["scikit-learn==1.8.0"]}}
    project.sections["models"] = {"sklearn_mnist": {"path": "examples/sklearn_mnist/model"}}
    project.service["models"] = ["sklearn_mnist"]
    project.service["inference"] = {
        "entryScript": "score.py",
        "sourceDirectory": "examples/sklearn_mnist",
        "environment": "sklearn",
    }
    project.service["sampleRequest"] = "examples/sklearn_mnist/sample-request.json"
    project.write()

    project.up()

    assert project.score(json.loads(Path(example / "sample-request.json").read_text())) == [0, 1]
