"""The section `registry`."""

from __future__ import annotations

from typing import Literal

from infra.config.base import Section


class Registry(Section):
    """The container registry of the workspace."""

    tier: Literal["Basic", "Standard", "Premium"] = "Basic"
    """Basic: 10 GiB; Standard: 100 GiB; Premium: 500 GiB."""
