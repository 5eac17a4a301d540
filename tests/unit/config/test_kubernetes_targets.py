"""Services on Kubernetes in the stack configuration: Azure's fields for AKS, ways in, names, and every mistake."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.clusters import host_name, made_kubeconfig
from infra.config import AutoScaler, KubernetesDeployment, KubernetesResources, KubernetesTarget, SecretReference
from infra.hosts import port_of
from infra.load import load
from infra.plan import StackPlan
from infra.problems import ConfigurationError

SCRIPT = "def init():\n    pass\n\ndef run(data):\n    return data\n"
SECRETS = ("slipway:cert", "slipway:key", "slipway:first")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder with a model, an entry script, and the images that were made on the machine."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "score.py").write_text(SCRIPT)
    (tmp_path / "model.pkl").write_bytes(b"weights")
    images = tmp_path / ".slipway" / "images"
    images.mkdir(parents=True)
    image = {"digest": f"sha256:{'1' * 64}", "platforms": ["linux/amd64"]}
    known = {"python": {**image, "repository": "base/python", "pythonVersion": "3.11"}}
    (images / "images.json").write_text(json.dumps({**known, "router": {**image, "repository": "router"}}))
    return tmp_path


def configuration(target: dict[str, Any] | None = None, **deployment: Any) -> dict[str, Any]:
    """A good configuration for `project`, to be spoilt by a test."""
    return {
        "workspace": {"name": "demo"},
        "registry": {"kind": "service", "port": 5000},
        "computeTargets": {"aks": {"kind": "kubernetes", "namespace": "models", **(target or {})}},
        "models": {"digits": {"path": "model.pkl"}},
        "services": {
            "mnist": {
                "models": ["digits"],
                "inference": {"entryScript": "score.py", "sourceDirectory": "src"},
                "computeTarget": "aks",
                "deployment": deployment,
            }
        },
    }


def loaded(project: Path, sections: dict[str, Any]) -> StackPlan:
    raw = {f"slipway:{key}": json.dumps(value) for key, value in sections.items()}
    return load(raw | dict.fromkeys(SECRETS, '"canary"'), SECRETS, project, "dev")


def mistakes(project: Path, sections: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        loaded(project, sections)
    return [str(problem).removeprefix("stacks/Pulumi.dev.yaml: ") for problem in caught.value.problems]


def service(project: Path, **deployment: Any) -> KubernetesDeployment:
    planned = loaded(project, configuration(**deployment)).services["mnist"].deployment
    assert isinstance(planned, KubernetesDeployment)
    return planned


def test_a_deployment_needs_no_field(project: Path) -> None:
    plan = loaded(project, configuration())

    assert plan.services["mnist"].deployment == KubernetesDeployment()
    assert port_of(plan.services["mnist"].deployment) == 80
    assert plan.services["mnist"].only.replicas == 1
    assert plan.python_image is not None
    assert plan.router_image is None, "one deployment without TLS has no router"
    assert plan.compute_targets["aks"] == KubernetesTarget(kind="kubernetes", namespace="models")


def test_azure_s_own_example_works_as_it_is(project: Path) -> None:
    # The example for AKS on the page of the CLI v1's deployment configuration schema.
    example = {
        "computeType": "aks",
        "autoScaler": {
            "autoscaleEnabled": True,
            "minReplicas": 1,
            "maxReplicas": 3,
            "refreshPeriodInSeconds": 1,
            "targetUtilization": 70,
        },
        "dataCollection": None,
        "authEnabled": True,
        "containerResourceRequirements": {"cpu": 0.5, "memoryInGB": 1.0},
    }
    del example["dataCollection"]
    (project / "src" / "deploymentconfig.json").write_text(json.dumps(example))
    sections = configuration()
    sections["services"]["mnist"]["deployment"] = "src/deploymentconfig.json"

    plan = loaded(project, sections).services["mnist"]

    assert plan.only.resources == KubernetesResources(cpu=0.5, memory_in_gb=1.0)
    assert isinstance(plan.deployment, KubernetesDeployment)
    assert plan.deployment.auto_scaler == AutoScaler(max_replicas=3, refresh_period_in_seconds=1)
    assert plan.deployment.auth_enabled


def test_what_an_autoscaler_goes_by_counts_only_where_there_is_one(project: Path) -> None:
    switched_off = {"metric": "requestsInFlight", "autoscaleEnabled": False}

    assert not service(project, autoScaler=switched_off).scales_by_requests
    in_flight = {"metric": "requestsInFlight"}
    assert service(project, autoScaler=in_flight, maxConcurrentRequestsPerContainer=4).scales_by_requests
    assert not service(project, autoScaler={}).scales_by_requests


def test_all_that_can_be_asked_for(project: Path) -> None:
    sections = configuration(
        {
            "kubeconfig": "kube/config",
            "context": "prod",
            "ingress": {"className": "nginx", "host": "ml.example.org", "annotations": {"proxy-buffering": "off"}},
            "certManager": {"issuer": "letsencrypt", "kind": "ClusterIssuer"},
            "domain": "ml.example.org",
            "nodeSelector": {"pool": "models"},
            "tolerations": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}, {"operator": "Exists"}],
            "priorityClassName": "models",
            "quota": {"requests.cpu": 8, "limits.memory": "32Gi"},
            "limits": {"defaultRequest": {"cpu": "100m"}, "max": {"memory": "8Gi"}},
            "accelerators": {"slice": "nvidia.com/mig-1g.5gb", "fpga": "xilinx.com/fpga-xilinx_u250"},
            "networkPolicy": False,
            "podSecurity": "baseline",
        },
        computeType="AKS",
        namespace="models",
        port=8443,
        numReplicas=3,
        sslEnabled=True,
        sslCertificate={"secret": "cert"},
        sslKey={"secret": "key"},
        authEnabled=True,
        primaryKey={"secret": "first"},
        dnsNameLabel="digits",
        gpuCores=1,
        accelerators={"slice": 1, "fpga": 2},
        scoringTimeoutMs=1000,
        maxConcurrentRequestsPerContainer=2,
        maxQueueWaitMs=500,
        livenessProbeRequirements={"periodSeconds": 5, "failureThreshold": 2},
        containerResourceRequirements={"cpu": 0.5, "cpuLimit": 1, "memoryInGB": 1, "memoryInGBLimit": 2},
        secrets={"token": {"secret": "first"}},
        appInsightsEnabled=False,
    )

    plan = loaded(project, sections)

    deployment, cluster = plan.services["mnist"].deployment, plan.compute_targets["aks"]
    assert isinstance(deployment, KubernetesDeployment)
    assert isinstance(cluster, KubernetesTarget)
    assert deployment.ssl_cert == SecretReference(secret="cert")
    assert plan.services["mnist"].only.replicas == 3
    assert plan.services["mnist"].only.resources == KubernetesResources(
        cpu=0.5, cpu_limit=1, memory_in_gb=1, memory_in_gb_limit=2
    )
    assert host_name(deployment, cluster) == "digits.ml.example.org"
    assert cluster.quota == {"requests.cpu": "8", "limits.memory": "32Gi"}
    assert "canary" not in repr(plan)


def test_what_the_readme_shows_is_good(project: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    section = (root / "README.md").read_text().partition("## On Kubernetes")[2].partition("\n## ")[0]
    (shown,) = re.findall(r"```yml\n(.*?)```", section, re.DOTALL)
    dev = yaml.safe_load((root / "stacks" / "Pulumi.dev.yaml").read_text())["config"]
    raw = {key: json.dumps(value) for key, value in {**dev, **yaml.safe_load(shown)["config"]}.items()}
    raw["slipway:registryPassword"] = '"canary"'

    plan = load(raw, ("slipway:registryPassword",), root, "dev", project / ".slipway" / "images").services["mnist"]

    assert isinstance(plan.deployment, KubernetesDeployment)
    assert plan.deployment.scales


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (8, "8"),
        ("0.5", "500m"),
        ("2000m", "2"),
        ("1500m", "1500m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1000M", "1G"),
        ("500000000", "500M"),
        ("0", "0"),
    ],
)
def test_quantities_are_kept_as_kubernetes_writes_them(project: Path, given: Any, kept: str) -> None:
    cluster = loaded(project, configuration({"quota": {"x": given}})).compute_targets["aks"]

    assert isinstance(cluster, KubernetesTarget)
    assert cluster.quota == {"x": kept}


def test_the_host_of_an_ingress_is_that_of_a_service_without_one(project: Path) -> None:
    plan = loaded(project, configuration({"ingress": {"host": "ml.example.org"}}))

    deployment, cluster = plan.services["mnist"].deployment, plan.compute_targets["aks"]
    assert isinstance(deployment, KubernetesDeployment)
    assert isinstance(cluster, KubernetesTarget)
    assert host_name(deployment, cluster) == "ml.example.org"


def test_a_router_is_found_where_one_is_needed(project: Path) -> None:
    several = configuration()
    several["services"]["mnist"] |= {"deployments": {"blue": {}, "green": {}}, "traffic": {"blue": 90, "green": 10}}
    split = several["services"]["mnist"]

    assert loaded(project, several).router_image is not None
    assert loaded(project, configuration(sslEnabled=True)).router_image is not None
    assert loaded(project, configuration({"ingress": {}}, sslEnabled=True)).router_image is None
    gateway = configuration({"gateway": {"name": "front"}}, sslEnabled=True, cname="a.example.org")
    gateway["services"]["mnist"] |= {"deployments": split["deployments"], "traffic": split["traffic"]}
    assert loaded(project, gateway).router_image is None


def test_each_deployment_may_have_resources_of_its_own(project: Path) -> None:
    sections = configuration(containerResourceRequirements={"cpu": 1}, numReplicas=2)
    own = {"containerResourceRequirements": {"cpu": 2, "cpuLimit": 4}, "numReplicas": 5}
    sections["services"]["mnist"] |= {"deployments": {"blue": {}, "green": own}, "traffic": {"blue": 100}}

    plans = loaded(project, sections).services["mnist"].deployments

    assert plans["blue"].resources == KubernetesResources(cpu=1)
    assert plans["green"].resources == KubernetesResources(cpu=2, cpu_limit=4)
    assert [plan.replicas for plan in plans.values()] == [2, 5]


@pytest.mark.parametrize(
    ("deployment", "message"),
    [
        ({"computeType": "ACI"}, "deployment.computeType: input should be 'AKS', 'aks' or 'kubernetes', not 'ACI'"),
        ({"tokenAuthEnabled": True}, "deployment.tokenAuthEnabled: cannot be honoured by a kubernetes target; remove"),
        ({"dataCollection": {}}, "deployment.dataCollection: cannot be honoured by a kubernetes target"),
        ({"isDefault": True}, "deployment.isDefault: cannot be honoured by a kubernetes target"),
        ({"devices": ["fpga"]}, "deployment.devices: cannot be honoured by a kubernetes target"),
        ({"appInsightsEnabled": True}, "deployment.appInsightsEnabled: input should be False, not True"),
        ({"gpuCore": 1}, "deployment.gpuCore: is no field here; did you mean 'gpuCores'?"),
        (
            {"namespace": "others"},
            "deployment.namespace: is 'others', and computeTargets.aks has the namespace 'models'; mend one of them",
        ),
        (
            {"numReplicas": 2, "autoScaler": {}},
            "deployment: has numReplicas beside an autoScaler, which says how many run; remove one of them",
        ),
        (
            {"autoScaler": {"minReplicas": 4, "maxReplicas": 2}},
            "deployment.autoScaler: has minReplicas 4 above maxReplicas 2; mend one",
        ),
        (
            {"autoScaler": {"metric": "requestsInFlight"}},
            "deployment: has autoScaler.metric requestsInFlight, of which targetUtilization is a part, and no "
            "maxConcurrentRequestsPerContainer: say how many requests a pod takes at once (1 is Azure's default)",
        ),
        (
            {"autoScaler": {"metric": "memory"}},
            "deployment.autoScaler.metric: input should be 'cpu' or 'requestsInFlight', not 'memory'",
        ),
        (
            {"autoScaler": {"targetUtilization": 0}},
            "deployment.autoScaler.targetUtilization: input should be greater than or equal to 1, not 0",
        ),
        (
            {"containerResourceRequirements": {"cpu": 2, "cpuLimit": 1}},
            "deployment.containerResourceRequirements: promises more than it allows: cpu 2 is above cpuLimit 1",
        ),
        (
            {"containerResourceRequirements": {"memoryInGB": 2, "memoryInGBLimit": 0.5}},
            "deployment.containerResourceRequirements: promises more than it allows: memoryInGB 2 is above "
            "memoryInGBLimit 0.5",
        ),
        (
            {"gpuCores": 1, "accelerators": {"gpu": 1}},
            "deployment: has gpuCores beside accelerators.gpu, which are the same; remove one of them",
        ),
        (
            {"accelerators": {"slcie": 1}},
            "deployment.accelerators.slcie: computeTargets.aks.accelerators has none of that name; known: gpu",
        ),
        ({"dnsNameLabel": "digits"}, "deployment.dnsNameLabel: needs the domain that it stands below: set computeT"),
        ({"cname": "a.b", "dnsNameLabel": "a"}, "deployment: has a cname beside a dnsNameLabel: a service has one"),
        ({"sslCert": {"secret": "cert"}}, "deployment: sslCert and sslKey go together: give both, or none"),
        ({"primaryKey": {"secret": "first"}}, "deployment: has a key, and authEnabled is not true; set it, or remove"),
        ({"scoringTimeoutMs": 1_800_000}, "deployment.scoringTimeoutMs: input should be less than or equal to 1740000"),
    ],
)
def test_a_mistake_in_a_deployment(project: Path, deployment: dict[str, Any], message: str) -> None:
    (mistake,) = mistakes(project, configuration(**deployment))

    assert mistake.startswith(f"services.mnist.{message}")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            {"ingress": {}, "gateway": {"name": "front"}},
            ": has an `ingress` beside a `gateway`: services are reached one way, remove one of them",
        ),
        ({"ingress": {}, "expose": "nodePort"}, ": has `expose: nodePort` beside `ingress`; remove one of them"),
        (
            {"gateway": {"name": "a"}, "expose": "loadBalancer"},
            ": has `expose: loadBalancer` beside `gateway`; remove",
        ),
        ({"expose": "NodePort"}, ".expose: input should be 'clusterIp', 'nodePort' or 'loadBalancer', not 'NodePort'"),
        ({"certManager": {"issuer": "a"}}, ": has `certManager`, which needs an `ingress`; add it, or remove this"),
        (
            {"createNamespace": False, "podSecurity": "baseline"},
            ": has `podSecurity`, a label of a namespace that is made here, and `createNamespace: false`; remove one",
        ),
        ({"namespace": "Models"}, ".namespace: 'Models' is no DNS label (RFC 1123): 1 to 63 of a-z, 0-9 and '-'"),
        (
            {"accelerators": {"fpga": "fpga"}},
            ".accelerators.fpga: 'fpga' is no extended resource of a node: DOMAIN/NAME, as in nvidia.com/gpu",
        ),
        ({"quota": {"requests.cpu": "many"}}, ".quota.requests.cpu: 'many' is no quantity of Kubernetes: a number"),
        ({"limits": {"max": {"cpu": "1 GB"}}}, ".limits.max.cpu: '1 GB' is no quantity of Kubernetes: a number"),
        ({"tolerations": [{"value": "x"}]}, ".tolerations[0]: has no key, and so tolerates any taint: say so with"),
        (
            {"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]},
            ".tolerations[0]: has a value, which the operator Exists does not look at; remove one of them",
        ),
        (
            {"tolerations": [{"key": "a", "tolerationSeconds": 3}]},
            ".tolerations[0]: has tolerationSeconds, which the effect NoExecute alone knows; add that, or remove them",
        ),
        ({"host": "tcp://box:1"}, ".host: is no field here"),
    ],
)
def test_a_mistake_in_a_target(project: Path, target: dict[str, Any], message: str) -> None:
    sections = configuration(target)
    del sections["services"]

    (mistake,) = mistakes(project, sections)

    assert mistake.startswith(f"computeTargets.aks{message}")


def test_a_gateway_has_the_certificate_and_knows_requests_by_their_host(project: Path) -> None:
    sections = configuration(
        {"gateway": {"name": "front"}}, sslEnabled=True, sslCert={"secret": "cert"}, sslKey={"secret": "key"}
    )

    missing, certificate = mistakes(project, sections)

    assert missing == (
        "services.mnist.deployment.cname: is missing: the gateway of computeTargets.aks knows requests by their host; "
        "give a cname or a dnsNameLabel"
    )
    assert certificate == (
        "services.mnist.deployment.sslCert: cannot be honoured by a target with a gateway, whose listener has the "
        "certificate; remove it, or computeTargets.aks.gateway"
    )


def test_cert_manager_needs_a_name_to_certify(project: Path) -> None:
    sections = configuration({"ingress": {}, "certManager": {"issuer": "letsencrypt"}}, sslEnabled=True)

    assert mistakes(project, sections) == [
        "services.mnist.deployment.sslEnabled: needs a host name, for which cert-manager makes the certificate: give "
        "a cname or a dnsNameLabel"
    ]


def test_an_autoscaler_leaves_no_deployment_its_own_replicas(project: Path) -> None:
    sections = configuration(autoScaler={"maxReplicas": 3})
    deployments = {"blue": {"numReplicas": 2}, "green": {}}
    sections["services"]["mnist"] |= {"deployments": deployments, "traffic": {"blue": 100}}

    assert mistakes(project, sections) == [
        "services.mnist.deployments.blue.numReplicas: stands beside the service's autoScaler, which says how many run; "
        "remove one of them"
    ]


def test_limits_of_a_cluster_are_none_of_a_docker_host(project: Path) -> None:
    sections = configuration()
    sections["computeTargets"]["aks"] = {"kind": "container"}
    variant = {"containerResourceRequirements": {"cpu": 1, "cpuLimit": 2}}
    sections["services"]["mnist"] |= {"deployments": {"blue": variant}, "traffic": {"blue": 100}}

    assert mistakes(project, sections) == [
        "services.mnist.deployments.blue.containerResourceRequirements.cpuLimit: cannot be honoured by a container "
        "target, where `cpu` and `memoryInGB` are the limits; remove it, or deploy to another kind of target"
    ]
    whole = configuration(containerResourceRequirements={"memoryInGBLimit": 2})
    whole["computeTargets"]["aks"] = {"kind": "container"}
    (mistake,) = mistakes(project, whole)
    assert mistake.startswith(
        "services.mnist.deployment.containerResourceRequirements.memoryInGBLimit: cannot be honoured by a container"
    )


def renamed(sections: dict[str, Any], name: str) -> dict[str, Any]:
    return {**sections, "services": {name: sections["services"]["mnist"]}}


def test_names_are_those_that_kubernetes_allows(project: Path) -> None:
    assert mistakes(project, renamed(configuration(), "3d")) == [
        "services.3d: '3d' cannot be the name of a Service of Kubernetes (RFC 1035), which begins with a letter; "
        "rename it"
    ]
    long = renamed(configuration(sslEnabled=True), "m" * 60)
    first, second = mistakes(project, long)
    assert first == (
        f"services.{'m' * 60}: '{'m' * 60}-default', that of its deployment default, is 5 characters too long for a "
        f"name of Kubernetes; shorten it"
    )
    assert "'s router" not in second
    assert "that of its router, is 4 characters too long" in second


def test_a_router_has_its_name_for_itself(project: Path) -> None:
    sections = configuration()
    sections["services"]["mnist"] |= {"deployments": {"router": {}, "blue": {}}, "traffic": {"blue": 100}}

    assert mistakes(project, sections) == [
        "services.mnist.deployments.router: is what a Kubernetes target calls the service's own router; choose another "
        "name"
    ]


def test_services_of_a_namespace_share_its_names(project: Path) -> None:
    sections = configuration()
    other = dict(sections["services"]["mnist"])
    sections["services"]["mnist"] = {**other, "deployments": {"blue": {}, "green": {}}, "traffic": {"blue": 100}}
    sections["services"]["mnist-blue"] = other

    assert mistakes(project, sections) == [
        "services.mnist-blue: the name 'mnist-blue', the service's own, is taken by services.mnist in the namespace "
        "that they share; rename one"
    ]


def test_services_of_one_ingress_have_a_host_each(project: Path) -> None:
    sections = configuration({"ingress": {"host": "ml.example.org"}})
    sections["services"]["letters"] = sections["services"]["mnist"]

    assert mistakes(project, sections) == [
        "services.letters.deployment.cname: the host name ml.example.org is for services.mnist already, which stands "
        "behind the same computeTargets.aks; give each a cname or a dnsNameLabel of its own"
    ]
    anyone = configuration({"ingress": {}})
    anyone["services"]["letters"] = anyone["services"]["mnist"]
    (mistake,) = mistakes(project, anyone)
    assert "requests to any host are for services.mnist already" in mistake


def test_services_of_a_cluster_share_no_ports(project: Path) -> None:
    sections = configuration(port=8080)
    sections["services"]["letters"] = sections["services"]["mnist"]

    assert len(loaded(project, sections).services) == 2


def test_targets_have_a_namespace_each(project: Path) -> None:
    sections = configuration()
    sections["computeTargets"]["other"] = sections["computeTargets"]["aks"]

    assert mistakes(project, sections) == [
        "computeTargets.other.namespace: 'models' of the same cluster is that of computeTargets.aks already; choose "
        "another one"
    ]


def test_no_cluster_pulls_from_a_layout(project: Path) -> None:
    sections = configuration()
    sections["registry"] = {"kind": "layout"}

    assert mistakes(project, sections) == [
        "registry: is an image layout on this machine, from which no cluster pulls, and computeTargets.aks is one; "
        "choose `kind: service` with a port, or `kind: external` with an address"
    ]


def test_a_sample_has_to_fit_into_a_config_map(project: Path) -> None:
    (project / "sample.json").write_text("1" * 800_000)
    sections = configuration()
    sections["services"]["mnist"]["sampleRequest"] = "sample.json"

    assert mistakes(project, sections) == [
        f"services.mnist.sampleRequest: {project}/sample.json has 800000 bytes, and a cluster keeps no more than "
        f"700000 of a sample; give a smaller one"
    ]


def test_the_cluster_that_was_made_here_is_taken_where_nothing_names_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    target = KubernetesTarget(kind="kubernetes")
    made = project / ".slipway" / "cluster" / "kubeconfig"
    assert made_kubeconfig(target, project) is None, "there is none"

    made.parent.mkdir()
    made.touch()

    assert made_kubeconfig(target, project) == made
    assert made_kubeconfig(KubernetesTarget(kind="kubernetes", context="prod"), project) is None
    monkeypatch.setenv("KUBECONFIG", "/elsewhere")
    assert made_kubeconfig(target, project) is None


def test_a_cluster_has_one_adapter(project: Path) -> None:
    sections = configuration({"metricsAdapter": True, "context": "prod"})
    other = {"kind": "kubernetes", "metricsAdapter": True}
    sections["computeTargets"]["same"] = {**other, "context": "prod", "namespace": "others"}
    sections["computeTargets"]["another"] = {**other, "context": "trial", "namespace": "models"}

    assert mistakes(project, sections) == [
        "computeTargets.same.metricsAdapter: stands beside that of computeTargets.aks: a cluster has one, which serves "
        "all its namespaces; remove one of them"
    ]


def test_an_adapter_has_its_name_and_an_image(project: Path) -> None:
    sections = configuration({"metricsAdapter": True})
    sections["services"]["slipway-metrics"] = sections["services"].pop("mnist")

    assert mistakes(project, sections) == [
        "services.slipway-metrics: the name 'slipway-metrics', the service's own, is that of the adapter of "
        "computeTargets.aks; rename it, or remove metricsAdapter"
    ]
    del sections["services"]
    assert loaded(project, sections).python_image is not None, "that is what it runs on"
    (project / ".slipway" / "images" / "images.json").unlink()
    (told,) = mistakes(project, sections)
    assert told.startswith("images.python: is not set, and computeTargets.aks.metricsAdapter needs it: name one by its")


def test_an_adapter_runs_where_its_image_does(project: Path) -> None:
    sections = configuration({"metricsAdapter": True, "platform": "linux/arm64"})
    del sections["services"]

    (told,) = mistakes(project, sections)
    assert told.startswith(
        "computeTargets.aks.platform: the base image that was made on this machine is for linux/amd64"
    )
