"""What goes wrong on a Docker host: each fault is said with its cause, and what serves goes on; `up` mends it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pulumi import automation

from provider.certificates import issue
from provider.registry_host.spec import Files
from tests.docker.engine import Docker
from tests.docker.staged import StagedProject
from tests.e2e.load import SteadyLoad
from tests.e2e.project import ECHO, answers, eventually, revision_of
from tests.ports import free_port, is_free


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, docker: Docker, images: Path) -> Iterator[StagedProject]:
    """One deployed project for the tests of this module, which leave it in good state."""
    project = StagedProject(tmp_path_factory.mktemp("faults"), docker, images)
    project.up()
    yield project
    project.clear()


@pytest.fixture
def good(deployed: StagedProject) -> Iterator[StagedProject]:
    """The deployed project; its script and configuration are put back afterwards, and deployed."""
    script, sections = deployed.script.read_text(), json.dumps(deployed.sections)
    yield deployed
    deployed.script.write_text(script)
    deployed.sections = json.loads(sections)
    deployed.write()
    deployed.up(refresh=True)
    assert deployed.score(1)["echo"] == 1


def fails_and_serves(project: StagedProject, *words: str) -> None:
    """An `up` that fails with `words`, while the revision that serves loses no request."""
    before = revision_of(project.url)
    project.write()
    with SteadyLoad(project.port) as load:
        said = project.failing_up()
    for word in words:
        assert word in said
    assert load.failures == []
    assert set(load.answers) == {before}


def with_init(statement: str) -> str:
    return ECHO.replace("    global started", f"    {statement}")


def test_a_container_that_exits_at_once(good: StagedProject) -> None:
    good.script.write_text(with_init("import os; print('no licence', flush=True); os._exit(7)"))
    fails_and_serves(good, "Failed", "exit code 7", "no licence", "goes on serving")


def test_a_container_that_takes_more_memory_than_it_may(good: StagedProject) -> None:
    good.deployment["containerResourceRequirements"] = {"memoryInGB": 0.0625}
    good.script.write_text(with_init("global kept; kept = bytearray(300 * 2**20)"))
    fails_and_serves(good, "OutOfMemory", "64")


def test_a_container_that_never_gets_ready(good: StagedProject) -> None:
    good.service["startupTimeoutSeconds"] = 5
    good.script.write_text(with_init("import threading; threading.Event().wait()"))
    fails_and_serves(good, "not healthy within 5 s")


def test_a_device_that_the_host_has_not(good: StagedProject) -> None:
    good.sections["computeTargets"]["box"]["devices"] = {"fpga": "/dev/not-there"}
    good.deployment["devices"] = ["fpga"]
    fails_and_serves(good, "Unschedulable (DeviceMissing)", "/dev/not-there", "goes on serving")


def test_a_device_that_the_host_has(good: StagedProject) -> None:
    good.sections["computeTargets"]["box"]["devices"] = {"clock": "/dev/null"}
    good.deployment["devices"] = ["clock"]
    good.write()
    good.up()

    assert good.score(1)["echo"] == 1
    assert good.up(refresh=True) == {}
    good.docker.run("stop", *good.containers())
    assert good.up(refresh=True) != {}
    assert good.score(1)["echo"] == 1


def test_a_gpu_that_the_host_has_not(good: StagedProject) -> None:
    good.sections["computeTargets"]["box"]["gpus"] = 1
    good.deployment["gpuCores"] = 1
    fails_and_serves(good, "Unschedulable (GpuMissing)", 'could not select device driver "nvidia"', "NVIDIA Container")


def test_more_cpus_than_the_host_has(good: StagedProject) -> None:
    good.deployment["containerResourceRequirements"] = {"cpu": 500}
    host = json.loads(good.docker.run("info", "--format={{json .}}"))
    asked = f"500 CPUs are asked for, and {host['Name']} has {host['NCPU']}"
    fails_and_serves(good, "Unschedulable (NotEnoughCpus)", asked, "use a larger host")


def test_a_port_of_another_program(good: StagedProject) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        good.deployment["port"] = other.getsockname()[1]
        fails_and_serves(good, str(good.deployment["port"]))


def test_an_engine_that_is_away(good: StagedProject) -> None:
    box = good.sections["computeTargets"]["box"]
    right, box["host"] = box["host"], "unix:///nowhere/docker.sock"
    good.write()

    said = good.failing_up()

    assert "computeTargets.box.host: the Docker engine's socket /nowhere/docker.sock does not exist" in said
    assert good.score(1)["echo"] == 1
    box["host"] = right
    good.write()
    # A refresh goes by the address that Pulumi was told last, which is not the wrong one.
    assert good.up(refresh=True) == {}


def test_images_that_are_gone_from_the_registry_and_the_host(good: StagedProject) -> None:
    good.docker.run("rm", "--force", *good.containers())
    good.docker.run("image", "rm", "--force", *images_of_services(good))
    shutil.rmtree(repositories(good) / "services")

    assert good.up(refresh=True) != {}

    assert good.score(1)["echo"] == 1


def repositories(project: StagedProject) -> Path:
    """Where the stack's registry has its repositories."""
    return project.home / "test" / "demo" / "registry" / "data" / "docker" / "registry" / "v2" / "repositories"


