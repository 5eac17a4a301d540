"""The section `workspace`."""

from __future__ import annotations

from collections.abc import Mapping

from infra.config.base import AssetName, DnsLabel, Section, Text


class Workspace(Section):
    """The workspace: everything of a stack belongs to it."""

    name: DnsLabel
    """Name, a DNS label."""
    description: str | None = None
    """What the workspace is for."""
    tags: Mapping[AssetName, Text] = {}
    """Tags, `name: value`."""
