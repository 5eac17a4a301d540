"""Mistakes, as a user of the real engine sees them: told before anything is touched."""

import os
import socket
import subprocess

import pytest
from pulumi import automation

from tests.e2e.project import Project


def refused(project: Project) -> str:
    """What a preview says that must fail; and nothing may have been touched."""
    project.write()
    with pytest.raises(automation.CommandError) as caught:
        project.preview()
    assert project.files() == []
    return str(caught.value)


def test_all_mistakes_of_the_configuration_are_shown_at_once(project: Project) -> None:
    project.service["models"] = ["wieghts"]
    project.service["computeTarget"] = "cloud"
    project.sections["registry"] = {"tier": "Gold"}

    text = refused(project)

    assert "the stack's configuration has 3 mistakes; nothing was changed:" in text
    assert "services.echo.models[0]: no model is named 'wieghts'; did you mean 'weights'?" in text
    assert "services.echo.computeTarget: no compute target is named 'cloud'; known: laptop" in text
    assert "registry.tier: input should be 'Basic', 'Standard' or 'Premium', not 'Gold'" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("def init():\n    pass\n", "run"),
        ("def run(data):\n    return data\n", "init"),
        ("def init(:\n", "line 1"),
    ],
)
def test_an_entry_script_that_cannot_work_is_found_by_reading_it(project: Project, script: str, message: str) -> None:
    project.script.write_text("import os\nos._exit(1)\n" + script if "(:" not in script else script)

    text = refused(project)

    assert "services.echo.inference.entryScript: " in text
    assert message in text


def test_a_model_that_is_missing(project: Project) -> None:
    project.model.unlink()
    assert "models.weights.path: " in refused(project)


def test_a_port_that_another_program_holds_is_named_with_its_pid(project: Project) -> None:
    with socket.create_server(("127.0.0.1", project.port)):
        text = refused(project)

    assert f"port {project.port}" in text
    assert str(os.getpid()) in text


def test_a_package_that_does_not_resolve_leaves_nothing(project: Project) -> None:
    project.sections["environments"] = {"odd": {"clone": "minimal", "pip": ["slipway-serving-no-such-package"]}}
    project.service["inference"]["environment"] = "odd"
    project.write()

    text = project.failing_up()

    assert "environment odd-packages: its packages do not resolve. The resolver says:" in text
    assert "slipway-serving-no-such-package" in text
    assert not (project.home / "test" / "demo" / "services").exists()
    project.stack.destroy()
    assert project.files() == []


def test_a_secret_where_a_plain_value_is_expected(project: Project) -> None:
    subprocess.run(
        ["pulumi", "config", "set", "--secret", "--path", "slipway:registry.tier", "Basic", "--stack", "test"],
        cwd=project.root,
        env={**os.environ, **project.environment},
        check=True,
    )
    with pytest.raises(
        automation.CommandError, match="slipway:registry: holds a secret where a plain value is expected"
    ):
        project.preview()
