"""The supervisor with real processes, which run the fake server."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import socket
import threading
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from provider.local import client, listener, probe
from provider.local.instance import Instance
from provider.local.layout import ServicePaths
from provider.resource import ResourceError
from tests.unit.local.conftest import DEADLINE, Service, eventually, free_port, get, is_running, kill


@pytest.fixture
def holder() -> Iterator[socket.socket]:
    """Another program's listening socket."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening


def test_a_service_is_healthy_when_it_serves(service: Service) -> None:
    status = service.deploy(service.revision("aaaa"))
    assert (status["reason"], status["active"], status["serving"]) == ("Serving", "aaaa", "aaaa")
    assert get(service.port)["revision"] == "aaaa"


def test_connections_are_refused_until_the_first_revision_is_ready(service: Service) -> None:
    service.apply(service.revision("aaaa", FAKE_START="hang"))
    with pytest.raises(urllib.error.URLError, match="refused"):
        get(service.port)


def test_an_update_replaces_the_revision_and_removes_the_old_one(service: Service) -> None:
    old = service.deploy(service.revision("aaaa"))["processes"][0]
    service.deploy(service.revision("bbbb"))
    eventually(lambda: not service.paths.revision("aaaa").exists(), "removal of the old revision")
    assert get(service.port)["revision"] == "bbbb"
    assert not is_running(old)


def test_applying_what_is_active_changes_nothing(service: Service) -> None:
    first = service.deploy(service.revision("aaaa"))
    assert service.deploy("aaaa")["processes"] == first["processes"]


def test_an_update_by_a_process_that_ignores_drain_ends_it_by_force(service: Service) -> None:
    old = service.deploy(service.revision("aaaa", FAKE_DRAIN="ignore"), drainSeconds=0)["processes"][0]
    service.apply(service.revision("bbbb"), drainSeconds=0)
    eventually(lambda: not is_running(old), "the end of the old process")
    assert service.until("Healthy")["active"] == "bbbb"


@pytest.mark.parametrize(
    ("behaviour", "wish", "reason", "message"),
    [
        ({"FAKE_START": "exit:7"}, {}, "ExitedAtStart", "exit code 7"),
        ({"FAKE_START": "fail"}, {}, "InitError", "init() raised ValueError: no model"),
        ({"FAKE_START": "hang"}, {"startupTimeoutSeconds": 0.2}, "StartupTimeout", "did not return within 0.2 s"),
        ({"FAKE_REVISION": "cccc"}, {}, "WrongRevision", "revision cccc answered where bbbb was started"),
        ({"FAKE_SCORE": "500"}, {}, "SampleRequestFailed", "answered with 500"),
    ],
)
def test_a_revision_that_fails_leaves_the_old_one_serving(
    service: Service, behaviour: dict[str, str], wish: dict[str, float], reason: str, message: str
) -> None:
    service.deploy(service.revision("aaaa"))
    service.apply(service.revision("bbbb", sample=b"{}", **behaviour), **wish)
    status = service.until("Failed")
    assert (status["reason"], status["serving"]) == (reason, "aaaa")
    assert message in status["message"]
    assert get(service.port)["revision"] == "aaaa"


def test_a_failure_tells_exit_code_and_last_lines(service: Service) -> None:
    service.apply(service.revision("aaaa", FAKE_START="exit:7"))
    cause = service.until("Failed")["cause"]
    assert (cause["exit_code"], cause["log"]) == (7, ["revision aaaa is starting", "giving up"])
    assert cause["hint"]


def test_a_failure_that_the_server_tells_keeps_its_traceback(service: Service) -> None:
    service.apply(service.revision("aaaa", FAKE_START="fail"))
    assert service.until("Failed")["cause"]["traceback"] == ["ValueError: no"]


def test_a_missing_interpreter_is_a_failure_with_a_remedy(service: Service) -> None:
    service.revision("aaaa")
    spec = service.paths.revision("aaaa") / "spec.json"
    spec.write_text(spec.read_text().replace('"argv": ["', '"argv": ["/nowhere'))
    service.apply("aaaa")
    status = service.until("Failed")
    assert status["reason"] == "InterpreterMissing"
    assert "pulumi up" in status["cause"]["hint"]


def test_going_back_to_the_active_revision_ends_a_rollout(service: Service) -> None:
    service.deploy(service.revision("aaaa"))
    service.apply(service.revision("bbbb", FAKE_START="hang"))
    assert service.apply("aaaa")["state"] == "Healthy"
    assert not service.paths.revision("bbbb").exists()


def test_going_back_to_the_active_revision_clears_a_failure(service: Service) -> None:
    service.deploy(service.revision("aaaa"))
    service.apply(service.revision("bbbb", FAKE_START="exit:1"))
    service.until("Failed")
    assert service.apply("aaaa")["state"] == "Healthy"


def test_a_newer_revision_takes_the_place_of_one_that_is_starting(service: Service) -> None:
    service.apply(service.revision("aaaa", FAKE_START="hang"))
    assert service.deploy(service.revision("bbbb"))["active"] == "bbbb"
    assert service.status["revisions"] == ["bbbb"]


