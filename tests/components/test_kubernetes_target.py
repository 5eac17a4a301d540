"""What a cluster is asked for: pods and their rights, what looks after them, and the order in which traffic moves."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components import targets
from components.targets.cluster_settings import IN_FLIGHT
from infra.config import (
    AutoScaler,
    ClusterRegistry,
    ExternalRegistry,
    KubernetesDeployment,
    KubernetesResources,
    KubernetesTarget,
    LivenessProbe,
    Model,
    SecretReference,
    ServiceRegistry,
    Workspace,
)
from infra.plan import DeploymentPlan, EnvironmentPlan, ImagePlan, ModelReference, ServicePlan, StackPlan
from slipway_serving import metrics
from tests.certificates import Authority
from tests.components.support import OUTPUTS, Recorder, declared, previewing, unknown_inputs

DEPLOYMENT = "kubernetes:apps/v1:Deployment"
SERVICE = "kubernetes:core/v1:Service"
SECRET = "kubernetes:core/v1:Secret"
CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
SCALER = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler"
ENDPOINT = "slipway:index:Endpoint"


def a_deployment(**more: Any) -> DeploymentPlan:
    plan = DeploymentPlan(
        models=(ModelReference("digits", None),),
        entry_script="score.py",
        source_directory=Path("/project/src"),
        environment="minimal",
        sample_request=None,
        startup_timeout_seconds=60,
        resources=KubernetesResources(),
    )
    return dataclasses.replace(plan, **more)


def a_plan(
    deployment: KubernetesDeployment | None = None,
    variables: dict[str, str] | None = None,
    target: dict[str, Any] | None = None,
    registry: ServiceRegistry | ClusterRegistry | ExternalRegistry | None = None,
    **deployments: DeploymentPlan,
) -> StackPlan:
    return StackPlan(
        workspace=Workspace(name="demo"),
        registry=registry or ServiceRegistry(kind="service", port=5000),
        compute_targets={
            "aks": KubernetesTarget.model_validate({"kind": "kubernetes", "namespace": "models", **(target or {})})
        },
        environments={"minimal": EnvironmentPlan((), None, variables or {})},
        models={"digits": Model(path="model.pkl")},
        services={
            "mnist": ServicePlan(
                "aks", deployment or KubernetesDeployment(), deployments or {"default": a_deployment()}
            )
        },
        python_image=ImagePlan("/images", "base/python", f"sha256:{'1' * 64}", "3.11", ("linux/amd64",)),
        router_image=ImagePlan("/images", "router", f"sha256:{'2' * 64}", None, ("linux/amd64",)),
    )


SPLIT = {"blue": a_deployment(weight=90), "green": a_deployment(weight=10)}
INGRESS = {"ingress": {"className": "nginx", "host": "ml.example.org", "annotations": {"a": "b"}}}
GATEWAY = {"gateway": {"name": "front", "namespace": "infra", "sectionName": "web"}}


def inputs(recorder: Recorder, kind: str) -> dict[str, dict[str, Any]]:
    """The inputs of the resources of a type, by name."""
    marker = f"{kind}::"
    return {
        key.removeprefix(marker): args.inputs for key, args in recorder.registered.items() if key.startswith(marker)
    }


def only(recorder: Recorder, kind: str) -> dict[str, Any]:
    (found,) = inputs(recorder, kind).values()
    return found


def pod(recorder: Recorder, name: str = "mnist-default-deployment") -> dict[str, Any]:
    spec: dict[str, Any] = inputs(recorder, DEPLOYMENT)[name]["spec"]["template"]["spec"]
    return spec


def container(recorder: Recorder, name: str = "mnist-default-deployment") -> dict[str, Any]:
    (found,) = pod(recorder, name)["containers"]
    return dict(found)


def environment(recorder: Recorder) -> dict[str, str]:
    return {item["name"]: item["value"] for item in container(recorder)["env"]}


def objects(recorder: Recorder) -> set[str]:
    """What is made in the cluster: kind and name."""
    return {
        f"{args.inputs['kind']}/{args.inputs['metadata']['name']}"
        for args in recorder.registered.values()
        if args.typ.startswith("kubernetes:")
    }


def secret_of(request: Any, key: str) -> str:
    """A value of a Secret, which has to be secret to the engine."""
    value = request["stringData"][key] if key in request["stringData"] else request["stringData"]["value"][key]
    return str(value["value"] if isinstance(value, dict) else value)


# --- what there is ---


def test_the_objects_of_a_service(recorder: Recorder) -> None:
    outputs = declared(recorder, a_plan())

    assert objects(recorder) == {
        "Namespace/models",
        "ServiceAccount/slipway",
        "Secret/slipway-registry",
        "NetworkPolicy/slipway-deny",
        "NetworkPolicy/slipway-requests",
        "Deployment/mnist",
        "Service/mnist",
    }
    assert only(recorder, DEPLOYMENT)["metadata"] == {
        "name": "mnist",
        "namespace": "models",
        "labels": {
            "app.kubernetes.io/name": "mnist",
            "app.kubernetes.io/component": "default",
            "app.kubernetes.io/part-of": "demo",
            "app.kubernetes.io/managed-by": "slipway",
        },
        "annotations": {"pulumi.com/skipAwait": "true"},
    }
    told = outputs["services"]["mnist"]
    assert told == {
        "state": "Healthy",
        "scoringUri": "http://mnist.models.svc/score",
        "swaggerUri": "http://mnist.models.svc/swagger.json",
        "revision": only(recorder, ENDPOINT)["revision"],
        "portForward": {
            "command": "kubectl --namespace=models port-forward service/mnist 8080:80",
            "port": 8080,
        },
    }


def test_a_namespace_is_restricted_or_taken_as_it_is(recorder: Recorder) -> None:
    declared(recorder, a_plan())
    labels = only(recorder, "kubernetes:core/v1:Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"

    taken = Recorder()
    pulumi.runtime.set_mocks(taken, project="slipway", stack="test")
    declared(taken, a_plan(target={"createNamespace": False}))
    assert "Namespace/models" not in objects(taken)
    assert "Deployment/mnist" in objects(taken)


def test_the_namespace_is_called_like_the_workspace(recorder: Recorder) -> None:
    declared(recorder, a_plan(target={"namespace": None}))

    assert "Namespace/demo" in objects(recorder)


def test_the_cluster_is_the_one_of_the_configuration(recorder: Recorder) -> None:
    declared(recorder, a_plan(target={"kubeconfig": "kube/config", "context": "prod"}))

    provider = inputs(recorder, "pulumi:providers:kubernetes")["aks-cluster"]
    assert provider == {"kubeconfig": "/project/kube/config", "context": "prod", "enableSecretMutable": "true"}
    target = only(recorder, ENDPOINT)["target"]
    assert target == {
        "kind": "kubernetes",
        "cluster": {"kubeconfig": "/project/kube/config", "context": "prod"},
        "namespace": "models",
        "service": "mnist",
        "deployment": "mnist",
        "port": 5001,
        "image": "registry/app@sha256:i",
        "replicas": 1,
    }
    providers = {
        args.provider.rpartition("::")[0].rpartition("::")[2]
        for args in recorder.registered.values()
        if args.typ.startswith("kubernetes:")
    }
    assert providers == {"aks-cluster"}


def test_nodes_pull_with_the_registry_s_credentials(recorder: Recorder) -> None:
    declared(recorder, a_plan())

    secret = only(recorder, SECRET)
    auths = json.loads(secret_of(secret, ".dockerconfigjson"))["auths"]
    assert auths["127.0.0.1:5000"]["username"] == "slipway"
    assert base64.b64decode(auths["127.0.0.1:5000"]["auth"]) == b"slipway:generated"
    assert pod(recorder)["imagePullSecrets"] == [{"name": "slipway-registry"}]


def test_a_registry_without_credentials_needs_none(recorder: Recorder) -> None:
    declared(recorder, a_plan(registry=ExternalRegistry(kind="external", address="registry.example/team")))

    assert inputs(recorder, SECRET) == {}
    assert "imagePullSecrets" not in pod(recorder)


def test_policies_let_requests_in_and_nothing_else(recorder: Recorder) -> None:
    declared(recorder, a_plan())

    policies = inputs(recorder, "kubernetes:networking.k8s.io/v1:NetworkPolicy")
    ours = {"matchLabels": {"app.kubernetes.io/part-of": "demo", "app.kubernetes.io/managed-by": "slipway"}}
    assert policies["aks-deny"]["spec"] == {"podSelector": ours, "policyTypes": ["Ingress"]}
    ports = [item["port"] for item in policies["aks-requests"]["spec"]["ingress"][0]["ports"]]
    assert ports == [5001, 8080, 8404]


def test_policies_can_be_left_to_others(recorder: Recorder) -> None:
    declared(recorder, a_plan(target={"networkPolicy": False}))

    assert not any(name.startswith("NetworkPolicy") for name in objects(recorder))


def test_quota_and_limits_come_before_pods(recorder: Recorder, requests: dict[str, Any]) -> None:
    limits = {"default": {"cpu": 1}, "max": {"memory": "4Gi"}}
    declared(recorder, a_plan(target={"quota": {"requests.cpu": 8}, "limits": limits}))

    assert only(recorder, "kubernetes:core/v1:ResourceQuota")["spec"] == {"hard": {"requests.cpu": "8"}}
    assert only(recorder, "kubernetes:core/v1:LimitRange")["spec"] == {
        "limits": [{"type": "Container", "default": {"cpu": "1"}, "max": {"memory": "4Gi"}}]
    }
    before = {urn.rpartition("::")[2] for urn in requests["mnist-default-deployment"].dependencies}
    assert before >= {"aks-quota", "aks-limits", "aks-account", "aks-registry-access", "aks-deny", "aks-requests"}


# --- pods ---


@pytest.mark.parametrize("name", ["mnist-blue-deployment", "mnist-green-deployment", "mnist-router-deployment"])
def test_pods_have_no_rights(recorder: Recorder, name: str) -> None:
    declared(recorder, a_plan(**SPLIT))

    spec, inside = pod(recorder, name), container(recorder, name)
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert inside["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert spec["serviceAccountName"] == "slipway"
    assert spec["automountServiceAccountToken"] is False
    assert {key for volume in spec["volumes"] for key in volume} <= {"name", "emptyDir", "secret", "configMap"}


def test_an_update_takes_no_pod_away(recorder: Recorder) -> None:
    declared(recorder, a_plan(KubernetesDeployment(scoring_timeout_ms=90_000)))

    spec = only(recorder, DEPLOYMENT)["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert spec["revisionHistoryLimit"] == 2
    assert spec["progressDeadlineSeconds"] == 360, "a minute to start, and five to be pulled"
    assert pod(recorder)["terminationGracePeriodSeconds"] == 100, "a request may take 90 s"
    assert environment(recorder)["SLIPWAY_GRACE_SECONDS"] == "95"
    assert container(recorder)["lifecycle"]["preStop"]["exec"]["command"][-1] == "import time; time.sleep(5)"
    (spread,) = pod(recorder)["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")


def test_what_a_service_is_told(recorder: Recorder) -> None:
    settings = KubernetesDeployment(scoring_timeout_ms=500, max_concurrent_requests_per_container=4)
    declared(recorder, a_plan(settings, {"LEVEL": "3"}))

    annotations = only(recorder, DEPLOYMENT)["spec"]["template"]["metadata"]["annotations"]
    revision = only(recorder, ENDPOINT)["revision"]
    assert annotations["slipway/revision"] == revision
    assert environment(recorder) == {
        "LEVEL": "3",
        "SCORING_TIMEOUT_MS": "500",
        "SLIPWAY_MAX_CONCURRENT_REQUESTS": "4",
        "SLIPWAY_REVISION": revision,
        "SLIPWAY_GRACE_SECONDS": "30",
    }
    assert container(recorder)["image"] == "registry/app@sha256:i"


def test_resources(recorder: Recorder) -> None:
    asked = KubernetesResources(cpu=0.5, cpu_limit=2, memory_in_gb=1, memory_in_gb_limit=1.5)
    settings = KubernetesDeployment(gpu_cores=1, accelerators={"fpga": 2})
    target = {"accelerators": {"gpu": "amd.com/gpu", "fpga": "xilinx.com/fpga-u250"}}
    declared(recorder, a_plan(settings, target=target, default=a_deployment(resources=asked)))

    assert container(recorder)["resources"] == {
        "requests": {"cpu": "500m", "memory": "1Gi"},
        "limits": {"cpu": "2", "memory": "1536Mi", "amd.com/gpu": "1", "xilinx.com/fpga-u250": "2"},
    }


def test_who_asks_for_nothing_gets_what_azure_gives(recorder: Recorder) -> None:
    declared(recorder, a_plan())

    assert container(recorder)["resources"] == {"requests": {"cpu": "100m", "memory": "512Mi"}}


def test_a_promise_is_never_above_a_limit(recorder: Recorder) -> None:
    asked = KubernetesResources(cpu_limit=0.05, memory_in_gb_limit=0.25)
    declared(recorder, a_plan(default=a_deployment(resources=asked)))

    assert container(recorder)["resources"]["requests"] == {"cpu": "50m", "memory": "256Mi"}


def test_gpu_cores_are_nvidia_s_unless_the_target_says_otherwise(recorder: Recorder) -> None:
    declared(recorder, a_plan(KubernetesDeployment(gpu_cores=2)))

    assert container(recorder)["resources"]["limits"] == {"nvidia.com/gpu": "2"}


def test_placement(recorder: Recorder) -> None:
    target = {
        "platform": "linux/arm64",
        "nodeSelector": {"pool": "models"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassName": "low",
    }
    declared(recorder, a_plan(KubernetesDeployment(priority_class_name="high"), target=target))

    spec = pod(recorder)
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "arm64", "pool": "models"}
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert spec["priorityClassName"] == "high"


def test_probes(recorder: Recorder) -> None:
    probe = LivenessProbe(period_seconds=7, initial_delay_seconds=9, timeout_seconds=3, failure_threshold=4)
    declared(recorder, a_plan(KubernetesDeployment(liveness_probe_requirements=probe)))

    inside = container(recorder)
    assert inside["startupProbe"]["exec"]["command"][-5:] == ["5001", "10", "", "", ""]
    assert inside["startupProbe"]["failureThreshold"] == 6, "ten seconds each"
    assert inside["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "http"}
    assert inside["livenessProbe"] == {
        "httpGet": {"path": "/", "port": "http"},
        "initialDelaySeconds": 9,
        "periodSeconds": 7,
        "timeoutSeconds": 3,
        "failureThreshold": 4,
        "terminationGracePeriodSeconds": 10,
    }
    assert pod(recorder)["terminationGracePeriodSeconds"] == 70, "for one that answers"


def test_a_pod_answers_its_sample_before_it_takes_requests(recorder: Recorder, tmp_path: Path) -> None:
    sample = tmp_path / "sample.json"
    sample.write_text('{"data": [1]}')
    declared(recorder, a_plan(default=a_deployment(sample_request=sample)), tmp_path)

    files = only(recorder, CONFIG_MAP)
    name = files["metadata"]["name"]
    assert base64.b64decode(files["binaryData"]["sample"]) == b'{"data": [1]}'
    assert files["immutable"] is True
    volume = {"name": "sample", "configMap": {"name": name, "defaultMode": 0o440}}
    assert volume in pod(recorder)["volumes"]
    command = container(recorder)["startupProbe"]["exec"]["command"]
    assert command[-5:] == [
        "5001",
        "10",
        "application/json",
        "/run/slipway-sample/sample",
        "",
    ]
    assert only(recorder, ENDPOINT)["sampleRequest"] == str(sample)


def test_another_sample_is_another_config_map(recorder: Recorder, tmp_path: Path) -> None:
    names = set()
    for body in ("1", "2"):
        (tmp_path / "sample.json").write_text(body)
        fresh = Recorder()
        pulumi.runtime.set_mocks(fresh, project="slipway", stack="test")
        declared(fresh, a_plan(default=a_deployment(sample_request=tmp_path / "sample.json")), tmp_path)
        names.add(only(fresh, CONFIG_MAP)["metadata"]["name"])
    assert len(names) == 2


# --- revisions ---


def revision_of(plan: StackPlan) -> str:
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, project="slipway", stack="test")
    declared(recorder, plan)
    return str(only(recorder, ENDPOINT)["revision"])


@pytest.mark.parametrize(
    "plan",
    [
        a_plan(variables={"LEVEL": "3"}),
        a_plan(KubernetesDeployment(max_queue_wait_ms=1)),
        a_plan(KubernetesDeployment(gpu_cores=1)),
        a_plan(default=a_deployment(resources=KubernetesResources(cpu=1))),
        a_plan(target={"nodeSelector": {"pool": "models"}}),
    ],
)
def test_what_makes_new_pods_is_another_revision(plan: StackPlan) -> None:
    assert revision_of(plan) != revision_of(a_plan())


@pytest.mark.parametrize(
    "plan",
    [
        a_plan(KubernetesDeployment(port=8080)),
        a_plan(default=a_deployment(replicas=3)),
        a_plan(KubernetesDeployment(auto_scaler=AutoScaler())),
        a_plan(target={"expose": "nodePort"}),
    ],
)
def test_what_makes_none_is_not(plan: StackPlan) -> None:
    assert revision_of(plan) == revision_of(a_plan())


def test_a_revision_names_the_pod_but_for_the_place_of_its_image(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "sample.json").write_text("1")
    pulumi.runtime.set_config("slipway:token", "canary")
    settings = KubernetesDeployment(
        auth_enabled=True, secrets={"token": SecretReference(secret="token")}, max_queue_wait_ms=1
    )
    declared(recorder, a_plan(settings, default=a_deployment(sample_request=tmp_path / "sample.json")), tmp_path)

    # Pulumi's numbers are doubles; in a pod all of them are whole.
    given = json.dumps(only(recorder, DEPLOYMENT)["spec"]["template"])
    template = json.loads(given, parse_float=lambda text: int(float(text)))
    labels, annotations = template["metadata"]["labels"], dict(template["metadata"]["annotations"])
    (server,) = template["spec"]["containers"]
    told, image = server["env"].pop(), server.pop("image")
    identity = ["def", labels, {key: annotations[key] for key in annotations if "slipway" not in key}, template["spec"]]
    expected = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    assert told == {"name": "SLIPWAY_REVISION", "value": expected}
    assert annotations["slipway/revision"] == only(recorder, ENDPOINT)["revision"] == expected
    assert image == "registry/app@sha256:i"


# --- what a preview knows ---


def test_a_preview_knows_all_of_a_pod_but_the_place_of_its_new_image(tmp_path: Path) -> None:
    (tmp_path / "sample.json").write_text("1")
    pulumi.runtime.set_config("slipway:token", "canary")
    settings = KubernetesDeployment(
        auth_enabled=True, ssl_enabled=True, port=8443, secrets={"token": SecretReference(secret="token")}
    )
    recorder = previewing({"slipway:index:ServiceImage": ["reference", "digest"]})
    declared(recorder, a_plan(settings, default=a_deployment(sample_request=tmp_path / "sample.json")), tmp_path)

    assert unknown_inputs(recorder) == {
        "mnist-default-deployment": {"spec.template.spec.containers[0].image"},
        "mnist-default-endpoint": {"target.image"},
    }


def test_what_a_dry_run_makes_up_of_a_service_is_not_known() -> None:
    recorder = previewing({SERVICE: ["id"]})
    declared(recorder, a_plan(**SPLIT))

    unknown = unknown_inputs(recorder)
    assert unknown["mnist-router-configuration"] == {"metadata.name", "data.haproxy.cfg"}


def test_of_an_image_that_is_built_it_knows_no_revision_and_all_the_rest() -> None:
    recorder = previewing({"slipway:index:ServiceImage": ["reference", "digest", "revision"]})
    declared(recorder, a_plan())

    assert unknown_inputs(recorder) == {
        "mnist-default-deployment": {
            "spec.template.metadata.annotations.slipway/revision",
            "spec.template.spec.containers[0].env[2].value",
            "spec.template.spec.containers[0].image",
        },
        "mnist-default-endpoint": {"target.image", "revision"},
    }


def test_of_a_router_and_an_adapter_it_knows_all_but_what_they_wait_for() -> None:
    unknown = {
        "slipway:index:MirroredImage": ["reference"],
        "slipway:index:Certificate": ["certificate", "privateKey"],
        SERVICE: ["spec"],
    }
    recorder = previewing(unknown)
    tls = KubernetesDeployment(ssl_enabled=True, port=8443)
    declared(recorder, a_plan(tls, target={"metricsAdapter": True}, **SPLIT))

    found = unknown_inputs(recorder)
    assert found["mnist-router-configuration"] == {"metadata.name", "data.haproxy.cfg"}
    of_the_router = {"volumes[0].configMap.name", "volumes[2].secret.secretName", "containers[0].image"}
    revision = "spec.template.metadata.annotations.slipway/revision"
    assert found["mnist-router-deployment"] == {revision, *(f"spec.template.spec.{path}" for path in of_the_router)}
    of_the_adapter = {"volumes[1].secret.secretName", "containers[0].image"}
    assert found["aks-metrics-deployment"] == {f"spec.template.spec.{path}" for path in of_the_adapter}
    assert not [name for name in found if name.startswith(("mnist-blue", "mnist-green", "mnist-service"))]


# --- how many ---


def test_replicas_are_guarded(recorder: Recorder) -> None:
    declared(recorder, a_plan(default=a_deployment(replicas=3)))

    assert only(recorder, DEPLOYMENT)["spec"]["replicas"] == 3
    budget = only(recorder, "kubernetes:policy/v1:PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == only(recorder, DEPLOYMENT)["spec"]["selector"]
    assert only(recorder, ENDPOINT)["timeoutSeconds"] == 300 + 3 * 60


def test_one_replica_is_not(recorder: Recorder) -> None:
    declared(recorder, a_plan())

    assert inputs(recorder, "kubernetes:policy/v1:PodDisruptionBudget") == {}


def test_an_autoscaler_owns_the_replicas(recorder: Recorder) -> None:
    scaler = AutoScaler(min_replicas=2, max_replicas=5, target_utilization=60, refresh_period_in_seconds=1)
    declared(recorder, a_plan(KubernetesDeployment(auto_scaler=scaler)))

    assert "replicas" not in only(recorder, DEPLOYMENT)["spec"]
    spec = only(recorder, SCALER)["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mnist"}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    assert spec["metrics"][0]["resource"] == {
        "name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 60},
    }
    assert {item["periodSeconds"] for item in spec["behavior"]["scaleUp"]["policies"]} == {1}
    assert "PodDisruptionBudget/mnist" in objects(recorder), "two run at least"


@pytest.mark.parametrize(("at_once", "percent", "average"), [(1, 70, "700m"), (4, 75, "3"), (3, 50, "1500m")])
def test_an_autoscaler_goes_by_the_requests_in_flight(
    at_once: int, percent: int, average: str, recorder: Recorder
) -> None:
    scaler = AutoScaler(metric="requestsInFlight", target_utilization=percent)
    settings = KubernetesDeployment(auto_scaler=scaler, max_concurrent_requests_per_container=at_once)
    declared(recorder, a_plan(settings))

    assert only(recorder, SCALER)["spec"]["metrics"] == [
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": "slipway_requests_in_flight"},
                "target": {"type": "AverageValue", "averageValue": average},
            },
        }
    ]
    assert only(recorder, ENDPOINT)["target"]["autoscaler"] == {"name": "mnist", "api": "custom.metrics.k8s.io"}


def test_the_metric_is_the_server_s_own() -> None:
    shown = metrics.render(metrics.Metrics().snapshot(in_flight=2, queued=0, dropped=0), {"service": "mnist"})

    assert f'\n{IN_FLIGHT}{{service="mnist"}} 2\n'.encode() in shown


def test_pods_say_where_their_metrics_are(recorder: Recorder) -> None:
    declared(recorder, a_plan())

    annotations = only(recorder, DEPLOYMENT)["spec"]["template"]["metadata"]["annotations"]
    assert {key: value for key, value in annotations.items() if key.startswith("prometheus.io/")} == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "5001",
        "prometheus.io/path": "/metrics",
    }


def test_what_an_autoscaler_goes_by_makes_no_new_pods() -> None:
    by_cpu = KubernetesDeployment(auto_scaler=AutoScaler(), max_concurrent_requests_per_container=2)
    by_requests = by_cpu.model_copy(update={"auto_scaler": AutoScaler(metric="requestsInFlight")})

    assert revision_of(a_plan(by_cpu)) == revision_of(a_plan(by_requests))


def test_an_endpoint_follows_the_place_of_the_image_that_is_no_part_of_the_revision(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared(recorder, a_plan())
    there = "other:31000/app@sha256:i"
    monkeypatch.setitem(
        OUTPUTS, "slipway:index:ServiceImage", {**OUTPUTS["slipway:index:ServiceImage"], "reference": there}
    )
    moved = Recorder()
    pulumi.runtime.set_mocks(moved, project="slipway", stack="test")
    declared(moved, a_plan())

    before, after = only(recorder, ENDPOINT), only(moved, ENDPOINT)
    assert container(moved)["image"] == there
    assert before["revision"] == after["revision"]
    assert (before["target"]["image"], after["target"]["image"]) == ("registry/app@sha256:i", there)
    assert {**before, "target": {**before["target"], "image": there}} == after, "nothing else of it changes"


def test_an_endpoint_sees_the_autoscaler_that_was_declared(recorder: Recorder) -> None:
    declared(recorder, a_plan(KubernetesDeployment(auto_scaler=AutoScaler())))

    target = only(recorder, ENDPOINT)["target"]
    assert target["autoscaler"] == {"name": "mnist", "api": "metrics.k8s.io"}
    assert "replicas" not in target


def test_an_adapter_comes_before_the_autoscaler_and_is_part_of_the_api_while_it_answers(
    recorder: Recorder, requests: dict[str, Any]
) -> None:
    scaler = AutoScaler(metric="requestsInFlight")
    settings = KubernetesDeployment(auto_scaler=scaler, max_concurrent_requests_per_container=1)
    declared(recorder, a_plan(settings, target={"metricsAdapter": True}))

    def after(name: str) -> set[str]:
        return {str(urn).rpartition("::")[2] for urn in requests[name].dependencies}

    services = inputs(recorder, "kubernetes:apiregistration.k8s.io/v1:APIService")
    assert {name: body["metadata"]["name"] for name, body in services.items()} == {
        "aks-metrics-api-v1beta1": "v1beta1.custom.metrics.k8s.io",
        "aks-metrics-api-v1beta2": "v1beta2.custom.metrics.k8s.io",
    }
    spec = services["aks-metrics-api-v1beta2"]["spec"]
    assert spec["service"] == {"name": "slipway-metrics", "namespace": "models", "port": 443}
    assert base64.b64decode(spec["caBundle"]) == b"authority"
    assert after("aks-metrics-api-v1beta1") >= {"aks-metrics-deployment", "aks-metrics-service"}
    assert after("aks-metrics-api-v1beta2") >= {"aks-metrics-api-v1beta1"}, "nothing is taken over from another one"
    assert after("mnist-default-autoscaler") >= {"aks-metrics-api-v1beta2"}
    assert only(recorder, ENDPOINT)["target"]["autoscaler"]["provided"] is True
    beyond = [name for name, request in requests.items() if name.startswith("aks-metrics") and not request.deletedWith]
    assert {name.removeprefix("aks-metrics-") for name in beyond} == {
        *("api-v1beta1", "api-v1beta2", "role", "pods", "reader", "certificate", "deployment"),
    }, "what is outside the namespace does not go with it, and the pods go before"


def test_an_adapter_may_list_pods_and_read_who_the_api_server_is(recorder: Recorder) -> None:
    declared(recorder, a_plan(target={"metricsAdapter": True}))

    rights = "kubernetes:rbac.authorization.k8s.io/v1"
    role = only(recorder, f"{rights}:ClusterRole")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    account = [{"kind": "ServiceAccount", "name": "slipway-metrics", "namespace": "models"}]
    of_pods, reader = only(recorder, f"{rights}:ClusterRoleBinding"), only(recorder, f"{rights}:RoleBinding")
    assert of_pods["subjects"] == reader["subjects"] == account
    assert of_pods["roleRef"]["name"] == role["metadata"]["name"] == "slipway-metrics-models"
    assert reader["metadata"]["namespace"] == "kube-system"
    assert reader["roleRef"]["name"] == "extension-apiserver-authentication-reader"


def test_an_adapter_s_pods_have_no_more_rights_than_others(recorder: Recorder) -> None:
    registry = ExternalRegistry(
        kind="external", address="registry.example.org", username="u", password=SecretReference(secret="password")
    )
    pulumi.runtime.set_config("slipway:password", "canary")
    declared(recorder, a_plan(target={"metricsAdapter": True, "nodeSelector": {"pool": "models"}}, registry=registry))

    spec, others = pod(recorder, "aks-metrics-deployment"), pod(recorder)
    same = ("securityContext", "imagePullSecrets", "nodeSelector")
    assert {key: spec[key] for key in same} == {key: others[key] for key in same}
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("slipway-metrics", True)
    (adapter,) = spec["containers"]
    assert adapter["securityContext"] == container(recorder)["securityContext"]
    assert adapter["image"] == "registry/base@sha256:base", "the one that services begin with"
    assert adapter["command"] == [
        *("python3", "-I", "-S", "/run/slipway-metrics/adapter.py", "8443", "/run/slipway-metrics-tls", "5001")
    ]
    policy = inputs(recorder, "kubernetes:networking.k8s.io/v1:NetworkPolicy")["aks-metrics-policy"]["spec"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": 8443}]}]
    labels = inputs(recorder, DEPLOYMENT)["aks-metrics-deployment"]["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"] == labels


def test_another_program_or_certificate_of_an_adapter_makes_new_pods(recorder: Recorder) -> None:
    declared(recorder, a_plan(target={"metricsAdapter": True}))

    volumes = {item["name"]: item for item in pod(recorder, "aks-metrics-deployment")["volumes"]}
    program = inputs(recorder, CONFIG_MAP)["aks-metrics-program"]
    content = program["data"]["adapter.py"]
    assert content == (Path(targets.__file__).parent / "metrics_adapter.py").read_text()
    assert program["metadata"]["name"] == f"slipway-metrics-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    assert volumes["program"]["configMap"]["name"] == program["metadata"]["name"]
    secret = inputs(recorder, SECRET)["aks-metrics-tls"]
    assert secret_of(secret, "tls.key") == "key"
    assert volumes["tls"]["secret"]["secretName"] == secret["metadata"]["name"]
    names = only(recorder, "slipway:index:Certificate")["names"]
    assert names == ["slipway-metrics.models.svc"], "by which the API server reaches it"


def test_there_is_no_adapter_unless_it_is_asked_for(recorder: Recorder) -> None:
    declared(recorder, a_plan(KubernetesDeployment(auto_scaler=AutoScaler())))

    assert not [key for key in recorder.registered if "APIService" in key or "ClusterRole" in key]


def test_replicas_that_were_declared_stay_until_an_autoscaler_sets_others(
    recorder: Recorder, requests: dict[str, Any]
) -> None:
    declared(recorder, a_plan(KubernetesDeployment(auto_scaler=AutoScaler())))
    assert list(requests["mnist-default-deployment"].ignoreChanges) == ["spec.replicas"]

    fresh = Recorder()
    pulumi.runtime.set_mocks(fresh, project="slipway", stack="test")
    declared(fresh, a_plan(default=a_deployment(replicas=3)))
    assert list(requests["mnist-default-deployment"].ignoreChanges) == [], "nobody else changes them"


def test_an_autoscaler_from_before_goes_before_replicas_are_declared_and_after_all_that_may_fail(
    recorder: Recorder, requests: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "sample.json").write_text("[]")
    sample = tmp_path / "sample.json"
    sample.write_text("[]")
    declared(recorder, a_plan(default=a_deployment(replicas=3, sample_request=sample)), tmp_path)
    asked = only(recorder, "slipway:index:ReplicaOwnership")
    assert (asked["namespace"], asked["deployment"]) == ("models", "mnist")
    names = {urn.rpartition("::")[2] for urn in requests["mnist-default-replicas"].dependencies}
    assert names >= {"mnist-default-image", "mnist-default-sample", "aks-account"}
    before = {urn.rpartition("::")[2] for urn in requests["mnist-default-deployment"].dependencies}
    assert "mnist-default-replicas" in before

    fresh = Recorder()
    pulumi.runtime.set_mocks(fresh, project="slipway", stack="test")
    declared(fresh, a_plan(KubernetesDeployment(auto_scaler=AutoScaler())))
    assert not [key for key in fresh.registered if "ReplicaOwnership" in key], "they are the autoscaler's"


def test_a_switched_off_autoscaler_is_none(recorder: Recorder) -> None:
    declared(recorder, a_plan(KubernetesDeployment(auto_scaler=AutoScaler(autoscale_enabled=False))))

    assert only(recorder, DEPLOYMENT)["spec"]["replicas"] == 1
    assert "HorizontalPodAutoscaler/mnist" not in objects(recorder)


# --- keys and secrets ---


def test_keys_are_a_file_that_is_read(recorder: Recorder, tmp_path: Path) -> None:
    sample = tmp_path / "sample.json"
    sample.write_text("1")
    plan = a_plan(KubernetesDeployment(auth_enabled=True), default=a_deployment(sample_request=sample))
    outputs = declared(recorder, plan, tmp_path)

    secret = inputs(recorder, SECRET)["mnist-keys"]
    assert json.loads(secret_of(secret, "keys.json")) == {"primary": "generated", "secondary": "generated"}
    assert environment(recorder)["SLIPWAY_KEYS_FILE"] == "/run/slipway-keys/keys.json"
    assert {"name": "keys", "secret": {"secretName": "mnist-keys", "defaultMode": 0o440}} in pod(recorder)["volumes"]
    assert container(recorder)["startupProbe"]["exec"]["command"][-1] == "/run/slipway-keys/keys.json"
    assert only(recorder, ENDPOINT)["target"]["keysFile"] == "/run/slipway-keys/keys.json"
    assert outputs["services"]["mnist"]["primaryKey"] == "generated"


@pytest.mark.parametrize("key", ["canary and more", "canarÿ", ""])
def test_a_key_that_no_header_can_hold_is_refused(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    pulumi.runtime.set_config("slipway:given", key)
    monkeypatch.setattr(pulumi.runtime.config, "is_secret", lambda key: True, raising=False)
    given = SecretReference(secret="given")

    with pytest.raises(pulumi.RunError) as refused:
        declared(recorder, a_plan(KubernetesDeployment(auth_enabled=True, secondary_key=given)))

    assert str(refused.value) == (
        "the secondaryKey of the service mnist must be printable ASCII without spaces, and not empty; set another: "
        "pulumi config set --secret"
    )
    assert "mnist-keys" not in inputs(recorder, SECRET)


def test_secrets_are_files_in_a_volume_that_is_read(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    pulumi.runtime.set_config("slipway:token", "canary")
    monkeypatch.setattr(pulumi.runtime.config, "is_secret", lambda key: True, raising=False)
    secrets = {"token": SecretReference(secret="token")}
    declared(recorder, a_plan(KubernetesDeployment(secrets=secrets)))

    secret = inputs(recorder, SECRET)["mnist-default-secrets"]
    name = secret["metadata"]["name"]
    assert secret_of(secret, "token") == "canary"
    assert "canary" not in str(only(recorder, DEPLOYMENT))
    assert {"name": "secrets", "secret": {"secretName": name, "defaultMode": 0o440}} in pod(recorder)["volumes"]
    (mount,) = [item for item in container(recorder)["volumeMounts"] if item["name"] == "secrets"]
    assert mount == {"name": "secrets", "mountPath": "/run/secrets", "readOnly": True}
    assert hashlib.sha256(b"canary").hexdigest()[:8] not in name


# --- the way in ---


def test_requests_come_after_the_endpoint(recorder: Recorder, requests: dict[str, Any]) -> None:
    declared(recorder, a_plan())

    before = {urn.rpartition("::")[2] for urn in requests["mnist-service"].dependencies}
    assert "mnist-default-endpoint" in before
    assert requests["mnist-service"].parent.endswith("Webservice::mnist")
    assert requests["aks-account"].parent.endswith("KubernetesTarget::aks")
    assert requests["mnist-service"].deletedWith.endswith("Namespace::aks-namespace")
    assert requests["mnist-default-deployment"].deletedWith == "", "its pods go first"


def test_a_service_leads_to_the_pods_of_its_one_deployment(recorder: Recorder) -> None:
    outputs = declared(recorder, a_plan(KubernetesDeployment(port=8080), target={"expose": "nodePort"}))

    spec = only(recorder, SERVICE)["spec"]
    assert spec["type"] == "NodePort"
    assert spec["selector"] == only(recorder, DEPLOYMENT)["spec"]["template"]["metadata"]["labels"]
    assert spec["ports"] == [{"name": "http-8080", "port": 8080, "targetPort": "http", "protocol": "TCP"}]
    told = outputs["services"]["mnist"]
    assert told["scoringUri"] == "http://mnist.models.svc:8080/score"
    assert told["nodePort"] == 30080


def test_traffic_is_split_by_a_router(recorder: Recorder, requests: dict[str, Any]) -> None:
    outputs = declared(recorder, a_plan(**SPLIT))

    assert objects(recorder) >= {
        "Deployment/mnist-blue",
        "Deployment/mnist-green",
        "Deployment/mnist-router",
        "Service/mnist",
        "Service/mnist-blue",
        "Service/mnist-green",
        "PodDisruptionBudget/mnist-router",
    }
    text = only(recorder, CONFIG_MAP)["data"]["haproxy.cfg"]
    assert "  server blue 10.0.0.7:80 weight 90 check" in text
    assert "  server green 10.0.0.7:80 weight 10 check" in text
    router = inputs(recorder, DEPLOYMENT)["mnist-router-deployment"]
    assert inputs(recorder, SERVICE)["mnist-service"]["spec"]["selector"] == router["spec"]["selector"]["matchLabels"]
    annotations = router["metadata"]["annotations"]
    assert annotations["pulumi.com/waitFor"] == "jsonpath={.metadata.uid}", "it is there at once"
    assert "pulumi.com/skipAwait" not in annotations, "that it has ended is waited for, before what is behind it goes"
    awaited = inputs(recorder, "slipway:index:RouterEndpoint")["mnist-router-endpoint"]
    assert awaited["target"] | {"service": "mnist", "deployment": "mnist-router"} == awaited["target"]
    assert awaited["revision"] == router["spec"]["template"]["metadata"]["annotations"]["slipway/revision"]
    before = {urn.rpartition("::")[2] for urn in requests["mnist-service"].dependencies}
    assert "mnist-router-endpoint" in before, "that it serves is waited for"
    before = {urn.rpartition("::")[2] for urn in requests["mnist-router-configuration"].dependencies}
    assert before >= {"mnist-blue-endpoint", "mnist-green-endpoint"}
    told = outputs["services"]["mnist"]["deployments"]
    assert {name: (item["state"], item["traffic"]) for name, item in told.items()} == {
        "blue": ("Healthy", 90),
        "green": ("Healthy", 10),
    }


def test_other_weights_are_another_configuration(recorder: Recorder) -> None:
    names, revisions = set(), set()
    for share in (10, 20):
        fresh = Recorder()
        pulumi.runtime.set_mocks(fresh, project="slipway", stack="test")
        declared(fresh, a_plan(blue=a_deployment(weight=100 - share), green=a_deployment(weight=share)))
        names.add(only(fresh, CONFIG_MAP)["metadata"]["name"])
        revisions.add(only(fresh, "slipway:index:RouterEndpoint")["revision"])
    assert len(names) == len(revisions) == 2


def test_a_router_speaks_tls_where_nothing_else_does(recorder: Recorder) -> None:
    outputs = declared(recorder, a_plan(KubernetesDeployment(port=443, ssl_enabled=True, cname="digits.example.org")))

    certificate = only(recorder, "slipway:index:Certificate")
    assert certificate["names"] == [
        "digits.example.org",
        "mnist",
        "mnist.models",
        "mnist.models.svc",
        "mnist.models.svc.cluster.local",
        "localhost",
        "127.0.0.1",
    ]
    secret = inputs(recorder, SECRET)["mnist-tls"]
    assert secret["type"] == "kubernetes.io/tls"
    assert secret_of(secret, "tls.crt") == "leaf"
    (volume,) = [item for item in pod(recorder, "mnist-router-deployment")["volumes"] if item["name"] == "tls"]
    assert volume["secret"]["secretName"] == secret["metadata"]["name"]
    assert [item["path"] for item in volume["secret"]["items"]] == ["mnist.pem", "mnist.pem.key"]
    text = only(recorder, CONFIG_MAP)["data"]["haproxy.cfg"]
    assert "bind 0.0.0.0:8080 ssl crt /etc/slipway-router/certificates/mnist.pem" in text
    assert outputs["services"]["mnist"]["scoringUri"] == "https://digits.example.org/score"
    assert outputs["services"]["mnist"]["caCertificate"] == "authority"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The fields of a deployment whose certificate, for digits.example.org, is given."""
    pair = Authority().write(tmp_path / "pair", "digits.example.org")
    for name in ("cert", "key"):
        pulumi.runtime.set_config(f"slipway:{name}", (pair / f"{name}.pem").read_text())
    monkeypatch.setattr(pulumi.runtime.config, "is_secret", lambda key: True, raising=False)
    secrets = {f"ssl_{name}": SecretReference(secret=name) for name in ("cert", "key")}
    return {"port": 443, "ssl_enabled": True, **secrets}


