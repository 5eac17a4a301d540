"""What `Endpoint` says of containers that do not come up, under a real engine: the state, the cause, and what to do."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from provider.container import target
from provider.endpoint import Endpoint
from provider.resource import ResourceError
from provider.values import Properties
from tests.docker.routed import Box
from tests.e2e.project import eventually
from tests.operations import Lines, context

LIMIT_SECONDS = 600
"""Far more than a known cause may take to be told, and less than the endpoint would wait without one."""

REVISION = "--env=SLIPWAY_REVISION=r1"
Script = Callable[[str], str]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Gives the option that puts another entry script into a container."""

    def option(text: str) -> str:
        (tmp_path / "score.py").write_text(text)
        return f"--volume={tmp_path / 'score.py'}:/var/azureml-app/score.py:ro"

    return option


def inputs(box: Box, revision: str, *names: str, limits: Properties | None = None, **more: Any) -> Properties:
    place = {
        "kind": "container",
        "engine": box.engine,
        "service": "mnist",
        "containers": [f"{box.name}-{name}" for name in names or (revision,)],
        "image": box.image,
        **(limits or {}),
    }
    return {"target": place, "revision": revision, "timeoutSeconds": LIMIT_SECONDS, **more}


def deployed(news: Properties) -> Properties:
    """Creates an endpoint."""
    endpoint, where = Endpoint(), context("slipway:index:Endpoint", "mnist", stack="test")
    checked, failures = asyncio.run(endpoint.check(where, news))
    assert failures == []
    return asyncio.run(endpoint.create(where, checked))[1]


def story(news: Properties) -> str:
    """The error that it ends with, long before its time is up."""
    began = time.monotonic()
    with pytest.raises(ResourceError) as raised:
        deployed(news)
    assert time.monotonic() - began < LIMIT_SECONDS / 2
    return str(raised.value)


def refreshed(state: Properties) -> tuple[Properties, list[str]]:
    """What a refresh finds, and what it warns of."""
    log = Lines()
    found = asyncio.run(Endpoint().read(context("slipway:index:Endpoint", "mnist", log=log), "mnist", state))
    assert found is not None
    return found, log.warnings


def test_containers_that_answer_are_healthy(box: Box, tmp_path: Path) -> None:
    box.serve("r1")
    box.start("twin", variables={"SLIPWAY_REVISION": "r1"})
    # A sample request that is larger than what a pipe takes at once.
    (tmp_path / "sample.json").write_text('"' + "x" * 1_000_000 + '"')
    state = deployed(inputs(box, "r1", "r1", "twin", sampleRequest=str(tmp_path / "sample.json")))
    assert (state["state"], state["reason"]) == ("Healthy", "Ready")
    assert refreshed(state)[0]["state"] == "Healthy"


def test_an_entry_script_that_fails_is_shown(box: Box, script: Script) -> None:
    box.start(
        "r1", script("def init():\n    open('/gone')\n\ndef run(data):\n    return 1\n"), "--restart=unless-stopped"
    )
    said = story(inputs(box, "r1"))
    assert "service mnist, revision r1: Failed (InitError)" in said
    assert "FileNotFoundError: [Errno 2] No such file or directory: '/gone'" in said
    assert "No request was sent to it: what served before goes on serving." in said
    assert "What to do: mend the entry script" in said


def test_a_container_that_crashes_again_and_again(box: Box, script: Script) -> None:
    crash = "import os\n\ndef init():\n    print('last words', flush=True)\n    os._exit(7)\n\ndef run(data): pass\n"
    box.start("r1", script(crash), "--restart=unless-stopped")
    said = story(inputs(box, "r1"))
    assert "Failed (CrashLoop)" in said
    assert "ended again, with exit code 7" in said
    assert "| last words" in said


def test_a_container_that_eats_its_memory(box: Box, script: Script) -> None:
    eat = "def init():\n    global kept\n    kept = [b'x' * (1 << 20) for _ in range(4096)]\n\ndef run(data): pass\n"
    box.start("r1", script(eat), "--memory=128m", "--memory-swap=128m")
    said = story(inputs(box, "r1", limits={"memoryBytes": 128 << 20}))
    assert "Failed (OutOfMemory)" in said
    assert "its memory of 128 MiB" in said
    assert "raise memoryInGB" in said


def test_a_device_that_the_host_has_not(box: Box) -> None:
    failed = box.docker.attempt("create", f"--name={box.name}-r1", "--device=/dev/xdma0", REVISION, box.image)
    assert failed.returncode == 0
    box.made.append(f"{box.name}-r1")
    assert box.docker.attempt("start", f"{box.name}-r1").returncode != 0
    said = story(inputs(box, "r1"))
    assert "Unschedulable (DeviceMissing)" in said
    assert "/dev/xdma0" in said


