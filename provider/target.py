"""What `Endpoint` needs to know of a deployed service, whatever kind of compute target it runs on.

Each kind has one module that gives a `Target`; `provider.endpoint` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from provider.condition import Condition


@dataclass(frozen=True)
class Observation:
    """A service as its target sees it at one moment."""

    condition: Condition
    """The state of the revision that is asked for."""
    desired: str | None
    """The revision that the target was asked for."""
    serving: str | None
    """The revision that answers requests now; None when none does."""
    earlier: bool = False
    """Whether the condition comes from an earlier run of the provider, so that trying again may help."""


class Target(Protocol):
    """A service on some compute target."""

    @property
    def name(self) -> str:
        """The service's name."""

    async def observe(self) -> Observation | None:
        """How the service is; None where it is gone. Raises `ResourceError` where that cannot be told."""

    async def retry(self) -> None:
        """Has the target try again what failed. Raises `ResourceError`."""