def test_a_certificate_that_is_given_is_shown_as_it_is(
    recorder: Recorder, given: dict[str, Any], tmp_path: Path
) -> None:
    declared(recorder, a_plan(KubernetesDeployment(**given, cname="digits.example.org")))

    secret = inputs(recorder, SECRET)["mnist-tls"]
    shown = [secret_of(secret, name) for name in ("tls.crt", "tls.key")]
    assert shown == [(tmp_path / "pair" / f"{name}.pem").read_text() for name in ("cert", "key")]
    assert inputs(recorder, "slipway:index:Certificate") == {}


def test_a_certificate_that_clients_would_refuse_is_told_in_the_preview(
    recorder: Recorder, given: dict[str, Any]
) -> None:
    with pytest.raises(pulumi.RunError) as refused:
        declared(recorder, a_plan(KubernetesDeployment(**given, cname="letters.example.org")))
    assert str(refused.value) == (
        "the sslCert of the service mnist is not for letters.example.org: it has digits.example.org; give one that "
        "names what clients connect to"
    )

    pulumi.runtime.set_config("slipway:key", "canary")
    with pytest.raises(pulumi.RunError, match="the sslKey of the service mnist is no private key") as unreadable:
        declared(recorder, a_plan(KubernetesDeployment(**given, cname="digits.example.org")))
    assert "canary" not in str(unreadable.value)


