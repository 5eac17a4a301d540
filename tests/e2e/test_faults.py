"""What a killed process, a restarted machine or a killed `up` leaves, and how the next `up` mends it."""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from provider.local import client
from provider.local.layout import ServicePaths
from tests.e2e.project import ECHO, Project, answers, descendants_of_supervisors, eventually
from tests.ports import is_free


def workspace(project: Project) -> Path:
    return project.home / "test" / "demo"


def servers(project: Project) -> list[int]:
    """The processes of the scoring server in the project's workspace."""
    return [pid for pid in descendants_of_supervisors(project.home) if "slipway_serving" in command_line(pid)]


def command_line(pid: int) -> list[str]:
    """A process' words; none where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


def supervisor(project: Project) -> list[int]:
    """The process of the service's supervisor."""
    state = json.loads((workspace(project) / "services" / "echo" / "supervisor.json").read_text())
    return [state["pid"]]


def kill(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_a_killed_server_is_started_again(deployed: Project) -> None:
    before = servers(deployed)
    kill(before)

    eventually(lambda: answers(f"{deployed.url}/"), "the service answers")
    assert set(servers(deployed)).isdisjoint(before)
    assert deployed.up(refresh=True) == {}


def test_a_killed_supervisor_is_found_and_the_service_deployed_again(deployed: Project) -> None:
    supervisors = supervisor(deployed)
    kill(supervisors)
    eventually(lambda: not descendants_of_supervisors(deployed.home), "its server ended with it")

    result = deployed.stack.up(refresh=True)

    assert "the supervisor of echo is not running: it will be started again" in result.stdout
    assert deployed.score() is not None
    assert deployed.up(refresh=True) == {}


def test_a_machine_that_was_restarted(deployed: Project) -> None:
    kill(supervisor(deployed))
    eventually(lambda: not descendants_of_supervisors(deployed.home), "no process is left")
    prefix = client.socket_prefix(ServicePaths(workspace(deployed), "echo"))
    sockets = list(client.socket_directory().glob(f"{prefix}*"))
    assert sockets
    for socket in sockets:  # they do not survive a restart
        socket.unlink()

    deployed.up(refresh=True)

    assert deployed.outputs()["state"] == "Healthy"
    assert deployed.score() is not None


def test_a_port_that_answers_as_something_else_is_found(deployed: Project) -> None:
    kill(supervisor(deployed))
    eventually(lambda: is_free(deployed.port), "nobody listens on its port")
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", deployed.port), http.server.SimpleHTTPRequestHandler
    ) as intruder:
        threading.Thread(target=intruder.serve_forever, daemon=True).start()
        text = deployed.failing_up(refresh=True)
        intruder.shutdown()

    assert f"port {deployed.port}" in text
    assert str(os.getpid()) in text
    deployed.up(refresh=True)
    assert deployed.score() is not None


def any_of(pattern: str) -> Callable[[Project], bool]:
    return lambda project: any(workspace(project).glob(pattern))


MOMENTS: dict[str, Callable[[Project], bool]] = {
    "the store is made": any_of("store/oci-layout"),
    "the model is copied": any_of("store/blobs/sha256/*"),
    "the environment is made": any_of("environments/*.partial-*"),
    "the environment is there": any_of("environments/*/bin/python"),
    "the supervisor starts": any_of("services/echo/*"),
    "the revision is prepared": any_of("services/echo/revisions/*"),
    "the server starts": lambda project: bool(servers(project)),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_up_that_was_killed_is_completed_by_the_next(project: Project, moment: str) -> None:
    up = project.start_up()
    eventually(lambda: MOMENTS[moment](project) or up.poll() is not None, moment)
    up.kill()
    up.communicate()

    project.stack.cancel()
    project.up(refresh=True)

    assert project.score() is not None
    assert project.up(refresh=True) == {}
    project.stack.destroy()
    assert project.files() == []
    assert descendants_of_supervisors(project.home) == []


def test_the_state_has_no_file_that_a_kill_could_cut_short(project: Project) -> None:
    project.up()

    # Pulumi writes a stack's file as a whole, but not the attributes that a file backend keeps beside it by default.
    assert list(project.state.rglob("stacks/**/test.json"))
    assert list(project.state.rglob("*.attrs")) == []


@pytest.mark.parametrize("moment", ["the supervisor starts", "the server starts"])
def test_an_up_that_was_killed_is_cleared_by_destroy(project: Project, moment: str) -> None:
    up = project.start_up()
    eventually(lambda: MOMENTS[moment](project) or up.poll() is not None, moment)
    up.kill()
    up.communicate()

    project.stack.cancel()
    project.stack.destroy(refresh=True)

    assert not answers(project.url)
    assert descendants_of_supervisors(project.home) == []


def test_an_update_that_was_killed_is_completed_by_the_next(project: Project) -> None:
    project.up()
    before = project.outputs()["revision"]
    project.script.write_text(ECHO.replace("VERSION = 1", "VERSION = 2"))
    up = project.start_up()
    revisions = workspace(project) / "services" / "echo" / "revisions"
    eventually(lambda: len(list(revisions.iterdir())) > 1 or up.poll() is not None, "the new revision is prepared")
    up.kill()
    up.communicate()

    project.stack.cancel()
    project.up(refresh=True)

    assert project.score()["version"] == 2
    assert project.outputs()["revision"] != before
    assert project.up(refresh=True) == {}
