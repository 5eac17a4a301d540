"""What `Endpoint` says of Deployments that do not come up, on a real cluster: the state, the cause, and what to do."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from provider.kubernetes import looking
from provider.values import Properties
from tests.kubernetes.images import python_image
from tests.kubernetes.served import (
    LIMIT_SECONDS,
    Detour,
    Ghost,
    Place,
    as_somebody,
    deployed,
    detour,
    ghost_node,
    refreshed,
    story,
    wait_for,
)
from tests.operations import Lines

SOON = timedelta(seconds=30)
"""How long after Kubernetes said what is wrong the error may come: twice what is promised, as the machine is busy."""
MISSING = "127.0.0.1:1/missing:1"
"""An image in a registry where nobody listens."""

Make = Callable[..., Place]


@pytest.fixture(scope="module")
def image(kubeconfig: Path) -> str:
    return python_image()


@pytest.fixture(scope="module")
def make(kubeconfig: Path, api: client.ApiClient, image: str) -> Iterator[Make]:
    """Makes namespaces, with labels."""
    core, apps, made = client.CoreV1Api(api), client.AppsV1Api(api), []

    def made_place(**labels: str) -> Place:
        name = f"endpoint-{secrets.token_hex(4)}"
        core.create_namespace({"metadata": {"name": name, "labels": labels}})
        made.append(name)
        wait_for(lambda: core.list_namespaced_service_account(name).items, "the namespace's service account")
        return Place(core, apps, kubeconfig, name, image)

    yield made_place
    for name in set(made) & {namespace.metadata.name for namespace in core.list_namespace().items}:
        core.delete_namespace(name)


@pytest.fixture(scope="module")
def shared(make: Make) -> Place:
    return make(**{"pod-security.kubernetes.io/enforce": "restricted"})


@pytest.fixture(scope="module", autouse=True)
def ghost(make: Make) -> Iterator[Ghost]:
    """A node that nobody looks after: that it went is known some fifty seconds later, while other tests run."""
    with ghost_node(make()) as node:
        yield node


@pytest.fixture
def place(shared: Place) -> Iterator[Place]:
    yield shared
    shared.clear()


@pytest.fixture
def name() -> str:
    return f"mnist-{secrets.token_hex(3)}"


def soon_after(place: Place, name: str, reason: str, containing: str = "") -> None:
    """That what Kubernetes first said of the Deployment's pods for that reason was not long ago."""

    told = datetime.now(UTC)

    def said() -> list[Any]:
        return [
            event
            for event in place.core.list_namespaced_event(place.namespace).items
            if event.involved_object.name.startswith(name) and event.reason == reason and containing in event.message
        ]

    # The pod's state may be known before the event.
    events = wait_for(said, f"an event {reason}")
    first = min(event.first_timestamp or event.event_time or event.metadata.creation_timestamp for event in events)
    assert told - first < SOON


# -- well --------------------------------------------------------------------------------------------------------------


def test_pods_that_answer_are_healthy(place: Place, name: str, tmp_path: Path) -> None:
    keys = {"primary": "one-key", "secondary": "another-key"}
    place.core.create_namespaced_secret(
        place.namespace, {"metadata": {"name": name}, "stringData": {"keys.json": json.dumps(keys)}}
    )
    place.deploy(
        *(name, "r1"),
        replicas=2,
        variables={"KEYS_FILE": "/keys/keys.json"},
        spec={"volumes": [{"name": "keys", "secret": {"secretName": name}}]},
        volumeMounts=[{"name": "keys", "mountPath": "/keys"}],
    )
    # A sample request that is larger than what is sent at once.
    (tmp_path / "sample.json").write_text('"' + "x" * 1_000_000 + '"')
    keyed = {"keysFile": "/keys/keys.json"}
    state = deployed(place.inputs(name, "r1", sampleRequest=str(tmp_path / "sample.json"), target=keyed))
    assert (state["state"], state["message"]) == ("Healthy", "2 pods of revision r1 answer")
    assert refreshed(state)["state"] == "Healthy"

    said = story(place.inputs(name, "r1", sampleRequest=str(tmp_path / "sample.json")))
    assert "Failed (SampleRequestFailed)" in said
    assert "was answered with 401: " in said

    # An autoscaler's choice is no drift.
    place.apps.patch_namespaced_deployment_scale(name, place.namespace, {"spec": {"replicas": 1}})
    wait_for(lambda: refreshed(state)["message"] == "1 pod of revision r1 answer", "one pod")
    assert refreshed(state)["state"] == "Healthy"


