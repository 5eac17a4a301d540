"""The container registry of a workspace, and what its tiers mean. On this machine it is an OCI image layout."""

from dataclasses import dataclass
from typing import Literal, TypedDict

import pulumi

from provider import sdk

Tier = Literal["Basic", "Standard", "Premium"]


@dataclass(frozen=True)
class TierLimits:
    """What a tier gives."""

    quota_bytes: int
    """What may be stored."""


TIERS: dict[Tier, TierLimits] = {
    "Basic": TierLimits(quota_bytes=10 * 2**30),
    "Standard": TierLimits(quota_bytes=100 * 2**30),
    "Premium": TierLimits(quota_bytes=500 * 2**30),
}
"""The tiers of Azure Container Registry; quotas of 10, 100 and 500 GiB."""


class RegistryArgs(TypedDict):
    """Arguments of `Registry`."""

    tier: Tier
    """Basic, Standard or Premium. It changes in place, with nothing lost."""
    home: pulumi.Input[str]
    """Folder of the workspace on this machine."""


class Registry(pulumi.ComponentResource):
    """A workspace's registry on this machine."""

    tier: Tier
    """The tier asked for."""
    location: pulumi.Output[str]
    """Folder of the store."""
    quota_bytes: int
    """What may be stored, in bytes."""

    def __init__(self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:components:Registry", name, {}, opts)
        self.tier = args["tier"]
        self.quota_bytes = TIERS[self.tier].quota_bytes
        self.layout = sdk.ImageLayout(
            f"{name}-store",
            {"path": pulumi.Output.concat(args["home"], "/store"), "tier": self.tier, "quota_bytes": self.quota_bytes},
            pulumi.ResourceOptions(parent=self),
        )
        self.location = self.layout.path
        self.register_outputs({"tier": self.tier, "location": self.location})
