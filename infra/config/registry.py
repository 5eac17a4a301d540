"""The section `registry`: the kinds of container registries."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from infra.config.base import Path, Secret, Section

Tier = Literal["Basic", "Standard", "Premium"]


class LayoutRegistry(Section):
    """An OCI image layout in the workspace's folder on this machine."""

    kind: Literal["layout"] = "layout"
    """The kind of registry."""
    tier: Tier = "Basic"
    """Basic: 10 GiB; Standard: 100 GiB; Premium: 500 GiB."""


class ServiceRegistry(Section):
    """A registry that runs on this machine, with generated credentials."""

    kind: Literal["service"]
    """The kind of registry."""
    tier: Tier = "Basic"
    """What it may store (10, 100, 500 GiB), its CPUs and memory, and how much a client sends at once."""
    port: Annotated[int, Field(ge=1024, le=65535)]
    """TCP port on this machine."""
    retention_days: Annotated[int, Field(ge=1)] | None = None
    """After how many days a manifest that no tag names goes (Premium); by default they stay."""

    @model_validator(mode="after")
    def _what_the_tier_has(self) -> Self:
        if self.retention_days is not None and self.tier != "Premium":
            raise ValueError(f"retentionDays needs the tier Premium, not {self.tier}; remove it, or choose that tier")
        return self


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
    | Annotated[ExternalRegistry, Tag("external")],
    Discriminator(_kind),
]
"""Any kind of registry; a layout where no kind is given."""

REGISTRY_FIELDS = frozenset(
    field.alias or name
    for kind in (LayoutRegistry, ServiceRegistry, ExternalRegistry)
    for name, field in kind.model_fields.items()
)
"""The fields of all kinds."""
