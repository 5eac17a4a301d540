"""How Pulumi's kubernetes plugin behaves: the description that the official one and the stand-in are both held to.

Every test runs a program through Pulumi and a real cluster; which plugin it meets is printed at the start of the run.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from pulumi import automation

from tests.kubernetes.programs import IMAGE, SKIP, config_map, deployment, owners
from tests.plugin_programs import Program

SECRET = "4dabf18193072939515e22adb298388d"
"""The key of an object in Pulumi's state that wraps a secret."""

# Pulumi's server for programs inside this process leaves the sockets of its event loop to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


# --- names, identity, state ---


def test_a_name_that_is_not_given_is_made_and_stays(program: Program, namespace: str) -> None:
    program.up(config_map(namespace))

    state = program.resource("it")
    name = state["outputs"]["metadata"]["name"]
    assert re.fullmatch(r"it-[0-9a-f]{8}", name)
    assert state["id"] == f"{namespace}/{name}"
    assert state["inputs"]["metadata"]["annotations"] == {"pulumi.com/autonamed": "true"}
    assert program.preview() == {"same": 2}
    program.refresh()
    assert program.preview() == {"same": 2}


def test_a_name_that_is_given_is_the_name(program: Program, namespace: str) -> None:
    program.up(config_map(namespace, metadata={"name": "mine"}))

    state = program.resource("it")
    assert state["id"] == f"{namespace}/mine"
    assert "annotations" not in state["inputs"]["metadata"]


def test_what_is_in_no_namespace_has_its_name_as_id(program: Program) -> None:
    program.up(lambda: k8s.scheduling.v1.PriorityClass("it", value=1000))

    state = program.resource("it")
    assert re.fullmatch(r"it-[0-9a-f]{8}", state["id"])
    assert "namespace" not in state["inputs"]["metadata"]


def test_the_namespace_of_the_kubeconfig_is_the_default(program: Program, core: client.CoreV1Api) -> None:
    program.up(lambda: k8s.core.v1.ConfigMap("it", data={"a": "b"}))

    state = program.resource("it")
    assert state["inputs"]["metadata"]["namespace"] == "default"
    assert core.read_namespaced_config_map(state["id"].removeprefix("default/"), "default").data == {"a": "b"}


def test_the_state_is_the_live_object_and_what_it_was_made_from(program: Program, namespace: str) -> None:
    program.up(config_map(namespace, metadata={"name": "mine"}))

    outputs = program.outputs("it")
    assert outputs["metadata"]["uid"]
    assert outputs["metadata"]["resourceVersion"]
    assert outputs["__initialApiVersion"] == "v1"
    assert outputs["__fieldManager"].startswith("pulumi-kubernetes-")
    assert outputs["__inputs"] == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "mine", "namespace": namespace},
        "data": {"key": "value"},
    }


def test_secrets_stay_secret(program: Program, core: client.CoreV1Api, namespace: str) -> None:
    def declare() -> None:
        k8s.core.v1.Secret(
            "it",
            metadata={"namespace": namespace, "name": "mine"},
            data={"given": base64.b64encode(b"one").decode()},
            string_data={"password": "geheim"},
        )

    program.up(declare)

    written = core.read_namespaced_secret("mine", namespace).data
    assert {key: base64.b64decode(value) for key, value in written.items()} == {"given": b"one", "password": b"geheim"}
    state = program.resource("it")
    for part in (state["inputs"], state["outputs"], state["outputs"]["__inputs"]):
        assert SECRET in part["data"]
    for text in ("geheim", base64.b64encode(b"geheim").decode(), base64.b64encode(b"one").decode()):
        assert text not in program.written()
    assert program.preview() == {"same": 2}


def test_a_secret_inside_an_object_hides_no_more_than_needed(program: Program, namespace: str) -> None:
    program.up(lambda: config_map(namespace, metadata={"annotations": {"token": pulumi.Output.secret("geheim")}})())

    for part in (program.resource("it")["inputs"], program.outputs("it")):
        assert SECRET in part["metadata"]["annotations"]["token"]
        assert part["metadata"]["namespace"] == namespace
        assert part["data"] == {"key": "value"}


