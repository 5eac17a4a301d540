"""What a registry in a cluster asks of the stack's targets, and what it is given: from the configuration alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Set
from typing import Any

from infra import clusters
from infra.config import ClusterRegistry, ComputeTarget, ContainerTarget, KubernetesTarget
from infra.problems import Problem, near

_LONGEST_NAMESPACE = 63
_SUFFIX = "-registry"


def namespace_of(registry: ClusterRegistry, target: KubernetesTarget, workspace: str) -> str:
    """The namespace that it runs in."""
    if registry.namespace is not None:
        return registry.namespace
    return clusters.namespace_of(target, workspace) + _SUFFIX


def command(way: Mapping[str, Any]) -> str:
    """What brings the registry, reached by `way`, to port 5000 of this machine."""
    options = [f"--{name}={value}" for name, value in way["cluster"].items()]
    where = [f"--namespace={way['namespace']}", "port-forward", f"service/{way['statefulSet']}", f"5000:{way['port']}"]
    return shlex.join(["kubectl", *options, *where])


def check(
    registry: object, targets: Mapping[str, ComputeTarget], known: Set[str], workspace: str, file: str
) -> Iterator[Problem]:
    """Yields where it cannot run, and the targets that cannot pull from it. `known`: the names of all targets, also of
    those that have mistakes of their own."""
    if not isinstance(registry, ClusterRegistry):
        return
    name = registry.compute_target
    target = targets.get(name)
    if name not in known:
        yield Problem(
            file, "registry.computeTarget", f"no compute target is named {name!r}; {near(name, sorted(known))}"
        )
    elif isinstance(target, KubernetesTarget):
        yield from _namespace(registry, target, targets, workspace, file)
        yield from _other_targets(name, target, targets, file)
    elif target is not None:
        clusters_here = [key for key, item in targets.items() if isinstance(item, KubernetesTarget)]
        yield Problem(
            file,
            "registry.computeTarget",
            f"{name!r} is of kind {target.kind}, and the registry runs in a cluster: name a target of kind kubernetes "
            f"({near(name, clusters_here)}), or choose `kind: service`",
        )


def _namespace(
    registry: ClusterRegistry,
    target: KubernetesTarget,
    targets: Mapping[str, ComputeTarget],
    workspace: str,
    file: str,
) -> Iterator[Problem]:
    if registry.namespace is None and not target.create_namespace:
        yield Problem(
            file,
            "registry.namespace",
            f"is missing: computeTargets.{registry.compute_target} makes no namespaces; name one that is there, "
            f"that of the services for instance",
        )
        return
    namespace = namespace_of(registry, target, workspace)
    if len(namespace) > _LONGEST_NAMESPACE:
        yield Problem(
            file,
            f"computeTargets.{registry.compute_target}.namespace",
            f"{namespace!r}, the registry's own, is {len(namespace) - _LONGEST_NAMESPACE} characters too long for a "
            f"namespace; shorten it, or name one that is there as registry.namespace",
        )
    for name, other in targets.items():
        if not isinstance(other, KubernetesTarget) or not _is_same_cluster(other, target):
            continue
        if other.create_namespace and clusters.namespace_of(other, workspace) == namespace:
            path = "registry.namespace" if registry.namespace is not None else f"computeTargets.{name}.namespace"
            yield Problem(
                file,
                path,
                f"{namespace!r} is made for the services of computeTargets.{name}, and the registry has to be there "
                f"before; choose another one, or none for one of the registry's own",
            )


def _other_targets(
    name: str, target: KubernetesTarget, targets: Mapping[str, ComputeTarget], file: str
) -> Iterator[Problem]:
    for key, other in targets.items():
        if isinstance(other, ContainerTarget):
            who = f"the Docker engine of computeTargets.{key}"
        elif isinstance(other, KubernetesTarget) and not _is_same_cluster(other, target):
            who = f"the cluster of computeTargets.{key}"
        else:
            continue
        yield Problem(
            file,
            "registry",
            f"runs in the cluster of computeTargets.{name}, whose nodes alone pull from it, and {who} is elsewhere; "
            f"choose `kind: external` with an address, or make it a stack of its own",
        )


def _is_same_cluster(one: KubernetesTarget, other: KubernetesTarget) -> bool:
    return (one.kubeconfig, one.context) == (other.kubeconfig, other.context)
