"""The container registry of a workspace, and what its tiers mean.

Four kinds behind one class: an OCI image layout in the workspace's folder, a registry that runs on this machine or in a
Kubernetes cluster, and one that is there already. What is stored asks for its `location` and how to reach it, and not
for its kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict, TypeVar

import pulumi

from provider import sdk

if TYPE_CHECKING:
    from components.cluster_registry import ClusterPlace

Tier = Literal["Basic", "Standard", "Premium"]
Kind = Literal["layout", "service", "cluster", "external"]
T = TypeVar("T")
_GIB = 2**30
_MIB = 2**20


@dataclass(frozen=True)
class TierLimits:
    """What a tier gives."""

    quota_bytes: int
    """What may be stored; in a cluster, the size of the volume."""
    cpus: float
    """CPUs of a registry that runs here or in a cluster."""
    memory_bytes: int
    """Memory of a registry that runs here or in a cluster."""
    parallel: int
    """Layers that a client sends at once."""
    webhooks: int
    """Webhooks of a registry that runs here."""
    replicas: int
    """Registries that serve the same data side by side, where they run here."""


TIERS: dict[Tier, TierLimits] = {
    "Basic": TierLimits(quota_bytes=10 * _GIB, cpus=0.5, memory_bytes=256 * _MIB, parallel=2, webhooks=2, replicas=1),
    "Standard": TierLimits(
        quota_bytes=100 * _GIB, cpus=1, memory_bytes=512 * _MIB, parallel=6, webhooks=10, replicas=1
    ),
    "Premium": TierLimits(
        quota_bytes=500 * _GIB, cpus=2, memory_bytes=1024 * _MIB, parallel=16, webhooks=100, replicas=2
    ),
}
"""The tiers of Azure Container Registry; quotas of 10, 100 and 500 GiB."""


class RegistryArgs(TypedDict):
    """Arguments of `Registry`."""

    kind: NotRequired[Kind]
    """`layout` (by default), `service`, `cluster` or `external`."""
    tier: Tier
    """Basic, Standard or Premium. It changes in place, with nothing lost."""
    home: pulumi.Input[str]
    """Folder of the workspace on this machine."""
    port: NotRequired[int | None]
    """TCP port of a registry that runs here."""
    retention_days: NotRequired[int | None]
    """After how many days a manifest without a tag goes from a registry that runs here; by default they stay."""
    bind: NotRequired[str | None]
    """IP address that a registry here listens on; loopback where it is not given."""
    host: NotRequired[str | None]
    """Name or address by which others reach it; `bind` where it is not given."""
    authority: NotRequired[sdk.CertificateAuthority | None]
    """Signs the certificate of a registry here that others reach."""
    webhooks: NotRequired[Sequence[Mapping[str, Any]]]
    """Where its events go: `name`, `url`, `actions`, `scope` and `headers` of each."""
    cluster: NotRequired[ClusterPlace | None]
    """Where a registry in a cluster runs."""
    address: NotRequired[str | None]
    """Address of a registry that is there already: HOST[:PORT][/PATH]."""
    username: NotRequired[str | None]
    """Its user."""
    password: NotRequired[pulumi.Input[str] | None]
    """The user's password, a secret."""
    ca_certificate: NotRequired[str | None]
    """The certificates (PEM) to trust, where its own is of no public authority."""
    prefix: NotRequired[str]
    """What repositories of images begin with, where several workspaces store in the same registry: `prod/demo/`."""