def test_what_the_server_writes_differently_is_no_change(program: Program, namespace: str) -> None:
    resources = {"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": "0.1", "memory": "0.125Gi"}}
    said = {
        "hostNetwork": False,
        "nodeSelector": {},
        "containers": [{"name": "main", "image": IMAGE, "resources": resources, "env": []}],
    }
    program.up(deployment(namespace, spec=said, annotations=SKIP))

    assert program.preview() == {"same": 2}
    program.refresh()
    assert program.preview() == {"same": 2}


def test_a_state_of_the_official_plugin_is_read(program: Program, namespace: str) -> None:
    """It keeps inputs in their normal form: quantities as the server writes them, nothing that says nothing."""
    limits = {"limits": {"cpu": "1000m", "memory": "1024Mi"}}
    said = {"hostNetwork": False, "containers": [{"name": "main", "image": IMAGE, "resources": limits}]}
    program.up(deployment(namespace, spec=said, annotations=SKIP))
    exported = program.stack.export_stack()
    deployed = exported.deployment or {}
    resource = next(item for item in deployed["resources"] if item["urn"].endswith("::it"))
    for inputs in (resource["inputs"], resource["outputs"]["__inputs"]):
        spec = inputs["spec"]["template"]["spec"]
        spec["containers"][0]["resources"] = {"limits": {"cpu": "1", "memory": "1Gi"}}
        spec.pop("hostNetwork", None)
    resource["outputs"]["__fieldManager"] = "pulumi-kubernetes-0a1b2c3d"
    program.stack.import_stack(automation.Deployment(version=exported.version, deployment=deployed))

    assert program.preview() == {"same": 2}
    program.refresh()
    assert program.preview() == {"same": 2}
    assert program.outputs("it")["__fieldManager"] == "pulumi-kubernetes-0a1b2c3d"


# --- changes ---


def test_a_change_is_applied_in_place(program: Program, apps: client.AppsV1Api, namespace: str) -> None:
    program.up(deployment(namespace, name="mine", annotations=SKIP))
    uid = program.outputs("it")["metadata"]["uid"]
    changed = deployment(namespace, name="mine", label="two", annotations=SKIP)

    assert program.details(changed) == {"it": ("update", ["spec.template.metadata.labels.version"])}
    program.up()

    assert program.outputs("it")["metadata"]["uid"] == uid
    live = apps.read_namespaced_deployment("mine", namespace)
    assert live.spec.template.metadata.labels["version"] == "two"
    manager = program.outputs("it")["__fieldManager"]
    assert {entry for entry in owners(live.metadata) if entry[0].startswith("pulumi")} == {(manager, "Apply")}


def test_a_field_that_is_taken_out_of_the_program_goes(
    program: Program, core: client.CoreV1Api, namespace: str
) -> None:
    program.up(config_map(namespace, metadata={"name": "mine", "labels": {"a": "1", "b": "2"}}))
    program.up(config_map(namespace, metadata={"name": "mine", "labels": {"a": "1"}}))

    assert core.read_namespaced_config_map("mine", namespace).metadata.labels == {"a": "1"}
    assert program.preview() == {"same": 2}


def test_others_fields_are_left_alone(program: Program, core: client.CoreV1Api, namespace: str) -> None:
    program.up(config_map(namespace, metadata={"name": "mine", "labels": {"a": "1"}}))
    core.patch_namespaced_config_map("mine", namespace, {"metadata": {"labels": {"theirs": "x"}}})

    program.up(config_map(namespace, metadata={"name": "mine", "labels": {"a": "2"}}))

    assert core.read_namespaced_config_map("mine", namespace).metadata.labels == {"a": "2", "theirs": "x"}