def images_of_services(project: StagedProject) -> list[str]:
    shown = "{{.Repository}}@{{.Digest}}"
    found = project.docker.run("image", "ls", "--digests", f"--format={shown}").split()
    return [image for image in found if f":{project.sections['registry']['port']}/services/" in image]


def only_the_image(project: StagedProject) -> None:
    """Makes the image of a changed script, in the registry, and no more: as an `up` that is cut off there."""
    project.script.write_text(project.script.read_text() + f"\n# {free_port()}\n")
    project.up(target=["**ServiceImage::**"])


def test_a_registry_that_is_away_when_the_image_is_pulled(good: StagedProject) -> None:
    only_the_image(good)
    folder, port = good.home / "test" / "demo" / "registry", good.sections["registry"]["port"]
    os.kill(json.loads(Files(folder).status.read_text())["keeper"], signal.SIGTERM)
    eventually(lambda: is_free(port), "the registry is away")

    fails_and_serves(good, f"the image 127.0.0.1:{port}/services/echo", "cannot be pulled", "connection refused")

    good.up(refresh=True)
    assert revision_of(good.url) == good.outputs()["revision"]


def test_an_image_that_is_gone_from_the_registry_when_it_is_pulled(good: StagedProject) -> None:
    only_the_image(good)
    shutil.rmtree(repositories(good) / "services")

    fails_and_serves(good, f"the image 127.0.0.1:{good.sections['registry']['port']}/services/echo", "unknown")

    good.up(refresh=True)
    assert revision_of(good.url) == good.outputs()["revision"]


def test_two_deployments_at_once(good: StagedProject) -> None:
    good.script.write_text(good.script.read_text() + "\n# two\n")
    first = good.start_up()
    eventually(lambda: list((good.state / ".pulumi" / "locks").rglob("*.json")), "the first has the lock")

    said = good.failing_up()

    assert "locked" in said
    output = first.communicate(timeout=600)[0]
    assert first.returncode == 0, output


@pytest.mark.parametrize("moment", ["image", "container", "endpoint", "route"])
def test_a_killed_up_is_completed_by_the_next(good: StagedProject, moment: str) -> None:
    before = revision_of(good.url)
    good.script.write_text(good.script.read_text() + f"\n# killed at {moment}\n")
    word = {"image": "ServiceImage", "container": "docker:index:Container", "endpoint": "Endpoint", "route": "Route"}
    with SteadyLoad(good.port) as load:
        process = good.start_up()
        assert process.stdout is not None
        for line in process.stdout:
            if word[moment] in line and ("creating" in line or "updating" in line):
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        good.stack.cancel()
        good.stack.refresh(clear_pending_creates=True)
        good.up()
    assert load.failures == []
    assert revision_of(good.url) != before
    assert len(good.containers()) == 1


class TestRefresh:
    """What was changed by hand is found, and mended by `up --refresh`."""

    @staticmethod
    def mended(project: StagedProject) -> None:
        assert project.up(refresh=True) != {}
        assert project.score(1)["echo"] == 1
        assert project.outputs()["state"] == "Healthy"

    def test_a_stopped_container(self, good: StagedProject) -> None:
        good.docker.run("stop", *good.containers())
        self.mended(good)

    def test_a_removed_container(self, good: StagedProject) -> None:
        good.docker.run("rm", "--force", *good.containers())
        self.mended(good)

    def test_a_removed_router(self, good: StagedProject) -> None:
        good.docker.run("rm", "--force", "slipway-demo-router")
        self.mended(good)

    def test_a_container_with_another_limit(self, good: StagedProject) -> None:
        good.deployment["containerResourceRequirements"] = {"memoryInGB": 0.5}
        good.write()
        good.up()
        (container,) = good.containers()
        good.docker.run("update", "--memory=256m", "--memory-swap=256m", container)

        self.mended(good)

        assert good.docker.run("inspect", "--format={{.HostConfig.Memory}}", container) == str(512 * 2**20)

    def test_a_renamed_service_container_is_replaced(self, good: StagedProject) -> None:
        (container,) = good.containers()
        good.docker.run("rename", container, "something-else")

        self.mended(good)


