"""Waiting for a registry in a cluster: what is waited for, what is told at once, and what is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from provider import registry_endpoint
from provider.registry.errors import RegistryDeniedError
from provider.registry_endpoint import RegistryEndpoint
from provider.resource import Context, ResourceError
from tests import operations
from tests.unit.kubernetes.api_server import ApiServer, items, refusal, serving

SPACE = "/api/v1/namespaces/demo-registry"
SET = "/apis/apps/v1/namespaces/demo-registry/statefulsets/slipway-registry"
POD = f"{SPACE}/pods/slipway-registry-0"


class Registry:
    """In the place of the registry: it lets in, or says what is wrong."""

    error: Exception | None = None
    asked = 0

    def registry(self, _: Any) -> Registry:
        return self

    def check(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving() as server:
        server.answers[f"{SPACE}/events"] = items()
        yield server


@pytest.fixture
def inputs(api: ApiServer, tmp_path: Path) -> dict[str, Any]:
    way = {
        "cluster": {"kubeconfig": str(api.kubeconfig(tmp_path))},
        "namespace": "demo-registry",
        "statefulSet": "slipway-registry",
        "port": 5000,
    }
    who = {"registry": "127.0.0.1:30500", "username": "slipway", "password": "word"}
    return {**who, "portForward": way, "revision": "abc"}


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    found = Registry()
    monkeypatch.setattr(registry_endpoint, "_location", lambda _: found)
    monkeypatch.setattr(registry_endpoint, "_POLL_SECONDS", 0.01)
    return found


def stateful_set(*, ready: int = 1, generation: int = 1, current: str = "r1") -> Any:
    status = {
        "observedGeneration": 1,
        "currentRevision": current,
        "updateRevision": "r1",
        "readyReplicas": ready,
    }
    return 200, {"kind": "StatefulSet", "metadata": {"uid": "s", "generation": generation}, "status": status}


def stamp(seconds: float) -> str:
    """A time so many seconds from now, as the API writes it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(*, waiting: dict[str, str] | None = None, made: float = 3600, **status: Any) -> Any:
    """The registry's pod; made after the process that looks, where nothing else is said."""
    name = {"name": "slipway-registry-0", "uid": "p", "creationTimestamp": stamp(made)}
    container = {"name": "registry", "image": "missing:1"}
    states = [] if waiting is None else [{"name": "registry", "state": {"waiting": waiting}, "image": "missing:1"}]
    return 200, {
        "metadata": {**name, "labels": {"controller-revision-hash": "r1"}},
        "spec": {"containers": [container], "nodeName": "one" if waiting is not None else None},
        "status": {"containerStatuses": states, **status},
    }


NOT_PULLED = {"reason": "InvalidImageName", "message": "couldn't parse image name"}


def context(log: operations.Lines | None = None, **more: Any) -> Context:
    return operations.context(RegistryEndpoint.token, "registry-endpoint", log=log, **more)


def deployed(inputs: dict[str, Any]) -> dict[str, Any]:
    return asyncio.run(RegistryEndpoint().create(context(), inputs))[1]


def told(inputs: dict[str, Any]) -> str:
    with pytest.raises(ResourceError) as raised:
        deployed(inputs)
    return str(raised.value)


def test_it_is_waited_for_until_its_newest_pod_is_ready_and_lets_in(
    api: ApiServer, inputs: dict[str, Any], registry: Registry
) -> None:
    states = iter([stateful_set(generation=2), stateful_set(current="r0"), stateful_set(ready=0)])
    api.answers[SET] = lambda: next(states, stateful_set())
    api.answers[POD] = refusal(404, "not found")

    assert deployed(inputs)["state"] == "Serving"
    assert registry.asked == 1


def test_a_preview_waits_for_nothing(api: ApiServer, inputs: dict[str, Any]) -> None:
    asyncio.run(RegistryEndpoint().create(context(preview=True), inputs))
    assert api.asked == []