def test_data_of_a_config_map_replaces_it(program: Program, core: client.CoreV1Api, namespace: str) -> None:
    program.up(config_map(namespace))
    before = program.resource("it")["id"]
    changed = config_map(namespace, data={"key": "other"})

    assert program.details(changed) == {"it": ("replace", ["data.key"])}
    program.up()

    assert program.resource("it")["id"] != before
    left = core.list_namespaced_config_map(namespace, field_selector="metadata.name!=kube-root-ca.crt")
    assert [f"{namespace}/{item.metadata.name}" for item in left.items] == [program.resource("it")["id"]]


def test_a_replacement_that_keeps_its_name_deletes_first(
    program: Program, core: client.CoreV1Api, namespace: str
) -> None:
    program.up(config_map(namespace, metadata={"name": "mine"}))
    uid = program.outputs("it")["metadata"]["uid"]

    program.up(config_map(namespace, metadata={"name": "mine"}, data={"key": "other"}))

    live = core.read_namespaced_config_map("mine", namespace)
    assert live.data == {"key": "other"}
    assert live.metadata.uid != uid


def test_data_may_change_in_place_where_the_provider_says_so(program: Program, namespace: str) -> None:
    def declare(value: str) -> Callable[[], Any]:
        def resources() -> None:
            provider = k8s.Provider("cluster", enable_config_map_mutable=True)
            config_map(namespace, data={"key": value}, opts=pulumi.ResourceOptions(provider=provider))()

        return resources

    program.up(declare("one"))

    assert program.steps(declare("two"))["it"] == "update"


REPLACED = {
    "a deployment's selector": (
        lambda spec: k8s.apps.v1.Deployment("it", metadata={"namespace": spec["namespace"]}, spec=spec["body"]),
        {
            "selector": {"matchLabels": {"app": "it"}},
            "template": {"metadata": {"labels": {"app": "it", "b": "x"}}, "spec": {"containers": [{"name": "c"}]}},
        },
        {"selector": {"matchLabels": {"b": "x"}}},
        "spec.selector.matchLabels.app",
    ),
    "a job's template": (
        lambda spec: k8s.batch.v1.Job("it", metadata={"namespace": spec["namespace"]}, spec=spec["body"]),
        {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": IMAGE}]}},
        },
        {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "other"}]}}},
        "spec.template.spec.containers[0].image",
    ),
    "a service's address": (
        lambda spec: k8s.core.v1.Service("it", metadata={"namespace": spec["namespace"]}, spec=spec["body"]),
        {"ports": [{"port": 80}]},
        {"clusterIP": "None"},
        "spec.clusterIP",
    ),
    "a claim's access modes": (
        lambda spec: k8s.core.v1.PersistentVolumeClaim(
            "it", metadata={"namespace": spec["namespace"], "annotations": SKIP}, spec=spec["body"]
        ),
        {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "none"},
        {"accessModes": ["ReadWriteMany"]},
        "spec.accessModes[0]",
    ),
}


@pytest.mark.parametrize("what", REPLACED)
def test_what_cannot_change_in_place_replaces(program: Program, namespace: str, what: str) -> None:
    make, body, change, path = REPLACED[what]
    body = json.loads(json.dumps(body).replace('{"name": "c"}', json.dumps({"name": "c", "image": IMAGE})))
    program.up(lambda: make({"namespace": namespace, "body": body}))

    step, paths = program.details(lambda: make({"namespace": namespace, "body": {**body, **change}}))["it"]

    assert step == "replace"
    assert path in paths


def test_another_namespace_replaces(program: Program, namespace: str) -> None:
    program.up(config_map(namespace))

    assert program.details(config_map("default")) == {"it": ("replace", ["metadata.namespace"])}


def test_a_preview_asks_the_server(program: Program, namespace: str) -> None:
    with pytest.raises(automation.CommandError, match=r"spec\.replicas: Invalid value: -1"):
        program.preview(deployment(namespace, replicas=-1))