def test_an_ingress(recorder: Recorder) -> None:
    outputs = declared(recorder, a_plan(KubernetesDeployment(port=443, ssl_enabled=True), target=INGRESS))

    ingress = only(recorder, "kubernetes:networking.k8s.io/v1:Ingress")
    assert ingress["metadata"]["annotations"] == {"pulumi.com/skipAwait": "true", "a": "b"}
    backend = {"service": {"name": "mnist", "port": {"number": 443}}}
    assert ingress["spec"] == {
        "ingressClassName": "nginx",
        "rules": [
            {
                "host": "ml.example.org",
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
            }
        ],
        "tls": [{"hosts": ["ml.example.org"], "secretName": inputs(recorder, SECRET)["mnist-tls"]["metadata"]["name"]}],
    }
    assert "Deployment/mnist-router" not in objects(recorder)
    assert outputs["services"]["mnist"]["scoringUri"] == "https://ml.example.org/score"


def test_cert_manager_makes_the_certificate_of_an_ingress(recorder: Recorder) -> None:
    manager = {"certManager": {"issuer": "letsencrypt", "kind": "ClusterIssuer"}}
    declared(recorder, a_plan(KubernetesDeployment(port=443, ssl_enabled=True), target={**INGRESS, **manager}))

    ingress = only(recorder, "kubernetes:networking.k8s.io/v1:Ingress")
    assert ingress["metadata"]["annotations"]["cert-manager.io/cluster-issuer"] == "letsencrypt"
    assert ingress["spec"]["tls"] == [{"hosts": ["ml.example.org"], "secretName": "mnist-tls"}]
    assert "mnist-tls" not in inputs(recorder, SECRET)
    assert inputs(recorder, "slipway:index:CertificateAuthority") == {}


