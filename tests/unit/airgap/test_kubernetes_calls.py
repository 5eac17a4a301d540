"""What the stand-in for Pulumi's kubernetes plugin answers where it need not ask a cluster."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from pulumi.provider.experimental import provider as api

from airgap.kubernetes.plugin import KubernetesProvider
from provider.resource import ResourceError
from provider.values import UNKNOWN, to_plain_map, to_values

KUBECONFIG = """
current-context: one
contexts: [{name: one, context: {cluster: here, namespace: models}}, {name: two, context: {cluster: there}}]
clusters: [{name: here, cluster: {server: https://127.0.0.1:1}}, {name: there, cluster: {server: https://127.0.0.1:2}}]
"""
URN = "urn:pulumi:test::project::kubernetes:core/v1:ConfigMap::it"


@pytest.fixture
def provider() -> KubernetesProvider:
    return configured({})


def configured(settings: dict[str, str]) -> KubernetesProvider:
    made = KubernetesProvider()
    variables = {f"kubernetes:config:{name}": value for name, value in {"kubeconfig": KUBECONFIG, **settings}.items()}
    asyncio.run(made.configure(api.ConfigureRequest(variables, {}, True, False)))
    return made


def config_map(**metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}}


def checked(
    provider: KubernetesProvider, news: dict[str, Any], olds: dict[str, Any] | None = None, urn: str = URN
) -> dict[str, Any]:
    request = api.CheckRequest(urn, to_values(olds or {}), to_values(news), b"seed")
    return to_plain_map(asyncio.run(provider.check(request)).inputs)


def diff(provider: KubernetesProvider, state: dict[str, Any], news: dict[str, Any]) -> api.DiffResponse:
    return asyncio.run(provider.diff(api.DiffRequest(URN, "models/it", to_values(state), to_values(news), [])))


def state_of(inputs: dict[str, Any]) -> dict[str, Any]:
    live = {**inputs, "metadata": {**inputs["metadata"], "uid": "1", "resourceVersion": "2"}}
    return {**live, "__inputs": inputs, "__initialApiVersion": "v1", "__fieldManager": "us"}


def test_no_cluster_is_asked_for_what_does_not_change(provider: KubernetesProvider) -> None:
    before = set(sys.modules)
    inputs = checked(provider, config_map())

    assert diff(provider, state_of(inputs), checked(provider, config_map(), inputs)).changes is False
    assert not {name for name in set(sys.modules) - before if name.split(".")[0] == "kubernetes"}


def test_a_check_gives_name_and_namespace(provider: KubernetesProvider) -> None:
    metadata = checked(provider, config_map())["metadata"]

    assert metadata["namespace"] == "models"
    assert metadata["name"].startswith("it-")
    assert checked(configured({"namespace": "mine"}), config_map(name="a"))["metadata"] == {
        "name": "a",
        "namespace": "mine",
    }


def test_what_is_in_no_namespace_gets_none(provider: KubernetesProvider) -> None:
    urn = "urn:pulumi:test::project::kubernetes:core/v1:Namespace::it"
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}

    assert checked(provider, namespace, urn=urn) == namespace


def test_metadata_that_is_not_known_stays_so(provider: KubernetesProvider) -> None:
    assert checked(provider, {**config_map(), "metadata": UNKNOWN})["metadata"] is UNKNOWN


@pytest.mark.parametrize(
    ("annotations", "why"),
    [({"pulumi.com/waitFor": "Ready"}, "waitFor has 'Ready'"), ({"pulumi.com/timeoutSeconds": "x"}, "takes seconds")],
)
def test_annotations_are_refused_before_anything_is_made(
    provider: KubernetesProvider, annotations: dict[str, str], why: str
) -> None:
    with pytest.raises(ResourceError, match=why):
        checked(provider, config_map(annotations=annotations))


@pytest.mark.parametrize(
    ("urn_type", "why"),
    [
        ("core/v1:ConfigMapList", "make its members as resources of their own type, ConfigMap"),
        ("core/v1:ConfigMapPatch", "metadata.name has to name it"),
        ("helm.sh/v3:Release", "Install the official plugin"),
    ],
)
def test_types_that_are_refused(provider: KubernetesProvider, urn_type: str, why: str) -> None:
    with pytest.raises(ResourceError, match=why):
        checked(provider, config_map(), urn=f"urn:pulumi:test::project::kubernetes:{urn_type}::it")


def test_a_replacement_under_the_same_name_deletes_first(provider: KubernetesProvider) -> None:
    inputs = config_map(name="mine", namespace="models")
    answer = diff(provider, state_of(inputs), {**inputs, "data": {"a": "2"}})

    assert answer.replaces == ["data.a"]
    assert answer.delete_before_replace


def test_a_replacement_under_a_made_name_comes_first(provider: KubernetesProvider) -> None:
    inputs = checked(provider, config_map())
    answer = diff(provider, state_of(inputs), {**inputs, "data": {"a": "2"}})

    assert answer.replaces == ["data.a"]
    assert not answer.delete_before_replace


def test_immutable_data_replaces_whatever_the_provider_says() -> None:
    mutable = configured({"enableConfigMapMutable": "true"})
    inputs = config_map(name="mine", namespace="models")

    assert diff(mutable, state_of(inputs), {**inputs, "data": {"a": "2"}}).replaces == []
    fixed = {**inputs, "immutable": True}
    assert diff(mutable, state_of(fixed), {**fixed, "data": {"a": "2"}}).replaces == ["data.a"]


@pytest.mark.parametrize(
    ("old", "new", "replaces"),
    [
        ({"context": "one"}, {"context": "two"}, ["context"]),
        ({"namespace": "a"}, {"namespace": "b"}, []),
        ({"context": "one"}, {"context": "one", "cluster": "here"}, []),
        ({"clusterIdentifier": "x", "context": "one"}, {"clusterIdentifier": "x", "context": "two"}, []),
        ({"clusterIdentifier": "x"}, {"clusterIdentifier": "y"}, ["clusterIdentifier"]),
        ({"context": "one"}, {"context": UNKNOWN}, ["context"]),
    ],
)
def test_another_cluster_replaces_everything(
    provider: KubernetesProvider, old: dict[str, Any], new: dict[str, Any], replaces: list[str]
) -> None:
    common = {"kubeconfig": KUBECONFIG}
    request = api.DiffRequest("urn", "id", to_values({**common, **old}), to_values({**common, **new}), [])

    answer = asyncio.run(provider.diff_config(request))

    assert answer.changes
    assert answer.replaces == replaces