def test_a_preview_of_what_is_not_known_asks_nobody(program: Program) -> None:
    def declare() -> None:
        made = k8s.core.v1.Namespace("ns")
        k8s.core.v1.ConfigMap("it", metadata={"namespace": made.metadata.name}, data={"uid": made.metadata.uid})

    assert program.preview(declare) == {"create": 3}
    program.up()
    assert program.outputs("it")["data"] == {"uid": program.outputs("ns")["metadata"]["uid"]}


def test_a_preview_names_what_is_not_known_and_nothing_around_it(
    program: Program, apps: client.AppsV1Api, namespace: str
) -> None:
    def told(value: pulumi.Input[str]) -> None:
        container = {
            "name": "main",
            "image": IMAGE,
            "env": [{"name": "A", "value": "a"}, {"name": "B", "value": value}],
        }
        deployment(namespace, name="mine", annotations=SKIP, spec={"containers": [container]})()

    program.up(lambda: told("b"))
    path = "spec.template.spec.containers[0].env[1].value"

    def changed() -> None:
        told(k8s.core.v1.ConfigMap("other", metadata={"namespace": namespace, "name": "other"}).id)

    assert program.details(changed) == {"it": ("update", [path]), "other": ("create", [])}
    program.up()
    (container,) = apps.read_namespaced_deployment("mine", namespace).spec.template.spec.containers
    assert [item.value for item in container.env] == ["a", f"{namespace}/other"]


# --- what others do ---


def test_a_conflict_names_field_and_owner(program: Program, apps: client.AppsV1Api, namespace: str) -> None:
    program.up(deployment(namespace, name="mine", annotations=SKIP))
    scale = {"spec": {"replicas": 3}}
    apps.patch_namespaced_deployment("mine", namespace, scale, field_manager="somebody")
    changed = deployment(namespace, name="mine", replicas=2, annotations=SKIP)

    with pytest.raises(automation.CommandError) as previewed:
        program.preview(changed)
    with pytest.raises(automation.CommandError) as deployed:
        program.up()

    for error in (str(previewed.value), str(deployed.value)):
        assert "Server-Side Apply field conflict detected" in error
        assert "somebody" in error
        assert ".spec.replicas" in error
    assert apps.read_namespaced_deployment("mine", namespace).spec.replicas == 3

    program.up(deployment(namespace, name="mine", replicas=2, annotations={**SKIP, "pulumi.com/patchForce": "true"}))
    assert apps.read_namespaced_deployment("mine", namespace).spec.replicas == 2


def test_what_is_somebody_else_s_is_taken_over_where_the_environment_says_so(
    program: Program, apps: client.AppsV1Api, namespace: str
) -> None:
    program.up(deployment(namespace, name="mine", annotations=SKIP))
    apps.patch_namespaced_deployment_scale("mine", namespace, {"spec": {"replicas": 3}})
    changed = deployment(namespace, name="mine", replicas=2, annotations=SKIP)
    with pytest.raises(automation.CommandError, match=r"conflict with .* with subresource \"scale\""):
        program.up(changed)

    program.stack.workspace.env_vars["PULUMI_K8S_ENABLE_PATCH_FORCE"] = "true"
    program.up()
    del program.stack.workspace.env_vars["PULUMI_K8S_ENABLE_PATCH_FORCE"]
    assert apps.read_namespaced_deployment("mine", namespace).spec.replicas == 2
    program.up(deployment(namespace, name="mine", replicas=4, annotations=SKIP))
    assert apps.read_namespaced_deployment("mine", namespace).spec.replicas == 4, "it is theirs no longer"


def test_drift_shows_after_a_refresh(program: Program, core: client.CoreV1Api, namespace: str) -> None:
    takes_back = {"pulumi.com/patchForce": "true"}
    program.up(config_map(namespace, metadata={"name": "mine", "labels": {"a": "1"}, "annotations": takes_back}))
    core.patch_namespaced_config_map("mine", namespace, {"metadata": {"labels": {"a": "changed"}}})

    assert program.preview() == {"same": 2}
    program.refresh()
    assert program.details() == {"it": ("update", ["metadata.labels.a"])}
    program.up()
    assert core.read_namespaced_config_map("mine", namespace).metadata.labels == {"a": "1"}