def test_a_rolling_update_is_waited_for_to_its_end(place: Place, name: str) -> None:
    place.deploy(name, "r1")
    deployed(place.inputs(name, "r1"))
    place.deploy(name, "r2")
    assert deployed(place.inputs(name, "r2"))["message"] == "1 pod of revision r2 answer"
    assert "was asked for revision r2, not r3" in story(place.inputs(name, "r3"))


def test_a_pod_that_is_lost_is_a_transition(place: Place, name: str) -> None:
    place.deploy(name, "r1")
    state = deployed(place.inputs(name, "r1"))
    place.deploy(name, "r1", readinessProbe={"exec": {"command": ["false"]}, "periodSeconds": 1})
    wait_for(lambda: len(place.pods(name)) == 2, "the pod of the update")
    place.core.delete_namespaced_pod(place.pods(name)[0].metadata.name, place.namespace)
    assert refreshed(state)["state"] in ("Transitioning", "Unhealthy")
    place.clear()
    wait_for(lambda: refreshed(state)["reason"] == "NotRunning", "its end")


# -- causes ------------------------------------------------------------------------------------------------------------


def test_an_image_that_cannot_be_pulled_leaves_the_old_pods_serving(place: Place, name: str) -> None:
    place.deploy(name, "r1")
    deployed(place.inputs(name, "r1"))
    # From another place, an image is the same revision.
    place.deploy(name, "r1", image="Not/An/Image")
    said = story(place.inputs(name, "r1", target={"image": "Not/An/Image"}))
    assert "service mnist, revision r1: Failed (InvalidImageName)" in said
    assert "1 pod of the same revision, the one before, goes on serving." in said

    place.deploy(name, "r2", image=MISSING)
    said = story(place.inputs(name, "r2"))
    assert "service mnist, revision r2: Failed (ImagePullFailed)" in said
    assert f"the image {MISSING} cannot be pulled: " in said
    assert "connection refused" in said
    assert "1 pod of revision r1, the one before, goes on serving." in said
    soon_after(place, name, "Failed", "pull image")


def test_an_image_whose_name_is_none(place: Place, name: str) -> None:
    place.deploy(name, "r1", image="Not/An/Image")
    said = story(place.inputs(name, "r1"))
    assert "Failed (InvalidImageName)" in said
    assert "the image name Not/An/Image is not valid" in said


def test_an_entry_script_that_fails_is_shown(place: Place, name: str) -> None:
    place.deploy(name, "r1", "init-error")
    said = story(place.inputs(name, "r1"))
    assert "Failed (InitError)" in said
    assert "| FileNotFoundError: [Errno 2] No such file or directory: '/gone'" in said
    assert "No pod is ready: no revision answers requests now." in said
    assert "What to do: mend the entry script" in said


def test_a_process_that_crashes_again_and_again(place: Place, name: str) -> None:
    place.deploy(name, "r1", "crash")
    said = story(place.inputs(name, "r1"))
    assert "Failed (CrashLoop)" in said
    assert "ended twice, the last time with exit code 1" in said
    assert "| RuntimeError: last words" in said
    soon_after(place, name, "BackOff")


def test_a_process_that_eats_its_memory(place: Place, name: str) -> None:
    place.deploy(name, "r1", "eat", resources={"limits": {"memory": "64Mi"}})
    said = story(place.inputs(name, "r1"))
    assert "Failed (OutOfMemory)" in said
    assert "its memory of 64Mi" in said


def test_a_command_that_is_not_there(place: Place, name: str) -> None:
    place.deploy(name, "r1", command=["no-such-command"])
    said = story(place.inputs(name, "r1"))
    assert "Failed (NotStarted)" in said
    assert "no-such-command" in said