class Registry(pulumi.ComponentResource):
    """A workspace's registry."""

    kind: Kind
    """`layout`, `service`, `cluster` or `external`."""
    tier: Tier
    """The tier asked for."""
    location: pulumi.Output[str]
    """Where it is: the folder of a layout, else an address; of one in a cluster that by which nodes know it."""
    quota_bytes: int | None
    """What may be stored, in bytes; None where that is not ours to say."""
    parallel: int | None
    """Layers that a client sends at once; None in a layout, where nothing is sent."""
    username: pulumi.Output[str] | None
    """The user to store as, where there is one."""
    password: pulumi.Output[str] | None
    """The user's password, a secret."""
    ca_certificate: pulumi.Output[str] | None
    """The certificates (PEM) to trust, where the registry's own is of no public authority."""
    port_forward: Mapping[str, Any] | None
    """How one in a cluster is reached from here, through the API server; None where its address is enough."""
    prefix: str
    """What repositories of this workspace begin with, where others store in the same registry: `prod/demo/`, or
    nothing."""

    def __init__(self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:components:Registry", name, {}, opts)
        self.kind = args.get("kind", "layout")
        self.tier = args["tier"]
        limits = TIERS[self.tier]
        self.quota_bytes = limits.quota_bytes
        self.parallel = None if self.kind == "layout" else limits.parallel
        self.username = self.password = self.ca_certificate = None
        self.port_forward = None
        self.prefix = args.get("prefix", "")
        self._service: pulumi.Resource | None = None
        self._serving: pulumi.Resource | None = None
        below = pulumi.ResourceOptions(parent=self)
        match self.kind:
            case "layout":
                self._in_a_layout(name, args, limits, below)
            case "service":
                self._as_a_service(name, args, limits, below)
            case "cluster":
                self._in_a_cluster(name, args, limits)
            case "external":
                self._elsewhere(args)
        self.register_outputs({"tier": self.tier, "location": self.location})

    def _in_a_layout(self, name: str, args: RegistryArgs, limits: TierLimits, opts: pulumi.ResourceOptions) -> None:
        path = pulumi.Output.concat(args["home"], "/store")
        layout = sdk.ImageLayout(
            f"{name}-store", {"path": path, "tier": self.tier, "quota_bytes": limits.quota_bytes}, opts
        )
        self.location = layout.path

    def _as_a_service(self, name: str, args: RegistryArgs, limits: TierLimits, opts: pulumi.ResourceOptions) -> None:
        bind, authority = args.get("bind"), args.get("authority")
        certificate = None
        if authority is not None:
            host = args.get("host") or _needed(bind, "bind", self.kind)
            certificate = sdk.Certificate(
                f"{name}-certificate",
                {
                    "ca_certificate": authority.certificate,
                    "ca_private_key": authority.private_key,
                    "common_name": host,
                    "names": [host],
                },
                opts,
            )
            self.ca_certificate = authority.certificate
        service = sdk.RegistryService(
            f"{name}-service",
            {
                "path": pulumi.Output.concat(args["home"], "/registry"),
                "port": _needed(args.get("port"), "port", self.kind),
                "tier": self.tier,
                "quota_bytes": limits.quota_bytes,
                "cpus": limits.cpus,
                "memory_bytes": limits.memory_bytes,
                "retention_days": args.get("retention_days"),
                "bind": bind,
                "host": args.get("host"),
                "certificate": None if certificate is None else certificate.certificate,
                "private_key": None if certificate is None else certificate.private_key,
                "replicas": limits.replicas if limits.replicas > 1 else None,
                "webhooks": args.get("webhooks") or None,
                "webhook_limit": limits.webhooks,
            },
            opts,
        )
        self.location, self.username, self.password = service.address, service.username, service.password
        self._service = service

    def _in_a_cluster(self, name: str, args: RegistryArgs, limits: TierLimits) -> None:
        from components import cluster_registry  # only here: a stack without one need not wait for it
        from provider.registry_host.cluster import USER

        where = _needed(args.get("cluster"), "cluster", self.kind)
        key = sdk.AccessKey(f"{name}-password", {"name": "registry"}, pulumi.ResourceOptions(parent=self))
        self.location = pulumi.Output.from_input(where.address)
        self.username = pulumi.Output.from_input(USER)
        self.password = pulumi.Output.secret(key.key)
        self.port_forward = where.port_forward
        self._service, self._serving = cluster_registry.declare(name, where, limits, self.password, self)

    def _elsewhere(self, args: RegistryArgs) -> None:
        self.location = pulumi.Output.from_input(_needed(args.get("address"), "address", self.kind))
        self.quota_bytes = None
        username, password, certificate = args.get("username"), args.get("password"), args.get("ca_certificate")
        self.username = None if username is None else pulumi.Output.from_input(username)
        self.password = None if password is None else pulumi.Output.secret(password)
        self.ca_certificate = None if certificate is None else pulumi.Output.from_input(certificate)

    def options_inside(
        self, parent: pulumi.Resource, depends_on: Sequence[pulumi.Resource] = ()
    ) -> pulumi.ResourceOptions:
        """The options of a resource that is something in this registry.

        What is in a registry that runs here goes with it: it is not asked to delete it first, and may be down. Of one
        in a cluster the address is known before it serves, and so it has to be waited for."""
        needed = [*depends_on, *([] if self._serving is None else [self._serving])]
        return pulumi.ResourceOptions(parent=parent, depends_on=needed, deleted_with=self._service)


def _needed(value: T | None, name: str, kind: str) -> T:
    if value is None:
        raise ValueError(f"a registry of kind {kind} needs {name}")
    return value
