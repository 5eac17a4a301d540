"""The section `computeTargets`: where services run."""

from __future__ import annotations

from typing import Literal

from infra.config.base import Section


class LocalTarget(Section):
    """This machine: services run as supervised processes, without a container."""

    kind: Literal["local"]
    """The kind of target."""


ComputeTarget = LocalTarget
"""Every kind of compute target; a union once there is a second one."""