def test_a_gpu_where_the_engine_has_no_runtime_for_it(box: Box) -> None:
    box.docker.run("create", f"--name={box.name}-r1", "--gpus=driver=nvidia,count=1", REVISION, box.image)
    box.made.append(f"{box.name}-r1")
    said = story(inputs(box, "r1"))
    assert "Unschedulable (GpuMissing)" in said
    assert 'could not select device driver "nvidia"' in said
    assert "NVIDIA Container Toolkit" in said


def test_a_container_that_nobody_started_is_started(box: Box) -> None:
    name = f"{box.name}-r1"
    box.docker.run("create", f"--name={name}", "--tmpfs=/tmp", REVISION, box.image)
    box.made.append(name)
    assert deployed(inputs(box, "r1"))["state"] == "Healthy"


def test_a_host_that_is_too_small(box: Box) -> None:
    """Docker takes such limits, and the container runs and answers."""
    box.serve("r1")
    host = json.loads(box.docker.run("info", "--format={{json .}}"))
    box.docker.run("update", f"--cpu-quota={(host['NCPU'] + 1) * 100_000}", "--cpu-period=100000", f"{box.name}-r1")
    said = story(inputs(box, "r1", limits={"cpus": host["NCPU"] + 1}))
    assert "Unschedulable (NotEnoughCpus)" in said
    assert f"{host['NCPU'] + 1} CPUs are asked for, and {host['Name']} has {host['NCPU']}" in said
    said = story(inputs(box, "r1", limits={"memoryBytes": 1 << 50}))
    assert "Unschedulable (NotEnoughMemory)" in said
    assert f"1073741824 MiB of memory are asked for, and {host['Name']} has {host['MemTotal'] // 2**20}" in said


def test_a_container_that_answers_with_another_revision(box: Box) -> None:
    """It was made for r1, and what runs in it is r9."""
    image = json.loads(box.docker.run("image", "inspect", "--format={{json .Config}}", box.image))
    command = [*(image.get("Entrypoint") or ()), *(image.get("Cmd") or ())]
    name = f"{box.name}-r1"
    box.made.append(name)
    box.docker.run(
        *("run", "--detach", f"--name={name}", "--tmpfs=/tmp", REVISION, "--entrypoint=env", box.image),
        *("SLIPWAY_REVISION=r9", *command),
    )
    said = story(inputs(box, "r1"))
    assert "Failed (WrongRevision)" in said
    assert f"revision r9 answers on {name}, not r1" in said


def test_another_revision_is_told(box: Box) -> None:
    box.serve("r1")
    assert "was asked for revision r1, not r2" in story(inputs(box, "r2", "r1"))


def test_a_server_that_is_never_ready_is_waited_for_until_the_time_is_up(box: Box, script: Script) -> None:
    box.start("r1", script("import time\n\ndef init():\n    time.sleep(600)\n\ndef run(data):\n    return 1\n"))
    waited = inputs(box, "r1")
    eventually(lambda: "init() has been running" in refreshed(waited)[0]["message"], "it answers, and is not ready")
    said = story(waited | {"timeoutSeconds": 3})
    assert "Transitioning (Starting)" in said
    assert "init() has been running" in said
    assert "(not healthy within 3 s)" in said


def test_a_sample_that_fails_is_told(box: Box, script: Script, tmp_path: Path) -> None:
    box.start("r1", script("def init():\n    pass\n\ndef run(data):\n    raise ValueError(data)\n"))
    (tmp_path / "sample.json").write_text("1")
    said = story(inputs(box, "r1", sampleRequest=str(tmp_path / "sample.json")))
    assert "Failed (SampleRequestFailed)" in said
    assert "was answered with 500" in said


def test_what_becomes_of_it_later_is_found_by_a_refresh(box: Box) -> None:
    box.serve("r1")
    state = deployed(inputs(box, "r1"))
    name = f"{box.name}-r1"
    box.docker.run("pause", name)
    assert [refreshed(state)[0][key] for key in ("state", "reason", "hint")] == [
        "Unhealthy",
        "Paused",
        f"docker unpause {name}",
    ]
    box.docker.run("unpause", name)
    box.docker.run("kill", name)
    found, warnings = refreshed(state)
    assert (found["state"], found["reason"]) == ("Failed", "Crashed")
    assert "exit code 137" in warnings[0]
    box.docker.run("rm", name)
    assert [refreshed(state)[0][key] for key in ("state", "reason")] == ["Failed", "NotRunning"]


def test_a_container_that_was_stopped_before_is_started_once_more(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.serve("r1")
    box.docker.run("stop", f"{box.name}-r1")
    eventually(lambda: "exited" in box.docker.run("inspect", "--format={{.State.Status}}", f"{box.name}-r1"), "its end")
    # As if the provider had been started after it.
    monkeypatch.setattr(target, "_STARTED", datetime.now(UTC) + timedelta(seconds=60))
    assert deployed(inputs(box, "r1"))["state"] == "Healthy"
