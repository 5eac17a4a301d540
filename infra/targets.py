"""Declares the compute targets of a plan, and says what each service gets there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi

from components import CopiedImage, Registry, ServiceImage
from components.targets import ComputeTarget, LocalTarget
from infra import cluster_registry, clusters, config, kubeconfigs
from infra.config import ContainerDeployment, KubernetesDeployment, LivenessProbe, SecretReference
from provider import sdk

if TYPE_CHECKING:
    from components.cluster_registry import ClusterPlace
    from components.targets.base import Deployment, ImageSource
    from components.targets.cluster_settings import AutoScaling, KubernetesSettings, PullAccess
    from components.targets.container_options import ContainerSettings
    from components.targets.pods import Placement
    from components.targets.server_settings import Liveness

Secret = Callable[[SecretReference | None], "pulumi.Output[str] | None"]


@dataclass(frozen=True)
class Limits:
    """What a container gets, and what is promised to it."""

    cpus: float | None
    memory_bytes: int | None
    cpus_promised: float | None = None
    memory_bytes_promised: int | None = None


def local(home: pulumi.Input[str], registry: Registry) -> ComputeTarget:
    """This machine."""
    return LocalTarget(home, registry)


def container(
    name: str,
    target: config.ContainerTarget,
    workspace: str,
    root: Path,
    registry: Registry,
    router: CopiedImage,
    images: ImageSource,
    parent: pulumi.Resource,
) -> ComputeTarget:
    """A Docker host, with the provider for its engine."""
    # Only here: a stack without containers need not wait for them.
    import pulumi_docker as docker

    from components.targets.container import ContainerTarget, ContainerTargetArgs

    cert_path = None if target.cert_path is None else str(root / target.cert_path)
    access = None
    if registry.username is not None and registry.password is not None:
        access = [
            docker.ProviderRegistryAuthArgs(
                address=registry.location.apply(_host), username=registry.username, password=registry.password
            )
        ]
    provider = docker.Provider(
        f"{name}-engine",
        host=target.host,
        cert_path=cert_path,
        registry_auth=access,
        opts=pulumi.ResourceOptions(parent=parent),
    )
    args: ContainerTargetArgs = {
        "workspace": workspace,
        "host": target.host,
        "cert_path": cert_path,
        "bind": target.bind,
        "router_image": router.reference,
        "images": images,
    }
    return ContainerTarget(name, args, pulumi.ResourceOptions(parent=parent, providers=[provider]))


def cluster_provider(
    name: str, target: config.KubernetesTarget, root: Path, parent: pulumi.Resource
) -> pulumi.ProviderResource:
    """The kubernetes provider of a target's cluster."""
    from components.targets.objects import ClusterProvider

    return ClusterProvider(
        f"{name}-cluster", kubeconfigs.path_of(target, root), target.context, pulumi.ResourceOptions(parent=parent)
    )


def registry_place(
    registry: config.ClusterRegistry,
    target: config.KubernetesTarget,
    workspace: str,
    root: Path,
    provider: pulumi.ProviderResource,
) -> ClusterPlace:
    """Where a registry in a target's cluster runs."""
    from components.cluster_registry import ClusterPlace

    return ClusterPlace(
        workspace=workspace,
        provider=provider,
        cluster=_reached(target, root),
        namespace=cluster_registry.namespace_of(registry, target, workspace),
        make_namespace=registry.namespace is None,
        image=registry.image,
        node_port=registry.node_port,
        storage_class=registry.storage_class,
        placement=_placement(target),
    )


def _reached(target: config.KubernetesTarget, root: Path) -> dict[str, str]:
    """How a cluster is reached, for the provider's own resources."""
    cluster = {"kubeconfig": kubeconfigs.path_of(target, root), "context": target.context}
    return {key: value for key, value in cluster.items() if value is not None}


