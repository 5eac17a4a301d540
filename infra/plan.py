"""The checked configuration as the program uses it: references resolved, files read, paths absolute."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.builds import BuildPlan
from infra.config import (
    ComputeTarget,
    ContainerResources,
    Deployment,
    Images,
    KubernetesResources,
    Model,
    SecretReference,
    Workspace,
)
from infra.config.registry import ClusterRegistry, ExternalRegistry, LayoutRegistry, ServiceRegistry


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
    build: BuildPlan | None = None
    """What Docker builds for it."""


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
class DeploymentPlan:
    """One deployment of a service: what it runs, with its inference configuration read in."""

    models: tuple[ModelReference, ...]
    entry_script: str
    source_directory: Path
    environment: str
    sample_request: Path | None
    startup_timeout_seconds: int
    weight: int = 100
    """Percent of the service's requests."""
    replicas: int = 1
    resources: ContainerResources | KubernetesResources = field(default_factory=ContainerResources)


@dataclass(frozen=True)
class ServicePlan:
    """A service: where it runs, what it gets there, and its deployments by name."""

    compute_target: str
    deployment: Deployment
    deployments: Mapping[str, DeploymentPlan]
    """One, named `default`, unless the configuration names several."""

    @property
    def only(self) -> DeploymentPlan:
        """The deployment of a service that has one alone, as those of a local target have."""
        (deployment,) = self.deployments.values()
        return deployment


@dataclass(frozen=True)
class ImagePlan:
    """An image of others, and where it is fetched."""

    location: str
    """An OCI image layout (absolute path), or a registry's address."""
    repository: str
    digest: str
    python_version: str | None
    """Of an image with Python."""
    platforms: tuple[str, ...] | None
    """What it is for, where that is known before it is looked at."""
    username: str | None = None
    password: SecretReference | None = None


@dataclass(frozen=True)
class PackagePlan:
    """An image that is made and not deployed."""

    models: tuple[ModelReference, ...]
    entry_script: str
    source_directory: Path
    environment: str
    platforms: tuple[str, ...]


@dataclass(frozen=True)
class StackPlan:
    """All of a stack."""

    workspace: Workspace
    registry: LayoutRegistry | ServiceRegistry | ClusterRegistry | ExternalRegistry
    compute_targets: Mapping[str, ComputeTarget]
    environments: Mapping[str, EnvironmentPlan]
    models: Mapping[str, Model]
    services: Mapping[str, ServicePlan]
    packages: Mapping[str, PackagePlan] = field(default_factory=dict)
    images: Images = field(default_factory=Images)
    python_image: ImagePlan | None = None
    """What images of services begin with, where anything needs one."""
    router_image: ImagePlan | None = None
    """What routers run, where a target has one."""
    notices: tuple[str, ...] = ()
    """What whoever deploys should know, though nothing is wrong with it."""

    @property
    def model_references(self) -> tuple[ModelReference, ...]:
        """Every use of a model."""
        users: list[DeploymentPlan | PackagePlan] = [*self.packages.values()]
        for service in self.services.values():
            users += service.deployments.values()
        return tuple(reference for user in users for reference in user.models)

    @property
    def with_secrets(self) -> dict[str, object]:
        """Path in the stack's file -> the sections that may name secrets."""
        deployments = {f"services.{name}.deployment": service.deployment for name, service in self.services.items()}
        builds = {
            f"environments.{name}": {"dockerSecrets": environment.build.secrets}
            for name, environment in self.environments.items()
            if environment.build is not None
        }
        return {"registry": self.registry, "images": self.images, **deployments, **builds}
