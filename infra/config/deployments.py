"""What a service gets on its target: the fields of Azure's `deploymentconfig.json`, a model for each kind of target.

Their names and meanings are those of the Azure ML CLI v1, "Deployment configuration schema".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AliasChoices, ConfigDict, Field, SkipValidation, model_validator
from pydantic.alias_generators import to_camel

from infra.config.base import AssetName, DnsLabel, Secret, Section
from infra.config.targets import Domain


def _file_name(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", name) is None:
        raise ValueError(f"{name!r} is no name of a file: up to 128 letters, digits, '.', '_' and '-'")
    return name


FileName = Annotated[str, AfterValidator(_file_name)]
Port = Annotated[int, Field(ge=1, le=65535)]


class LocalDeployment(Section):
    """What a service gets on this machine."""

    compute_type: Literal["local"] | None = None
    """Azure's word for the kind of target; must fit the service's compute target."""
    port: Port
    """TCP port on 127.0.0.1."""


def _azure_name(name: str) -> str:
    return "memoryInGB" if name == "memory_in_gb" else to_camel(name)


class ContainerResources(Section):
    """Limits of one container."""

    model_config = ConfigDict(alias_generator=_azure_name)

    cpu: Annotated[float, Field(ge=0.01, le=1024)] | None = None
    """CPUs, 0.5 for half of one; by default no limit."""
    memory_in_gb: Annotated[float, Field(ge=0.006, le=65536)] | None = None
    """Memory in GB (2^30 bytes); by default no limit."""


class LivenessProbe(Section):
    """How the engine looks whether a container lives. Azure's `livenessProbeRequirements`."""

    period_seconds: Annotated[int, Field(ge=1)] = 10
    """How often it is asked."""
    initial_delay_seconds: Annotated[int, Field(ge=0)] = 310
    """How long after its start nothing is counted against it."""
    timeout_seconds: Annotated[int, Field(ge=1)] = 2
    """How long an answer may take."""
    success_threshold: Literal[1] = 1
    """After how many answers it lives again: an engine knows of one alone."""
    failure_threshold: Annotated[int, Field(ge=1)] = 3
    """After how many answers that did not come it counts as unhealthy."""


class ContainerDeployment(Section):
    """What a service gets on a Docker host: the fields that Azure Container Instances knows, and some of AKS'."""

    compute_type: Literal["ACI", "aci", "container"] | None = None
    """Azure's word for the kind of target; must fit the service's compute target."""
    container_resource_requirements: ContainerResources = ContainerResources()
    """Limits of one container."""
    port: Port | None = None
    """TCP port of the host; by default 80, and 443 with TLS."""
    num_replicas: Annotated[int, Field(ge=1, le=100)] = 1
    """Containers that serve side by side."""
    ssl_enabled: bool = False
    """Whether the service is reached over TLS."""
    cname: Domain | None = None
    """The service's host name, in its certificate and its URIs."""
    dns_name_label: DnsLabel | None = None
    """The service's host name below the target's `domain`."""
    ssl_cert: Secret | None = Field(None, validation_alias=AliasChoices("sslCert", "sslCertificate"))
    """The certificate and its chain (PEM), as `{secret: NAME}`; by default one of the workspace's own authority."""
    ssl_key: Secret | None = None
    """The certificate's key (PEM, no passphrase), as `{secret: NAME}`."""
    auth_enabled: bool = False
    """Whether requests need a key."""
    primary_key: Secret | None = None
    """A key, as `{secret: NAME}`; by default one that is generated."""
    secondary_key: Secret | None = None
    """The other key; by default one that is generated."""
    gpu_cores: Annotated[int, Field(ge=0)] = 0
    """GPUs of the host that each container sees."""
    devices: tuple[AssetName, ...] = ()
    """Other devices, by their names in the target's `devices`."""
    scoring_timeout_ms: Annotated[int, Field(ge=1, le=86_400_000)] = 60_000
    """Longest time in which a request is answered, then 504."""
    max_concurrent_requests_per_container: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Calls of `run()` at a time in one container; by default 1 (64 where it is a coroutine function)."""
    max_queue_wait_ms: Annotated[int, Field(ge=0, le=86_400_000)] | None = None
    """Longest wait of a request before `run()` is called, then 503; by default no limit of its own."""
    liveness_probe_requirements: LivenessProbe | None = None
    """How the engine looks whether a container lives."""
    app_insights_enabled: Literal[False] = False
    """Azure's Application Insights, which is not there: the server has metrics of its own."""
    secrets: Mapping[FileName, Secret] = {}
    """Files below /run/secrets that the service finds, as `NAME: {secret: NAME}`."""

    @model_validator(mode="after")
    def _what_goes_together(self) -> Self:
        if (self.ssl_cert is None) != (self.ssl_key is None):
            raise ValueError("sslCert and sslKey go together: give both, or none")
        if self.ssl_cert is not None and not self.ssl_enabled:
            raise ValueError("has a certificate, and sslEnabled is not true; set it, or remove sslCert and sslKey")
        if (self.primary_key or self.secondary_key) and not self.auth_enabled:
            raise ValueError("has a key, and authEnabled is not true; set it, or remove the keys")
        if self.cname is not None and self.dns_name_label is not None:
            raise ValueError("has a cname beside a dnsNameLabel: a service has one host name, remove one of them")
        return self


Deployment = LocalDeployment | ContainerDeployment
"""What a service gets, whatever kind of target it is for."""

UncheckedDeployment = SkipValidation[Deployment]
"""As it was written: which model it must fit is known once the service's target is."""

DEPLOYMENTS: dict[str, type[Deployment]] = {"local": LocalDeployment, "container": ContainerDeployment}
"""The model for each kind of target."""

AZURE_DEPLOYMENT_FIELDS = frozenset(
    {
        "autoScaler",
        "dataCollection",
        "isDefault",
        "keys",
        "location",
        "namespace",
        "sslCertificate",
        "tokenAuthEnabled",
        "trafficPercentile",
        *(field.alias or name for model in DEPLOYMENTS.values() for name, field in model.model_fields.items()),
    }
)
"""Fields of Azure's `deploymentconfig.json` (Azure ML CLI v1): where one is unknown, the target cannot honour it."""