def kubernetes(
    name: str,
    target: config.KubernetesTarget,
    workspace: str,
    root: Path,
    registry: Registry,
    router: CopiedImage | None,
    adapter: tuple[CopiedImage, sdk.CertificateAuthority] | None,
    images: ImageSource,
    provider: pulumi.ProviderResource,
    parent: pulumi.Resource,
) -> ComputeTarget:
    """A cluster, by its provider. `router`: the image, where a service there has a router; `adapter`: an image with
    Python and who signs its certificate, where the stack brings an adapter for metrics."""
    from components.targets.cluster_settings import Gateway, Ingress
    from components.targets.kubernetes import KubernetesTarget, KubernetesTargetArgs

    ingress, gateway, limits, manager = target.ingress, target.gateway, target.limits, target.cert_manager
    args: KubernetesTargetArgs = {
        "workspace": workspace,
        "cluster": _reached(target, root),
        "namespace": clusters.namespace_of(target, workspace),
        "pod_security": target.pod_security if target.create_namespace else None,
        "expose": target.expose,
        "ingress": None
        if ingress is None
        else Ingress(
            ingress.class_name, ingress.annotations, None if manager is None else (manager.kind, manager.issuer)
        ),
        "gateway": None if gateway is None else Gateway(gateway.name, gateway.namespace, gateway.section_name),
        "pull_access": _pull_access(registry),
        "placement": _placement(target),
        "quota": target.quota,
        "limits": {} if limits is None else limits.model_dump(by_alias=True),
        "network_policy": target.network_policy,
        "router_image": None if router is None else router.reference,
        "metrics_adapter": None if adapter is None else {"image": adapter[0].reference, "authority": adapter[1]},
        "images": images,
    }
    return KubernetesTarget(name, args, pulumi.ResourceOptions(parent=parent, providers=[provider]))


def _pull_access(registry: Registry) -> PullAccess | None:
    from components.targets.cluster_settings import PullAccess

    if registry.username is None or registry.password is None:
        return None
    return PullAccess(registry.location.apply(_host), registry.username, registry.password)


def _placement(target: config.KubernetesTarget) -> Placement:
    from components.targets.pods import Placement

    architecture = {"kubernetes.io/arch": target.platform.partition("/")[2]}
    return Placement(
        node_selector={**architecture, **target.node_selector},
        tolerations=[item.model_dump(by_alias=True, exclude_none=True) for item in target.tolerations],
        priority_class=target.priority_class_name,
    )


def service_image(
    registry: Registry,
    base: CopiedImage,
    python_version: str,
    platform: str,
    name: str,
    service: str,
    key: str,
    port: int,
    deployment: Deployment,
    parent: pulumi.Resource,
) -> ServiceImage:
    """The image of the deployment `key` of `service` in `registry`, upon `base`; see `ImageSource`."""
    return ServiceImage(
        name,
        {
            "service": service,
            "registry": registry,
            # One for each deployment: an image that one of them no longer needs may be another one's.
            "repository": f"services/{service}/{key}",
            "base": base,
            "python_version": python_version,
            "platform": platform,
            "environment": deployment.environment,
            "models": deployment.models,
            "entry_script": deployment.entry_script,
            "source_directory": deployment.source_directory,
            "port": port,
        },
        pulumi.ResourceOptions(parent=parent),
    )


def limits(resources: config.ContainerResources | config.KubernetesResources) -> Limits:
    """What each container of a deployment gets."""
    match resources:
        case config.KubernetesResources():
            return Limits(
                cpus=resources.cpu_limit,
                memory_bytes=_bytes(resources.memory_in_gb_limit),
                cpus_promised=resources.cpu,
                memory_bytes_promised=_bytes(resources.memory_in_gb),
            )
        case config.ContainerResources():
            return Limits(cpus=resources.cpu, memory_bytes=_bytes(resources.memory_in_gb))


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else int(gigabytes * 2**30)


