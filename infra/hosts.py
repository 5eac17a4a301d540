"""What services ask of their compute targets, and of each other on a host they share: ports, names, devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from infra.config import (
    ComputeTarget,
    ContainerDeployment,
    ContainerTarget,
    Deployment,
    KubernetesDeployment,
    KubernetesTarget,
    LayoutRegistry,
    LocalDeployment,
    LocalTarget,
    Service,
    ServiceRegistry,
)
from infra.plan import ServicePlan
from infra.problems import Problem, near

Targets = Mapping[str, ComputeTarget]

_LONGEST_SOCKET_PATH = 107
# In bytes (unix(7), sun_path without its end). The services' sockets are named like their containers.
_SOCKET_PATH = "/run/slipway/slipway-{workspace}-{service}-{deployment}-01234567-99.sock"


def port_of(deployment: Deployment) -> int:
    """The port that a service is reached at; as Azure's, where none is given."""
    match deployment:
        case LocalDeployment():
            return deployment.port
        case ContainerDeployment() | KubernetesDeployment():
            otherwise = 443 if deployment.ssl_enabled else 80
            return otherwise if deployment.port is None else deployment.port


def check(
    services: Mapping[str, Service], plans: Mapping[str, ServicePlan], targets: Targets, workspace: str, file: str
) -> Iterator[Problem]:
    """Yields what a target does not have, and what two services on one host would both have."""
    for name, service in services.items():
        target = targets.get(service.compute_target)
        if isinstance(target, LocalTarget) and service.deployments:
            yield Problem(
                file,
                f"services.{name}.deployments",
                "cannot be honoured by a local target, where a service has one deployment; remove it, or deploy to "
                "another kind of target",
            )
        if isinstance(target, ContainerTarget):
            yield from _limits(name, service, file)
    for name, plan in plans.items():
        target = targets.get(plan.compute_target)
        if isinstance(target, ContainerTarget) and isinstance(plan.deployment, ContainerDeployment):
            path = f"services.{name}.deployment"
            yield from _devices(plan.deployment, plan.compute_target, target, path, file)
            yield from _name(plan.deployment, plan.compute_target, target, path, file)
            yield from _socket_paths(name, plan, workspace, file)
    yield from _ports(plans, targets, file)


def _limits(name: str, service: Service, file: str) -> Iterator[Problem]:
    for key, variant in service.deployments.items():
        resources = variant.container_resource_requirements
        given = (
            {}
            if resources is None
            else {"cpuLimit": resources.cpu_limit, "memoryInGBLimit": resources.memory_in_gb_limit}
        )
        for field, value in given.items():
            if value is not None:
                yield Problem(
                    file,
                    f"services.{name}.deployments.{key}.containerResourceRequirements.{field}",
                    "cannot be honoured by a container target, where `cpu` and `memoryInGB` are the limits; remove it, "
                    "or deploy to another kind of target",
                )


def check_registry(targets: Targets, registry: object, file: str) -> Iterator[Problem]:
    """Yields a registry that the engines of targets cannot pull from."""
    for name, target in targets.items():
        if isinstance(target, ContainerTarget | KubernetesTarget) and isinstance(registry, LayoutRegistry):
            who, verb = ("Docker engine", "has") if isinstance(target, ContainerTarget) else ("cluster", "is")
            yield Problem(
                file,
                "registry",
                f"is an image layout on this machine, from which no {who} pulls, and computeTargets.{name} {verb} "
                f"one; choose `kind: service` with a port, or `kind: external` with an address",
            )
        elif isinstance(registry, ServiceRegistry) and not registry.is_reached_by_others and _is_remote(target):
            yield Problem(
                file,
                "registry.bind",
                f"{registry.bind} is reached from this machine alone, and the engine of computeTargets.{name} is "
                f"elsewhere; set it to an address of this machine (0.0.0.0 for all), and `host` to its name",
            )


def _is_remote(target: ComputeTarget) -> bool:
    """Whether services run on another machine."""
    host = urlsplit(target.host).hostname if isinstance(target, ContainerTarget) else None
    return host is not None and host != "localhost" and not host.startswith("127.") and host != "::1"


def _devices(
    deployment: ContainerDeployment, name: str, target: ContainerTarget, path: str, file: str
) -> Iterator[Problem]:
    if deployment.gpu_cores > target.gpus:
        yield Problem(
            file,
            f"{path}.gpuCores",
            f"{deployment.gpu_cores} GPUs are asked for, and computeTargets.{name}.gpus says that the host has "
            f"{target.gpus}; mend one of them",
        )
    for index, device in enumerate(deployment.devices):
        if device not in target.devices:
            yield Problem(
                file,
                f"{path}.devices[{index}]",
                f"computeTargets.{name}.devices has none named {device!r}; {near(device, target.devices)}",
            )


def _name(
    deployment: ContainerDeployment, name: str, target: ContainerTarget, path: str, file: str
) -> Iterator[Problem]:
    if deployment.dns_name_label is not None and target.domain is None:
        yield Problem(
            file,
            f"{path}.dnsNameLabel",
            f"needs the domain that it stands below: set computeTargets.{name}.domain, or give the whole name as cname",
        )


def _socket_paths(name: str, plan: ServicePlan, workspace: str, file: str) -> Iterator[Problem]:
    for deployment in plan.deployments:
        path = _SOCKET_PATH.format(workspace=workspace, service=name, deployment=deployment)
        if len(path) > _LONGEST_SOCKET_PATH:
            yield Problem(
                file,
                f"services.{name}",
                f"the names of workspace, service and deployment ({workspace}, {name}, {deployment}) are "
                f"{len(path) - _LONGEST_SOCKET_PATH} characters too long together for a container target; shorten one",
            )


def _ports(plans: Mapping[str, ServicePlan], targets: Targets, file: str) -> Iterator[Problem]:
    owners: dict[tuple[str, int], str] = {}
    for name, plan in plans.items():
        target = targets.get(plan.compute_target)
        if isinstance(target, KubernetesTarget):
            continue  # a Service has an address of its own
        if isinstance(plan.deployment, ContainerDeployment) and isinstance(target, ContainerTarget):
            host, where = target.host, f"on {target.host}"
        else:
            host, where = "local", "on this machine"
        port = port_of(plan.deployment)
        owner = owners.setdefault((host, port), name)
        if owner != name:
            yield Problem(
                file,
                f"services.{name}.deployment.port",
                f"port {port} is taken by services.{owner}; services {where} share its ports: choose another",
            )
