"""What `RouterEndpoint` makes of a router's pods. Against a stand-in for the API server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from provider.resource import ResourceError
from provider.router_endpoint import RouterEndpoint
from provider.values import UNKNOWN, Properties
from tests.operations import Lines, context
from tests.unit.kubernetes import objects
from tests.unit.kubernetes.api_server import ApiServer, items
from tests.unit.kubernetes.objects import deployment, pod, replica_set, status

CORE, APPS = "/api/v1/namespaces/models", "/apis/apps/v1/namespaces/models"
TYPE = "slipway:index:RouterEndpoint"


def holds(api: ApiServer, of: Any, *pods: Any) -> None:
    """Has the cluster hold a router's Deployment with these pods."""
    api.answers[f"{APPS}/deployments/mnist"] = 200, of
    api.answers[f"{APPS}/replicasets"] = items(replica_set(1, "old"), replica_set())
    api.answers[f"{CORE}/pods"] = items(*pods)
    api.answers[f"{CORE}/events"] = items()


def made(inputs: Properties) -> tuple[str, Properties]:
    return asyncio.run(RouterEndpoint().create(context(TYPE, "mnist"), inputs))


def test_a_router_that_is_ready_is_asked_nothing_more(api: ApiServer, inputs: Properties) -> None:
    holds(api, deployment(available=1), pod(ready=True))
    _, state = made(inputs)
    assert state == {
        **inputs,
        "state": "Healthy",
        "reason": "Ready",
        "message": "1 pod of revision r2 answer",
        "hint": None,
    }
    assert not [path for path in api.asked if "proxy" in path]


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        (
            status(waiting={"reason": "ErrImagePull", "message": "dial tcp: connection refused"}),
            "ImagePullFailed",
            "cannot be pulled: dial tcp: connection refused",
        ),
        (
            status(
                waiting={"reason": "CrashLoopBackOff"},
                restarts=1,
                last={"exitCode": 1, "finishedAt": objects.ago(3), "startedAt": objects.ago(5)},
            ),
            "CrashLoop",
            "ended twice, the last time with exit code 1",
        ),
    ],
)
def test_what_is_wrong_with_a_router_is_told_at_once(
    api: ApiServer, inputs: Properties, found: Any, reason: str, words: str
) -> None:
    holds(api, deployment(old=1), pod(found), pod(name="old", owner="old", revision="r1", ready=True))
    with pytest.raises(ResourceError) as raised:
        made(inputs)
    said = str(raised.value)
    assert f"the router of the service mnist, revision r2: Failed ({reason})" in said
    assert words in said
    assert "1 pod of revision r1, the one before, goes on serving." in said


def test_a_preview_asks_nobody(api: ApiServer, inputs: Properties) -> None:
    doing = context(TYPE, "mnist", preview=True)
    assert asyncio.run(RouterEndpoint().create(doing, inputs))[1]["state"] is UNKNOWN
    assert api.asked == []


def test_a_hint_is_for_those_who_run_a_router(api: ApiServer, inputs: Properties) -> None:
    ended = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": objects.ago(3), "startedAt": objects.ago(5)}
    holds(api, deployment(), pod(status(waiting={"reason": "CrashLoopBackOff"}, restarts=1, last=ended)))
    with pytest.raises(ResourceError) as raised:
        made(inputs)
    said = str(raised.value)
    assert "Failed (OutOfMemory)" in said
    assert "What to do: see what it says: kubectl logs --namespace=models deployment/mnist." in said


def refreshed(state: Properties, log: Lines | None = None) -> Properties:
    found = asyncio.run(RouterEndpoint().read(context(TYPE, "mnist", log=log), "mnist", state))
    assert found is not None
    return found


def test_a_router_that_crashes_later_is_unhealthy_and_the_next_up_waits_again(
    api: ApiServer, inputs: Properties
) -> None:
    state = {**inputs, "state": "Healthy", "reason": "Ready", "message": "", "hint": None}
    assert RouterEndpoint().diff(state, inputs) == []
    log = Lines()
    crashed = status(
        waiting={"reason": "CrashLoopBackOff"},
        restarts=1,
        last={"exitCode": 139, "finishedAt": objects.ago(3), "startedAt": objects.ago(5)},
    )
    rolled_out = deployment(wanted=2, updated=2, available=1, Progressing=("True", "NewReplicaSetAvailable", ""))
    holds(api, rolled_out, pod(crashed), pod(name="other", ready=True))
    found = refreshed(state, log)
    assert (found["state"], found["reason"]) == ("Unhealthy", "CrashLoop")
    assert "ended twice, the last time with exit code 139" in found["message"]
    assert "1 of 2 pods answer" in found["message"]
    assert log.warnings == [f"the router of the service mnist is Unhealthy (CrashLoop): {found['message']}"]
    (change,) = RouterEndpoint().diff(found, inputs)
    assert (change.path, change.kind) == ("state", "update")


def test_an_update_that_failed_is_told_with_who_goes_on(api: ApiServer, inputs: Properties) -> None:
    pulling = status(waiting={"reason": "ErrImagePull", "message": "not found"})
    holds(api, deployment(old=1), pod(pulling), pod(name="old", owner="old", revision="r1", ready=True))
    found = refreshed({**inputs, "revision": "r1", "state": "Healthy"})
    assert (found["state"], found["reason"]) == ("Unhealthy", "WrongRevision")
    assert found["message"].startswith("the last update, revision r2, did not become ready: the image")
    assert found["message"].endswith("1 pod of revision r1 goes on serving.")


def test_a_router_that_is_gone_is_a_state(api: ApiServer, inputs: Properties) -> None:
    api.answers["/api/v1/namespaces/models"] = 200, {"metadata": {"name": "models"}}
    found = refreshed({**inputs, "state": "Healthy"})
    assert (found["state"], found["message"]) == ("Failed", "the router is not running")


def test_a_cluster_that_cannot_be_asked_is_a_state(inputs: Properties, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").unlink()
    found = refreshed({**inputs, "state": "Healthy"})
    assert (found["state"], found["reason"]) == ("Unhealthy", "TargetUnreachable")


def test_inputs_that_lack_something_are_named(inputs: Properties) -> None:
    del inputs["target"]["deployment"]
    _, (failure,) = asyncio.run(RouterEndpoint().check(context(TYPE, "mnist"), inputs))
    assert failure.property == "target.deployment"