def test_what_is_ignored_is_left_to_its_owner(program: Program, apps: client.AppsV1Api, namespace: str) -> None:
    ignoring = {"opts": pulumi.ResourceOptions(ignore_changes=["spec.replicas"])}
    program.up(deployment(namespace, name="mine", annotations=SKIP, **ignoring))
    apps.patch_namespaced_deployment("mine", namespace, {"spec": {"replicas": 3}}, field_manager="autoscaler")

    program.up(deployment(namespace, name="mine", label="two", annotations=SKIP, **ignoring))

    live = apps.read_namespaced_deployment("mine", namespace)
    assert live.spec.replicas == 3
    assert live.spec.template.metadata.labels["version"] == "two"


def test_replicas_that_an_autoscaler_owns_are_no_change(
    program: Program, apps: client.AppsV1Api, namespace: str
) -> None:
    program.up(deployment(namespace, name="mine", replicas=None, annotations=SKIP))
    apps.patch_namespaced_deployment_scale("mine", namespace, {"spec": {"replicas": 2}})

    program.refresh()
    assert program.preview() == {"same": 2}
    program.up(deployment(namespace, name="mine", replicas=None, label="two", annotations=SKIP))
    assert apps.read_namespaced_deployment("mine", namespace).spec.replicas == 2


def test_what_is_gone_is_made_again(program: Program, core: client.CoreV1Api, namespace: str) -> None:
    program.up(config_map(namespace, metadata={"name": "mine"}))
    core.delete_namespaced_config_map("mine", namespace)

    program.refresh()

    assert program.steps() == {"it": "create"}


def test_destroying_what_is_gone_succeeds(program: Program, core: client.CoreV1Api, namespace: str) -> None:
    program.up(config_map(namespace, metadata={"name": "mine"}))
    core.delete_namespaced_config_map("mine", namespace)

    program.destroy()

    assert len((program.stack.export_stack().deployment or {}).get("resources") or []) == 0


def test_what_others_made_is_not_taken_over(program: Program, core: client.CoreV1Api, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "mine"}, "data": {"theirs": "x"}})

    with pytest.raises(automation.CommandError, match="already exists"):
        program.up(config_map(namespace, metadata={"name": "mine"}))

    assert core.read_namespaced_config_map("mine", namespace).data == {"theirs": "x"}


def test_a_destroy_returns_when_all_is_gone(program: Program, core: client.CoreV1Api) -> None:
    def declare() -> None:
        made = k8s.core.v1.Namespace("ns")
        deployment(made.metadata.name)()  # type: ignore[arg-type]

    program.up(declare)
    name = program.resource("ns")["id"]

    program.destroy()

    with pytest.raises(ApiException) as gone:
        core.read_namespace(name)
    assert gone.value.status == 404


# --- waiting ---


def test_an_up_returns_when_all_is_ready(program: Program, apps: client.AppsV1Api, namespace: str) -> None:
    def declare() -> None:
        made = deployment(namespace, name="mine", replicas=2)()
        k8s.core.v1.Service(
            "service",
            metadata={"namespace": namespace},
            spec={"selector": {"app": "it"}, "ports": [{"port": 80}]},
            opts=pulumi.ResourceOptions(depends_on=[made]),
        )

    program.up(declare)

    assert apps.read_namespaced_deployment("mine", namespace).status.available_replicas == 2
    assert program.outputs("it")["status"]["availableReplicas"] == 2


def test_a_deployment_that_does_not_become_ready(program: Program, namespace: str) -> None:
    broken = {"containers": [{"name": "main", "image": "127.0.0.1:1/missing"}]}
    limited = {"pulumi.com/timeoutSeconds": "2"}

    with pytest.raises(automation.CommandError, match=r"timed out after 2 ?s|timeout") as failed:
        program.up(deployment(namespace, spec=broken, annotations=limited))

    assert "mine" not in str(failed.value)
    # It is in the state, so that it can be mended or destroyed.
    assert program.resource("it")["id"].startswith(f"{namespace}/it-")
    program.up(deployment(namespace))


