"""A volume in a cluster that grows and never shrinks: what is told before, and what is asked of the API server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from provider import cluster_volume
from provider.cluster_volume import ASKED, ClusterVolume
from provider.resource import Context, Failure, ResourceError
from provider.values import UNKNOWN
from tests import operations
from tests.unit.kubernetes.api_server import ApiServer, refusal

GIB = 2**30
CLAIM = "/api/v1/namespaces/demo-registry/persistentvolumeclaims/data"
STORAGE_CLASS = "/apis/storage.k8s.io/v1/storageclasses/standard"


@pytest.fixture
def inputs(api: ApiServer, tmp_path: Path) -> dict[str, Any]:
    return {
        "cluster": {"kubeconfig": str(api.kubeconfig(tmp_path))},
        "namespace": "demo-registry",
        "name": "data",
        "sizeBytes": 100 * GIB,
        "labels": {"app": "registry"},
    }


def claim(size: str = "100Gi", *, asked: int | None = None, phase: str = "Bound", **metadata: Any) -> Any:
    annotations = {} if asked is None else {ASKED: str(asked)}
    return {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "annotations": annotations, **metadata},
        "spec": {"resources": {"requests": {"storage": size}}, "storageClassName": "standard"},
        "status": {"phase": phase},
    }


def context(**more: Any) -> Context:
    return operations.context(ClusterVolume.token, "volume", **more)


def failures(news: dict[str, Any]) -> list[Failure]:
    return asyncio.run(ClusterVolume().check(context(preview=True), news))[1]


def applied(api: ApiServer) -> list[str]:
    return [line for line in api.asked if not line.startswith("GET")]


def test_a_preview_says_that_no_volume_shrinks(api: ApiServer, inputs: dict[str, Any]) -> None:
    api.answers[CLAIM] = 200, claim("500Gi")

    (failure,) = failures(inputs)

    assert failure.property == "sizeBytes"
    assert failure.reason == (
        "the volume demo-registry/data has 500.0 GiB, and 100.0 GiB is asked for: no volume shrinks. Keep its size (a "
        "registry's: its tier); or have another volume made: move what is on it elsewhere, and back"
    )
    assert applied(api) == []


def test_a_preview_says_that_a_storage_class_lets_none_grow(api: ApiServer, inputs: dict[str, Any]) -> None:
    api.answers[CLAIM] = 200, claim("10Gi")
    api.answers[STORAGE_CLASS] = 200, {"kind": "StorageClass"}

    (failure,) = failures(inputs)

    assert "its storage class 'standard' lets no volume grow (allowVolumeExpansion)" in failure.reason
    assert "kubectl patch storageclass standard --patch '{\"allowVolumeExpansion\": true}'" in failure.reason
    api.answers[STORAGE_CLASS] = 200, {"kind": "StorageClass", "allowVolumeExpansion": True}
    assert failures(inputs) == []


def test_a_volume_keeps_its_storage_class(api: ApiServer, inputs: dict[str, Any]) -> None:
    api.answers[CLAIM] = 200, claim()

    (failure,) = failures({**inputs, "storageClass": "fast"})

    assert failure.property == "storageClass"
    assert "the volume demo-registry/data is of the storage class 'standard', and stays so" in failure.reason
    assert failures({**inputs, "storageClass": "standard"}) == []


@pytest.mark.parametrize(
    "answer",
    [
        refusal(404, "not found"),
        refusal(403, 'User "ann" cannot get resource "persistentvolumeclaims"'),
        (200, claim("10Gi", phase="Pending")),
        (200, claim("200Gi", asked=100 * GIB)),  # enlarged by hand
    ],
)
def test_nothing_is_said_where_nothing_is_known_to_stand_against_it(
    api: ApiServer, inputs: dict[str, Any], answer: Any
) -> None:
    api.answers[CLAIM] = answer
    assert failures(inputs) == []


def test_a_preview_needs_no_cluster(inputs: dict[str, Any]) -> None:
    assert failures({**inputs, "cluster": {"kubeconfig": "/none/yet"}}) == []
    assert failures({**inputs, "namespace": UNKNOWN}) == []


def test_sizes_are_whole_gibibytes(inputs: dict[str, Any]) -> None:
    (failure,) = failures({**inputs, "sizeBytes": GIB + 1})
    assert failure.reason == "must be whole GiB, at least one, not 1073741825"


def test_a_claim_is_applied(api: ApiServer, inputs: dict[str, Any]) -> None:
    api.answers[f"PATCH {CLAIM}"] = 201, claim()

    made = asyncio.run(ClusterVolume().create(context(), inputs))

    assert made == ("demo-registry/data", inputs)
    assert applied(api) == [f"PATCH {CLAIM}?fieldManager=slipway&force=true"]
    assert api.headers[-1]["content-type"] == "application/apply-patch+yaml"


def test_a_preview_makes_none(api: ApiServer, inputs: dict[str, Any]) -> None:
    asyncio.run(ClusterVolume().create(context(preview=True), inputs))
    asyncio.run(ClusterVolume().update(context(preview=True), "id", inputs, {**inputs, "sizeBytes": 500 * GIB}))
    assert api.asked == []


def test_a_claim_that_somebody_enlarged_stays_as_large() -> None:
    manifest = cluster_volume._manifest({"name": "data", "namespace": "a", "sizeBytes": 100 * GIB}, 200 * GIB)
    assert manifest["spec"]["resources"]["requests"] == {"storage": "200Gi"}
    assert manifest["metadata"]["annotations"] == {ASKED: str(100 * GIB)}


@pytest.mark.parametrize("found", [claim("10Gi", phase="Pending"), claim(deletionTimestamp="2026-11-28T09:00:00Z")])
def test_a_claim_that_is_no_volume_is_made_anew(api: ApiServer, inputs: dict[str, Any], found: Any) -> None:
    answers = iter([(200, found), (200, found)])
    api.answers[CLAIM] = lambda: next(answers, refusal(404, "not found"))
    api.answers[f"DELETE {CLAIM}"] = 200, {}
    api.answers[f"PATCH {CLAIM}"] = 201, claim()

    asyncio.run(ClusterVolume().update(context(), "demo-registry/data", inputs, inputs))

    assert [line.partition(" ")[0] for line in api.asked] == ["GET", "DELETE", "GET", "GET", "PATCH"]


def test_a_refresh_finds_that_it_is_gone(api: ApiServer, inputs: dict[str, Any]) -> None:
    log = operations.Lines()
    assert asyncio.run(ClusterVolume().read(context(log=log), "demo-registry/data", inputs)) is None
    assert log.warnings == ["the volume demo-registry/data is gone: another one will be made, with nothing on it"]
    api.answers[CLAIM] = 200, claim("200Gi")
    assert asyncio.run(ClusterVolume().read(context(), "demo-registry/data", inputs)) == inputs
    api.answers[CLAIM] = 200, claim("10Gi")
    found = asyncio.run(ClusterVolume().read(context(), "demo-registry/data", inputs))
    assert found is not None
    assert [change.path for change in ClusterVolume().diff(found, inputs)] == ["sizeBytes"]


def test_a_volume_in_use_is_told(api: ApiServer, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_volume, "_GONE_SECONDS", 0)
    api.answers[CLAIM] = 200, claim()

    with pytest.raises(ResourceError, match=r"the volume demo-registry/data does not go: pods still use it\. End them"):
        asyncio.run(ClusterVolume().delete(context(), "demo-registry/data", inputs))


def test_deleting_what_is_gone_succeeds(inputs: dict[str, Any]) -> None:
    asyncio.run(ClusterVolume().delete(context(), "demo-registry/data", inputs))
