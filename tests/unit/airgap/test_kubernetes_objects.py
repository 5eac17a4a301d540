"""The parts of the stand-in for Pulumi's kubernetes plugin that need no cluster: objects, names, differences, state."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pulumi.provider.experimental.property_value import PropertyValue

from airgap.kubernetes import checkpoint, difference, managers, names, objects, readiness, settings, waiting
from airgap.kubernetes.objects import Kind, Object
from airgap.kubernetes.readiness import Failed, Waiting
from airgap.kubernetes.replacement import Rules
from airgap.kubernetes.settings import Settings
from provider.resource import ResourceError
from provider.values import UNKNOWN, to_plain_map, to_values

DEPLOYMENT = Kind("apps/v1", "Deployment")


def changed(old: Object, new: Object, kind: Kind = DEPLOYMENT, ignored: tuple[str, ...] = ()) -> dict[str, str]:
    """The differences by path: the kind, in capitals where it replaces."""
    found = difference.changes(old, new, Rules.of(kind), ignored)
    return {change.path: change.kind.upper() if change.replaces else change.kind for change in found}


@pytest.mark.parametrize(
    ("urn_type", "expected"),
    [
        ("kubernetes:core/v1:ConfigMap", Kind("v1", "ConfigMap")),
        ("my:component:Thing$kubernetes:apps/v1:Deployment", DEPLOYMENT),
        ("kubernetes:networking.k8s.io/v1:Ingress", Kind("networking.k8s.io/v1", "Ingress")),
    ],
)
def test_the_kind_of_a_type(urn_type: str, expected: Kind) -> None:
    assert objects.type_of(urn_type)[1] == expected


@pytest.mark.parametrize("urn_type", ["kubernetes:helm.sh/v3:Release", "kubernetes:yaml/v2:ConfigFile"])
def test_what_the_stand_in_does_not_have(urn_type: str) -> None:
    with pytest.raises(ResourceError, match="pulumi plugin install resource kubernetes"):
        objects.type_of(urn_type)


def test_which_kinds_are_in_a_namespace() -> None:
    assert Kind("v1", "ConfigMap").cluster_wide is False
    assert Kind("rbac.authorization.k8s.io/v1", "ClusterRole").cluster_wide is True
    assert Kind("example.com/v1", "Namespace").cluster_wide is None


def test_an_id_and_back() -> None:
    obj = {"metadata": {"name": "it", "namespace": "there"}}
    assert objects.id_of(obj) == "there/it"
    assert objects.split_id("there/it") == ("there", "it")
    assert objects.split_id(objects.id_of({"metadata": {"name": "it"}})) == ("", "it")


def test_a_patch_is_not_the_kind_that_is_called_so() -> None:
    assert objects.is_patch({"kind": "ConfigMap"}, "kubernetes:core/v1:ConfigMapPatch")
    assert not objects.is_patch({"kind": "ConfigMapPatch"}, "kubernetes:example.com/v1:ConfigMapPatch")


def test_normal_inputs() -> None:
    secret: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "it", "uid": "1", "resourceVersion": "2"},
        "data": {"a": "MQ=="},
        "stringData": {"b": "2"},
    }
    assert objects.normal(secret) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "it"},
        "data": {"a": "MQ==", "b": "Mg=="},
    }


def test_what_says_nothing_is_left_out() -> None:
    pod = {"hostNetwork": False, "automountServiceAccountToken": False, "nodeSelector": {}, "volumes": [], "env": [{}]}
    inputs: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}}, "spec": {**pod, "emptyDir": {}}}
    assert objects.normal(inputs) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {},
        "spec": {"automountServiceAccountToken": False, "env": [{}], "emptyDir": {}},
    }
    data: Object = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"tty": "", "paused": False}}
    assert objects.normal(data) == data
    custom: Object = {"apiVersion": "example.com/v1", "kind": "Thing", "spec": {"hostNetwork": False, "items": []}}
    assert objects.normal(custom) == custom


def test_text_of_a_secret_that_is_not_known_yet_stays() -> None:
    secret: Object = {"apiVersion": "v1", "kind": "Secret", "stringData": {"b": UNKNOWN}}
    assert objects.normal(secret) == secret


def test_pruning_leaves_what_was_asked_for() -> None:
    live = {"spec": {"replicas": 2, "paused": False, "items": [{"a": 1, "b": 2}, {"a": 3}]}, "status": {}}
    shape = {"spec": {"replicas": 1, "hostNetwork": False, "items": [{"a": 0}], "name": "gone"}}

    assert objects.prune(live, shape) == {"spec": {"replicas": 2, "hostNetwork": False, "items": [{"a": 1}]}}


@pytest.mark.parametrize(
    ("one", "other"), [("1000m", 1), ("1024Mi", "1Gi"), ("0.5", "500m"), ("1e3", "1k"), ("128974848", "123Mi")]
)
def test_quantities_that_are_the_same(one: Any, other: Any) -> None:
    assert objects.same(("resources", "limits", "cpu"), one, other)
    assert not objects.same(("metadata", "labels", "cpu"), one, other)


def test_quantities_that_differ() -> None:
    assert objects.quantity("1.5Gi") == Decimal(1536 * 1024 * 1024)
    assert objects.quantity("much") is None
    assert not objects.same(("limits", "cpu"), "1", "2")
    assert not objects.same(("limits", "cpu"), "much", "more")
    assert not objects.same(("spec", "suspend"), True, 1)


def test_names_of_the_api_and_of_the_state() -> None:
    state = {"schema": [{"x_kubernetes_preserve_unknown_fields": True, "x_other": 1}]}
    api = {"schema": [{"x-kubernetes-preserve-unknown-fields": True, "x_other": 1}]}
    assert objects.to_api(state) == api
    assert objects.to_state(api) == state


def test_a_name_is_made_once() -> None:
    made = names.named({"metadata": {"labels": {"a": "b"}}}, {}, "it", b"seed")
    assert made["metadata"]["name"] == names.named({}, {}, "it", b"seed")["metadata"]["name"]
    assert made["metadata"]["name"].startswith("it-")
    assert made["metadata"]["labels"] == {"a": "b"}

    again = names.named({}, made, "it", b"other seed")
    assert again["metadata"] == {
        "name": made["metadata"]["name"],
        "annotations": {"pulumi.com/autonamed": "true"},
    }


def test_a_name_of_its_own_is_not_made() -> None:
    own = {"metadata": {"name": "mine"}}
    assert names.named(own, {}, "it", b"") == own
    assert names.named({"metadata": {"name": UNKNOWN}}, {}, "it", b"") == {"metadata": {"name": UNKNOWN}}
    assert names.named({"metadata": UNKNOWN}, {}, "it", b"") == {"metadata": UNKNOWN}
    # One that was given before is not kept when it is taken out: the API server says so.
    assert names.named({"metadata": {}}, own, "it", b"") == {"metadata": {}}


def test_a_generated_name_is_refused() -> None:
    with pytest.raises(ResourceError, match=r"metadata\.generateName is not supported"):
        names.named({"metadata": {"generateName": "it-"}}, {}, "it", b"")


def test_differences_by_path() -> None:
    old = {"spec": {"replicas": 1, "template": {"containers": [{"image": "a"}, {"image": "b"}]}, "paused": True}}
    new = {
        "metadata": {"labels": {"app.kubernetes.io/name": "x"}},
        "spec": {"replicas": 2, "template": {"containers": [{"image": "c"}]}},
    }
    assert changed(old, new) == {
        "metadata": "add",
        "spec.replicas": "update",
        "spec.paused": "delete",
        "spec.template.containers[0].image": "update",
        "spec.template.containers[1]": "delete",
    }
    assert changed({"metadata": {"labels": {}}}, {"metadata": {"labels": {"a.b/c": "x"}}}) == {
        'metadata.labels["a.b/c"]': "add"
    }


def test_what_is_not_known_is_a_change() -> None:
    assert changed({"spec": {"replicas": 1}}, {"spec": {"replicas": UNKNOWN}}) == {"spec.replicas": "update"}


@pytest.mark.parametrize(
    "ignored", ["spec", "spec.template", 'spec["template"].containers[*].image', "spec.template.containers[0]"]
)
def test_ignored_paths(ignored: str) -> None:
    old = {"spec": {"template": {"containers": [{"image": "a"}]}}}
    new = {"spec": {"template": {"containers": [{"image": "b"}]}}}
    assert changed(old, new, ignored=(ignored,)) == {}
    assert changed(old, new, ignored=("spec.template.containers[1]", "spec.templates")) != {}


@pytest.mark.parametrize(
    ("kind", "path", "replaces"),
    [
        (DEPLOYMENT, "spec.selector.matchLabels.app", True),
        (DEPLOYMENT, "spec.template.spec.containers[0].image", False),
        (DEPLOYMENT, "metadata.name", True),
        (Kind("batch/v1", "Job"), "spec.template.spec.containers[0].image", True),
        (Kind("batch/v1", "Job"), "spec.suspend", False),
        (Kind("v1", "Pod"), "spec.containers[0].env[1].value", True),
        (Kind("v1", "Pod"), "spec.activeDeadlineSeconds", False),
        (Kind("v1", "Service"), "spec.clusterIP", True),
        (Kind("v1", "Service"), "spec.ports[0].port", False),
        (Kind("v1", "PersistentVolumeClaim"), "spec.resources.requests.storage", False),
        (Kind("v1", "PersistentVolumeClaim"), "spec.storageClassName", True),
        (Kind("example.com/v1", "ConfigMap"), "data.key", False),
        (Kind("v1", "ConfigMap"), "data.key", True),
    ],
)
def test_what_replaces(kind: Kind, path: str, replaces: bool) -> None:
    assert Rules.of(kind).replace(difference.parse(path), "value") is replaces


def test_what_holds_a_field_that_replaces() -> None:
    rules = Rules.of(DEPLOYMENT)
    assert rules.replace(("spec",), {"selector": {}})
    assert not rules.replace(("spec",), {"replicas": 1})
    assert not Rules.of(Kind("v1", "ConfigMap"), data_stays=True).replace(("data", "key"), "value")
    assert not Rules.of(Kind("v1", "ConfigMap"), is_patch=True).replace(("data", "key"), "value")


def test_the_state_is_as_secret_as_the_inputs() -> None:
    given = {
        "kind": PropertyValue("Thing"),
        "spec": PropertyValue({"token": PropertyValue("x", is_secret=True), "size": PropertyValue(1.0)}),
        "items": PropertyValue([PropertyValue("y", is_secret=True)]),
    }
    live: Object = {"kind": "Thing", "spec": {"token": "x", "size": 1}, "items": ["y"], "status": {"a": None}}

    state = checkpoint.state(live, {"spec": {"token": "x"}}, given, "v1", "us")

    spec = state["spec"].value
    assert spec["token"].is_secret  # type: ignore[index, call-overload]
    assert not spec["size"].contains_secret()  # type: ignore[index, call-overload]
    assert state["items"].is_secret
    assert state["__inputs"].contains_secret()
    assert checkpoint.field_manager(state) == "us"
    assert checkpoint.initial_api_version(state) == "v1"
    found, inputs = checkpoint.split(state)
    assert found == {**live, "status": {}}
    assert inputs == {"spec": {"token": "x"}}


def test_data_of_a_secret_is_secret_whoever_gave_it() -> None:
    state = checkpoint.values_of({"kind": "Secret", "data": {"a": "MQ=="}, "type": "Opaque"}, {})
    assert state["data"].is_secret
    assert not state["type"].is_secret


def test_a_state_without_inputs() -> None:
    assert checkpoint.split(to_values({"kind": "Thing"})) == ({"kind": "Thing"}, {})


def managed(*entries: tuple[str, str, dict[str, Any]]) -> Object:
    fields = [{"manager": name, "operation": how, "fieldsV1": what} for name, how, what in entries]
    return {"metadata": {"managedFields": fields}}


def test_what_we_made_is_handed_over_to_the_apply() -> None:
    live = managed(
        ("us", "Update", {"f:spec": {"f:replicas": {}}}),
        ("them", "Update", {"f:spec": {"f:paused": {}}}),
        ("us", "Apply", {"f:data": {".": {}, "f:a": {}}}),
    )

    entries = managers.handed_over(live, "us")

    assert entries == [
        {"manager": "them", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}}}},
        {
            "manager": "us",
            "operation": "Apply",
            "fieldsV1": {"f:data": {".": {}, "f:a": {}}, "f:spec": {"f:replicas": {}}},
        },
    ]
    assert managers.handed_over(managed(("us", "Apply", {}), ("them", "Update", {})), "us") is None


def test_earlier_names_of_the_plugin_are_handed_over() -> None:
    live = managed(("pulumi-kubernetes", "Update", {"f:a": {}}), ("kubectl-edit", "Update", {"f:b": {}}))
    entries = managers.handed_over(live, "us")
    assert entries is not None
    assert [(entry["manager"], entry["operation"]) for entry in entries] == [
        ("kubectl-edit", "Update"),
        ("us", "Apply"),
    ]


def test_who_owns_a_field() -> None:
    live = managed(("us", "Apply", {"f:spec": {"f:replicas": {}}}), ("them", "Update", {"f:spec": {"f:paused": {}}}))
    assert managers.owns(live, ["spec", "replicas"], "us")
    assert not managers.owns(live, ["spec", "replicas"], "us", others=True)
    assert managers.owns(live, ["spec", "paused"], "us", others=True)


def test_a_manager_is_made_from_the_urn() -> None:
    assert managers.manager_of("urn:a") == managers.manager_of("urn:a") != managers.manager_of("urn:b")


def status(kind: str, state: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "status": state, **more}


def test_when_a_deployment_is_ready() -> None:
    ready: Object = {
        "metadata": {"generation": 2},
        "spec": {"replicas": 2},
        "status": {
            "observedGeneration": 2,
            "replicas": 2,
            "updatedReplicas": 2,
            "availableReplicas": 2,
            "conditions": [status("Available", "True")],
        },
    }
    assert readiness.deployment(ready) is None
    old = {**ready, "status": {**ready["status"], "replicas": 3}}
    assert readiness.deployment(old) == Waiting("2 of 2 replicas updated, 2 available, 1 old ones left")
    unseen = {**ready, "metadata": {"generation": 3}}
    assert readiness.deployment(unseen) == Waiting("the rollout has not begun")
    late = status("Progressing", "False", reason="ProgressDeadlineExceeded", message="timed out progressing")
    stuck = {**ready, "status": {**ready["status"], "conditions": [late]}}
    assert readiness.deployment(stuck) == Failed("timed out progressing")
    assert isinstance(readiness.deployment(stuck, before=stuck), Waiting), "what had failed before is nothing new"


def test_when_a_pod_is_ready() -> None:
    waiting_for = {"name": "main", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    pod: Object = {"status": {"phase": "Pending", "containerStatuses": [waiting_for]}}
    assert readiness.pod(pod) == Waiting("main: ImagePullBackOff no such image")
    ended = {"name": "main", "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
    assert readiness.pod({"status": {"phase": "Failed", "containerStatuses": [ended]}}) == Failed(
        "main: OOMKilled (exit code 137)"
    )
    assert readiness.pod({"status": {"phase": "Succeeded"}}) is None


@pytest.mark.parametrize(
    ("expression", "met"),
    [
        ("jsonpath={.status.phase}=Running", True),
        ("jsonpath={.status.phase}='Running'", True),
        ("jsonpath={.status.phase}=Pending", False),
        ("jsonpath={.status.missing}", False),
        ("jsonpath={.status.addresses[0].ip}", True),
        ("jsonpath={.status.addresses[*].ip}=10.0.0.2", True),
        ('jsonpath={.status.conditions[?(@.type=="Ready")].status}=True', True),
        (r"jsonpath={.metadata.labels.a\.b}=c", True),
        ("jsonpath={.metadata.labels['example.com/x']}=y", True),
        ("condition=Ready", True),
        ("condition=Ready=False", False),
        ('["condition=Ready", "jsonpath={.status.phase}=Pending"]', False),
    ],
)
def test_what_is_waited_for(expression: str, met: bool) -> None:
    obj: Object = {
        "metadata": {"labels": {"example.com/x": "y", "a.b": "c"}},
        "status": {
            "phase": "Running",
            "addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}],
            "conditions": [status("Ready", "True")],
        },
    }
    check = readiness.check_for(Kind("v1", "Pod"), {"metadata": {"annotations": {"pulumi.com/waitFor": expression}}})
    assert check is not None
    assert (check(obj) is None) is met


@pytest.mark.parametrize(
    ("expression", "why"),
    [("phase=Running", 'it takes "condition=NAME'), ("jsonpath={.a/b}", "'/b' is not understood")],
)
def test_an_expression_of_another_form(expression: str, why: str) -> None:
    with pytest.raises(ResourceError, match=why):
        readiness.check_for(Kind("v1", "Pod"), {"metadata": {"annotations": {"pulumi.com/waitFor": expression}}})


def test_how_long_is_waited() -> None:
    assert waiting.seconds({}, 0, 600) == 600
    assert waiting.seconds({}, 30, 600) == 30
    assert waiting.seconds({"metadata": {"annotations": {"pulumi.com/timeoutSeconds": "90"}}}, 30, 600) == 90
    assert waiting.seconds({"metadata": {"annotations": {"pulumi.com/timeoutSeconds": "1m30s"}}}, 30, 600) == 90
    with pytest.raises(ResourceError, match="timeoutSeconds has 'long'"):
        waiting.seconds({"metadata": {"annotations": {"pulumi.com/timeoutSeconds": "long"}}}, 0, 600)


KUBECONFIG = """
current-context: one
contexts: [{name: one, context: {cluster: here, namespace: models}}, {name: two, context: {cluster: there}}]
clusters: [{name: here, cluster: {server: https://here}}, {name: there, cluster: {server: https://there}}]
"""


def test_which_cluster_and_namespace() -> None:
    assert settings.default_namespace(Settings(kubeconfig=KUBECONFIG)) == "models"
    assert settings.default_namespace(Settings(kubeconfig=KUBECONFIG, context="two")) == "default"
    assert settings.default_namespace(Settings(kubeconfig=KUBECONFIG, namespace="mine")) == "mine"
    found = settings.load(Settings(kubeconfig=KUBECONFIG))
    assert settings.active(found, Settings(context="two"))[1] == {"server": "https://there"}
    assert settings.active(found, Settings(cluster="there"))[1] == {"server": "https://there"}
    assert settings.active(found, Settings(context="three")) == ({}, {})


def test_kubeconfigs_are_joined(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("contexts: [{name: one, context: {cluster: mine}}]")
    second.write_text(KUBECONFIG)
    monkeypatch.setenv("KUBECONFIG", f"{first}:{tmp_path / 'none'}:{second}")

    found = settings.load(Settings())

    assert found["current-context"] == "one"
    assert settings.active(found, Settings())[0] == {"cluster": "mine"}


def test_settings_that_are_not_honoured_are_named() -> None:
    found = dict(settings.problems({"renderYamlToDirectory": "out", "enableServerSideApply": "false", "version": "4"}))
    assert sorted(found) == ["enableServerSideApply", "renderYamlToDirectory"]
    assert settings.problems({"kubeconfig": "x", "namespace": "y"}) == []


def test_settings_of_the_environment() -> None:
    environment = {"PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE": "true", "PULUMI_K8S_DELETE_UNREACHABLE": "true"}
    found = Settings.of({"deleteUnreachable": "false"}, environment)
    assert found.config_maps_change
    assert not found.delete_unreachable
    assert not found.takes_over
    assert Settings.of({}, {"PULUMI_K8S_ENABLE_PATCH_FORCE": "true"}).takes_over


@pytest.mark.parametrize(
    ("annotations", "everywhere", "forced"),
    [({}, False, False), ({}, True, True), ({"pulumi.com/patchForce": "false"}, True, False)],
)
def test_an_annotation_goes_before_what_holds_everywhere(
    annotations: dict[str, str], everywhere: bool, forced: bool
) -> None:
    assert managers.forced({"metadata": {"annotations": annotations}}, everywhere) is forced


def test_values_keep_their_types_on_the_way() -> None:
    obj: Object = {"replicas": 1, "ratio": 0.5, "on": True, "list": [1, "a"]}
    assert to_plain_map(checkpoint.values_of(obj, {})) == obj