def test_a_container_that_crashes_comes_back_by_itself(good: StagedProject) -> None:
    (container,) = good.containers()
    # It may end before the command in it has.
    good.docker.attempt("exec", container, "python3", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")

    count = "--format={{.RestartCount}}"
    eventually(lambda: int(good.docker.run("inspect", count, container)) >= 1, "it is started again")
    eventually(lambda: answers(f"{good.url}/ready"), "it answers again")


FAULT = "/run/slipway/fault"
"""In the volume that is left when a container ends."""
CRASHING = ECHO.replace(
    "    global started", f"    os.path.exists('{FAULT}') and os._exit(9)\n    global started"
).replace("    return", f"    if data == '\"crash\"': open('{FAULT}', 'w').close(); os._exit(9)\n    return")
"""Ends when it is told to, and does not get up again."""


def test_a_container_that_crashes_long_after_it_was_healthy(good: StagedProject) -> None:
    good.script.write_text(CRASHING)
    good.up()
    (container,) = good.containers()
    with contextlib.suppress(OSError):
        good.score("crash")
    count = "--format={{.RestartCount}}"
    eventually(lambda: int(good.docker.run("inspect", count, container)) >= 5, "it crashes again and again")

    assert "is Failed (CrashLoop): the container" in good.stack.refresh().stdout

    # What made it crash is mended. The engine may start it before the deployment does.
    good.docker.run("exec", "slipway-demo-router", "rm", FAULT)
    good.up(refresh=True)
    eventually(lambda: answers(f"{good.url}/ready"), "it answers again")
    assert good.outputs()["state"] == "Healthy"
    assert good.up(refresh=True) == {}


def certificate(name: str, days_ago: int) -> tuple[str, str]:
    """One for `name` and its key, which is valid for a day since `days_ago`."""
    then = datetime.now(UTC) - timedelta(days=days_ago)
    authority = issue.authority("Theirs", 100, then)
    made = issue.server(authority.certificate, authority.private_key, name, [name], 1, then)
    return made.certificate, made.private_key


@pytest.mark.parametrize(
    ("name", "days_ago", "words"),
    [
        ("digits.example", 30, "expired at"),
        ("others.example", 0, "is not for digits.example: it has others.example"),
    ],
)
def test_a_certificate_that_no_client_would_take(good: StagedProject, name: str, days_ago: int, words: str) -> None:
    for field, text in zip(("cert", "certKey"), certificate(name, days_ago), strict=True):
        good.stack.set_config(field, automation.ConfigValue(text, secret=True))
    good.deployment.update(
        {"sslEnabled": True, "cname": "digits.example", "sslCert": {"secret": "cert"}, "sslKey": {"secret": "certKey"}}
    )
    good.write()

    with pytest.raises(automation.CommandError, match=words):
        good.preview()

    assert good.score(1)["echo"] == 1


def test_shares_of_the_traffic_that_do_not_add_up(good: StagedProject) -> None:
    good.service["deployments"] = {"blue": {}, "green": {}}
    good.service["traffic"] = {"blue": 90, "green": 20}
    fails_and_serves(good, "services.echo", "has `traffic` that adds up to 110, not to 100")


def test_a_wrong_certificate_is_refused_in_the_preview(good: StagedProject) -> None:
    good.stack.set_config("cert", automation.ConfigValue("-----BEGIN CERTIFICATE-----\nno\n-----END", secret=True))
    good.stack.set_config("certKey", automation.ConfigValue("no key", secret=True))
    good.deployment.update({"sslEnabled": True, "sslCert": {"secret": "cert"}, "sslKey": {"secret": "certKey"}})
    good.write()

    with pytest.raises(automation.CommandError) as caught:
        good.preview()

    assert "certificate" in str(caught.value)
    assert "no key" not in str(caught.value)
    assert good.score(1)["echo"] == 1


def test_a_key_that_no_header_can_hold_is_refused_in_the_preview(good: StagedProject) -> None:
    good.stack.set_config("spaced", automation.ConfigValue("canary and more", secret=True))
    good.deployment.update({"authEnabled": True, "primaryKey": {"secret": "spaced"}})
    good.write()

    with pytest.raises(automation.CommandError) as caught:
        good.preview()

    assert "primaryKey" in str(caught.value)
    assert "canary" not in str(caught.value)
