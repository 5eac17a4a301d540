"""Whole deployments on this machine: the resources, a supervisor and the real scoring server."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from provider.local import client
from provider.local.layout import PARTIAL, models, servers
from provider.resource import ResourceError
from provider.values import UNKNOWN
from tests.operations import context
from tests.unit.local.conftest import eventually, free_port, get, is_running, kill
from tests.unit.local.deployment import SCORE, Deployment, stored_model
from tests.unit.local.load import Load

BROKEN_INIT = SCORE.replace("global answer", "raise ValueError('no such model')")
BROKEN_RUN = SCORE.replace("return {", "raise KeyError('pixels')\n    return {")
SECOND = SCORE.replace('"version": 1', '"version": 2')


@pytest.fixture
def deployment(home: Path) -> Deployment:
    return Deployment(home)


@pytest.fixture
def another(home: Path) -> Deployment:
    return Deployment(home, "other")


def status_of(deployment: Deployment) -> dict[str, object]:
    status = asyncio.run(client.status(deployment.paths))
    assert status is not None
    return status


# -- the way it should go --------------------------------------------------------------------------------------------


def test_a_deployment_answers(deployment: Deployment) -> None:
    outputs = deployment.up()
    assert (outputs["state"], outputs["reason"]) == ("Healthy", "Serving")
    assert get(deployment.port, "/score", b"{}") == {"answer": "seven", "version": 1}


def test_deleting_leaves_nothing(deployment: Deployment) -> None:
    deployment.up()
    shutil.rmtree(deployment.home / "store")
    deployment.down()
    assert not deployment.home.parent.exists()
    assert not client.socket_directory().exists()
    assert list(client.orphans(deployment.paths)) == []


def test_deleting_what_is_gone_succeeds(deployment: Deployment) -> None:
    deployment.up()
    state = deployment.state
    deployment.down()
    deployment.state = state
    deployment.down()
    assert not (deployment.home / "services").exists()


def test_an_update_under_load_loses_no_request(deployment: Deployment) -> None:
    deployment.up()
    with Load(deployment.port) as load:
        for number in range(2, 5):
            deployment.write("score.py", SCORE.replace('"version": 1', f'"version": {number}'))
            deployment.up()
            load.until_more(50)
        eventually(lambda: load.failures or load.answers["4"] > 20, "answers of the last revision")
    assert load.failures == []
    assert set(load.answers) == {"1", "2", "3", "4"}


def test_an_update_that_fails_under_load_loses_no_request(deployment: Deployment) -> None:
    deployment.up()
    with Load(deployment.port) as load:
        deployment.write("score.py", BROKEN_INIT)
        deployment.failing_up()
        load.until_more(50)
    assert load.failures == []
    assert set(load.answers) == {"1"}


def test_a_second_up_changes_nothing(deployment: Deployment) -> None:
    deployment.up()
    assert deployment.service.diff(deployment.state, deployment.checked()) == []


def test_a_preview_touches_nothing(deployment: Deployment) -> None:
    preview = context("slipway:index:LocalService", "mnist", preview=True)
    resource_id, outputs = asyncio.run(deployment.service.create(preview, deployment.checked()))
    assert (resource_id, outputs["scoringUri"]) == ("demo/mnist", f"http://127.0.0.1:{deployment.port}/score")
    assert not (deployment.home / "services").exists()


def test_a_preview_with_what_is_not_known_yet_knows_no_revision(deployment: Deployment) -> None:
    deployment.inputs["environmentDigest"] = UNKNOWN
    preview = context("slipway:index:LocalService", "mnist", preview=True)
    _, outputs = asyncio.run(deployment.service.create(preview, deployment.checked()))
    assert outputs["revision"] is UNKNOWN


# -- what the process sees -------------------------------------------------------------------------------------------


def test_a_service_sees_its_settings_and_nothing_of_pulumi(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    deployment.inputs["environmentVariables"] = {"GREETING": "hello"}
    deployment.write("score.py", "import os\ndef init(): ...\ndef run(data):\n    return dict(os.environ)\n")
    deployment.up()
    seen = get(deployment.port, "/score", b"{}")
    assert seen["GREETING"] == "hello"
    assert seen["SLIPWAY_REVISION"] == deployment.state["revision"]
    assert seen["AZUREML_ENTRY_SCRIPT"] == "score.py"
    assert Path(seen["AML_APP_ROOT"]) == deployment.paths.revision(deployment.state["revision"]) / "code"
    assert seen["AZUREML_MODEL_DIR"].endswith("/azureml-models/digits/1")
    assert "secret" not in seen.values()


def test_with_several_models_the_directory_is_above_them(deployment: Deployment) -> None:
    deployment.inputs["models"].append(stored_model(deployment.home, "letters", b"x", version=3))
    code = """