def test_back_and_forth_keeps_the_directory_that_is_wanted_again(service: Service) -> None:
    service.deploy(service.revision("aaaa", FAKE_DRAIN="ignore"), drainSeconds=0)
    service.deploy(service.revision("bbbb"), drainSeconds=0)
    service.command("prepare", revision="aaaa")  # while it still drains
    eventually(lambda: len(service.status["processes"]) == 1, "the end of the old process")
    assert service.deploy("aaaa")["active"] == "aaaa"


def test_retry_starts_what_had_failed(service: Service) -> None:
    service.apply(service.revision("aaaa", FAKE_START="exit:1"), run="first")
    assert service.until("Failed")["run"] == "first"
    spec = service.paths.revision("aaaa") / "spec.json"
    spec.write_text(spec.read_text().replace("exit:1", ""))
    service.command("retry", run="second")
    assert service.until("Healthy")["run"] == "second"


def test_retry_leaves_what_serves_alone(service: Service) -> None:
    first = service.deploy(service.revision("aaaa"))
    assert service.command("retry", run="x")["processes"] == first["processes"]


def test_a_server_that_is_killed_is_restarted(service: Service) -> None:
    first = service.deploy(service.revision("aaaa"))["processes"][0]
    kill(first)
    status = service.until("Healthy", restarts=1)
    assert status["processes"] != [first]
    assert get(service.port)["revision"] == "aaaa"


def test_requests_wait_while_the_server_is_restarted(service: Service) -> None:
    first = service.deploy(service.revision("aaaa"))["processes"][0]
    kill(first)
    assert get(service.port)["revision"] == "aaaa"  # from the kernel's queue


def test_a_server_that_no_longer_answers_as_it_should_is_restarted(service: Service, tmp_path: Path) -> None:
    ill = tmp_path / "ill"
    first = service.deploy(service.revision("aaaa", FAKE_HEALTH=str(ill)))["processes"][0]
    ill.touch()
    eventually(lambda: not is_running(first), "the end of the process that is ill")
    ill.unlink()
    assert service.until("Healthy")["restarts"] >= 1


@pytest.mark.parametrize(("number", "blamed"), [(errno.EMFILE, False), (errno.ECONNREFUSED, True)])
def test_a_supervisor_without_descriptors_does_not_blame_its_server(
    monkeypatch: pytest.MonkeyPatch, number: int, blamed: bool
) -> None:
    async def failing(*_: Any) -> NoReturn:
        raise OSError(number, "no connection")

    monkeypatch.setattr(probe, "_exchange", failing)
    kept = Instance({"revision": "aaaa"}, cast(Any, None), Path(), cast(Any, None))
    assert (asyncio.run(kept._trouble(60.0)) is not None) == blamed


def test_a_service_is_unhealthy_while_its_server_cannot_be_restarted(service: Service) -> None:
    first = service.deploy(service.revision("aaaa"))["processes"][0]
    spec = service.paths.revision("aaaa") / "spec.json"
    service.apply("aaaa")
    spec.write_text(spec.read_text().replace('"environment": {', '"environment": {"FAKE_START": "exit:9", '))
    service.apply("aaaa")
    kill(first)
    status = service.until("Unhealthy", reason="ExitedAtStart")
    assert (status["serving"], status["cause"]["exit_code"]) == (None, 9)


def test_a_new_revision_heals_a_service_that_cannot_be_restarted(service: Service) -> None:
    first = service.deploy(service.revision("aaaa"))["processes"][0]
    spec = service.paths.revision("aaaa") / "spec.json"
    spec.write_text(spec.read_text().replace('"environment": {', '"environment": {"FAKE_START": "exit:9", '))
    service.apply("aaaa")
    kill(first)
    service.until("Unhealthy", reason="ExitedAtStart")
    assert service.deploy(service.revision("bbbb"))["serving"] == "bbbb"


def test_a_change_of_port_moves_the_service(service: Service) -> None:
    service.deploy(service.revision("aaaa"))
    old, service.port = service.port, free_port()
    service.apply("aaaa")
    assert service.until("Healthy", port=service.port)["active"] == "aaaa"
    assert get(service.port)["revision"] == "aaaa"
    eventually(lambda: _refuses(old), "the end of the old port")
    assert service.paths.revision("aaaa").is_dir()


def test_a_port_that_is_taken_is_refused_and_changes_nothing(service: Service, holder: socket.socket) -> None:
    service.deploy(service.revision("aaaa"))
    with pytest.raises(ResourceError, match=r"port \d+ of 127.0.0.1 cannot be used"):
        service.apply(service.revision("bbbb"), port=holder.getsockname()[1])
    assert service.status["desired"] == "aaaa"
    assert get(service.port)["revision"] == "aaaa"