def test_a_gateway_splits_traffic_itself(recorder: Recorder, requests: dict[str, Any]) -> None:
    settings = KubernetesDeployment(port=80, cname="digits.example.org")
    outputs = declared(recorder, a_plan(settings, target=GATEWAY, **SPLIT))

    route = only(recorder, "kubernetes:gateway.networking.k8s.io/v1:HTTPRoute")["spec"]
    assert route["parentRefs"] == [{"name": "front", "namespace": "infra", "sectionName": "web"}]
    assert route["hostnames"] == ["digits.example.org"]
    assert [rule["matches"][0].get("headers", [{}])[0].get("value") for rule in route["rules"]] == [
        "blue",
        "green",
        None,
    ]
    assert route["rules"][-1]["backendRefs"] == [
        {"name": "mnist-blue", "port": 80, "weight": 90},
        {"name": "mnist-green", "port": 80, "weight": 10},
    ]
    assert not {"Deployment/mnist-router", "Service/mnist"} & objects(recorder)
    before = {urn.rpartition("::")[2] for urn in requests["mnist-route"].dependencies}
    assert before >= {"mnist-blue-endpoint", "mnist-green-endpoint"}
    assert outputs["services"]["mnist"]["scoringUri"] == "http://digits.example.org/score"


def test_a_gateway_before_one_deployment(recorder: Recorder) -> None:
    declared(recorder, a_plan(KubernetesDeployment(port=8080, cname="digits.example.org"), target=GATEWAY))

    (rule,) = only(recorder, "kubernetes:gateway.networking.k8s.io/v1:HTTPRoute")["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "mnist", "port": 8080, "weight": 100}]
