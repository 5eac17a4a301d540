"""What `ReplicaOwnership` removes, and what it leaves to others. Against a stand-in for the API server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from provider.replica_ownership import ReplicaOwnership
from provider.resource import ResourceError
from provider.values import UNKNOWN, Properties
from tests.operations import Lines, context
from tests.unit.kubernetes.api_server import ApiServer, items, refusal
from tests.unit.kubernetes.objects import Object, deployment

TYPE = "slipway:index:ReplicaOwnership"
DEPLOYMENT = "/apis/apps/v1/namespaces/models/deployments/mnist"
SCALERS = "/apis/autoscaling/v2/namespaces/models/horizontalpodautoscalers"
OURS = {"app.kubernetes.io/managed-by": "slipway"}
STACK = {"manager": "pulumi-kubernetes-1", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}}
LEFT = {
    "manager": "kube-controller-manager",
    "operation": "Update",
    "subresource": "scale",
    "fieldsV1": {"f:spec": {"f:replicas": {}}},
}
SCALED_BY_HAND = {**LEFT, "manager": "kubectl"}


@pytest.fixture
def inputs(api: ApiServer, tmp_path: Path) -> Properties:
    cluster = {"kubeconfig": str(api.kubeconfig(tmp_path))}
    return {"cluster": cluster, "namespace": "models", "deployment": "mnist"}


def holds(api: ApiServer, *entries: Object, scaler: Object | None = None) -> None:
    """Has the cluster hold the Deployment with these managed fields, and one autoscaler of it."""
    api.answers[f"GET {DEPLOYMENT}"] = (
        200,
        deployment(metadata={"resourceVersion": "7", "managedFields": [STACK, *entries]}),
    )
    api.answers[SCALERS] = items(*([] if scaler is None else [scaler]))
    if scaler is not None:
        api.answers[f"GET {SCALERS}/{scaler['metadata']['name']}"] = 200, scaler


def a_scaler(name: str = "mnist", **labels: str) -> Object:
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "mnist"}},
    }


def takes(api: ApiServer) -> None:
    """Has the cluster do what it is asked to: the autoscaler goes, the claims go."""

    def deleted() -> tuple[int, Any]:
        del api.answers[f"GET {SCALERS}/mnist"]
        api.answers[SCALERS] = items()
        return 200, {}

    def patched() -> tuple[int, Any]:
        holds(api)
        return 200, {}

    api.answers[f"DELETE {SCALERS}/mnist"] = deleted
    api.answers[f"PATCH {DEPLOYMENT}"] = patched


def made(inputs: Properties, *, preview: bool = False, log: Lines | None = None) -> Properties:
    return asyncio.run(ReplicaOwnership().create(context(TYPE, "mnist", preview=preview, log=log), inputs))[1]


def changes(api: ApiServer) -> list[str]:
    return [asked.partition("?")[0] for asked in api.asked if not asked.startswith("GET ")]


def test_the_stack_s_autoscaler_goes_and_then_what_it_has_left(api: ApiServer, inputs: Properties) -> None:
    log = Lines()
    holds(api, LEFT, scaler=a_scaler(**OURS))
    takes(api)
    assert made(inputs, log=log) == {**inputs, "owned": True}
    assert changes(api) == [f"DELETE {SCALERS}/mnist", f"PATCH {DEPLOYMENT}"]
    (body,) = [json.loads(sent) for asked, sent in zip(api.asked, api.bodies, strict=True) if asked.startswith("PATCH")]
    assert body == {"metadata": {"resourceVersion": "7", "managedFields": [STACK]}}, "and nothing of its pods"
    assert log.lines == ["the autoscaler mnist goes: the stack says how many pods there are"]


def test_a_claim_that_an_autoscaler_has_left_is_dropped(api: ApiServer, inputs: Properties) -> None:
    holds(api, LEFT, SCALED_BY_HAND)
    takes(api)
    made(inputs)
    assert changes(api) == [f"PATCH {DEPLOYMENT}"]


@pytest.mark.parametrize(
    ("entries", "scaler"),
    [
        ([], None),
        ([SCALED_BY_HAND], None),
        ([LEFT], a_scaler()),
        ([LEFT], a_scaler("by-hand")),
    ],
    ids=["nothing", "kubectl scale", "kubectl autoscale", "under another name"],
)
def test_what_others_say_stays_theirs(
    api: ApiServer, inputs: Properties, entries: list[Object], scaler: Object | None
) -> None:
    holds(api, *entries, scaler=scaler)
    assert made(inputs, preview=True)["owned"] is True
    assert made(inputs)["owned"] is True
    assert changes(api) == []


def test_a_deployment_that_is_not_there_yet_is_the_stack_s(api: ApiServer, inputs: Properties) -> None:
    assert made(inputs, preview=True) == {**inputs, "owned": True}
    assert made(inputs) == {**inputs, "owned": True}
    assert changes(api) == []


def test_who_may_not_see_autoscalers_has_made_none(api: ApiServer, inputs: Properties) -> None:
    holds(api, LEFT)
    message = 'User "ann" cannot get resource "horizontalpodautoscalers" in API group "autoscaling"'
    api.answers[f"GET {SCALERS}/mnist"] = refusal(403, message, "Forbidden")
    assert made(inputs)["owned"] is True
    assert changes(api) == []


def test_a_preview_touches_nothing_and_does_not_know_yet(api: ApiServer, inputs: Properties) -> None:
    holds(api, LEFT, scaler=a_scaler(**OURS))
    assert made(inputs, preview=True)["owned"] is UNKNOWN
    assert changes(api) == []


def test_a_preview_without_a_cluster_knows_of_nothing_in_the_way(inputs: Properties, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").unlink()
    assert made(inputs, preview=True)["owned"] is True


def test_a_change_meanwhile_is_looked_at_again(api: ApiServer, inputs: Properties) -> None:
    holds(api, LEFT)
    takes(api)
    drop = api.answers[f"PATCH {DEPLOYMENT}"]

    def changed() -> tuple[int, Any]:
        api.answers[f"PATCH {DEPLOYMENT}"] = drop
        return refusal(409, "the object has been modified", "Conflict")

    api.answers[f"PATCH {DEPLOYMENT}"] = changed
    made(inputs)
    assert changes(api) == [f"PATCH {DEPLOYMENT}"] * 2


def test_what_never_comes_to_rest_is_an_error_that_says_what_to_do(api: ApiServer, inputs: Properties) -> None:
    holds(api, LEFT)
    api.answers[f"PATCH {DEPLOYMENT}"] = refusal(409, "the object has been modified", "Conflict")
    with pytest.raises(ResourceError, match="keeps setting how many pods it has"):
        made(inputs)


def test_a_refresh_finds_an_autoscaler_that_came_back_and_the_next_up_removes_it(
    api: ApiServer, inputs: Properties
) -> None:
    state = {**inputs, "owned": True}
    assert ReplicaOwnership().diff(state, inputs) == []
    holds(api, scaler=a_scaler(**OURS))
    found = asyncio.run(ReplicaOwnership().read(context(TYPE, "mnist"), "models/mnist", state))
    assert found == {**inputs, "owned": False}
    (change,) = ReplicaOwnership().diff(found, inputs)
    assert (change.path, change.kind) == ("owned", "update")
    takes(api)
    assert asyncio.run(ReplicaOwnership().update(context(TYPE, "mnist"), "models/mnist", found, inputs)) == state


def test_a_refresh_without_a_cluster_finds_nothing_new(inputs: Properties, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").unlink()
    state = {**inputs, "owned": True}
    assert asyncio.run(ReplicaOwnership().read(context(TYPE, "mnist"), "models/mnist", state)) == state


def test_a_cluster_is_checked(inputs: Properties) -> None:
    inputs["cluster"]["server"] = "https://here"
    _, (failure,) = asyncio.run(ReplicaOwnership().check(context(TYPE, "mnist"), inputs))
    assert failure.property == "cluster.server"
