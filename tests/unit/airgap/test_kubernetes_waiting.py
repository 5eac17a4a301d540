"""How the stand-in for Pulumi's kubernetes plugin waits for a rollout: what it goes by, and what it says meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airgap.kubernetes import rollout, waiting
from airgap.kubernetes.connection import Connection
from airgap.kubernetes.objects import Kind, Object
from airgap.kubernetes.settings import Settings
from tests.operations import Lines, context
from tests.unit.kubernetes import objects
from tests.unit.kubernetes.api_server import ApiServer, items, refusal, serving
from tests.unit.kubernetes.objects import pod, replica_set, status, unscheduled

APPS, CORE = "/apis/apps/v1/namespaces/models", "/api/v1/namespaces/models"
DEPLOYMENT = Kind("apps/v1", "Deployment")
LATE = ("False", "ProgressDeadlineExceeded", 'ReplicaSet "mnist-2" has timed out progressing.')
REFUSED = "failed to pull image: connection refused"
PULLING = status("router", waiting={"reason": "ErrImagePull", "message": REFUSED})


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving() as server:
        server.answers["/apis/apps/v1"] = kinds(deployments="Deployment", replicasets="ReplicaSet")
        server.answers["/api/v1"] = kinds(pods="Pod")
        server.answers[f"{APPS}/replicasets"] = items(replica_set(1, "old"), replica_set())
        server.answers[f"{CORE}/pods"] = items()
        yield server


@pytest.fixture
def connection(api: ApiServer, tmp_path: Path) -> Connection:
    return Connection(Settings.of({"kubeconfig": str(api.kubeconfig(tmp_path))}))


def kinds(**found: str) -> Any:
    return 200, {"resources": [{"name": name, "kind": kind, "namespaced": True} for name, kind in found.items()]}


def deployment(**more: Any) -> Object:
    made = objects.deployment(**more)
    made["metadata"]["namespace"] = "models"
    return made


def waited(
    api: ApiServer, connection: Connection, before: Object, *then: Object, limit: float = 180
) -> tuple[str | None, list[str]]:
    """Waits for a Deployment that is like `before` at first, and then, look by look, like these. Returns why it is not
    ready, and what was said meanwhile."""
    looks = iter(then)
    latest = before

    def answer() -> Any:
        nonlocal latest
        latest = next(looks, latest)
        return 200, latest

    api.answers[f"{APPS}/deployments/mnist"] = answer
    log = Lines()
    doing = context("kubernetes:apps/v1:Deployment", "mnist", log=log)
    _, unready = waiting.until_ready(connection, doing, DEPLOYMENT, {}, before, limit)
    return unready, log.said


def test_a_rollout_that_had_timed_out_before_is_waited_for(api: ApiServer, connection: Connection) -> None:
    before = deployment(metadata={"generation": 3}, Progressing=LATE)
    seen = deployment(metadata={"generation": 3}, observed=3, Progressing=LATE)
    done = deployment(metadata={"generation": 3}, observed=3, available=1)
    assert waited(api, connection, before, before, seen, seen, done)[0] is None


def test_what_did_not_change_and_goes_through_now_is_waited_for(api: ApiServer, connection: Connection) -> None:
    assert waited(api, connection, deployment(Progressing=LATE), deployment(available=1))[0] is None


def test_a_rollout_that_times_out_meanwhile_names_what_its_pods_wait_for(
    api: ApiServer, connection: Connection
) -> None:
    old = pod(status("router", waiting={"reason": "CrashLoopBackOff", "message": "of the one before"}), owner="old")
    api.answers[f"{CORE}/pods"] = items(old, pod(PULLING), pod(PULLING, name="mnist-2-b"))
    unready, said = waited(
        api, connection, deployment(observed=1), deployment(), deployment(), deployment(), deployment(Progressing=LATE)
    )
    cause = f"the pod mnist-2-a: router: ErrImagePull {REFUSED}"
    assert unready == f"{LATE[2]}; {cause}"
    assert said == [f"1 of 1 replicas updated, 0 available, 0 old ones left; {cause}"], "once"


def test_a_wait_that_ends_names_what_the_pods_wait_for(api: ApiServer, connection: Connection) -> None:
    api.answers[f"{CORE}/pods"] = items(unscheduled("0/1 nodes are available: 1 Insufficient cpu."))
    unready, _ = waited(api, connection, deployment(), limit=0.5)
    assert unready == (
        "timed out after 0.5 s: 1 of 1 replicas updated, 0 available, 0 old ones left; "
        "the pod mnist-2-a: Unschedulable: 0/1 nodes are available: 1 Insufficient cpu."
    )


def test_who_may_not_look_at_pods_waits_all_the_same(api: ApiServer, connection: Connection) -> None:
    api.answers[f"{CORE}/pods"] = refusal(403, 'User "ann" cannot list resource "pods"', "Forbidden")
    unready, said = waited(api, connection, deployment(observed=1), deployment(), deployment(available=1))
    assert unready is None
    assert said == ["1 of 1 replicas updated, 0 available, 0 old ones left"]


def test_pods_that_go_and_containers_that_only_begin_say_nothing() -> None:
    begins = status("router", waiting={"reason": "ContainerCreating"})
    going = pod(PULLING, name="b", metadata={"deletionTimestamp": objects.ago(1)})
    assert rollout.told(deployment(), [replica_set()], [pod(begins), going]) == ""


def test_an_init_container_is_told_too() -> None:
    found = pod(initContainerStatuses=[status("first", waiting={"reason": "CrashLoopBackOff", "message": "back-off"})])
    assert rollout.told(deployment(), [replica_set()], [found]) == "the pod mnist-2-a: first: CrashLoopBackOff back-off"


@pytest.mark.parametrize(
    ("selector", "query"),
    [
        ({"matchLabels": {"b": "2", "a": "1"}}, "a=1,b=2"),
        ({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}, None),
        ({}, None),
    ],
)
def test_how_pods_are_found(selector: Object, query: str | None) -> None:
    assert rollout.selector({"spec": {"selector": selector}}) == query