def test_a_job_that_fails_is_told(program: Program, namespace: str) -> None:
    container = {"name": "main", "image": IMAGE, "command": ["/no-such-program"]}
    body = {
        "backoffLimit": 0,
        "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
    }

    with pytest.raises(automation.CommandError, match=r"backoff limit|BackoffLimitExceeded"):
        program.up(lambda: k8s.batch.v1.Job("it", metadata={"namespace": namespace}, spec=body))


def test_waiting_can_be_left_out(program: Program, namespace: str) -> None:
    broken = {"containers": [{"name": "main", "image": "127.0.0.1:1/missing"}]}

    program.up(deployment(namespace, spec=broken, annotations=SKIP))

    program.refresh()
    assert program.preview() == {"same": 2}


@pytest.mark.parametrize(
    "expression",
    [
        "jsonpath={.status.phase}=Running",
        'jsonpath={.status.conditions[?(@.type=="PodScheduled")].status}=True',
        "condition=Initialized",
        '["condition=PodScheduled", "jsonpath={.status.podIP}"]',
    ],
)
def test_what_is_waited_for_can_be_said(program: Program, namespace: str, expression: str) -> None:
    annotations = {"pulumi.com/waitFor": expression, "pulumi.com/timeoutSeconds": "60"}
    container = {"name": "main", "image": IMAGE}
    body = {"containers": [container], "terminationGracePeriodSeconds": 0}

    program.up(lambda: k8s.core.v1.Pod("it", metadata={"namespace": namespace, "annotations": annotations}, spec=body))

    conditions = {c["type"]: c["status"] for c in program.outputs("it")["status"]["conditions"]}
    assert conditions["PodScheduled"] == "True"


# --- other kinds of resources ---


def test_a_definition_and_its_resources_in_one_deployment(program: Program, namespace: str) -> None:
    group = f"{secrets.token_hex(4)}.example.com"

    def declare(size: int) -> Callable[[], Any]:
        def resources() -> None:
            schema = {
                "type": "object",
                "properties": {"spec": {"type": "object", "x_kubernetes_preserve_unknown_fields": True}},
            }
            definition = k8s.apiextensions.v1.CustomResourceDefinition(
                "definition",
                metadata={"name": f"widgets.{group}"},
                spec={
                    "group": group,
                    "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
                    "scope": "Namespaced",
                    "versions": [
                        {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
                    ],
                },
            )
            k8s.apiextensions.CustomResource(
                "it",
                api_version=f"{group}/v1",
                kind="Widget",
                metadata={"namespace": namespace},
                spec={"size": size},
                opts=pulumi.ResourceOptions(depends_on=[definition]),
            )

        return resources

    program.up(declare(1))
    assert program.outputs("it")["spec"] == {"size": 1}
    assert program.preview() == {"same": 3}

    assert program.details(declare(2))["it"] == ("update", ["spec.size"])
    program.up()
    assert program.outputs("it")["spec"] == {"size": 2}


def test_a_patch_changes_and_gives_back(program: Program, core: client.CoreV1Api, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "theirs"}, "data": {"key": "value"}})

    program.up(
        lambda: k8s.core.v1.ConfigMapPatch(
            "it", metadata={"namespace": namespace, "name": "theirs", "labels": {"added": "x"}}
        )
    )
    assert core.read_namespaced_config_map("theirs", namespace).metadata.labels == {"added": "x"}

    program.destroy()
    left = core.read_namespaced_config_map("theirs", namespace)
    assert left.metadata.labels is None
    assert left.data == {"key": "value"}


def test_an_object_is_read_without_being_managed(program: Program, core: client.CoreV1Api, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "theirs"}, "data": {"key": "value"}})

    def declare() -> None:
        found = k8s.core.v1.ConfigMap.get("found", f"{namespace}/theirs")
        pulumi.export("key", found.data["key"])

    program.up(declare)
    assert program.stack.outputs()["key"].value == "value"

    program.destroy()
    assert core.read_namespaced_config_map("theirs", namespace).data == {"key": "value"}