def container_settings(
    deployment: ContainerDeployment,
    target: config.ContainerTarget,
    authority: Callable[[], sdk.CertificateAuthority],
    secret: Secret,
) -> ContainerSettings:
    """What a service asks of a Docker host, in that target's words."""
    from components.targets.container_options import ContainerSettings

    return ContainerSettings(
        host=host_name(deployment, target),
        authority=authority() if deployment.ssl_enabled and deployment.ssl_cert is None else None,
        gpus=deployment.gpu_cores,
        devices=tuple(target.devices[device] for device in deployment.devices),
        **_server_settings(deployment, secret),
    )


def kubernetes_settings(
    deployment: KubernetesDeployment,
    target: config.KubernetesTarget,
    authority: Callable[[], sdk.CertificateAuthority],
    secret: Secret,
) -> KubernetesSettings:
    """What a service asks of a cluster, in that target's words."""
    from components.targets.cluster_settings import KubernetesSettings

    elsewhere = target.gateway is not None or target.cert_manager is not None or deployment.ssl_cert is not None
    return KubernetesSettings(
        host=clusters.host_name(deployment, target),
        authority=authority() if deployment.ssl_enabled and not elsewhere else None,
        scaling=_scaling(deployment),
        extended=_extended(deployment, target),
        priority_class=deployment.priority_class_name,
        **_server_settings(deployment, secret),
    )


def _server_settings(deployment: ContainerDeployment | KubernetesDeployment, secret: Secret) -> dict[str, Any]:
    """What both say alike: fields of `ServerSettings`."""
    return {
        "tls": deployment.ssl_enabled,
        "certificate": secret(deployment.ssl_cert),
        "private_key": secret(deployment.ssl_key),
        "auth": deployment.auth_enabled,
        "primary_key": secret(deployment.primary_key),
        "secondary_key": secret(deployment.secondary_key),
        "secrets": {name: _known(secret(reference)) for name, reference in deployment.secrets.items()},
        "scoring_timeout_ms": deployment.scoring_timeout_ms,
        "max_concurrent_requests": deployment.max_concurrent_requests_per_container,
        "max_queue_wait_ms": deployment.max_queue_wait_ms,
        "liveness": _liveness(deployment.liveness_probe_requirements),
    }


def _scaling(deployment: KubernetesDeployment) -> AutoScaling | None:
    from components.targets.cluster_settings import AutoScaling

    scaler = deployment.auto_scaler
    if scaler is None or not scaler.autoscale_enabled:
        return None
    return AutoScaling(
        scaler.min_replicas,
        scaler.max_replicas,
        scaler.target_utilization,
        scaler.refresh_period_in_seconds,
        deployment.max_concurrent_requests_per_container if deployment.scales_by_requests else None,
    )


def _extended(deployment: KubernetesDeployment, target: config.KubernetesTarget) -> dict[str, int]:
    """Extended resource -> how many a pod gets."""
    known = clusters.accelerators_of(target)
    asked = {**({clusters.GPU: deployment.gpu_cores} if deployment.gpu_cores else {}), **deployment.accelerators}
    counts: dict[str, int] = {}
    for name, count in asked.items():
        counts[known[name]] = counts.get(known[name], 0) + count
    return counts


def host_name(deployment: ContainerDeployment, target: config.ContainerTarget) -> str | None:
    """The host name of a service, where it has one of its own."""
    if deployment.dns_name_label is not None and target.domain is not None:
        return f"{deployment.dns_name_label}.{target.domain}"
    return deployment.cname


def _liveness(probe: LivenessProbe | None) -> Liveness:
    from components.targets.server_settings import Liveness

    if probe is None:
        return Liveness()
    return Liveness(
        period=probe.period_seconds,
        timeout=probe.timeout_seconds,
        failures=probe.failure_threshold,
        initial_delay=probe.initial_delay_seconds,
    )


def _known(value: pulumi.Output[str] | None) -> pulumi.Output[str]:
    assert value is not None  # noqa: S101 - for the type checker: it has a reference
    return value


def _host(address: str) -> str:
    return address.partition("/")[0]
