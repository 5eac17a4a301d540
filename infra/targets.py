"""Declares the compute targets of a plan, and says what each service gets there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi

from components import CopiedImage, Registry, ServiceImage
from components.targets import ComputeTarget, LocalTarget
from infra import config
from infra.config import ContainerDeployment, LivenessProbe, SecretReference
from provider import sdk

if TYPE_CHECKING:
    from components.targets.base import Deployment
    from components.targets.container import ContainerSettings, ImageSource

Secret = Callable[[SecretReference | None], "pulumi.Output[str] | None"]


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


def container_settings(
    deployment: ContainerDeployment,
    target: config.ContainerTarget,
    authority: Callable[[], sdk.CertificateAuthority],
    secret: Secret,
) -> ContainerSettings:
    """What a service asks of a Docker host, in that target's words."""
    from components.targets.container import ContainerSettings

    return ContainerSettings(
        host=host_name(deployment, target),
        tls=deployment.ssl_enabled,
        certificate=secret(deployment.ssl_cert),
        private_key=secret(deployment.ssl_key),
        authority=authority() if deployment.ssl_enabled and deployment.ssl_cert is None else None,
        auth=deployment.auth_enabled,
        primary_key=secret(deployment.primary_key),
        secondary_key=secret(deployment.secondary_key),
        gpus=deployment.gpu_cores,
        devices=tuple(target.devices[device] for device in deployment.devices),
        secrets={name: _known(secret(reference)) for name, reference in deployment.secrets.items()},
        scoring_timeout_ms=deployment.scoring_timeout_ms,
        max_concurrent_requests=deployment.max_concurrent_requests_per_container,
        max_queue_wait_ms=deployment.max_queue_wait_ms,
        **_liveness(deployment.liveness_probe_requirements),
    )


def host_name(deployment: ContainerDeployment, target: config.ContainerTarget) -> str | None:
    """The host name of a service, where it has one of its own."""
    if deployment.dns_name_label is not None and target.domain is not None:
        return f"{deployment.dns_name_label}.{target.domain}"
    return deployment.cname


def _liveness(probe: LivenessProbe | None) -> dict[str, Any]:
    from components.targets.container import Liveness

    if probe is None:
        return {}
    return {
        "liveness": Liveness(
            period=probe.period_seconds,
            timeout=probe.timeout_seconds,
            failures=probe.failure_threshold,
            initial_delay=probe.initial_delay_seconds,
        )
    }


def _known(value: pulumi.Output[str] | None) -> pulumi.Output[str]:
    assert value is not None  # noqa: S101 - for the type checker: it has a reference
    return value


def _host(address: str) -> str:
    return address.partition("/")[0]