def test_an_object_is_imported(program: Program, core: client.CoreV1Api, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "theirs"}, "data": {"key": "value"}})
    taken = config_map(
        namespace, metadata={"name": "theirs"}, opts=pulumi.ResourceOptions(import_=f"{namespace}/theirs")
    )

    program.up(taken)

    assert program.preview(config_map(namespace, metadata={"name": "theirs"})) == {"same": 2}


# --- when it cannot be done ---


def test_no_cluster(program: Program, namespace: str) -> None:
    with pytest.raises(automation.CommandError, match=r"nowhere|unreachable|does not answer|refused"):
        program.up(_on_a_provider({"kubeconfig": _kubeconfig("https://127.0.0.1:1")}, config_map, namespace))
    program.declare = lambda: None


def test_a_context_that_is_not_there(program: Program, namespace: str) -> None:
    with pytest.raises(automation.CommandError, match="no-such-context"):
        program.up(_on_a_provider({"context": "no-such-context"}, config_map, namespace))
    program.declare = lambda: None


def test_missing_rights_name_verb_and_resource(
    program: Program, core: client.CoreV1Api, namespace: str, kubeconfig: Path
) -> None:
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "nobody"}})
    token = core.create_namespaced_service_account_token("nobody", namespace, {"spec": {}}).status.token
    document = json.loads(kubeconfig.read_text()) if kubeconfig.read_text().startswith("{") else None
    assert document is not None, "the test knows the kubeconfig of our own cluster"
    document["users"][0]["user"] = {"token": token}

    with pytest.raises(automation.CommandError) as refused:
        program.up(_on_a_provider({"kubeconfig": json.dumps(document)}, config_map, namespace))

    assert f'User "system:serviceaccount:{namespace}:nobody" cannot create resource "configmaps"' in str(refused.value)
    assert token not in str(refused.value)


def test_a_kind_that_the_cluster_does_not_have(program: Program, namespace: str) -> None:
    def declare() -> None:
        k8s.apiextensions.CustomResource(
            "it", api_version="none.example.com/v1", kind="Nothing", metadata={"namespace": namespace}
        )

    assert program.preview(declare) == {"create": 2}
    with pytest.raises(automation.CommandError, match=r"none\.example\.com/v1"):
        program.up()


def test_an_old_api_version(program: Program, namespace: str) -> None:
    body = {"rules": []}
    with pytest.raises(automation.CommandError, match="extensions/v1beta1"):
        program.up(lambda: k8s.extensions.v1beta1.Ingress("it", metadata={"namespace": namespace}, spec=body))


def test_a_quota_is_named(program: Program, core: client.CoreV1Api, namespace: str) -> None:
    none = {"metadata": {"name": "few"}, "spec": {"hard": {"configmaps": "0"}}}
    core.create_namespaced_resource_quota(namespace, none)
    _until(lambda: bool(core.read_namespaced_resource_quota("few", namespace).status.hard))

    with pytest.raises(automation.CommandError, match="exceeded quota: few"):
        program.up(config_map(namespace))


def test_lists_are_refused(program: Program) -> None:
    with pytest.raises(automation.CommandError, match="List"):
        program.preview(lambda: k8s.core.v1.ConfigMapList("it", items=[]))


def _on_a_provider(
    arguments: dict[str, Any], make: Callable[..., Callable[[], Any]], namespace: str
) -> Callable[[], Any]:
    def declare() -> None:
        provider = k8s.Provider("cluster", **arguments)
        make(namespace, opts=pulumi.ResourceOptions(provider=provider))()

    return declare


def _kubeconfig(server: str) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "nowhere", "cluster": {"server": server}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "nobody"}}],
            "current-context": "nowhere",
        }
    )


def _until(condition: Callable[[], bool]) -> None:
    """Waits for a condition of the cluster's, two minutes at most."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "the cluster did not come that far"
        time.sleep(0.1)