def test_servers_end_with_a_supervisor_that_is_killed(service: Service) -> None:
    status = service.deploy(service.revision("aaaa"))
    kill(status["pid"])
    eventually(lambda: not is_running(status["processes"][0]), "the end of the orphan")
    assert not client.alive(service.paths)


def test_a_server_that_hangs_ends_with_its_supervisor_too(service: Service) -> None:
    status = service.apply(service.revision("aaaa", FAKE_START="hang"))
    kill(status["pid"])
    eventually(lambda: not list(client.orphans(service.paths)), "the end of the orphan")


def test_a_supervisor_that_was_killed_is_replaced(service: Service) -> None:
    kill(service.deploy(service.revision("aaaa"))["pid"])
    assert service.deploy("aaaa")["active"] == "aaaa"
    assert get(service.port)["revision"] == "aaaa"


def test_there_is_one_supervisor_however_often_it_is_asked_for(service: Service) -> None:
    service.revision("aaaa")
    pids: set[int] = set()
    threads = [threading.Thread(target=lambda: pids.add(service.apply("aaaa")["pid"])) for _ in range(3)]
    service.apply("aaaa")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pids == {service.status["pid"]}


def test_stop_ends_everything(service: Service) -> None:
    status = service.deploy(service.revision("aaaa"))
    service.command("stop")
    eventually(lambda: not is_running(status["pid"]), "the end of the supervisor")
    assert not is_running(status["processes"][0])
    assert not service.paths.state.exists()
    assert list(client.socket_directory().iterdir()) == []


def ending(service: Service, release: Path) -> int:
    """The process of a supervisor that was told to end; its server drains until there is `release`."""
    service.revision("aaaa", FAKE_DRAIN=f"until:{release}")
    pid = int(service.deploy("aaaa", drainSeconds=DEADLINE)["pid"])
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: service.command("status")["stopping"], "the end's beginning")
    return pid


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Comes into being when somebody asks for the end once more."""
    path, command = tmp_path / "release", client.command

    async def seen(paths: ServicePaths, message: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
        if message["command"] == "stop":
            path.touch()
        return await command(paths, message, seconds)

    monkeypatch.setattr(client, "command", seen)
    return path


def test_a_supervisor_that_is_ending_counts_as_none(service: Service, release: Path) -> None:
    pid = ending(service, release)
    assert asyncio.run(client.status(service.paths)) is None
    assert is_running(pid)
    release.touch()


def test_a_supervisor_that_is_ending_is_waited_for_and_followed_by_another(service: Service, release: Path) -> None:
    pid = ending(service, release)
    status = service.deploy(service.revision("bbbb"))
    assert status["active"] == "bbbb"
    assert status["pid"] != pid
    assert not is_running(pid)


def test_a_supervisor_that_is_ending_can_be_stopped_again(service: Service, release: Path) -> None:
    pid = ending(service, release)
    asyncio.run(client.stop(service.paths, DEADLINE))
    assert not is_running(pid)
    assert list(client.orphans(service.paths)) == []


def test_what_a_killed_supervisor_left_is_gone_when_it_is_cleared(service: Service) -> None:
    status = service.deploy(service.revision("aaaa"))
    server, supervisor = status["processes"][0], status["pid"]
    # Stopped, neither gets to the signal that the kernel sends a server whose supervisor is gone.
    os.kill(supervisor, signal.SIGKILL)
    client.clear(service.paths)
    assert not is_running(server)
    with listener.bind("127.0.0.1", service.port):
        pass


def test_a_supervisor_ends_when_its_directory_is_gone(service: Service) -> None:
    status = service.deploy(service.revision("aaaa"))
    service.paths.root.rename(service.paths.root.with_name("elsewhere"))
    eventually(lambda: not is_running(status["pid"]), "the end of the supervisor")
    assert not is_running(status["processes"][0])


def test_a_machine_that_lacks_something_just_now_is_unschedulable_and_then_starts_it(service: Service) -> None:
    pid = service.deploy(service.revision("aaaa"))["pid"]
    highest = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
    former = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 3, former[1]))  # enough to be asked, not to start
    service.apply(service.revision("bbbb"))
    status = service.until("Unschedulable")
    assert (status["reason"], status["serving"]) == ("NoResources", "aaaa")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, former)
    assert service.until("Healthy")["active"] == "bbbb"


def test_what_a_server_writes_is_in_the_log(service: Service) -> None:
    service.deploy(service.revision("aaaa"))
    log = (service.paths.log / "current.log").read_text()
    assert " aaaa revision aaaa is starting\n" in log
    assert " supervisor Healthy (Serving): revision aaaa is serving\n" in log


def test_an_unknown_command_is_refused_by_name(service: Service) -> None:
    service.deploy(service.revision("aaaa"))
    with pytest.raises(ResourceError, match="unknown command 'dance'; known are apply"):
        service.command("dance")


def test_a_revision_without_a_directory_is_refused(service: Service) -> None:
    with pytest.raises(ResourceError, match=r"revision ffff has no spec\.json"):
        service.apply("ffff")


def _refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
