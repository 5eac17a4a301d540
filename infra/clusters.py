"""What services ask of a Kubernetes cluster, and of each other in a namespace: names, ways in, accelerators.

From the configuration alone. What only the cluster knows, an `up` tells.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from infra.config import ComputeTarget, KubernetesDeployment, KubernetesTarget, Service
from infra.plan import ServicePlan
from infra.problems import Problem, near

GPU = "gpu"
"""The accelerator that Azure's `gpuCores` counts."""
DEFAULT_GPU = "nvidia.com/gpu"
ADAPTER = "slipway-metrics"
"""What the objects of an adapter for metrics are called."""
ROUTER = "router"
"""What a service's router is called after it; no deployment of a service can have that name."""
_LONGEST_NAME = 63


class _Use(NamedTuple):
    """A service on a cluster."""

    name: str
    plan: ServicePlan
    deployment: KubernetesDeployment
    target_name: str
    target: KubernetesTarget

    @property
    def path(self) -> str:
        return f"services.{self.name}"


def namespace_of(target: KubernetesTarget, workspace: str) -> str:
    """The namespace of a target's services."""
    return workspace if target.namespace is None else target.namespace


def accelerators_of(target: KubernetesTarget) -> dict[str, str]:
    """Name -> extended resource, of all that a deployment may ask for."""
    return {GPU: DEFAULT_GPU, **target.accelerators}


def has_router(deployment: KubernetesDeployment, target: KubernetesTarget, deployments: int) -> bool:
    """Whether a service needs a router of its own: to split traffic, or for TLS, where nothing else there does it."""
    if target.gateway is not None:
        return False
    return deployments > 1 or (deployment.ssl_enabled and target.ingress is None)


def host_name(deployment: KubernetesDeployment, target: KubernetesTarget) -> str | None:
    """The host name of a service, where it has one."""
    if deployment.dns_name_label is not None and target.domain is not None:
        return f"{deployment.dns_name_label}.{target.domain}"
    if deployment.cname is None and target.ingress is not None:
        return target.ingress.host
    return deployment.cname


def made_kubeconfig(target: KubernetesTarget, root: Path) -> Path | None:
    """The kubeconfig of the cluster that `airgap.cluster` made of this machine, where nothing names another one."""
    if target.kubeconfig is not None or target.context is not None or os.environ.get("KUBECONFIG"):
        return None
    made = root / ".slipway" / "cluster" / "kubeconfig"
    return made if made.is_file() else None


def check(
    services: Mapping[str, Service],
    plans: Mapping[str, ServicePlan],
    targets: Mapping[str, ComputeTarget],
    workspace: str,
    file: str,
) -> Iterator[Problem]:
    """Yields what a cluster's target does not have, and what two services in one namespace would both have."""
    uses = list(_uses(plans, targets))
    for use in uses:
        yield from _namespace(use, workspace, file)
        yield from _accelerators(use, file)
        yield from _way_in(use, file)
        yield from _replicas(use, services[use.name], file)
        yield from _names(use, file)
    yield from _shared_namespaces(targets, workspace, file)
    yield from _adapters(targets, file)
    yield from _shared_names(uses, file)
    yield from _shared_hosts(uses, file)


def _uses(plans: Mapping[str, ServicePlan], targets: Mapping[str, ComputeTarget]) -> Iterator[_Use]:
    for name, plan in plans.items():
        target = targets.get(plan.compute_target)
        if isinstance(target, KubernetesTarget) and isinstance(plan.deployment, KubernetesDeployment):
            yield _Use(name, plan, plan.deployment, plan.compute_target, target)


def _namespace(use: _Use, workspace: str, file: str) -> Iterator[Problem]:
    wanted, given = use.deployment.namespace, namespace_of(use.target, workspace)
    if wanted is not None and wanted != given:
        yield Problem(
            file,
            f"{use.path}.deployment.namespace",
            f"is {wanted!r}, and computeTargets.{use.target_name} has the namespace {given!r}; mend one of them, or "
            f"make it another target",
        )


def _accelerators(use: _Use, file: str) -> Iterator[Problem]:
    known = accelerators_of(use.target)
    for name in use.deployment.accelerators:
        if name not in known:
            yield Problem(
                file,
                f"{use.path}.deployment.accelerators.{name}",
                f"computeTargets.{use.target_name}.accelerators has none of that name; {near(name, known)}",
            )


