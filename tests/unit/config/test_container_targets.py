"""Services on Docker hosts in the stack configuration: Azure's fields, several deployments, and every mistake."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.config import ContainerDeployment, ContainerResources, ContainerTarget, LivenessProbe, SecretReference
from infra.hosts import port_of
from infra.load import load
from infra.plan import ModelReference, StackPlan
from infra.problems import ConfigurationError
from infra.targets import host_name
from tests.certificates import Authority

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


def configuration(**deployment: Any) -> dict[str, Any]:
    """A good configuration for `project`, to be spoilt by a test."""
    return {
        "workspace": {"name": "demo"},
        "registry": {"kind": "service", "port": 5000},
        "computeTargets": {"box": {"kind": "container"}},
        "models": {"digits": {"path": "model.pkl"}, "letters": {"path": "model.pkl"}},
        "services": {
            "mnist": {
                "models": ["digits"],
                "inference": {"entryScript": "score.py", "sourceDirectory": "src"},
                "computeTarget": "box",
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


def service(project: Path, **deployment: Any) -> ContainerDeployment:
    planned = loaded(project, configuration(**deployment)).services["mnist"].deployment
    assert isinstance(planned, ContainerDeployment)
    return planned


def test_a_deployment_needs_no_field(project: Path) -> None:
    plan = loaded(project, configuration())

    assert plan.services["mnist"].deployment == ContainerDeployment()
    assert port_of(plan.services["mnist"].deployment) == 80
    assert plan.services["mnist"].only.replicas == 1
    assert plan.router_image is not None
    assert plan.router_image.repository == "router"
    assert plan.python_image is not None
    assert plan.compute_targets["box"] == ContainerTarget(kind="container", host="unix:///var/run/docker.sock")


def test_azure_s_own_example_works_as_it_is(project: Path) -> None:
    # The example on the page of the CLI v1's deployment configuration schema.
    example = {
        "computeType": "aci",
        "containerResourceRequirements": {"cpu": 0.5, "memoryInGB": 1.0},
        "authEnabled": True,
        "sslEnabled": False,
        "appInsightsEnabled": False,
    }
    (project / "src" / "deploymentconfig.json").write_text(json.dumps(example))
    sections = configuration()
    sections["services"]["mnist"]["deployment"] = "src/deploymentconfig.json"

    plan = loaded(project, sections).services["mnist"]

    assert plan.only.resources == ContainerResources(cpu=0.5, memory_in_gb=1.0)
    assert isinstance(plan.deployment, ContainerDeployment)
    assert plan.deployment.auth_enabled


def test_all_that_can_be_asked_for(project: Path) -> None:
    sections = configuration(
        computeType="ACI",
        port=8443,
        numReplicas=3,
        sslEnabled=True,
        sslCertificate={"secret": "cert"},
        sslKey={"secret": "key"},
        authEnabled=True,
        primaryKey={"secret": "first"},
        dnsNameLabel="digits",
        gpuCores=1,
        devices=["fpga"],
        scoringTimeoutMs=1000,
        maxConcurrentRequestsPerContainer=2,
        maxQueueWaitMs=500,
        livenessProbeRequirements={"periodSeconds": 5, "failureThreshold": 2},
        secrets={"token": {"secret": "first"}},
    )
    target = {"domain": "ml.example.org", "gpus": 1, "devices": {"fpga": "/dev/xdma0"}, "bind": "127.0.0.1"}
    sections["computeTargets"]["box"] |= target

    plan = loaded(project, sections)

    deployment, box = plan.services["mnist"].deployment, plan.compute_targets["box"]
    assert isinstance(deployment, ContainerDeployment)
    assert isinstance(box, ContainerTarget)
    assert deployment.ssl_cert == SecretReference(secret="cert")
    assert deployment.liveness_probe_requirements == LivenessProbe(period_seconds=5, failure_threshold=2)
    assert plan.services["mnist"].only.replicas == 3
    assert host_name(deployment, box) == "digits.ml.example.org"
    assert "canary" not in repr(plan)


def test_the_port_is_azure_s_where_none_is_given(project: Path) -> None:
    assert port_of(service(project, sslEnabled=True)) == 443
    assert port_of(service(project)) == 80
    assert port_of(service(project, port=8080)) == 8080


@pytest.mark.parametrize(
    ("deployment", "said"),
    [
        ({"tokenAuthEnabled": True}, "deployment.tokenAuthEnabled: cannot be honoured by a container target; remove"),
        ({"autoScaler": {}}, "deployment.autoScaler: cannot be honoured by a container target; remove it, or deploy"),
        ({"location": "eastus"}, "deployment.location: cannot be honoured by a container target"),
        ({"appInsightsEnabled": True}, "deployment.appInsightsEnabled: input should be False"),
        ({"computeType": "AKS"}, "deployment.computeType: input should be 'ACI', 'aci' or 'container'"),
        ({"cpuCores": 1}, "deployment.cpuCores: is no field here; did you mean 'gpuCores'?"),
        ({"containerResourceRequirements": {"memoryInGb": 1}}, "deployment.containerResourceRequirements.memoryInGb: "),
        ({"containerResourceRequirements": {"cpu": 0}}, "deployment.containerResourceRequirements.cpu: input should"),
        ({"numReplicas": 0}, "deployment.numReplicas: input should be greater than or equal to 1"),
        ({"sslCert": {"secret": "cert"}, "sslEnabled": True}, "deployment: sslCert and sslKey go together"),
        (
            {"sslCert": {"secret": "cert"}, "sslKey": {"secret": "key"}},
            "deployment: has a certificate, and sslEnabled is not true",
        ),
        ({"sslKey": "-----BEGIN"}, "deployment.sslKey: is a secret, which does not stand here"),
        ({"primaryKey": {"secret": "first"}}, "deployment: has a key, and authEnabled is not true; set it, or remove"),
        (
            {"primaryKey": {"secret": "frist"}, "authEnabled": True},
            "deployment.primaryKey: no secret is named 'frist' (did you mean 'first'?); set it: `pulumi config set",
        ),
        ({"cname": "a.example", "dnsNameLabel": "a"}, "deployment: has a cname beside a dnsNameLabel"),
        (
            {"dnsNameLabel": "a"},
            "deployment.dnsNameLabel: needs the domain that it stands below: set computeTargets.b",
        ),
        ({"cname": "A_B"}, "deployment.cname: 'A_B' is no domain name"),
        ({"gpuCores": 2}, "deployment.gpuCores: 2 GPUs are asked for, and computeTargets.box.gpus says that the host"),
        (
            {"devices": ["fpga"]},
            "deployment.devices[0]: computeTargets.box.devices has none named 'fpga'; none is def",
        ),
        ({"secrets": {"../x": {"secret": "first"}}}, "deployment.secrets.../x: '../x' is no name of a file"),
    ],
)
def test_a_mistake_in_a_deployment(project: Path, deployment: dict[str, Any], said: str) -> None:
    (mistake,) = mistakes(project, configuration(**deployment))

    assert mistake.startswith(f"services.mnist.{said}")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"host": "http://box"}, "host: 'http://box' is no address of a Docker engine: unix:///PATH, ssh://HOST ("),
        (
            {"host": "tcp://box:2376"},
            " has a `host` at tcp://, which needs TLS: give `certPath`, or reach it by ssh://",
        ),
        ({"certPath": "certs"}, " has a `certPath`, which only a `host` at tcp:// needs; remove it"),
        ({"bind": "localhost"}, "bind: 'localhost' is no IP address"),
        ({"domain": "-x"}, "domain: '-x' is no domain name"),
        ({"devices": {"a": "/etc/passwd"}}, "devices.a: '/etc/passwd' is no device: its path on the host begins with "),
        ({"port": 1}, "port: is no field here"),
        ({"platform": "linux/arm64"}, "platform: the base image that was made on this machine is for linux/amd64"),
    ],
)
def test_a_mistake_in_a_target(project: Path, target: dict[str, Any], said: str) -> None:
    sections = configuration()
    sections["computeTargets"]["box"] |= target

    assert any(
        mistake.startswith((f"computeTargets.box.{said}", f"computeTargets.box:{said}"))
        for mistake in mistakes(project, sections)
    )


@pytest.mark.parametrize("host", ["unix:///run/x.sock", "ssh://box", "ssh://me@box:2222", "ssh://me@10.0.0.1"])
def test_addresses_of_engines(project: Path, host: str) -> None:
    sections = configuration() | {"registry": {"kind": "external", "address": "registry.example"}}
    sections["computeTargets"]["box"]["host"] = host

    target = loaded(project, sections).compute_targets["box"]

    assert isinstance(target, ContainerTarget)
    assert target.host == host


def test_an_engine_cannot_pull_from_an_image_layout(project: Path) -> None:
    (mistake,) = mistakes(project, configuration() | {"registry": {"tier": "Basic"}})

    assert mistake.startswith("registry: is an image layout on this machine, from which no Docker engine pulls")


@pytest.mark.parametrize("host", ["ssh://me@box", "tcp://10.0.0.1:2376"])
def test_an_engine_elsewhere_cannot_pull_from_this_machine_s_loopback(project: Path, host: str) -> None:
    sections = configuration() | {"registry": {"kind": "service", "port": 5000}}
    sections["computeTargets"]["box"] |= {"host": host, "certPath": "certs"} if "tcp" in host else {"host": host}
    Authority().write(project / "certs")

    (mistake,) = mistakes(project, sections)
    assert mistake.startswith("registry.bind: 127.0.0.1 is reached from this machine alone, and the engine of ")

    sections["registry"] |= {"bind": "0.0.0.0", "host": "registry.example"}
    loaded(project, sections)
    sections["registry"] = {"kind": "service", "port": 5000}
    sections["computeTargets"]["box"] = {"kind": "container", "host": "ssh://me@127.0.0.1:2222"}
    loaded(project, sections)


def test_certificates_that_no_engine_would_take(project: Path) -> None:
    sections = configuration() | {"registry": {"kind": "external", "address": "registry.example"}}
    sections["computeTargets"]["box"] |= {"host": "tcp://box:2376", "certPath": "certs"}

    assert mistakes(project, sections) == [
        f"computeTargets.box.certPath: {project / 'certs'} must hold ca.pem, cert.pem and key.pem: {name} is missing"
        for name in ("ca.pem", "cert.pem", "key.pem")
    ]

    Authority().write(project / "certs", ends=-timedelta(days=1))
    (mistake,) = mistakes(project, sections)
    assert mistake.startswith(f"computeTargets.box.certPath: {project / 'certs' / 'cert.pem'} expired at ")


def test_images_that_nobody_made(project: Path) -> None:
    (project / ".slipway" / "images" / "images.json").unlink()

    said = mistakes(project, configuration())

    assert [mistake.partition(" is not set")[0] for mistake in said] == ["images.python:", "images.router:"]
    assert all("python -m airgap.images" in mistake for mistake in said)


class TestPorts:
    """One host, one port."""

    @staticmethod
    def with_another(target: str, **deployment: Any) -> dict[str, Any]:
        sections = configuration(port=8080) | {"registry": {"kind": "external", "address": "registry.example"}}
        sections["services"]["other"] = {
            **sections["services"]["mnist"],
            "computeTarget": target,
            "deployment": deployment,
        }
        sections["computeTargets"] |= {"far": {"kind": "container", "host": "ssh://far"}, "here": {"kind": "local"}}
        return sections

    def test_two_services_on_one_port(self, project: Path) -> None:
        assert mistakes(project, self.with_another("box", port=8080)) == [
            "services.other.deployment.port: port 8080 is taken by services.mnist; services on "
            "unix:///var/run/docker.sock share its ports: choose another"
        ]

    def test_other_hosts_have_ports_of_their_own(self, project: Path) -> None:
        loaded(project, self.with_another("far", port=8080))

    def test_ports_that_nobody_named_can_be_the_same_too(self, project: Path) -> None:
        sections = self.with_another("box")
        sections["services"]["mnist"]["deployment"] = {}

        assert mistakes(project, sections)[0].startswith("services.other.deployment.port: port 80 is taken by")


class TestSeveralDeployments:
    """Traffic that is split."""

    @staticmethod
    def split(**more: Any) -> dict[str, Any]:
        sections = configuration()
        sections["services"]["mnist"] |= {
            "deployments": {"blue": {}, "green": {"models": ["letters"], "numReplicas": 2}},
            "traffic": {"blue": 90, "green": 10},
            **more,
        }
        return sections

    def test_what_a_deployment_does_not_say_is_as_the_service_says(self, project: Path) -> None:
        plan = loaded(project, self.split()).services["mnist"]

        assert {name: item.weight for name, item in plan.deployments.items()} == {"blue": 90, "green": 10}
        assert plan.deployments["blue"].models == (ModelReference("digits", None),)
        assert plan.deployments["green"].models == (ModelReference("letters", None),)
        assert plan.deployments["green"].entry_script == "score.py"
        assert plan.deployments["green"].replicas == 2

    def test_one_may_have_no_traffic_yet(self, project: Path) -> None:
        plan = loaded(project, self.split(traffic={"blue": 100})).services["mnist"]

        assert plan.deployments["green"].weight == 0

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ({"traffic": {"blue": 90, "green": 20}}, "services.mnist: has `traffic` that adds up to 110, not to 100"),
            ({"traffic": {}}, "services.mnist: has `traffic` that adds up to 0, not to 100; mend its percentages"),
            (
                {"traffic": {"blue": 100, "red": 0}},
                "services.mnist: sends `traffic` to 'red'; its deployments are blue",
            ),
            ({"deployments": {}}, "services.mnist: has `traffic` and no `deployments` that it would go to"),
            ({"traffic": {"blue": 101}}, "services.mnist.traffic.blue: input should be less than or equal to 100"),
            ({"inference": None}, "services.mnist: has no `inference`, and neither have its deployments blue, green"),
            ({"deployments": {"Blue": {}}}, "services.mnist.deployments.Blue: 'Blue' is no name of a deployment"),
            (
                {"deployments": {"blue": {"models": ["leters"]}, "green": {}}},
                "services.mnist.deployments.blue.models[0]: no model is named 'leters'; did you mean 'letters'?",
            ),
            (
                {"deployments": {"blue": {"sampleRequest": "no.json"}, "green": {}}},
                "services.mnist.deployments.blue.sampleRequest: ",
            ),
        ],
    )
    def test_a_mistake(self, project: Path, more: dict[str, Any], said: str) -> None:
        assert any(mistake.startswith(said) for mistake in mistakes(project, self.split(**more)))

    def test_this_machine_has_one(self, project: Path) -> None:
        sections = self.split(deployment={"port": 8080}, computeTarget="here")
        sections["computeTargets"]["here"] = {"kind": "local"}

        (mistake,) = mistakes(project, sections)

        assert mistake.startswith("services.mnist.deployments: cannot be honoured by a local target")


def test_names_that_would_be_too_long_for_a_socket(project: Path) -> None:
    sections = configuration()
    sections["workspace"]["name"] = "w" * 63

    (mistake,) = mistakes(project, sections)

    assert mistake.startswith("services.mnist: the names of workspace, service and deployment (")
    assert "8 characters too long together" in mistake


def test_the_split_that_the_readme_shows_is_good(project: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    section = (root / "README.md").read_text().partition("## On a Docker host")[2].partition("\n## ")[0]
    (shown,) = re.findall(r"```yml\n(.*?)```", section, re.DOTALL)
    staging = yaml.safe_load((root / "stacks" / "Pulumi.staging.yaml").read_text())["config"]
    raw = {key: json.dumps(value) for key, value in {**staging, **yaml.safe_load(shown)["config"]}.items()}

    plan = load(raw, (), root, "staging", project / ".slipway" / "images").services["mnist"]

    assert {name: item.weight for name, item in plan.deployments.items()} == {"blue": 90, "green": 10}
    assert plan.deployments["blue"].models == (ModelReference("sklearn_mnist", 1),)
