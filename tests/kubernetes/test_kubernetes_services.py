"""Services on a real cluster: up, update, failure, traffic, and nothing left."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client
from pulumi import automation

from tests.e2e.load import SteadyLoad
from tests.e2e.project import eventually
from tests.kubernetes.clustered import ClusterProject, send

BROKEN = "def init():\n    raise ValueError('no such weights')\n\ndef run(data):\n    return data\n"


@pytest.fixture
def project(tmp_path: Path, kubeconfig: Path, api: client.ApiClient, images: Path) -> Iterator[ClusterProject]:
    made = ClusterProject(tmp_path, kubeconfig, api, images)
    yield made
    made.clear()


def test_a_service_comes_up_answers_and_leaves_nothing(project: ClusterProject) -> None:
    project.deployment.update(authEnabled=True, secrets={"token": {"secret": "token"}})
    project.script.write_text(
        "from pathlib import Path\n\n"
        "def init():\n    pass\n\n"
        "def run(data):\n    return {'read': Path('/run/secrets/token').read_text(), 'given': data}\n"
    )
    project.write()
    project.stack.set_config("slipway:token", automation.ConfigValue("canary", secret=True))
    project.up()

    outputs = project.outputs()
    assert outputs["state"] == "Healthy"
    assert outputs["scoringUri"] == f"http://echo.{project.namespace}.svc/score"
    (pod,) = project.pods()
    assert pod.metadata.annotations["slipway/revision"] == outputs["revision"]
    project.wait_for(outputs["revision"], key=outputs["primaryKey"])
    status, answer, revision = send(project.address, 1, outputs["primaryKey"])
    assert (status, answer) == (200, {"read": "canary", "given": "1"})
    assert revision == outputs["revision"]
    assert send(project.address, 1)[0] == 401
    assert send(project.address, 1, "wrong")[0] == 403
    assert project.up() == {}, "nothing changes"
    assert project.up(refresh=True) == {}, "nor where the cluster was asked"

    project.stack.destroy()
    assert project.is_gone()


def test_an_update_loses_no_request_and_a_failing_one_changes_nothing(project: ClusterProject) -> None:
    project.deployment.update(numReplicas=2)
    project.write()
    project.up()
    first = project.outputs()["revision"]
    project.wait_for(first)
    host, port = project.address

    with SteadyLoad(port, host=host, body=b'"load"', connections=8, pause=0.02) as load:
        project.change()
        told = project.preview()
        project.up()
        second = project.outputs()["revision"]
        eventually(lambda: load.answers[second] > 100, "the new revision answers")
        project.script.write_text(BROKEN)
        said = project.failing_up()
        project.sample.write_text('"another"')
        project.script.write_text("def init():\n    pass\n\ndef run(data):\n    raise ValueError('no such pixel')\n")
        refused = project.failing_up()

    assert re.search(r"~ score\.py: ", told), "why"
    assert len(set(re.findall(r"~ image *: .* => \[unknown\]", told))) == 1, told
    assert f'~ slipway/revision: "{first}" => "{second}"' in told
    assert "readOnlyRootFilesystem" not in told, "the rest of the pod stays as it is"
    assert load.failures == []
    assert set(load.answers) == {first, second}, "what failed was never asked"
    assert "ValueError: no such weights" in said
    assert "Failed (InitError)" in said
    assert "the sample request was answered with 500" in refused
    assert len([pod for pod in project.pods() if pod.metadata.annotations["slipway/revision"] == second]) == 2
    project.wait_for(second)


def test_deployments_share_the_traffic_over_tls(project: ClusterProject) -> None:
    project.deployment.update(sslEnabled=True, port=8443)
    other = project.root / "green"
    other.mkdir()
    (other / "score.py").write_text("def init():\n    pass\n\ndef run(data):\n    return 'green'\n")
    green = {"inference": {"entryScript": "score.py", "sourceDirectory": "green"}}
    project.service.update(deployments={"blue": {}, "green": green}, traffic={"blue": 75, "green": 25})
    project.write()
    project.up()
    outputs = project.outputs()
    where, authority = project.address, outputs["caCertificate"]

    revisions = {name: item["revision"] for name, item in outputs["deployments"].items()}
    project.wait_for(*revisions.values(), authority=authority)
    answers = [send(where, 1, authority=authority)[2] for _ in range(40)]
    assert set(answers) == set(revisions.values())
    # Each of the two pods of the router takes turns exactly, and which of them gets a request is chance.
    assert abs(answers.count(revisions["blue"]) - 30) <= 3
    picked = send(where, 1, authority=authority, azureml_model_deployment="green")
    assert picked == (200, "green", revisions["green"])
    status, said, _ = send(where, 1, authority=authority, azureml_model_deployment="red")
    assert (status, json.loads(said)["message"][:31]) == (404, "There is no deployment of the n")

    project.route_with("python")
    tls = ssl.create_default_context(cadata=authority)
    tls.check_hostname = False
    with SteadyLoad(where[1], host=where[0], tls=tls, connections=2, pause=0.02) as load:
        told = project.failing_up()
    assert load.failures == []
    assert set(load.answers) == set(revisions.values()), "the router from before goes on"
    assert "the router of the service echo, revision" in told
    assert "Failed (NotStarted)" in told, "and no deadline had to pass"
    assert '"haproxy": executable file not found' in told
    assert "2 pods of revision" in told
    project.route_with("router")

    project.service["traffic"] = {"blue": 0, "green": 100}
    project.write()
    changed = project.up()
    project.wait_for(revisions["green"], authority=authority)
    assert "create" not in changed or changed["create"] == 1, "the router's configuration alone"
    assert project.up() == {}

    project.deployment.update(sslEnabled=False, port=8080)
    project.write()
    assert "http-8080" in project.preview()
    project.up()
    project.wait_for(revisions["green"])


def test_an_autoscaler_s_replicas_are_no_change(project: ClusterProject) -> None:
    project.deployment.update(numReplicas=2)
    project.write()
    project.up()
    del project.deployment["numReplicas"]
    project.deployment["autoScaler"] = {"minReplicas": 3, "maxReplicas": 4}
    project.write()
    project.up()

    def replicas() -> int:
        return int(project.apps.read_namespaced_deployment("echo", project.namespace).spec.replicas)

    def scalers() -> list[str]:
        found = client.AutoscalingV2Api(project.api).list_namespaced_horizontal_pod_autoscaler(project.namespace)
        return [scaler.metadata.name for scaler in found.items]

    eventually(lambda: replicas() == 3, "the autoscaler adds a pod")
    told = [str(event.message) for event in project.core.list_namespaced_event(project.namespace).items]
    assert [message for message in told if message.startswith("Scaled up replica set")], "that is what is told"
    assert [message for message in told if message.startswith("Scaled down replica set")] == []
    assert project.up(refresh=True) == {}
    project.script.write_text(project.script.read_text().replace("VERSION = 1", "VERSION = 2"))
    project.up()
    assert replicas() == 3, "an update leaves them as they are"
    assert {pod.metadata.annotations["slipway/revision"] for pod in project.pods()} == {project.outputs()["revision"]}

    del project.deployment["autoScaler"]
    project.deployment["numReplicas"] = 2
    project.write()
    before = {pod.metadata.name for pod in project.pods()}
    assert "conflict" not in project.preview()
    assert scalers(), "a preview touches nothing"
    project.up()
    assert scalers() == []
    assert replicas() == 2
    eventually(lambda: len(project.pods()) == 2, "one goes")
    assert {pod.metadata.name for pod in project.pods()} < before, "and no other is made"
    assert project.up(refresh=True) == {}

    project.apps.patch_namespaced_deployment_scale("echo", project.namespace, {"spec": {"replicas": 3}})
    said = project.failing_up(refresh=True)
    assert "conflict with" in said, "what somebody else has scaled is theirs"
    assert "spec.replicas" in said
    assert replicas() == 3


def test_an_autoscaler_goes_by_the_requests_in_flight(project: ClusterProject) -> None:
    scaler = {"metric": "requestsInFlight", "targetUtilization": 50, "maxReplicas": 2}
    project.deployment.update(autoScaler=scaler, maxConcurrentRequestsPerContainer=1)
    project.write()
    lack = "service echo: no pods are added under load: this cluster does not serve custom.metrics.k8s.io"
    assert lack in project.stack.up().stdout
    assert project.outputs()["state"] == "Healthy", "it serves all the same"

    project.target["metricsAdapter"] = True
    project.write()
    assert "no pods are added under load" not in project.stack.up().stdout
    host, port = project.address
    with SteadyLoad(port, host=host, body=b'"sleep1"', connections=2):
        eventually(lambda: project.serving().total() == 2, "the autoscaler adds a pod")