def test_an_image_that_cannot_be_pulled_is_told_at_once(api: ApiServer, inputs: dict[str, Any]) -> None:
    api.answers[SET] = stateful_set(ready=0)
    api.answers[POD] = pod(waiting=NOT_PULLED)

    said = told(inputs)

    assert said.startswith("the registry in the namespace demo-registry: Failed (InvalidImageName)\n")
    assert "missing:1" in said
    assert "What to do: " in said


def test_what_failed_in_an_earlier_run_is_tried_once_more(api: ApiServer, inputs: dict[str, Any]) -> None:
    deleted = False

    def delete() -> Any:
        nonlocal deleted
        deleted = True
        return 200, {}

    api.answers[SET] = lambda: stateful_set(ready=1 if deleted else 0)
    api.answers[POD] = pod(waiting=NOT_PULLED, made=-3600)
    api.answers[f"DELETE {POD}"] = delete

    assert deployed(inputs)["state"] == "Serving"
    assert deleted


def test_a_pod_that_is_refused_is_told(api: ApiServer, inputs: dict[str, Any]) -> None:
    api.answers[SET] = stateful_set(ready=0)
    api.answers[POD] = refusal(404, "not found")
    message = (
        "create Pod slipway-registry-0 in StatefulSet slipway-registry failed error: pods "
        '"slipway-registry-0" is forbidden: violates PodSecurity "restricted:latest"'
    )
    event = {"reason": "FailedCreate", "message": message, "lastTimestamp": stamp(3600)}
    api.answers[f"{SPACE}/events"] = items(event)

    said = told(inputs)

    assert "Failed (PodSecurity)" in said
    assert 'no pod can be made: violates PodSecurity "restricted:latest"' in said


def test_a_volume_may_take_its_time(api: ApiServer, inputs: dict[str, Any]) -> None:
    def unbound(since: float) -> Any:
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            "lastTransitionTime": stamp(since),
        }
        return pod(conditions=[condition])

    api.answers["/api/v1/nodes"] = items()
    api.answers[SET] = stateful_set(ready=0)
    api.answers[POD] = unbound(-60)
    assert "(not serving within 0 s)" in told({**inputs, "timeoutSeconds": 0})
    api.answers[f"DELETE {POD}"] = 200, {}
    api.answers[POD] = unbound(-600)
    said = told(inputs)
    assert said.startswith("the registry in the namespace demo-registry: Unschedulable (Unschedulable)\n")
    assert "pod has unbound immediate PersistentVolumeClaims" in said


def test_a_registry_that_does_not_let_in_is_told(api: ApiServer, inputs: dict[str, Any], registry: Registry) -> None:
    api.answers[SET] = stateful_set()
    registry.error = RegistryDeniedError("the registry 127.0.0.1:30500 refuses the user slipway")
    assert told(inputs) == "the registry 127.0.0.1:30500 refuses the user slipway"


def test_one_that_was_deleted_elsewhere_is_told(inputs: dict[str, Any]) -> None:
    assert told(inputs) == (
        "the cluster has no registry slipway-registry in the namespace demo-registry: it was deleted outside this "
        "stack. Run `pulumi up --refresh`: it is made again"
    )


def test_a_refresh_finds_one_that_does_not_serve(api: ApiServer, inputs: dict[str, Any]) -> None:
    api.answers[SET] = stateful_set()
    state = {**inputs, "state": "Serving"}
    resource = RegistryEndpoint()
    assert asyncio.run(resource.read(context(), "127.0.0.1:30500", state)) == state
    assert resource.diff(state, inputs) == []

    api.answers[SET] = stateful_set(ready=0)
    api.answers[POD] = refusal(404, "not found")
    log = operations.Lines()
    found = asyncio.run(resource.read(context(log), "127.0.0.1:30500", state))

    assert found is not None
    assert log.warnings == ["the registry does not serve: the registry's pod is being made"]
    assert [change.path for change in resource.diff(found, inputs)] == ["state"]


def test_another_pod_is_waited_for_in_place(inputs: dict[str, Any]) -> None:
    (change,) = RegistryEndpoint().diff({**inputs, "state": "Serving"}, {**inputs, "revision": "def"})
    assert (change.path, change.replaces) == ("revision", False)
