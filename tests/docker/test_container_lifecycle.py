"""The life of a service on a Docker host: deployed, left alone, changed under load, shifted, deleted. All with a real
engine, a real registry and a real router."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pulumi import automation

from tests.docker.engine import Docker
from tests.docker.staged import StagedProject, send
from tests.e2e.load import SteadyLoad
from tests.e2e.project import ECHO, answers, free_port, revision_of

CONNECTIONS = 8


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, docker: Docker, images: Path) -> Iterator[StagedProject]:
    """One deployed project for the tests of this module, which leave it in good state."""
    project = StagedProject(tmp_path_factory.mktemp("deployed"), docker, images)
    project.up()
    yield project
    project.clear()


def change_code(project: StagedProject) -> None:
    project.script.write_text(project.script.read_text() + "\n# changed\n")


def change_model(project: StagedProject) -> None:
    project.model.write_bytes(project.model.read_bytes() + b"!")


def change_package(project: StagedProject) -> None:
    project.sections.setdefault("environments", {})["more"] = {"clone": "minimal", "pip": ["tomli-w"]}
    project.service["inference"]["environment"] = "more"


def change_variable(project: StagedProject) -> None:
    environments = project.sections.setdefault("environments", {})
    environments.setdefault("more", {"clone": "minimal"})["environmentVariables"] = {"LOG_LEVEL_OF_MINE": 3}
    project.service["inference"]["environment"] = "more"


def test_a_second_up_changes_nothing(deployed: StagedProject) -> None:
    outputs = deployed.outputs()

    assert deployed.score({"a": 1}) == {"echo": {"a": 1}, "version": 1}
    assert outputs["state"] == "Healthy"
    assert outputs["scoringUri"] == f"{deployed.url}/score"
    assert revision_of(deployed.url) == outputs["revision"]
    assert deployed.up() == {}
    assert deployed.up(refresh=True) == {}


def test_what_runs_is_what_was_asked_for(deployed: StagedProject) -> None:
    (name,) = deployed.containers()
    found = json.loads(deployed.docker.run("inspect", name))[0]

    host = found["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
    assert int(found["Config"]["User"].split(":")[0]) >= 10_000
    assert list(found["NetworkSettings"]["Networks"]) == ["slipway-demo"]
    assert found["NetworkSettings"]["Ports"] == {"5001/tcp": None}, "the router alone is reached from outside"


def test_a_preview_tells_what_changed_and_what_will_run(deployed: StagedProject) -> None:
    before = deployed.outputs()["revision"]
    change_code(deployed)

    told = deployed.preview()
    deployed.up()

    after, (container,) = deployed.outputs()["revision"], deployed.containers()
    assert re.search(r"~ score\.py: ", told), "why"
    assert f'~ revision: "{before}" => "{after}"' in told
    assert re.search(f'name +: "{container}"', told), "the container that came"
    # The route's `containers` are the ids of those that come.
    assert set(re.findall(r"(\w+) *: .*\[unknown\]", told)) == {"image", "containers"}, told
    assert "::box-router" not in told, "it stays as it is"


@pytest.mark.parametrize("change", [change_code, change_model, change_package, change_variable])
def test_an_update_under_load_fails_no_request(
    deployed: StagedProject, change: Callable[[StagedProject], None]
) -> None:
    before = deployed.outputs()["revision"]
    change(deployed)
    deployed.write()

    with SteadyLoad(deployed.port, CONNECTIONS) as load:
        deployed.up()

    after = deployed.outputs()["revision"]
    assert after != before
    assert load.failures == []
    assert load.answers[before] > 0
    assert revision_of(deployed.url) == after
    assert set(load.answers) <= {before, after}
    (container,) = deployed.containers()
    assert after[:8] in container


def test_limits_change_in_place_under_load(deployed: StagedProject) -> None:
    deployed.deployment["containerResourceRequirements"] = {"cpu": 0.5, "memoryInGB": 0.25}
    deployed.write()
    deployed.up()
    before, (container,) = deployed.outputs()["revision"], deployed.containers()
    identity = deployed.docker.run("inspect", "--format={{.Id}}", container)
    deployed.deployment["containerResourceRequirements"] = {"cpu": 0.9, "memoryInGB": 0.5}
    deployed.write()

    with SteadyLoad(deployed.port, CONNECTIONS) as load:
        deployed.up()

    assert load.failures == []
    assert deployed.outputs()["revision"] == before
    found = json.loads(deployed.docker.run("inspect", container))[0]
    assert found["Id"] == identity, "the same container"
    assert found["HostConfig"]["Memory"] == 512 * 2**20
    assert (found["HostConfig"]["CpuQuota"], found["HostConfig"]["CpuPeriod"]) == (90_000, 100_000)
    assert deployed.up() == {}


def test_replicas_come_and_go_under_load(deployed: StagedProject) -> None:
    for count in (3, 1):
        deployed.deployment["numReplicas"] = count
        deployed.write()
        with SteadyLoad(deployed.port, CONNECTIONS) as load:
            deployed.up()
        assert load.failures == []
        assert len(deployed.containers()) == count


def test_a_failing_update_keeps_the_old_revision(deployed: StagedProject) -> None:
    good = deployed.script.read_text()
    before = deployed.outputs()["revision"]
    deployed.script.write_text(ECHO.replace("    global started", "    raise RuntimeError('no weights today')"))

    with SteadyLoad(deployed.port, CONNECTIONS) as load:
        text = deployed.failing_up()

    assert "RuntimeError: no weights today" in text
    assert "Failed" in text
    assert load.failures == []
    assert revision_of(deployed.url) == before
    deployed.script.write_text(good)
    deployed.up()
    assert revision_of(deployed.url) == before
    assert len(deployed.containers()) == 1, "what failed is gone"
    assert deployed.up() == {}


def test_a_port_changes_with_the_service_running(deployed: StagedProject) -> None:
    old, new = deployed.port, free_port()
    router = deployed.docker.run("inspect", "--format={{.Id}} {{.State.StartedAt}}", "slipway-demo-router")
    deployed.deployment["port"] = new
    deployed.write()

    deployed.up()

    deployed.port, deployed.url = new, f"http://127.0.0.1:{new}"
    assert deployed.score(1)["echo"] == 1
    assert not answers(f"http://127.0.0.1:{old}/")
    assert deployed.docker.run("inspect", "--format={{.Id}} {{.State.StartedAt}}", "slipway-demo-router") == router


def version_script(version: int) -> str:
    return ECHO.replace("VERSION = 1", f"VERSION = {version}")


@pytest.fixture
def split(deployed: StagedProject) -> Iterator[StagedProject]:
    """The project with two deployments of another version each."""
    before = json.dumps(deployed.sections)
    for name, version in (("blue", 1), ("green", 2)):
        folder = deployed.root / name
        folder.mkdir(exist_ok=True)
        (folder / "score.py").write_text(version_script(version))
    deployed.service["deployments"] = {
        name: {"inference": {"entryScript": "score.py", "sourceDirectory": name}} for name in ("blue", "green")
    }
    yield deployed
    deployed.sections = json.loads(before)
    deployed.write()


def versions(project: StagedProject, count: int = 100, **headers: str) -> dict[int, int]:
    """How many of `count` requests each version answered."""
    seen: dict[int, int] = {}
    for _ in range(count):
        status, answer = send(f"{project.url}/score", 1, **headers)
        assert status == 200
        seen[answer["version"]] = seen.get(answer["version"], 0) + 1
    return seen


def shift(project: StagedProject, **traffic: int) -> dict[str, int]:
    project.service["traffic"] = traffic
    project.write()
    with SteadyLoad(project.port, CONNECTIONS) as load:
        changes = project.up()
    assert load.failures == []
    return changes


def test_traffic_is_split_and_shifted_under_load(split: StagedProject) -> None:
    shift(split, blue=90, green=10)

    seen = versions(split, 200)
    assert 5 <= seen[2] <= 40, "ten in a hundred"
    told = split.outputs()["deployments"]
    assert {name: (item["state"], item["traffic"]) for name, item in told.items()} == {
        "blue": ("Healthy", 90),
        "green": ("Healthy", 10),
    }
    assert versions(split, 20, azureml_model_deployment="green") == {2: 20}
    assert len(split.containers()) == 2

    assert shift(split, green=100) == {"update": 1}, "the route alone"

    assert versions(split, 50) == {2: 50}
    assert versions(split, 10, azureml_model_deployment="blue") == {1: 10}


def test_back_to_one_deployment(deployed: StagedProject) -> None:
    with SteadyLoad(deployed.port, CONNECTIONS) as load:
        deployed.up()

    assert load.failures == []
    assert versions(deployed, 20) == {1: 20}
    assert len(deployed.containers()) == 1


def secured(project: StagedProject) -> dict[str, Any]:
    outputs = project.stack.outputs()["services"].value["echo"]
    return {"key": outputs["primaryKey"], "authority": outputs["caCertificate"]}


def test_tls_and_keys(deployed: StagedProject) -> None:
    deployed.deployment.update({"sslEnabled": True, "authEnabled": True})
    deployed.write()
    deployed.up()
    url = f"https://127.0.0.1:{deployed.port}/score"
    access = secured(deployed)

    assert deployed.outputs()["scoringUri"] == url
    assert send(url, 1, **access) == (200, {"echo": 1, "version": 1})
    assert send(url, 1, authority=access["authority"])[0] == 401
    assert send(url, 1, key="wrong", authority=access["authority"])[0] == 403
    (container,) = deployed.containers()
    for place in (container, "slipway-demo-router"):
        assert access["key"] not in deployed.docker.run("inspect", place)
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        send(url, 1, key=access["key"], authority=None)
    assert deployed.up() == {}

    del deployed.deployment["sslEnabled"], deployed.deployment["authEnabled"]
    deployed.write()
    deployed.up()
    assert deployed.score(1)["echo"] == 1


def test_secrets_are_files_that_no_inspection_shows(deployed: StagedProject) -> None:
    deployed.stack.set_config("token", deployed_secret("canary-one"))
    deployed.deployment["secrets"] = {"token": {"secret": "token"}}
    good = deployed.script.read_text()
    deployed.script.write_text(
        "from pathlib import Path\ndef init(): pass\ndef run(data): return Path('/run/secrets/token').read_text()\n"
    )
    deployed.write()
    deployed.up()

    assert deployed.score(1) == "canary-one"
    (container,) = deployed.containers()
    assert "canary" not in deployed.docker.run("inspect", container)
    kept = [file for file in deployed.state.rglob("*") if file.is_file()]
    assert kept
    assert [file for file in kept if b"canary" in file.read_bytes()] == []

    deployed.stack.set_config("token", deployed_secret("canary-two"))
    with SteadyLoad(deployed.port, CONNECTIONS) as load:
        deployed.up()
    assert load.failures == []
    assert deployed.score(1) == "canary-two"

    deployed.script.write_text(good)
    del deployed.deployment["secrets"]
    deployed.write()
    deployed.up()


def deployed_secret(value: str) -> Any:
    return automation.ConfigValue(value, secret=True)


def test_destroy_leaves_nothing(deployed: StagedProject) -> None:
    deployed.stack.destroy()

    assert deployed.left() == {"containers": [], "volumes": [], "networks": [], "images": [], "files": []}
    assert not answers(deployed.url)
    deployed.up()
    assert deployed.score(1)["echo"] == 1
