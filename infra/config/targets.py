"""The section `computeTargets`: where services run."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from infra.config.base import AssetName, DnsLabel, IpAddress, Path, Section, Text

DEFAULT_HOST = "unix:///var/run/docker.sock"
"""The engine of the machine that runs Slipway."""

_HOST = re.compile(r"unix://(/[^\s]+)|ssh://([^\s@/]+@)?[^\s@/:]+(:\d+)?/?|tcp://[^\s@/:]+:\d+/?")


def _engine_host(address: str) -> str:
    if _HOST.fullmatch(address) is None:
        raise ValueError(
            f"{address!r} is no address of a Docker engine: unix:///PATH, ssh://HOST (USER@HOST for another user) "
            f"or tcp://HOST:PORT"
        )
    return address


def _domain(name: str) -> str:
    if re.fullmatch(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", name):
        return name
    raise ValueError(f"{name!r} is no domain name: labels of a-z, 0-9 and '-', with dots between them")


def _device(path: str) -> str:
    if not path.startswith("/dev/"):
        raise ValueError(f"{path!r} is no device: its path on the host begins with /dev/")
    return path


def _extended_resource(name: str) -> str:
    if re.fullmatch(r"[a-z0-9.-]+\.[a-z0-9.-]+/[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", name) is None:
        raise ValueError(
            f"{name!r} is no extended resource of a node: DOMAIN/NAME, as in nvidia.com/gpu or xilinx.com/fpga-name "
            f"(`kubectl describe nodes` shows those of yours)"
        )
    return name


def _quantity(text: str) -> str:
    """As Kubernetes writes it (apimachinery, `Quantity`): anything else would be a change at every look."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(m|k|[KMGTPE]i|[MGTPE]|)", text)
    if match is None:
        raise ValueError(f"{text!r} is no quantity of Kubernetes: a number, perhaps with m, k, M, G, Ki, Mi or Gi")
    units, base = (_BINARY, 1024) if match[2].endswith("i") else (_DECIMAL, 1000)
    # In the smallest unit, rounded up as there.
    count = math.ceil(Decimal(match[1]) * base ** units.index(match[2]))
    exponent = 0
    while count and count % base == 0 and exponent + 1 < len(units):
        count, exponent = count // base, exponent + 1
    return f"{count}{units[exponent]}" if count else "0"


_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = ("m", "", "k", "M", "G", "T", "P", "E")
Domain = Annotated[str, AfterValidator(_domain)]
ExtendedResource = Annotated[str, AfterValidator(_extended_resource)]
Quantity = Annotated[Text, AfterValidator(_quantity)]
ResourceName = Annotated[str, Field(min_length=1)]


class LocalTarget(Section):
    """This machine: services run as supervised processes, without a container."""

    kind: Literal["local"]
    """The kind of target."""


