"""The section `registry`: the kinds of container registries."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from infra.config.base import AssetName, DnsLabel, IpAddress, Path, Secret, Section, TextOrSecret

Tier = Literal["Basic", "Standard", "Premium"]
DEFAULT_REGISTRY_IMAGE = "docker.io/library/registry:2"
WebhookName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,49}$")]
LOOPBACK = "127.0.0.1"


def _image(reference: str) -> str:
    if re.fullmatch(r"[^\s@]+(:[\w][\w.-]{0,127}|@sha256:[0-9a-f]{64})", reference) is None:
        raise ValueError(f"{reference!r} names no image by a tag or a digest, as docker.io/library/registry:2 does")
    return reference


class LayoutRegistry(Section):
    """An OCI image layout in the workspace's folder on this machine."""

    kind: Literal["layout"] = "layout"
    """The kind of registry."""
    tier: Tier = "Basic"
    """Basic: 10 GiB; Standard: 100 GiB; Premium: 500 GiB."""


class Webhook(Section):
    """Where a registry tells what happens in it, as CloudEvents."""

    url: TextOrSecret
    """Where events are posted; as `{secret: NAME}` where a token is part of it."""
    actions: Annotated[tuple[Literal["push", "delete", "pull"], ...], Field(min_length=1)] = ("push", "delete")
    """What is told: `push`, `delete`, `pull`; by default the first two."""
    scope: Annotated[str, Field(min_length=1)] | None = None
    """Of which images, `REPOSITORY` or `REPOSITORY:TAG`, with `*` for anything; by default of all."""
    headers: Mapping[str, TextOrSecret] = {}
    """Headers of its requests; `Authorization: {secret: NAME}`."""


class ServiceRegistry(Section):
    """A registry that runs on this machine, with generated credentials."""

    kind: Literal["service"]
    """The kind of registry."""
    tier: Tier = "Basic"
    """What it may store (10, 100, 500 GiB), its CPUs and memory, and how much a client sends at once."""
    port: Annotated[int, Field(ge=1024, le=65535)]
    """TCP port on this machine."""
    bind: IpAddress = LOOPBACK
    """IP address to listen on; by default, nobody but this machine reaches it. On any other it speaks TLS, with a
    certificate of the workspace's own authority."""
    host: Annotated[str, Field(min_length=1)] | None = None
    """Name or address by which others reach it; needed where `bind` is 0.0.0.0."""
    webhooks: Mapping[WebhookName, Webhook] = {}
    """Where events go, by name: 2, 10 or 100 of them, by tier."""
    retention_days: Annotated[int, Field(ge=1)] | None = None
    """After how many days a manifest that no tag names goes (Premium); by default they stay."""

    @property
    def is_reached_by_others(self) -> bool:
        """Whether it is reached from beyond this machine."""
        return not ipaddress.ip_address(self.bind).is_loopback

    @model_validator(mode="after")
    def _what_goes_together(self) -> Self:
        if ipaddress.ip_address(self.bind).is_unspecified and self.host is None:
            raise ValueError(f"has `bind: {self.bind}`, and no `host` by which others reach it; add it")
        if self.retention_days is not None and self.tier != "Premium":
            raise ValueError(f"retentionDays needs the tier Premium, not {self.tier}; remove it, or choose that tier")
        return self


class ClusterRegistry(Section):
    """A registry that runs in a Kubernetes cluster, with generated credentials and a volume of its own."""

    kind: Literal["cluster"]
    """The kind of registry."""
    tier: Tier = "Basic"
    """The size of its volume (10, 100, 500 GiB), its CPUs and memory, and how much a client sends at once."""
    compute_target: AssetName
    """The target of kind `kubernetes` on whose cluster it runs."""
    node_port: Annotated[int, Field(ge=1024, le=65535)] = 30500
    """TCP port of each node at which that node pulls; within the cluster's range, usually 30000 to 32767."""
    image: Annotated[str, AfterValidator(_image)] = DEFAULT_REGISTRY_IMAGE
    """Image of CNCF Distribution, 2.7 or newer, as nodes pull it."""
    storage_class: Annotated[str, Field(min_length=1)] | None = None
    """`StorageClass` of its volume; by default the cluster's own default. Another one makes another volume."""
    namespace: DnsLabel | None = None
    """A namespace that is there; by default one is made, named like that of the services with `-registry`."""


def _address(text: str) -> str:
    from provider.registry.address import parse  # only here: most stacks have no such registry
    from provider.registry.errors import RegistryError

    try:
        parse(text)
    except RegistryError as error:
        raise ValueError(str(error)) from None
    return text


class ExternalRegistry(Section):
    """A registry that is there already: any OCI registry."""

    kind: Literal["external"]
    """The kind of registry."""
    tier: Tier = "Basic"
    """How much is sent at once: 2, 6 or 16 layers. What it stores is its own matter."""
    address: Annotated[str, AfterValidator(_address)]
    """Its address, `HOST[:PORT][/PATH]`; what Slipway stores lies below the path."""
    username: Annotated[str, Field(min_length=1)] | None = None
    """User name, where it asks for one."""
    password: Secret | None = None
    """Password or token, as `{secret: NAME}`."""
    ca_certificate: Path | None = None
    """File with the certificates (PEM) to trust, where its own is of no public authority."""

    @model_validator(mode="after")
    def _whole_credentials(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together: give both, or none")
        return self


def _kind(value: Any) -> Any:
    return value.get("kind", "layout") if isinstance(value, dict) else getattr(value, "kind", "layout")


Registry = Annotated[
    Annotated[LayoutRegistry, Tag("layout")]
    | Annotated[ServiceRegistry, Tag("service")]
    | Annotated[ClusterRegistry, Tag("cluster")]
    | Annotated[ExternalRegistry, Tag("external")],
    Discriminator(_kind),
]
"""Any kind of registry; a layout where no kind is given."""

REGISTRY_FIELDS = frozenset(
    field.alias or name
    for kind in (LayoutRegistry, ServiceRegistry, ClusterRegistry, ExternalRegistry)
    for name, field in kind.model_fields.items()
)
"""The fields of all kinds."""
