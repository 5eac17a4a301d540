"""The checked configuration as the program uses it: references resolved, files read, paths absolute."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.config import DeploymentConfig, LocalTarget, Model, Registry, Workspace


@dataclass(frozen=True)
class EnvironmentPlan:
    """An environment with what it was cloned from already in it."""

    pip: tuple[str, ...]
    python_version: str | None
    environment_variables: Mapping[str, str]
    sources: Mapping[str, str] = field(default_factory=dict)
    """Requirement -> where it stands, of those that a file asks for: `conda.yml: line 7`."""
    torch_backend: str | None = None
    """Which builds of PyTorch's packages are taken, in uv's words (`cpu`)."""


@dataclass(frozen=True)
class ModelReference:
    """A service's use of a model: the current version, or a fixed one."""

    name: str
    version: int | None

    @classmethod
    def parse(cls, text: str, models: Mapping[str, Model]) -> ModelReference:
        """From `name`, `name:version` or `name@alias`, whose version `models` has."""
        name, separator, rest = re.split(r"([:@]|$)", text, maxsplit=1)
        if separator == "@":
            return cls(name, models[name].aliases.get(rest) if name in models else None)
        return cls(name, int(rest) if rest else None)


@dataclass(frozen=True)
class ServicePlan:
    """A service with its inference and deployment configuration read in."""

    models: tuple[ModelReference, ...]
    entry_script: str
    source_directory: Path
    environment: str
    compute_target: str
    deployment: DeploymentConfig
    sample_request: Path | None
    startup_timeout_seconds: int


@dataclass(frozen=True)
class StackPlan:
    """All of a stack."""

    workspace: Workspace
    registry: Registry
    compute_targets: Mapping[str, LocalTarget]
    environments: Mapping[str, EnvironmentPlan]
    models: Mapping[str, Model]
    services: Mapping[str, ServicePlan]
    notices: tuple[str, ...] = ()
    """What whoever deploys should know, though nothing is wrong with it."""
