"""What goes wrong with services on a cluster: an `up` that is killed, pods that are refused, put off or hang.

One project serves all of it, from a first `up` that is killed to a `destroy` that is.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from provider.values import Properties
from tests.e2e.load import SteadyLoad
from tests.e2e.project import eventually
from tests.kubernetes.clustered import ECHO, ClusterProject, Command, send
from tests.kubernetes.served import refreshed

SCRIPT = (
    "import ctypes\n\n"
    "def deadlock():\n"
    "    lock, mutex = ctypes.PyDLL(None).pthread_mutex_lock, (ctypes.c_byte * 64)()\n"
    "    lock(mutex)\n"
    "    lock(mutex)\n"
) + ECHO.replace("    return data", "    if data == '\"hang\"':\n        deadlock()\n    return data")
"""Hangs as a whole when it is told to: nothing else gets the interpreter's lock, and no signal is answered."""
LIVENESS = {"initialDelaySeconds": 0, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3}


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, kubeconfig: Path, api: client.ApiClient, images: Path
) -> Iterator[ClusterProject]:
    """A project with two pods of its service, not yet deployed. The tests leave it in good state."""
    made = ClusterProject(tmp_path_factory.mktemp("faults"), kubeconfig, api, images)
    made.deployment.update(numReplicas=2, livenessProbeRequirements=LIVENESS)
    made.script.write_text(SCRIPT)
    made.write()
    yield made
    made.clear()


@pytest.fixture
def good(project: ClusterProject) -> ClusterProject:
    """The project, deployed."""
    if not project.stack.outputs():
        project.up()
    return project


@contextmanager
def load_on(project: ClusterProject) -> Iterator[SteadyLoad]:
    """Requests all the while, of which none may fail; from when the present revision alone answers."""
    project.wait_for(project.outputs()["revision"])
    host, port = project.address
    with SteadyLoad(port, host=host, body=b'"load"', pause=0.02) as load:
        yield load
    assert load.failures == []


def killed(project: ClusterProject, command: str, *moments: Callable[[Command], bool]) -> None:
    """Runs the command as often as there are moments, and kills the engine at each of them."""
    for number, moment in enumerate(moments, 1):
        with project.command(command, "--refresh") as running:
            running.until(partial(moment, running), f"moment {number} of {command}")
            running.kill()
        project.stack.cancel()  # the lock of the one that was killed


def deployments(project: ClusterProject) -> list[Any]:
    found: list[Any] = project.apps.list_namespaced_deployment(project.namespace).items
    return found


def says(*words: str) -> Callable[[Command], bool]:
    return lambda running: running.says(*words)


# -- pulumi is killed --------------------------------------------------------------------------------------------------


def test_a_first_up_that_was_killed_is_completed_by_the_next(project: ClusterProject) -> None:
    killed(
        project,
        "up",
        lambda running: not project.is_gone(),
        lambda running: bool(deployments(project)),
        says("slipway:index:Endpoint", "creating"),
    )

    project.up(refresh=True)

    outputs = project.outputs()
    assert outputs["state"] == "Healthy"
    project.wait_for(outputs["revision"])
    assert send(project.address, 1) == (200, "1", outputs["revision"])
    assert project.serving() == {outputs["revision"]: 2}
    assert project.up(refresh=True) == {}


def test_an_update_that_was_killed_is_completed_by_the_next(good: ClusterProject) -> None:
    first = good.outputs()["revision"]
    with load_on(good) as load:
        good.change()
        killed(
            good,
            "up",
            says("slipway:index:ServiceImage", "creating"),
            says("kubernetes:apps/v1:Deployment", "updating"),
            says("slipway:index:Endpoint", "updating"),
        )
        good.up(refresh=True)
        second = good.outputs()["revision"]
        eventually(lambda: load.answers[second], "the new revision answers")

    assert set(load.answers) == {first, second}
    assert good.serving() == {second: 2}
    assert good.up(refresh=True) == {}


# -- pods are refused --------------------------------------------------------------------------------------------------


def refusal(project: ClusterProject) -> str:
    """What the API server has against one more pod of the service; empty where nothing."""
    (deployment,) = deployments(project)
    probe = {"metadata": {"generateName": "probe-"}, "spec": deployment.spec.template.spec}
    try:
        project.core.create_namespaced_pod(project.namespace, probe, dry_run="All")
    except ApiException as error:
        return str(error.body)
    return ""


