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
    return {"memory_in_gb": "memoryInGB", "memory_in_gb_limit": "memoryInGBLimit"}.get(name, to_camel(name))


class ContainerResources(Section):
    """Limits of one container."""

    model_config = ConfigDict(alias_generator=_azure_name)

    cpu: Annotated[float, Field(ge=0.01, le=1024)] | None = None
    """CPUs, 0.5 for half of one; by default no limit."""
    memory_in_gb: Annotated[float, Field(ge=0.006, le=65536)] | None = None
    """Memory in GB (2^30 bytes); by default no limit."""


class LivenessProbe(Section):
    """How the target looks whether a container lives. Azure's `livenessProbeRequirements`."""

    period_seconds: Annotated[int, Field(ge=1)] = 10
    """How often it is asked."""
    initial_delay_seconds: Annotated[int, Field(ge=0)] = 310
    """How long after its start nothing is counted against it."""
    timeout_seconds: Annotated[int, Field(ge=1)] = 2
    """How long an answer may take."""
    success_threshold: Literal[1] = 1
    """After how many answers it lives again: targets know of one alone."""
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
        _check_access(self)
        return self


def _check_access(deployment: ContainerDeployment | KubernetesDeployment) -> None:
    """Raises ValueError where what says who gets in does not fit together."""
    if (deployment.ssl_cert is None) != (deployment.ssl_key is None):
        raise ValueError("sslCert and sslKey go together: give both, or none")
    if deployment.ssl_cert is not None and not deployment.ssl_enabled:
        raise ValueError("has a certificate, and sslEnabled is not true; set it, or remove sslCert and sslKey")
    if (deployment.primary_key or deployment.secondary_key) and not deployment.auth_enabled:
        raise ValueError("has a key, and authEnabled is not true; set it, or remove the keys")
    if deployment.cname is not None and deployment.dns_name_label is not None:
        raise ValueError("has a cname beside a dnsNameLabel: a service has one host name, remove one of them")


class KubernetesResources(Section):
    """What one pod is promised, and its limits."""

    model_config = ConfigDict(alias_generator=_azure_name)

    cpu: Annotated[float, Field(ge=0.001, le=1024)] | None = None
    """CPUs that a node keeps for it, 0.5 for half of one; by default 0.1, as Azure's."""
    cpu_limit: Annotated[float, Field(ge=0.001, le=1024)] | None = None
    """CPUs that it may use; by default no limit."""
    memory_in_gb: Annotated[float, Field(ge=0.006, le=65536)] | None = None
    """Memory in GB (2^30 bytes) that a node keeps for it; by default 0.5, as Azure's."""
    memory_in_gb_limit: Annotated[float, Field(ge=0.006, le=65536)] | None = None
    """Memory in GB that it may use; by default no limit."""

    @model_validator(mode="after")
    def _limits_are_higher(self) -> Self:
        for name, least, most in (
            ("cpu", self.cpu, self.cpu_limit),
            ("memoryInGB", self.memory_in_gb, self.memory_in_gb_limit),
        ):
            if least is not None and most is not None and least > most:
                raise ValueError(f"promises more than it allows: {name} {least:g} is above {name}Limit {most:g}")
        return self