class ContainerTarget(Section):
    """A Docker host, in the place of Azure Container Instances: services run as containers behind a router."""

    kind: Literal["container"]
    """The kind of target."""
    host: Annotated[str, AfterValidator(_engine_host)] = DEFAULT_HOST
    """The engine: `unix:///PATH`, `ssh://[USER@]HOST[:PORT]` or `tcp://HOST:PORT`; by default this machine's."""
    cert_path: Path | None = None
    """Folder with `ca.pem`, `cert.pem` and `key.pem` for an engine at `tcp://`, relative to the project's folder."""
    bind: IpAddress = "0.0.0.0"  # noqa: S104 - as Azure's services are public
    """Address of the host that services listen on; by default all of IPv4."""
    domain: Domain | None = None
    """Domain below which a service's `dnsNameLabel` stands; its records are yours to make."""
    platform: Literal["linux/amd64", "linux/arm64"] = "linux/amd64"
    """The host's, which images are made for."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """How many GPUs the host has (NVIDIA's container toolkit has to be set up there)."""
    devices: Mapping[AssetName, Annotated[str, AfterValidator(_device)]] = {}
    """Other devices of the host that deployments may name: `fpga: /dev/xdma0`."""

    @model_validator(mode="after")
    def _certificates_go_with_tcp(self) -> Self:
        tcp = self.host.startswith("tcp://")
        if tcp and self.cert_path is None:
            raise ValueError("has a `host` at tcp://, which needs TLS: give `certPath`, or reach it by ssh://")
        if not tcp and self.cert_path is not None:
            raise ValueError("has a `certPath`, which only a `host` at tcp:// needs; remove it")
        return self


class Ingress(Section):
    """How an ingress controller of the cluster lets requests in."""

    class_name: Annotated[str, Field(min_length=1)] | None = None
    """The `IngressClass`; by default the cluster's own default."""
    host: Domain | None = None
    """Host name of a service that has none of its own."""
    annotations: Mapping[str, Text] = {}
    """Annotations for the controller."""


class Gateway(Section):
    """A `Gateway` (Gateway API) that is there, which lets requests in and splits them."""

    name: Annotated[str, Field(min_length=1)]
    """Its name."""
    namespace: DnsLabel | None = None
    """Its namespace; by default that of the services."""
    section_name: Annotated[str, Field(min_length=1)] | None = None
    """The listener; by default all that take the route."""


class CertManager(Section):
    """cert-manager, which makes the certificates of services behind an ingress."""

    issuer: Annotated[str, Field(min_length=1)]
    """Name of the issuer."""
    kind: Literal["Issuer", "ClusterIssuer"] = "Issuer"
    """Whether it is one of the namespace or of the whole cluster."""


class Toleration(Section):
    """A taint of nodes that pods may run in spite of."""

    key: Annotated[str, Field(min_length=1)] | None = None
    """Key of the taint; by default any, with the operator Exists."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Whether the value counts."""
    value: Text | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; by default any."""
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None
    """How long a pod stays on a node that gets a NoExecute taint; by default for good."""

    @model_validator(mode="after")
    def _what_goes_together(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("has a value, which the operator Exists does not look at; remove one of them")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("has no key, and so tolerates any taint: say so with `operator: Exists`, or add the key")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("has tolerationSeconds, which the effect NoExecute alone knows; add that, or remove them")
        return self


class ContainerLimits(Section):
    """What a `LimitRange` says of containers, by resource: `{cpu: 500m, memory: 1Gi}`."""

    default: Mapping[ResourceName, Quantity] = {}
    """Limits of a container that has none."""
    default_request: Mapping[ResourceName, Quantity] = {}
    """Requests of a container that has none."""
    max: Mapping[ResourceName, Quantity] = {}
    """What no container may be given more than."""
    min: Mapping[ResourceName, Quantity] = {}
    """What no container may ask less than."""


class KubernetesTarget(Section):
    """A Kubernetes cluster, in the place of AKS: services run as Deployments in a namespace of the workspace."""

    kind: Literal["kubernetes"]
    """The kind of target."""
    kubeconfig: Path | None = None
    """The kubeconfig file, relative to the project's folder; by default as of kubectl: KUBECONFIG, ~/.kube/config."""
    context: Annotated[str, Field(min_length=1)] | None = None
    """Its context; by default the current one."""
    namespace: DnsLabel | None = None
    """The namespace of the services; by default named like the workspace."""
    create_namespace: bool = True
    """Whether the namespace is made; false takes one that is there."""
    platform: Literal["linux/amd64", "linux/arm64"] = "linux/amd64"
    """The nodes', which images are made for."""
    ingress: Ingress | None = None
    """Services are reached through an ingress controller."""
    gateway: Gateway | None = None
    """Services are reached through a gateway."""
    expose: Literal["clusterIp", "nodePort", "loadBalancer"] = "clusterIp"
    """The kind of Service without one of the two: inside the cluster, on a port of each node, or by a balancer."""
    cert_manager: CertManager | None = None
    """Makes the certificates of an ingress; by default the workspace's own authority does."""
    domain: Domain | None = None
    """Domain below which a service's `dnsNameLabel` stands; its records are yours to make."""
    node_selector: Mapping[ResourceName, Text] = {}
    """Labels of the nodes that pods run on."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints of nodes that pods may run in spite of."""
    priority_class_name: Annotated[str, Field(min_length=1)] | None = None
    """`PriorityClass` of the pods of services that name none."""
    quota: Mapping[ResourceName, Quantity] = {}
    """A `ResourceQuota` of the namespace: `{requests.cpu: "8", limits.memory: 32Gi}`."""
    limits: ContainerLimits | None = None
    """A `LimitRange` of the namespace."""
    accelerators: Mapping[AssetName, ExtendedResource] = {}
    """Names for what nodes have: `{slice: nvidia.com/mig-1g.5gb, fpga: xilinx.com/fpga-name}`; `gpu` is what
    `gpuCores` counts, nvidia.com/gpu by default."""
    network_policy: bool = True
    """Whether NetworkPolicies let nothing but requests to the services in."""
    metrics_adapter: bool = False
    """Whether an adapter is brought that serves the pods' requests in flight to the cluster's autoscalers, as
    `custom.metrics.k8s.io`: one a cluster, for all its namespaces, where nobody else serves that."""
    pod_security: Literal["restricted", "baseline", "privileged"] = "restricted"
    """The level that a namespace made here enforces; the pods themselves keep to `restricted`."""

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.ingress is not None and self.gateway is not None:
            raise ValueError("has an `ingress` beside a `gateway`: services are reached one way, remove one of them")
        other = "ingress" if self.ingress is not None else "gateway"
        if (self.ingress is not None or self.gateway is not None) and self.expose != "clusterIp":
            raise ValueError(f"has `expose: {self.expose}` beside `{other}`; remove one of them")
        if self.cert_manager is not None and self.ingress is None:
            raise ValueError(
                "has `certManager`, which needs an `ingress`; add it, or remove this: a gateway's listener has its "
                "own certificate, and without either the workspace's authority makes one"
            )
        return self

    @model_validator(mode="after")
    def _taken_namespace(self) -> Self:
        if not self.create_namespace and "pod_security" in self.model_fields_set:
            raise ValueError(
                "has `podSecurity`, a label of a namespace that is made here, and `createNamespace: false`; remove "
                "one of them"
            )
        return self


ComputeTarget = Annotated[LocalTarget | ContainerTarget | KubernetesTarget, Field(discriminator="kind")]
"""Every kind of compute target."""