def test_a_secret_that_is_missing(place: Place, name: str) -> None:
    place.deploy(name, "r1", envFrom=[{"secretRef": {"name": "no-such-secret"}}])
    said = story(place.inputs(name, "r1"))
    assert "Failed (ConfigurationMissing)" in said
    assert 'secret "no-such-secret" not found' in said
    soon_after(place, name, "Failed", "no-such-secret")


def test_a_start_that_takes_too_long(place: Place, name: str) -> None:
    probe = {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1, "failureThreshold": 8}
    probe["timeoutSeconds"] = 30  # not what is told here
    place.deploy(name, "r1", "starting", startupProbe=probe)
    said = story(place.inputs(name, "r1"))
    assert "Failed (StartupTimeout)" in said
    assert "startup probe failed: HTTP probe failed with statuscode: 503" in said


def test_a_sample_that_the_startup_probe_asks_for_and_that_fails(place: Place, name: str) -> None:
    words = "the sample request was answered with 500: run() raised ValueError"
    command = ["python3", "-I", "-S", "-c", f"import sys; sys.exit({words!r})"]
    place.deploy(name, "r1", startupProbe={"exec": {"command": command}, "periodSeconds": 1, "failureThreshold": 90})
    said = story(place.inputs(name, "r1"))
    assert "Failed (SampleRequestFailed)" in said
    assert f"in the pod {name}-" in said
    assert words in said


def test_a_server_that_is_never_ready_is_waited_for_until_the_time_is_up(place: Place, name: str) -> None:
    place.deploy(name, "r1", "starting")
    wait_for(lambda: [pod for pod in place.pods(name) if pod.status.phase == "Running"], "the pod runs")
    log = Lines()
    with pytest.raises(Exception, match="not healthy within 15 s") as raised:
        deployed(place.inputs(name, "r1") | {"timeoutSeconds": 15}, log)
    assert "init() has been running for a while" in str(raised.value)
    assert "| mode starting" in str(raised.value)
    assert any("init() has been running" in line for line in log.said)


def test_the_progress_deadline(place: Place, name: str) -> None:
    place.deploy(name, "r1", "starting")
    place.apps.patch_namespaced_deployment(name, place.namespace, {"spec": {"progressDeadlineSeconds": 3}})
    said = story(place.inputs(name, "r1"))
    assert "Failed (ProgressDeadlineExceeded)" in said
    assert "the rollout made no progress for 3 s" in said


@pytest.mark.parametrize(
    ("resource", "amount", "reason", "words"),
    [
        ("cpu", "4000", "NotEnoughCpus", "cpu 4000 is asked for, and the nodes offer: "),
        ("nvidia.com/gpu", "1", "DeviceMissing", "nvidia.com/gpu 1 is asked for, and no node offers any"),
    ],
)
def test_what_no_node_has(place: Place, name: str, resource: str, amount: str, reason: str, words: str) -> None:
    place.deploy(name, "r1", resources={"limits": {resource: amount}})
    said = story(place.inputs(name, "r1"))
    assert f"Unschedulable ({reason})" in said
    assert words in said
    assert f"Insufficient {resource}" in said
    soon_after(place, name, "FailedScheduling")


def test_a_label_that_no_node_has(place: Place, name: str) -> None:
    place.deploy(name, "r1", spec={"nodeSelector": {"slipway-test": "nowhere"}})
    said = story(place.inputs(name, "r1"))
    assert "Unschedulable (NoMatchingNode)" in said
    assert "its node selector is slipway-test=nowhere" in said


def test_what_pod_security_does_not_allow(place: Place, name: str) -> None:
    place.deploy(name, "r1", securityContext={"privileged": True})
    said = story(place.inputs(name, "r1"))
    assert "Failed (PodSecurity)" in said
    assert 'violates PodSecurity "restricted:latest": privileged' in said
    soon_after(place, name, "FailedCreate")


def test_a_quota_that_is_used_up_leaves_the_old_pods_serving(make: Make, name: str) -> None:
    place = make()
    place.core.create_namespaced_resource_quota(
        place.namespace, {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}}
    )
    wait_for(
        lambda: (place.core.read_namespaced_resource_quota("few", place.namespace).status.hard or {}).get("pods"),
        "the quota",
    )
    place.deploy(name, "r1")
    deployed(place.inputs(name, "r1"))
    place.deploy(name, "r2")
    said = story(place.inputs(name, "r2"))
    assert "Failed (QuotaExceeded)" in said
    assert "exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1" in said
    assert "1 pod of revision r1, the one before, goes on serving." in said
    soon_after(place, name, "FailedCreate")


