"""A registry that runs in a cluster: its objects, who waits for it, and how it is reached."""

from __future__ import annotations

import json
from typing import Any

import bcrypt
import pytest

from infra.config import ClusterRegistry
from tests.components.support import Recorder, declared
from tests.components.test_kubernetes_target import a_plan, inputs, objects, secret_of

STATEFUL_SET = "kubernetes:apps/v1:StatefulSet"
NAMESPACE = "models-registry"


def deployed(recorder: Recorder, target: dict[str, Any] | None = None, **registry: Any) -> dict[str, Any]:
    given = ClusterRegistry(kind="cluster", compute_target="aks", **registry)
    return declared(recorder, a_plan(target=target, registry=given))


def the_set(recorder: Recorder) -> dict[str, Any]:
    spec: dict[str, Any] = inputs(recorder, STATEFUL_SET)["registry-set"]["spec"]
    return spec


def test_the_objects_of_a_registry(recorder: Recorder) -> None:
    deployed(recorder)

    assert objects(recorder) >= {
        f"Namespace/{NAMESPACE}",
        "Secret/slipway-registry-configuration",
        "NetworkPolicy/slipway-registry",
        "Service/slipway-registry",
        "StatefulSet/slipway-registry",
    }
    spaces = {
        args.inputs["metadata"]["namespace"]
        for name, args in recorder.registered.items()
        if args.typ.startswith("kubernetes:") and name.partition("::")[2].startswith("registry-")
        if args.inputs["kind"] != "Namespace"
    }
    assert spaces == {NAMESPACE}
    namespace = inputs(recorder, "kubernetes:core/v1:Namespace")["registry-namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(
    ("tier", "size", "limits", "parallel", "go"),
    [
        ("Basic", 10, {"cpu": "500m", "memory": "256Mi"}, 2, "230MiB"),
        ("Standard", 100, {"cpu": "1", "memory": "512Mi"}, 6, "460MiB"),
        ("Premium", 500, {"cpu": "2", "memory": "1Gi"}, 16, "921MiB"),
    ],
)
def test_a_tier_is_a_volume_and_limits(
    recorder: Recorder, tier: str, size: int, limits: dict[str, str], parallel: int, go: str
) -> None:
    deployed(recorder, tier=tier, storage_class="fast")

    volume = inputs(recorder, "slipway:index:ClusterVolume")["registry-volume"]
    assert (volume["sizeBytes"], volume["storageClass"]) == (size * 2**30, "fast")
    assert (volume["namespace"], volume["name"]) == (NAMESPACE, "slipway-registry")
    (container,) = the_set(recorder)["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == limits
    assert container["resources"]["requests"] == {"cpu": "100m", "memory": limits["memory"]}
    assert {item["name"]: item["value"] for item in container["env"]}["GOMEMLIMIT"] == go
    assert inputs(recorder, "slipway:index:ModelVersion")["digits-version"]["parallel"] == parallel


def test_its_pod_has_no_rights_and_writes_to_its_volume_alone(recorder: Recorder) -> None:
    deployed(recorder, {"nodeSelector": {"pool": "models"}}, image="mirror.example/registry:2.8.3")

    spec = the_set(recorder)["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["nodeSelector"]["pool"] == "models"
    (container,) = spec["containers"]
    assert container["image"] == "mirror.example/registry:2.8.3"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert [item["mountPath"] for item in container["volumeMounts"] if not item.get("readOnly")] == [
        "/var/lib/registry"
    ]
    (data, _) = spec["volumes"]
    assert data["persistentVolumeClaim"] == {"claimName": "slipway-registry"}


def test_only_requests_come_in_and_nothing_goes_out(recorder: Recorder) -> None:
    deployed(recorder)

    rules = inputs(recorder, "kubernetes:networking.k8s.io/v1:NetworkPolicy")["registry-rules"]["spec"]
    labels = the_set(recorder)["template"]["metadata"]["labels"]
    assert rules == {
        "podSelector": {"matchLabels": labels},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"protocol": "TCP", "port": 5000}]}],
    }


def test_nodes_pull_from_a_port_of_their_own_with_the_password(recorder: Recorder) -> None:
    outputs = deployed(recorder, node_port=30555)

    entry = inputs(recorder, "kubernetes:core/v1:Service")["registry-entry"]["spec"]
    assert entry["type"] == "NodePort"
    assert entry["ports"][0]["nodePort"] == 30555
    assert entry["selector"] == the_set(recorder)["selector"]["matchLabels"]
    pulled = inputs(recorder, "kubernetes:core/v1:Secret")["aks-registry-access"]
    access = json.loads(secret_of(pulled, ".dockerconfigjson"))["auths"]
    assert access["127.0.0.1:30555"]["password"] == "generated"
    assert outputs["registry"]["location"] == "127.0.0.1:30555"
    assert outputs["registry"]["portForward"].endswith(
        f"--namespace={NAMESPACE} port-forward service/slipway-registry 5000:5000"
    )


def test_whoever_deploys_goes_through_the_api_server(recorder: Recorder) -> None:
    deployed(recorder, {"context": "west"})

    way = {
        "cluster": {"context": "west"},
        "namespace": NAMESPACE,
        "statefulSet": "slipway-registry",
        "port": 5000,
    }
    for kind in ("ModelVersion", "ServiceImage", "MirroredImage"):
        for given in inputs(recorder, f"slipway:index:{kind}").values():
            assert given["portForward"] == way
            assert given["username"] == "slipway"


def test_what_is_in_it_waits_for_it_and_goes_with_it(recorder: Recorder, requests: dict[str, Any]) -> None:
    deployed(recorder)

    for name in ("digits-version", "python-image-copy", "mnist-default-image"):
        assert any(urn.endswith("::registry-endpoint") for urn in requests[name].dependencies), name
        assert requests[name].deletedWith.endswith("::registry-set")
    needed = {urn.rpartition("::")[2] for urn in requests["registry-set"].dependencies}
    assert needed >= {"registry-volume", "registry-configuration", "registry-rules", "registry-entry"}
    assert any(urn.endswith("::registry-set") for urn in requests["registry-endpoint"].dependencies)
    assert requests["registry-volume"].deletedWith.endswith("::registry-namespace")


def test_the_password_lets_in_and_is_told_nowhere_else(recorder: Recorder) -> None:
    deployed(recorder)

    files = inputs(recorder, "kubernetes:core/v1:Secret")["registry-configuration"]
    user, _, hashed = secret_of(files, "htpasswd").strip().partition(":")
    assert user == "slipway"
    assert bcrypt.checkpw(b"generated", hashed.encode())
    configuration = secret_of(files, "config.yml")
    assert json.loads(configuration)["http"]["secret"]
    assert "generated" not in configuration
    assert "generated" not in json.dumps(the_set(recorder))


def test_it_runs_in_a_namespace_that_is_there(recorder: Recorder) -> None:
    deployed(recorder, namespace="tools")

    assert "Namespace/tools" not in objects(recorder)
    assert inputs(recorder, STATEFUL_SET)["registry-set"]["metadata"]["namespace"] == "tools"