class AutoScaler(Section):
    """How many pods run, by their load. Azure's `autoScaler`."""

    autoscale_enabled: bool = True
    """Whether pods are added and removed; false takes `numReplicas`."""
    min_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """The fewest pods."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 10
    """The most pods."""
    refresh_period_in_seconds: Annotated[int, Field(ge=1, le=1800)] | None = None
    """How soon after pods were added more may be; by default the cluster's own, 15 s."""
    target_utilization: Annotated[int, Field(ge=1, le=100)] = 70
    """Percent that is aimed at: of the pods' `cpu`, or of `maxConcurrentRequestsPerContainer`."""
    metric: Literal["cpu", "requestsInFlight"] = "cpu"
    """What the load is: the CPU that pods use, or the requests that they have and have not answered, as Azure's own
    autoscaler has it; that needs a cluster with an adapter for metrics."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"has minReplicas {self.min_replicas} above maxReplicas {self.max_replicas}; mend one")
        return self


class KubernetesDeployment(Section):
    """What a service gets on a Kubernetes cluster: the fields that AKS knows."""

    compute_type: Literal["AKS", "aks", "kubernetes"] | None = None
    """Azure's word for the kind of target; must fit the service's compute target."""
    namespace: DnsLabel | None = None
    """Where an Azure file says it; must be the target's."""
    port: Port | None = None
    """TCP port of the service; by default 80, and 443 with TLS."""
    auto_scaler: AutoScaler | None = None
    """How many pods run, by their load."""
    num_replicas: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Pods that serve side by side, without an autoscaler; by default 1."""
    container_resource_requirements: KubernetesResources = KubernetesResources()
    """What one pod is promised, and its limits."""
    gpu_cores: Annotated[int, Field(ge=0)] = 0
    """GPUs of a pod: the target's accelerator `gpu`, nvidia.com/gpu by default."""
    accelerators: Mapping[AssetName, Annotated[int, Field(ge=1)]] = {}
    """How many a pod gets of the accelerators that the target names: `{slice: 1}`."""
    liveness_probe_requirements: LivenessProbe | None = None
    """How the cluster looks whether a pod lives."""
    ssl_enabled: bool = False
    """Whether the service is reached over TLS."""
    cname: Domain | None = None
    """The service's host name, in its certificate and its URIs."""
    dns_name_label: DnsLabel | None = None
    """The service's host name below the target's `domain`."""
    ssl_cert: Secret | None = Field(None, validation_alias=AliasChoices("sslCert", "sslCertificate"))
    """The certificate and its chain (PEM), as `{secret: NAME}`; by default one of the target's cert-manager, or of the
    workspace's own authority."""
    ssl_key: Secret | None = None
    """The certificate's key (PEM, no passphrase), as `{secret: NAME}`."""
    auth_enabled: bool = False
    """Whether requests need a key."""
    primary_key: Secret | None = None
    """A key, as `{secret: NAME}`; by default one that is generated."""
    secondary_key: Secret | None = None
    """The other key; by default one that is generated."""
    scoring_timeout_ms: Annotated[int, Field(ge=1, le=1_740_000)] = 60_000
    """Longest time in which a request is answered, then 504."""
    max_concurrent_requests_per_container: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Calls of `run()` at a time in one pod; by default 1 (64 where it is a coroutine function)."""
    max_queue_wait_ms: Annotated[int, Field(ge=0, le=86_400_000)] | None = None
    """Longest wait of a request before `run()` is called, then 503; by default no limit of its own."""
    app_insights_enabled: Literal[False] = False
    """Azure's Application Insights, which is not there: the server has metrics of its own."""
    secrets: Mapping[FileName, Secret] = {}
    """Files below /run/secrets that the service finds, as `NAME: {secret: NAME}`."""
    priority_class_name: Annotated[str, Field(min_length=1)] | None = None
    """`PriorityClass` of its pods; by default the target's."""

    @model_validator(mode="after")
    def _what_goes_together(self) -> Self:
        _check_access(self)
        if self.scales and self.num_replicas is not None:
            raise ValueError("has numReplicas beside an autoScaler, which says how many run; remove one of them")
        if self.scales_by_requests and self.max_concurrent_requests_per_container is None:
            raise ValueError(
                "has autoScaler.metric requestsInFlight, of which targetUtilization is a part, and no "
                "maxConcurrentRequestsPerContainer: say how many requests a pod takes at once (1 is Azure's default)"
            )
        if self.gpu_cores and "gpu" in self.accelerators:
            raise ValueError("has gpuCores beside accelerators.gpu, which are the same; remove one of them")
        return self

    @property
    def scales(self) -> bool:
        """Whether an autoscaler says how many pods run."""
        return self.auto_scaler is not None and self.auto_scaler.autoscale_enabled

    @property
    def scales_by_requests(self) -> bool:
        """Whether it goes by the requests in flight."""
        return self.scales and self.auto_scaler is not None and self.auto_scaler.metric == "requestsInFlight"


Deployment = LocalDeployment | ContainerDeployment | KubernetesDeployment
"""What a service gets, whatever kind of target it is for."""

UncheckedDeployment = SkipValidation[Deployment]
"""As it was written: which model it must fit is known once the service's target is."""

DEPLOYMENTS: dict[str, type[Deployment]] = {
    "local": LocalDeployment,
    "container": ContainerDeployment,
    "kubernetes": KubernetesDeployment,
}
"""The model for each kind of target."""

AZURE_DEPLOYMENT_FIELDS = frozenset(
    {
        "autoScaler",
        "cpuLimit",
        "dataCollection",
        "isDefault",
        "keys",
        "location",
        "memoryInGBLimit",
        "namespace",
        "sslCertificate",
        "tokenAuthEnabled",
        "trafficPercentile",
        *(field.alias or name for model in DEPLOYMENTS.values() for name, field in model.model_fields.items()),
    }
)
"""Fields of Azure's `deploymentconfig.json` (Azure ML CLI v1): where one is unknown, the target cannot honour it."""
