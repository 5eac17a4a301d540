"""What the target declares, as a real API server sees it: each kind of object, checked strictly, and nothing made."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pulumi
import pytest
from kubernetes import client

from infra.config import AutoScaler, ClusterRegistry, KubernetesDeployment, KubernetesResources, LivenessProbe
from provider.certificates.issue import authority
from tests.components.support import OUTPUTS, Recorder, declared, event_loop
from tests.components.test_kubernetes_target import INGRESS, SPLIT, a_deployment, a_plan
from tests.kubernetes.conftest import await_account

SECRET = "4dabf18193072939515e22adb298388d"
"""The key of an object that wraps a secret."""
IN_THE_CLUSTER = ClusterRegistry(kind="cluster", compute_target="aks", tier="Premium", storage_class="fast")
PLURALS = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}
WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding", "APIService"}
"""Kinds that are in no namespace."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def loop_of_mocks() -> Iterator[None]:
    with event_loop():
        yield


@pytest.fixture
def restricted(core: client.CoreV1Api) -> Iterator[str]:
    """A namespace that takes no pod with rights, and warns of whatever would make one."""
    name = f"slipway-{secrets.token_hex(4)}"
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    core.create_namespace({"metadata": {"name": name, "labels": levels}})
    await_account(core, name)
    yield name
    core.delete_namespace(name)


@pytest.fixture(autouse=True)
def certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mocks answer with is a certificate: the API server looks into it."""
    issued = authority("tests", 1, datetime.now(UTC))
    pair = {"certificate": issued.certificate, "privateKey": issued.private_key}
    monkeypatch.setitem(OUTPUTS, "slipway:index:Certificate", pair)


def plain(value: Any) -> Any:
    """`value` as it goes to the API server: the mocks wrap secrets, and have no whole numbers."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return plain(value["value"]) if SECRET in value else {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def manifests(
    tmp_path: Path, *, keys: bool, ingress: bool, split: bool, registry: ClusterRegistry | None = None
) -> list[dict[str, Any]]:
    """The objects of a service that asks for a lot."""
    sample = tmp_path / "sample.json"
    sample.write_text('{"data": [1]}')
    resources = KubernetesResources(cpu=0.5, cpu_limit=2, memory_in_gb=1, memory_in_gb_limit=1.5)
    settings = KubernetesDeployment(
        port=443,
        ssl_enabled=True,
        auth_enabled=keys,
        auto_scaler=AutoScaler(
            min_replicas=2, refresh_period_in_seconds=1, metric="requestsInFlight" if split else "cpu"
        ),
        max_concurrent_requests_per_container=3,
        gpu_cores=1,
        accelerators={"fpga": 2},
        priority_class_name="high",
        liveness_probe_requirements=LivenessProbe(),
    )
    target: dict[str, Any] = {
        "quota": {"requests.cpu": "8", "requests.nvidia.com/gpu": 2},
        "limits": {"default": {"memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": 4}},
        "accelerators": {"fpga": "xilinx.com/fpga-u250"},
        "nodeSelector": {"pool": "models"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}],
        **(INGRESS if ingress else {"expose": "loadBalancer"}),
        "metricsAdapter": split,
    }
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, project="slipway", stack="test")
    deployments = SPLIT if split else {"default": a_deployment(sample_request=sample, resources=resources)}
    declared(recorder, a_plan(settings, {"LEVEL": "3"}, target, registry, **deployments), tmp_path)
    return [plain(args.inputs) for args in recorder.registered.values() if args.typ.startswith("kubernetes:")]


def posted(api: client.ApiClient, namespace: str, body: dict[str, Any]) -> str:
    """What the API server has against an object, or warns of; nothing where all is well."""
    kind, version = body["kind"], body["apiVersion"]
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    place = f"{root}/{_plural(kind)}" if kind in WIDE else f"{root}/namespaces/{namespace}/{_plural(kind)}"
    if kind not in WIDE:
        body = {**body, "metadata": {**body["metadata"], "namespace": namespace}}
    _, _, headers = api.call_api(
        place,
        "POST",
        query_params=[("dryRun", "All"), ("fieldValidation", "Strict")],
        header_params={"Content-Type": "application/json"},
        body=body,
        auth_settings=["BearerToken"],
        _preload_content=False,
    )
    return f"{kind}: {headers['Warning']}" if headers.get("Warning") else ""


def _plural(kind: str) -> str:
    return PLURALS.get(kind, f"{kind.lower()}s")


@pytest.mark.parametrize(
    ("features", "kinds"),
    [
        (
            {"keys": True, "ingress": True, "split": False},
            {"Ingress", "ConfigMap", "Secret", "HorizontalPodAutoscaler", "ResourceQuota", "LimitRange"},
        ),
        (
            {"keys": False, "ingress": False, "split": True, "registry": IN_THE_CLUSTER},
            {
                *{"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount", "RoleBinding"},
                *{"StatefulSet", *WIDE},
            },
        ),
    ],
)
def test_every_object_is_taken_without_a_warning(
    features: dict[str, Any], kinds: set[str], api: client.ApiClient, restricted: str, tmp_path: Path
) -> None:
    objects = manifests(tmp_path, **features)

    assert kinds <= {body["kind"] for body in objects}
    assert [said for body in objects if (said := posted(api, restricted, body))] == []


def test_every_pod_is_taken_where_pods_are_restricted(api: client.ApiClient, restricted: str, tmp_path: Path) -> None:
    templates = [
        body["spec"]["template"]
        for features in (
            {"keys": True, "ingress": True, "split": False},
            {"keys": False, "ingress": False, "split": True, "registry": IN_THE_CLUSTER},
        )
        for body in manifests(tmp_path, **features)
        if body["kind"] in ("Deployment", "StatefulSet")
    ]

    assert len(templates) == 6, "one, blue and green with a router and an adapter, and a registry"
    for number, template in enumerate(templates):
        # Whose account and priority they are is no matter of their rights, and neither is there.
        spec = {**template["spec"], "serviceAccountName": "default"}
        spec.pop("priorityClassName", None)
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{number}"}, "spec": spec}
        assert posted(api, restricted, body) == ""


def test_a_pod_with_rights_is_not(api: client.ApiClient, restricted: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod"},
        "spec": {"containers": [{"name": "main", "image": "x"}]},
    }
    with pytest.raises(client.exceptions.ApiException, match="violates PodSecurity"):
        posted(api, restricted, body)
