"""The sections, put together: the whole configuration of a stack."""

from __future__ import annotations

from collections.abc import Mapping

from infra.config.base import AssetName, DnsLabel, Section
from infra.config.environments import Environment
from infra.config.images import Images
from infra.config.models import Model
from infra.config.packages import Package
from infra.config.registry import LayoutRegistry, Registry
from infra.config.services import Service
from infra.config.targets import ComputeTarget
from infra.config.workspace import Workspace


class StackConfig(Section):
    """The whole configuration of a stack."""

    include: tuple[str, ...] = ()
    """YAML files with more of the sections of named entries below, relative to the project's folder."""
    workspace: Workspace
    registry: Registry = LayoutRegistry()
    images: Images = Images()
    compute_targets: Mapping[AssetName, ComputeTarget] = {}
    environments: Mapping[AssetName, Environment] = {}
    models: Mapping[AssetName, Model] = {}
    services: Mapping[DnsLabel, Service] = {}
    packages: Mapping[DnsLabel, Package] = {}