def only_its_pods(project: ClusterProject) -> dict[str, Any]:
    """The making of pods in the project's namespace, and nobody else's."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": project.namespace}}, "rules": [rule]}


@contextmanager
def policy(project: ClusterProject, name: str) -> Iterator[None]:
    """A policy that allows no pods."""
    admission = client.AdmissionregistrationV1Api(project.api)
    match = only_its_pods(project)
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"namespaceSelector": match["namespaceSelector"], "resourceRules": match["rules"]},
        "validations": [{"expression": "false", "message": "no pods today"}],
    }
    metadata = {"metadata": {"name": name}}
    binding = {"policyName": name, "validationActions": ["Deny"]}
    admission.create_validating_admission_policy({**metadata, "spec": spec})
    try:
        admission.create_validating_admission_policy_binding({**metadata, "spec": binding})
        try:
            eventually(lambda: "no pods today" in refusal(project), "the policy is followed")
            yield
        finally:
            admission.delete_validating_admission_policy_binding(name)
    finally:
        admission.delete_validating_admission_policy(name)
    eventually(lambda: "no pods today" not in refusal(project), "the policy is forgotten")


@contextmanager
def webhook(project: ClusterProject, name: str) -> Iterator[None]:
    """A webhook whose service does not exist, and without whose word there are no pods."""
    admission = client.AdmissionregistrationV1Api(project.api)
    hook = {
        "name": name,
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "absent", "namespace": project.namespace}},
        **only_its_pods(project),
    }
    admission.create_validating_webhook_configuration({"metadata": {"name": name}, "webhooks": [hook]})
    try:
        eventually(lambda: "failed calling webhook" in refusal(project), "the webhook is called")
        yield
    finally:
        admission.delete_validating_webhook_configuration(name)
    eventually(lambda: "failed calling webhook" not in refusal(project), "the webhook is forgotten")


def test_pods_that_are_refused_leave_those_that_serve(good: ClusterProject) -> None:
    before = good.outputs()["revision"]
    name = f"no-pods.{good.namespace}.example"
    good.change()
    with load_on(good) as load, contextlib.ExitStack() as then:
        with webhook(good, name):
            unanswered = good.failing_up()
            # Beside it, so that no pod is let through in between; policies have their say before webhooks.
            then.enter_context(policy(good, name))
        denied = good.failing_up()
    good.up()

    assert set(load.answers) == {before}
    assert "Failed (AdmissionDenied)" in denied
    assert f"ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: no pods today" in denied
    assert "What to do: mend what the admission policy objects to" in denied
    assert "Failed (WebhookFailed)" in unanswered
    assert f'failed calling webhook "{name}"' in unanswered
    assert 'service "absent" not found' in unanswered
    assert "What to do: the cluster asks an admission webhook that does not answer: see its service" in unanswered
    for said in (denied, unanswered):
        assert f"2 pods of revision {before}, the one before, go on serving." in said
    assert good.serving() == {good.outputs()["revision"]: 2}


# -- pods are put off, or hang -----------------------------------------------------------------------------------------


def evict(project: ClusterProject, name: str) -> str:
    """Asks for a pod's eviction, as `kubectl drain` does; what the API server has against it, empty where nothing."""
    try:
        project.core.create_namespaced_pod_eviction(name, project.namespace, {"metadata": {"name": name}})
    except ApiException as error:
        if error.status != 429:
            raise
        return str(error.body)
    return ""


def test_pods_that_are_put_off_their_node_go_one_after_the_other(good: ClusterProject) -> None:
    revision = good.outputs()["revision"]
    first, second = (str(pod.metadata.name) for pod in good.pods())
    with load_on(good) as load:
        eventually(lambda: evict(good, first) == "", "the first one may go")
        held = evict(good, second)
        eventually(lambda: evict(good, second) == "", "the second one may go")
        there = good.serving()
        eventually(lambda: good.serving() == {revision: 2}, "two others serve")

    assert "Cannot evict pod as it would violate the pod's disruption budget" in held
    assert there.total() >= 1, "another one serves by then"
    assert not {first, second} & {pod.metadata.name for pod in good.pods()}
    assert set(load.answers) == {revision}


def endpoint(project: ClusterProject, revision: str) -> Properties:
    """What a refresh finds of the service."""
    target = {
        "kind": "kubernetes",
        "cluster": {"kubeconfig": project.target["kubeconfig"]},
        "namespace": project.namespace,
        "service": "echo",
        "deployment": "echo",
        "port": 5001,
    }
    return refreshed({"target": target, "revision": revision})


def restarts(project: ClusterProject) -> dict[str, int]:
    """How often the server of each pod was started again."""
    return {pod.metadata.name: pod.status.container_statuses[0].restart_count for pod in project.pods()}


def hang(address: tuple[str, int]) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        send(address, "hang")


def test_a_server_that_hangs_is_told_and_started_again(good: ClusterProject) -> None:
    revision, before = good.outputs()["revision"], restarts(good)
    look = partial(endpoint, good, revision)
    awaited(look, lambda found: found["state"] == "Healthy")
    asking = threading.Thread(target=hang, args=[good.address])
    asking.start()

    eventually(lambda: good.serving() == {revision: 1}, "the one that hangs is not asked any more")
    found = awaited(look, lambda found: found["state"] != "Healthy")
    good.wait_for(revision)
    eventually(lambda: restarts(good) != before, "the one that hangs is started again")
    asking.join()
    healthy = awaited(look, lambda found: found["state"] == "Healthy")

    (hung,) = (name for name, count in restarts(good).items() if count == before[name] + 1)
    assert (found["state"], found["reason"]) == ("Unhealthy", "ProbeFailed")
    assert re.match(f"the pod {hung} was .* probe failed: Get .* deadline exceeded", found["message"])
    assert found["hint"].endswith("look for a deadlock or an endless loop in run()")
    assert healthy["message"] == f"2 pods of revision {revision} answer"


def awaited(look: Callable[[], Properties], as_wanted: Callable[[Properties], bool]) -> Properties:
    """What is found as soon as it is as wanted."""
    found: list[Properties] = []

    def looked() -> bool:
        found.append(look())
        return as_wanted(found[-1])

    eventually(looked, "it is as wanted")
    return found[-1]


# -- the end -----------------------------------------------------------------------------------------------------------


def test_a_destroy_that_was_killed_is_completed_by_the_next(good: ClusterProject) -> None:
    def staying(objects: list[Any]) -> set[str]:
        return {one.metadata.name for one in objects if one.metadata.deletion_timestamp is None}

    killed(
        good,
        "destroy",
        says("kubernetes:core/v1:Service", "deleting"),
        lambda running: not staying(deployments(good)),
        lambda running: good.namespace not in staying(good.core.list_namespace().items),
    )

    good.stack.destroy(refresh=True)

    assert good.is_gone()
    assert good.stack.export_stack().deployment.get("resources", []) == []