def test_a_server_that_says_another_revision(place: Place, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provider.endpoint._SETTLE_SECONDS", 1.0)
    place.deploy(name, "r1", variables={"ANSWERS_AS": "r0"})
    said = story(place.inputs(name, "r1"))
    assert "Failed (WrongRevision)" in said
    assert f"revision r0 answers on the pod {name}-" in said


def test_a_sample_that_fails_is_told(place: Place, name: str, tmp_path: Path) -> None:
    place.deploy(name, "r1", "bad-run")
    (tmp_path / "sample.json").write_text("1")
    said = story(place.inputs(name, "r1", sampleRequest=str(tmp_path / "sample.json")))
    assert "Failed (SampleRequestFailed)" in said
    assert 'was answered with 500: {"message": "run() raised"}' in said


def test_what_failed_in_an_earlier_run_is_tried_once_more(
    place: Place, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"metadata": {"name": name}, "data": {"MODE": "crash"}}
    place.core.create_namespaced_config_map(place.namespace, settings)
    mode = {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": name, "key": "MODE"}}}
    place.deploy(name, "r1", env=[{"name": "SLIPWAY_REVISION", "value": "r1"}, mode])
    assert "Failed (CrashLoop)" in story(place.inputs(name, "r1"))
    place.core.patch_namespaced_config_map(name, place.namespace, {"data": {"MODE": "serve"}})
    # As if the provider had been started after it.
    monkeypatch.setattr(looking, "_STARTED", datetime.now(UTC) + timedelta(seconds=60))
    log = Lines()
    assert deployed(place.inputs(name, "r1"), log)["state"] == "Healthy"
    assert "it had failed before: trying once more" in log.said


# -- the cluster -------------------------------------------------------------------------------------------------------


def test_a_context_that_is_none(place: Place, name: str) -> None:
    assert "there is no context 'nowhere' in " in story(place.inputs(name, "r1", cluster={"context": "nowhere"}))


def test_credentials_that_are_good_no_longer(place: Place, name: str, tmp_path: Path) -> None:
    other = as_somebody(place.kubeconfig, tmp_path, token="no-longer-good")
    assert "does not accept the credentials of the context" in story(place.inputs(name, "r1", kubeconfig=other))


def _somebody(place: Place, name: str, folder: Path, *rules: Properties) -> Path:
    """A kubeconfig of a user with these rights in the namespace."""
    rights = client.RbacAuthorizationV1Api(place.core.api_client)
    place.core.create_namespaced_service_account(place.namespace, {"metadata": {"name": name}})
    rights.create_namespaced_role(place.namespace, {"metadata": {"name": name}, "rules": list(rules)})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": place.namespace}],
    }
    rights.create_namespaced_role_binding(place.namespace, binding)
    user = f"system:serviceaccount:{place.namespace}:{name}"
    wait_for(lambda: all(_may(place, user, rule) for rule in rules), "the rights are granted")
    asked = {"spec": {"expirationSeconds": 600}}
    token = place.core.create_namespaced_service_account_token(name, place.namespace, asked).status.token
    return as_somebody(place.kubeconfig, folder, token=token)


def _may(place: Place, user: str, rule: Properties) -> bool:
    """Whether the API server grants what a rule allows: it hears of rules a moment after they were made."""
    reviews = client.AuthorizationV1Api(place.core.api_client)
    ((group,), (resource,)) = rule["apiGroups"], rule["resources"]
    what, _, within = resource.partition("/")
    asked = {"namespace": place.namespace, "group": group, "resource": what, "subresource": within}
    return all(
        reviews.create_subject_access_review(
            {"spec": {"user": user, "resourceAttributes": {**asked, "verb": verb}}}
        ).status.allowed
        for verb in rule["verbs"]
    )


def _rule(group: str, resource: str, *verbs: str) -> Properties:
    return {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}


READING = [_rule("apps", "deployments", "get"), _rule("apps", "replicasets", "list"), _rule("", "pods", "list")]


def test_rights_that_are_missing_are_named(place: Place, name: str, tmp_path: Path) -> None:
    place.deploy(name, "r1")
    nobody = _somebody(place, f"{name}-a", tmp_path)
    assert (
        f"system:serviceaccount:{place.namespace}:{name}-a has no right to get deployments in the namespace "
        f"{place.namespace}" in story(place.inputs(name, "r1", kubeconfig=nobody))
    )


def test_the_ways_to_the_pods_that_are_forbidden_are_named(
    place: Place, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provider.endpoint._SETTLE_SECONDS", 0.0)
    place.deploy(name, "r1")
    reader = _somebody(place, name, tmp_path, *READING)
    said = story(place.inputs(name, "r1", kubeconfig=reader))
    assert "Failed (Unreachable)" in said
    assert "has no right to get pods/proxy" in said
    assert "Grant the verbs get and create on pods/exec" in said


def test_a_pod_is_asked_within_where_the_proxy_has_no_way_to_it(place: Place, name: str, tmp_path: Path) -> None:
    place.deploy(name, "r1")
    executing = _somebody(place, name, tmp_path, *READING, _rule("", "pods/exec", "get", "create"))
    assert deployed(place.inputs(name, "r1", kubeconfig=executing))["state"] == "Healthy"


def test_a_namespace_that_is_being_deleted(make: Make, name: str) -> None:
    place = make()
    held = {"metadata": {"name": "held", "finalizers": ["slipway.test/held"]}}
    place.core.create_namespaced_config_map(place.namespace, held)
    place.deploy(name, "r1")
    deployed(place.inputs(name, "r1"))
    place.core.delete_namespace(place.namespace)
    try:
        wait_for(lambda: not place.apps.list_namespaced_deployment(place.namespace).items, "the end of the deployments")
        said = story(place.inputs(name, "r1"))
        assert "Failed (NamespaceTerminating)" in said
        assert f"the namespace {place.namespace} is being deleted" in said
    finally:
        place.core.patch_namespaced_config_map("held", place.namespace, {"metadata": {"finalizers": None}})
    wait_for(lambda: _gone(place), "the end of the namespace")
    assert "Failed (NamespaceMissing)" in story(place.inputs(name, "r1"))


def _gone(place: Place) -> bool:
    return place.namespace not in {one.metadata.name for one in place.core.list_namespace().items}


def test_an_api_server_that_is_away_for_some_seconds(place: Place, name: str, tmp_path: Path) -> None:
    place.deploy(name, "r1", "starting")
    with detour(place.kubeconfig) as way:
        other = as_somebody(place.kubeconfig, tmp_path, server=way.address)
        told: list[Any] = []
        log = Lines()
        waiting = threading.Thread(
            target=lambda: told.append(deployed(place.inputs(name, "r2", kubeconfig=other), log))
        )
        place.deploy(name, "r2", "starting")
        waiting.start()
        wait_for(lambda: any("Transitioning" in line for line in log.said), "the beginning")
        passed = way.passed
        _away(place, name, way)
        waiting.join(LIMIT_SECONDS)
        assert way.passed > passed
    assert [state["state"] for state in told] == ["Healthy"]


def _away(place: Place, name: str, way: Detour) -> None:
    """Closes the way for as long as a pod of another revision takes to come."""
    way.close()
    place.deploy(name, "r2")
    wait_for(lambda: any(_serves(pod, "r2") for pod in place.pods(name)), "a pod that serves")
    way.open()


def _serves(pod: Any, revision: str) -> bool:
    ready = any(one.type == "Ready" and one.status == "True" for one in pod.status.conditions or ())
    return ready and pod.metadata.annotations["slipway/revision"] == revision


def test_a_node_that_went_away(ghost: Ghost) -> None:
    state = {**ghost.place.inputs(ghost.name, "r1"), "state": "Healthy"}
    found = wait_for(lambda: (now := refreshed(state))["reason"] == "NodeNotReady" and now, "that the node is missed")
    assert found["state"] == "Unhealthy"
    assert f"the node {ghost.name} of the pod {ghost.name}-" in found["message"]
    assert f"kubectl describe node {ghost.name}" in found["hint"]
