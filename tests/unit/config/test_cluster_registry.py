"""A registry in a cluster in the stack configuration: what it is given, and every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.cluster_registry import command, namespace_of
from infra.config import ClusterRegistry, KubernetesTarget
from tests.unit.config.test_kubernetes_targets import configuration, loaded, mistakes, project

__all__ = ["project"]


def spoilt(registry: dict[str, Any] | None = None, target: dict[str, Any] | None = None) -> dict[str, Any]:
    sections = configuration(target)
    sections["registry"] = {"kind": "cluster", "computeTarget": "aks", **(registry or {})}
    return sections


def test_its_target_is_all_that_it_needs(project: Path) -> None:
    plan = loaded(project, spoilt())

    assert plan.registry == ClusterRegistry(kind="cluster", compute_target="aks")
    assert plan.registry.image == "docker.io/library/registry:2"
    assert (plan.registry.tier, plan.registry.node_port) == ("Basic", 30500)


def test_its_namespace_is_its_own_where_none_is_named() -> None:
    registry = ClusterRegistry(kind="cluster", compute_target="aks")
    assert namespace_of(registry, KubernetesTarget(kind="kubernetes"), "demo") == "demo-registry"
    assert namespace_of(registry, KubernetesTarget(kind="kubernetes", namespace="models"), "demo") == "models-registry"
    named = ClusterRegistry(kind="cluster", compute_target="aks", namespace="tools")
    assert namespace_of(named, KubernetesTarget(kind="kubernetes"), "demo") == "tools"


@pytest.mark.parametrize(
    ("registry", "target", "said"),
    [
        (
            {"computeTarget": "ask"},
            {},
            "registry.computeTarget: no compute target is named 'ask'; did you mean 'aks'?",
        ),
        ({"tier": "Gold"}, {}, "registry.tier: input should be 'Basic', 'Standard' or 'Premium', not 'Gold'"),
        ({"nodePort": 80}, {}, "registry.nodePort: input should be greater than or equal to 1024"),
        (
            {"image": "registry"},
            {},
            "registry.image: 'registry' names no image by a tag or a digest, as docker.io/library/registry:2 does",
        ),
        (
            {"webhooks": {}},
            {},
            "registry.webhooks: cannot be honoured by a registry of kind cluster; remove it, or choose another",
        ),
        ({"namespace": "Tools"}, {}, "registry.namespace: 'Tools' is no DNS label (RFC 1123)"),
        (
            {},
            {"createNamespace": False},
            "registry.namespace: is missing: computeTargets.aks makes no namespaces; name one that is there, that of "
            "the services for instance",
        ),
        (
            {"namespace": "models"},
            {},
            "registry.namespace: 'models' is made for the services of computeTargets.aks, and the registry has to be "
            "there before; choose another one, or none for one of the registry's own",
        ),
        (
            {},
            {"namespace": "a" * 60},
            f"computeTargets.aks.namespace: '{'a' * 60}-registry', the registry's own, is 6 characters too long for a "
            "namespace; shorten it, or name one that is there as registry.namespace",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(
    project: Path, registry: dict[str, Any], target: dict[str, Any], said: str
) -> None:
    (mistake,) = mistakes(project, spoilt(registry, target))
    assert mistake.startswith(said)


def test_a_namespace_that_is_there_may_be_that_of_the_services(project: Path) -> None:
    plan = loaded(project, spoilt({"namespace": "models"}, {"createNamespace": False}))
    assert isinstance(plan.registry, ClusterRegistry)


def test_other_targets_have_to_be_able_to_pull_from_it(project: Path) -> None:
    sections = spoilt()
    sections["computeTargets"] |= {
        "laptop": {"kind": "local"},
        "other-namespace": {"kind": "kubernetes", "namespace": "more"},
        "other-cluster": {"kind": "kubernetes", "context": "west"},
        "box": {"kind": "container"},
    }

    assert mistakes(project, sections) == [
        f"registry: runs in the cluster of computeTargets.aks, whose nodes alone pull from it, and {who} is elsewhere; "
        "choose `kind: external` with an address, or make it a stack of its own"
        for who in ("the Docker engine of computeTargets.box", "the cluster of computeTargets.other-cluster")
    ]


def test_it_runs_on_a_cluster_alone(project: Path) -> None:
    sections = spoilt({"computeTarget": "laptop"})
    sections["computeTargets"]["laptop"] = {"kind": "local"}

    assert mistakes(project, sections) == [
        "registry.computeTarget: 'laptop' is of kind local, and the registry runs in a cluster: name a target of kind "
        "kubernetes (known: aks), or choose `kind: service`"
    ]


def test_no_docker_engine_pushes_to_it(project: Path) -> None:
    sections = spoilt()
    sections["environments"] = {"built": {"aptPackages": ["libgl1"]}}
    sections["services"]["mnist"]["inference"]["environment"] = "built"

    (mistake,) = mistakes(project, sections)

    assert "no Docker engine reaches this workspace's, in a cluster; choose `kind: external`" in mistake


def test_people_reach_it_by_kubectl() -> None:
    way = {
        "cluster": {"kubeconfig": "/a b", "context": "west"},
        "namespace": "demo-registry",
        "statefulSet": "slipway-registry",
        "port": 5000,
    }
    assert command(way) == (
        "kubectl '--kubeconfig=/a b' --context=west --namespace=demo-registry port-forward service/slipway-registry "
        "5000:5000"
    )