import os
def init(): ...
def run(data):
    root = os.environ["AZUREML_MODEL_DIR"]
    walk = os.walk(root, followlinks=True)
    return {"found": sorted(os.path.relpath(os.path.join(top, name), root) for top, _, names in walk for name in names)}
"""
    deployment.write("score.py", code)
    deployment.up()
    assert get(deployment.port, "/score", b"{}") == {"found": ["digits/1/weights.txt", "letters/3/weights.txt"]}


def test_without_models_there_is_no_model_directory(deployment: Deployment) -> None:
    deployment.inputs["models"] = []
    deployment.write("score.py", "import os\ndef init(): ...\ndef run(data):\n    return dict(os.environ)\n")
    deployment.up()
    assert "AZUREML_MODEL_DIR" not in get(deployment.port, "/score", b"{}")


def test_the_spec_of_a_revision_is_private(deployment: Deployment) -> None:
    deployment.up()
    spec = deployment.paths.revision(deployment.state["revision"]) / "spec.json"
    assert spec.stat().st_mode & 0o777 == 0o600


# -- failing revisions -----------------------------------------------------------------------------------------------


def test_a_failing_update_tells_why_and_what_still_serves(deployment: Deployment) -> None:
    deployment.up()
    old = deployment.state["revision"]
    deployment.write("score.py", BROKEN_INIT)
    story = deployment.failing_up()
    assert story.startswith(f"service mnist, revision {deployment.state['revision']}: Failed (")
    assert "ValueError: no such model" in story
    assert f"Revision {old}, the one before, goes on serving." in story
    assert "What to do: " in story
    assert get(deployment.port, "/score", b"{}")["version"] == 1


def test_a_refresh_after_a_failing_update_says_that_the_old_revision_serves(deployment: Deployment) -> None:
    outputs = deployment.up()
    deployment.write("score.py", BROKEN_INIT)
    deployment.failing_up()
    read = asyncio.run(deployment.endpoint.read(deployment.context, "mnist", outputs))
    assert read is not None
    assert (read["state"], read["reason"]) == ("Unhealthy", "WrongRevision")
    assert read["message"].startswith(f"the last update, revision {deployment.state['revision']}, did not become ready")
    assert read["message"].endswith(f"Revision {outputs['revision']}, the one before, goes on serving.")


def test_a_first_deployment_that_fails_says_that_nothing_serves(deployment: Deployment) -> None:
    deployment.write("score.py", BROKEN_INIT)
    assert "No revision answers requests now." in deployment.failing_up()


def test_mending_what_failed_deploys_it(deployment: Deployment) -> None:
    deployment.write("score.py", BROKEN_INIT)
    deployment.failing_up()
    deployment.write("score.py", SECOND)
    assert deployment.up()["state"] == "Healthy"
    assert get(deployment.port, "/score", b"{}")["version"] == 2


def test_an_init_that_hangs_is_a_startup_timeout(deployment: Deployment) -> None:
    deployment.inputs["startupTimeoutSeconds"] = 10  # it has to get as far as init() in that
    code = "import threading\ndef init():\n    print('loading', flush=True)\n    threading.Event().wait()\n"
    deployment.write("score.py", code + "def run(data): ...\n")
    story = deployment.failing_up()
    assert "Failed (StartupTimeout)" in story
    assert "init() did not return within 10 s" in story
    assert "| " in story
    assert "loading" in story


def test_a_sample_request_that_fails_keeps_the_revision_from_traffic(deployment: Deployment) -> None:
    deployment.inputs["sampleRequest"] = str(deployment.write("sample.json", "{}"))
    deployment.up()
    deployment.write("score.py", BROKEN_RUN)
    story = deployment.failing_up()
    assert "Failed (SampleRequestFailed)" in story
    assert "answered with 500" in story
    assert get(deployment.port, "/score", b"{}")["version"] == 1


def test_a_sample_request_that_alone_is_changed_is_tried_on_the_running_revision(deployment: Deployment) -> None:
    code = SCORE.replace("return {", "if 'pixels' not in data: raise KeyError('pixels')\n    return {")
    deployment.write("score.py", code)
    sample = deployment.source.parent / "sample.json"
    sample.write_text('{"data": "pixels"}')
    deployment.inputs["sampleRequest"] = str(sample)
    deployment.up()
    sample.write_text('{"data": "none"}')
    deployment.apply()
    with pytest.raises(ResourceError, match=r"Failed \(SampleRequestFailed\)[\s\S]*The revision is serving"):
        deployment.wait(sampleRequest=str(sample))


def test_what_failed_in_an_earlier_run_is_tried_once_more(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = deployment.source.parent / "data.txt"
    deployment.write("score.py", SCORE.replace("global answer", f"global answer; open({str(missing)!r}).close()"))
    deployment.failing_up()
    missing.touch()
    with pytest.raises(ResourceError):
        deployment.wait()
    monkeypatch.setattr(client, "RUN", "the next run")
    assert deployment.wait()["state"] == "Healthy"


def test_waiting_ends_when_it_is_cancelled(deployment: Deployment) -> None:
    deployment.write("score.py", "import threading\ndef init():\n    threading.Event().wait()\ndef run(data): ...\n")
    deployment.apply()
    deployment.cancelled.set()
    with pytest.raises(ResourceError, match="cancelled while waiting"):
        deployment.wait()


def test_waiting_ends_with_its_timeout(deployment: Deployment) -> None:
    deployment.write("score.py", "import threading\ndef init():\n    threading.Event().wait()\ndef run(data): ...\n")
    deployment.apply()
    with pytest.raises(ResourceError, match=r"Transitioning \(Starting\)[\s\S]*not healthy within 1 s"):
        deployment.wait(timeoutSeconds=1)


# -- drift and kills -------------------------------------------------------------------------------------------------


def test_a_refresh_of_what_is_well_changes_nothing(deployment: Deployment) -> None:
    deployment.up()
    state = deployment.state
    assert deployment.refresh() == state
    assert deployment.lines.warnings == []


def test_a_refresh_finds_a_killed_supervisor_and_an_up_mends_it(deployment: Deployment) -> None:
    deployment.up()
    kill(int(str(status_of(deployment)["pid"])))
    assert deployment.refresh() is None
    assert deployment.lines.warnings == ["the supervisor of mnist is not running: it will be started again"]
    assert deployment.up()["state"] == "Healthy"
    assert len(list(client.orphans(deployment.paths))) == 1


def test_a_killed_supervisor_leaves_nothing_for_a_delete_to_miss(deployment: Deployment) -> None:
    deployment.up()
    kill(int(str(status_of(deployment)["pid"])))
    shutil.rmtree(deployment.home / "store")
    deployment.down()
    assert not deployment.home.parent.exists()
    assert not client.socket_directory().exists()


def test_a_refresh_finds_another_revision(deployment: Deployment) -> None:
    deployment.up()
    before = deployment.state
    deployment.write("score.py", SECOND)
    deployment.apply()  # an `up` that was killed before it could note what it had done
    deployment.state = before
    deployment.write("score.py", SCORE)
    found = deployment.refresh()
    assert found is not None
    changes = deployment.service.diff(found, deployment.checked())
    assert [(change.path, change.of_input) for change in changes] == [("revision", False)]
    assert deployment.up()["state"] == "Healthy"
    assert get(deployment.port, "/score", b"{}")["version"] == 1


def test_leftovers_of_killed_runs_are_cleared(deployment: Deployment) -> None:
    leftovers = [
        deployment.paths.revisions / f"{PARTIAL}0123456789abcdef",
        deployment.paths.revisions / "0123456789abcdef",
        models(deployment.home) / f"{PARTIAL}1234",
        models(deployment.home) / "1234",
        servers(deployment.home) / "1234",
    ]
    for leftover in leftovers:
        (leftover / "code").mkdir(parents=True)
    deployment.paths.state.write_text('{"pid": 1, "contr')
    deployment.up()
    assert [str(leftover) for leftover in leftovers if leftover.exists()] == []


POINTS = [
    "provider.local.client:_await_report",  # the supervisor is just starting
    "provider.local_service:prepare",
    "provider.local.revision:_server",  # the spec is written, nothing else
    "provider.local.models:_place",  # a model is half extracted
    "provider.local.revision:_copy_sample",
    "provider.local.revision:snapshot",
    "provider.local_service:_clear_leftovers",  # all is under way
]


def killed_at(point: str, deployment: Deployment) -> None:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(client.socket_directory().parent)}
    command = [sys.executable, str(Path(__file__).with_name("killed_up.py")), point, json.dumps(deployment.checked())]
    assert subprocess.run(command, env=environment, check=False).returncode == 9


@pytest.mark.parametrize("point", POINTS)
def test_an_up_after_a_killed_up_is_right_again(deployment: Deployment, point: str) -> None:
    killed_at(point, deployment)
    assert deployment.up()["state"] == "Healthy"
    assert [path.name for path in deployment.paths.revisions.iterdir()] == [deployment.state["revision"]]
    kept = [*models(deployment.home).iterdir(), *servers(deployment.home).iterdir()]
    assert [path.name for path in kept if path.name.startswith(".")] == []


def test_a_supervisor_that_does_not_listen_yet_is_waited_for(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "alive", lambda paths: True)
    control = client._control_socket(deployment.paths)
    control.parent.mkdir(parents=True, exist_ok=True)
    looked: list[bool] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(control))
        listens = client._listens

        def then_listen(path: Path) -> bool:
            looked.append(listens(path))
            listener.listen()
            return looked[-1]

        monkeypatch.setattr(client, "_listens", then_listen)
        assert asyncio.run(client._settled(deployment.paths))
    assert looked == [False, True]
    control.unlink()


@pytest.mark.parametrize("point", POINTS)
def test_a_destroy_after_a_killed_up_leaves_nothing(deployment: Deployment, point: str) -> None:
    killed_at(point, deployment)
    deployment.state = deployment.checked()
    shutil.rmtree(deployment.home / "store")
    deployment.down()
    assert not deployment.home.parent.exists()
    assert not client.socket_directory().exists()
    assert list(client.orphans(deployment.paths)) == []


def test_a_supervisor_that_hangs_is_replaced(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment.up()
    pid = int(str(status_of(deployment)["pid"]))
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(client, "ANSWER_SECONDS", 3.0)
    assert deployment.refresh() is None
    assert "did not answer in time" in deployment.lines.warnings[0]
    assert deployment.up()["state"] == "Healthy"
    assert not is_running(pid)


def test_a_service_whose_files_were_removed_is_deployed_again(deployment: Deployment) -> None:
    deployment.up()
    pid = int(str(status_of(deployment)["pid"]))
    shutil.rmtree(deployment.paths.root)
    assert deployment.refresh() is None
    assert "is gone from" in deployment.lines.warnings[0]
    eventually(lambda: not is_running(pid), "the end of the supervisor without a directory")
    assert deployment.up()["state"] == "Healthy"


def test_the_state_of_an_endpoint_that_is_well(deployment: Deployment) -> None:
    outputs = deployment.up()
    read = asyncio.run(deployment.endpoint.read(deployment.context, "mnist", outputs))
    assert read == outputs
    assert deployment.endpoint.diff(outputs, deployment.endpoint_inputs()) == []
    assert [entry["revision"] for entry in outputs["history"]] == [deployment.state["revision"]]


def test_the_state_of_an_endpoint_that_is_gone_is_a_change(deployment: Deployment) -> None:
    outputs = deployment.up()
    kill(int(str(status_of(deployment)["pid"])))
    read = asyncio.run(deployment.endpoint.read(deployment.context, "mnist", outputs))
    assert read is not None
    assert (read["state"], read["reason"]) == ("Failed", "NotRunning")
    changes = deployment.endpoint.diff(read, deployment.endpoint_inputs())
    assert [(change.path, change.of_input) for change in changes] == [("state", False)]


def test_a_port_that_answers_as_something_else_is_found(deployment: Deployment) -> None:
    outputs = deployment.up()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        outputs["scoringUri"] = f"http://127.0.0.1:{other.getsockname()[1]}/score"
        read = asyncio.run(deployment.endpoint.read(deployment.context, "mnist", outputs))
    assert read is not None
    assert (read["state"], read["reason"]) == ("Unhealthy", "Unreachable")


# -- several services ------------------------------------------------------------------------------------------------


def test_services_share_a_model_which_goes_with_the_last(deployment: Deployment, another: Deployment) -> None:
    deployment.up()
    another.up()
    assert len([path for path in models(deployment.home).iterdir() if len(path.name) == 64]) == 1
    deployment.down()
    assert get(another.port, "/score", b"{}")["answer"] == "seven"
    another.down()
    assert not models(deployment.home).exists()
    assert not servers(deployment.home).exists()


def test_a_model_that_an_update_no_longer_uses_is_collected(deployment: Deployment) -> None:
    deployment.up()
    old = models(deployment.home) / deployment.inputs["models"][0]["digest"][7:]
    deployment.inputs["models"] = [stored_model(deployment.home, "digits", b"eight", version=2)]
    deployment.up()
    assert get(deployment.port, "/score", b"{}")["answer"] == "eight"
    eventually(lambda: not old.exists(), "collection of the old model")


def test_a_change_of_port_moves_the_service(deployment: Deployment) -> None:
    deployment.up()
    deployment.inputs["port"] = free_port()
    deployment.up()
    assert get(deployment.inputs["port"], "/score", b"{}")["version"] == 1


# -- bad input -------------------------------------------------------------------------------------------------------


def test_a_port_that_is_held_is_a_failure_of_the_property(deployment: Deployment) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        deployment.inputs["port"] = other.getsockname()[1]
        failures = deployment.failures()
    assert [name for name, _ in failures] == ["port"]
    assert f"(pid {os.getpid()})" in failures[0][1]


def test_the_services_own_port_is_no_failure(deployment: Deployment) -> None:
    deployment.up()
    assert deployment.failures() == []


def test_all_that_is_wrong_is_told_at_once(deployment: Deployment) -> None:
    deployment.write("score.py", "def init(): ...\n")
    deployment.inputs |= {
        "name": "Not A Label",
        "models": [{"name": "digits", "version": 1, "digest": "md5:0"}, {"name": "x"}],
        "environmentVariables": {"A=B": "x", "COUNT": 5},
        "drainSeconds": -1,
        "startupTimeoutSeconds": 0,
    }
    assert [name for name, _ in deployment.failures()] == [
        "name",
        "entryScript",
        "models[0].digest",
        "models[1]",
        "environmentVariables",
        "environmentVariables.COUNT",
        "startupTimeoutSeconds",
        "drainSeconds",
    ]


@pytest.mark.parametrize("script", ["../score.py", "/etc/score.py"])
def test_an_entry_script_outside_its_folder_is_refused(deployment: Deployment, script: str) -> None:
    deployment.inputs["entryScript"] = script
    assert [name for name, _ in deployment.failures()] == ["entryScript"]


def test_a_model_that_is_not_in_the_store_is_told_and_what_runs_goes_on(deployment: Deployment) -> None:
    deployment.up()
    deployment.inputs["models"] = [{"name": "digits", "version": 2, "digest": "sha256:" + "0" * 64}]
    with pytest.raises(ResourceError, match="has no layer sha256:000"):
        deployment.apply()
    assert get(deployment.port, "/score", b"{}")["version"] == 1


def test_code_that_changes_between_check_and_create_is_refused(deployment: Deployment) -> None:
    news = deployment.checked()
    deployment.write("score.py", SECOND)
    with pytest.raises(ResourceError, match="changed since it was checked"):
        asyncio.run(deployment.service.create(deployment.context, news))


def test_an_unknown_kind_of_target_lists_the_known(deployment: Deployment) -> None:
    news = {"target": {"kind": "cloud"}, "revision": "x", "scoringUri": "x"}
    _, failures = asyncio.run(deployment.endpoint.check(deployment.context, news))
    assert [(failure.property, failure.reason) for failure in failures] == [
        ("target.kind", "'cloud' is no kind of target; known are local, container, kubernetes")
    ]