def _way_in(use: _Use, file: str) -> Iterator[Problem]:
    deployment, target = use.deployment, use.target
    where = f"{use.path}.deployment"
    if deployment.dns_name_label is not None and target.domain is None:
        yield Problem(
            file,
            f"{where}.dnsNameLabel",
            f"needs the domain that it stands below: set computeTargets.{use.target_name}.domain, or give the whole "
            f"name as cname",
        )
    if target.gateway is not None and deployment.ssl_cert is not None:
        yield Problem(
            file,
            f"{where}.sslCert",
            f"cannot be honoured by a target with a gateway, whose listener has the certificate; remove it, or "
            f"computeTargets.{use.target_name}.gateway",
        )
    if target.gateway is not None and host_name(deployment, target) is None:
        yield Problem(
            file,
            f"{where}.cname",
            f"is missing: the gateway of computeTargets.{use.target_name} knows requests by their host; give a cname "
            f"or a dnsNameLabel",
        )
    if (
        target.cert_manager is not None
        and deployment.ssl_enabled
        and deployment.ssl_cert is None
        and host_name(deployment, target) is None
    ):
        yield Problem(
            file,
            f"{where}.sslEnabled",
            "needs a host name, for which cert-manager makes the certificate: give a cname or a dnsNameLabel",
        )


def _replicas(use: _Use, service: Service, file: str) -> Iterator[Problem]:
    if not use.deployment.scales:
        return
    for key, variant in service.deployments.items():
        if variant.num_replicas is not None:
            yield Problem(
                file,
                f"{use.path}.deployments.{key}.numReplicas",
                "stands beside the service's autoScaler, which says how many run; remove one of them",
            )


def _objects(use: _Use) -> dict[str, str]:
    """The names of the objects of a service, and why each has its own."""
    names = {use.name: "the service's own"}
    router = has_router(use.deployment, use.target, len(use.plan.deployments))
    if len(use.plan.deployments) > 1 or router:
        names |= {f"{use.name}-{key}": f"that of its deployment {key}" for key in use.plan.deployments}
    if router:
        names[f"{use.name}-{ROUTER}"] = "that of its router"
    return names


def _names(use: _Use, file: str) -> Iterator[Problem]:
    if not use.name[0].isalpha():
        yield Problem(
            file,
            use.path,
            f"{use.name!r} cannot be the name of a Service of Kubernetes (RFC 1035), which begins with a letter; "
            f"rename it",
        )
    if len(use.plan.deployments) > 1 and ROUTER in use.plan.deployments:
        yield Problem(
            file,
            f"{use.path}.deployments.{ROUTER}",
            "is what a Kubernetes target calls the service's own router; choose another name",
        )
    for name, whose in _objects(use).items():
        if name == ADAPTER and use.target.metrics_adapter:
            yield Problem(
                file,
                use.path,
                f"the name {name!r}, {whose}, is that of the adapter of computeTargets.{use.target_name}; rename "
                f"it, or remove metricsAdapter",
            )
        if len(name) > _LONGEST_NAME:
            yield Problem(
                file,
                use.path,
                f"{name!r}, {whose}, is {len(name) - _LONGEST_NAME} characters too long for a name of Kubernetes; "
                f"shorten it",
            )


def _shared_names(uses: list[_Use], file: str) -> Iterator[Problem]:
    owners: dict[tuple[str, str], str] = {}
    for use in uses:
        for name, whose in _objects(use).items():
            owner = owners.setdefault((use.target_name, name), use.name)
            if owner != use.name:
                yield Problem(
                    file,
                    use.path,
                    f"the name {name!r}, {whose}, is taken by services.{owner} in the namespace that they share; "
                    f"rename one",
                )


def _shared_hosts(uses: list[_Use], file: str) -> Iterator[Problem]:
    owners: dict[tuple[str, str | None], str] = {}
    for use in uses:
        if use.target.ingress is None and use.target.gateway is None:
            continue
        host = host_name(use.deployment, use.target)
        owner = owners.setdefault((use.target_name, host), use.name)
        if owner != use.name:
            whose = "requests to any host are" if host is None else f"the host name {host} is"
            yield Problem(
                file,
                f"{use.path}.deployment.cname",
                f"{whose} for services.{owner} already, which stands behind the same computeTargets."
                f"{use.target_name}; give each a cname or a dnsNameLabel of its own",
            )


def _adapters(targets: Mapping[str, ComputeTarget], file: str) -> Iterator[Problem]:
    owners: dict[tuple[str | None, str | None], str] = {}
    for name, target in targets.items():
        if isinstance(target, KubernetesTarget) and target.metrics_adapter:
            owner = owners.setdefault((target.kubeconfig, target.context), name)
            if owner != name:
                yield Problem(
                    file,
                    f"computeTargets.{name}.metricsAdapter",
                    f"stands beside that of computeTargets.{owner}: a cluster has one, which serves all its "
                    f"namespaces; remove one of them",
                )


def _shared_namespaces(targets: Mapping[str, ComputeTarget], workspace: str, file: str) -> Iterator[Problem]:
    owners: dict[tuple[str | None, str | None, str], str] = {}
    for name, target in targets.items():
        if not isinstance(target, KubernetesTarget):
            continue
        namespace = namespace_of(target, workspace)
        owner = owners.setdefault((target.kubeconfig, target.context, namespace), name)
        if owner != name:
            yield Problem(
                file,
                f"computeTargets.{name}.namespace",
                f"{namespace!r} of the same cluster is that of computeTargets.{owner} already; choose another one",
            )
