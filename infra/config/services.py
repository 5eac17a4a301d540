"""The section `services`, and the fields of Azure's `inferenceconfig.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from infra.config.base import BY_FORM, SECTION, TEXT, AssetName, Path, Section
from infra.config.deployments import KubernetesResources, UncheckedDeployment
from infra.config.environments import AzureEnvironment


def _model_reference(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}(:[1-9][0-9]*|@[A-Za-z][A-Za-z0-9_]{0,62})?", text) is None:
        raise ValueError(
            f"{text!r} must be the name of a model, name:version with a whole number from 1, or name@alias"
        )
    return text


def _deployment_name(name: str) -> str:
    # It becomes part of a container's name, and of a file's, which has 107 bytes.
    if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name) is None:
        raise ValueError(
            f"{name!r} is no name of a deployment: up to 32 of a-z, 0-9 and '-', the first and last a letter or digit"
        )
    return name


class InferenceConfig(Section):
    """How a model is served: the fields of Azure's `inferenceconfig.json`."""

    entry_script: Path
    """The script with `init()` and `run()`, relative to the source directory."""
    source_directory: str | None = None
    """Folder with the script and all it imports, relative to the project's folder (in a file: to that file's)."""
    environment: Annotated[Annotated[AssetName, TEXT] | Annotated[AzureEnvironment, SECTION], BY_FORM] = "minimal"
    """Name of an environment, or one written out."""
    conda_file: Path | None = None
    """In the place of an environment: a conda file, relative to the source directory."""
    runtime: Literal["python", "python-slim"] | None = None
    """Azure's word for the kind of service, where a file says it."""
    description: str | None = None
    """What this is."""


Inference = Annotated[Annotated[InferenceConfig, SECTION] | Annotated[Path, TEXT], BY_FORM]
"""Written out, or the path of a file."""
ModelText = Annotated[str, AfterValidator(_model_reference)]
Seconds = Annotated[int, Field(ge=1, le=86400)]
Percent = Annotated[int, Field(ge=0, le=100)]
DeploymentName = Annotated[str, AfterValidator(_deployment_name)]

ONLY_DEPLOYMENT = "default"
"""Name of the deployment of a service that has one alone."""


class ServiceDeployment(Section):
    """One of several deployments of a service. What it does not say is as the service says."""

    models: tuple[ModelText, ...] | None = None
    """Models it serves."""
    inference: Inference | None = None
    """How it is served, or the path of an Azure `inferenceconfig.json`."""
    sample_request: Path | None = None
    """File with a request's body that a new revision must answer before it takes traffic."""
    startup_timeout_seconds: Seconds | None = None
    """How long `init()` may take."""
    num_replicas: Annotated[int, Field(ge=1, le=100)] | None = None
    """Containers that serve side by side."""
    container_resource_requirements: KubernetesResources | None = None
    """What one container gets: on a Docker host its limits, `cpu` and `memoryInGB`."""


class Service(Section):
    """A web service: models, a script, a target."""

    models: tuple[ModelText, ...] = ()
    """Models it serves: `name`, `name:version` for one that stays, or `name@alias`."""
    inference: Inference | None = None
    """How it is served, or the path of an Azure `inferenceconfig.json`; needed unless every deployment has one."""
    compute_target: AssetName
    """Name of the target."""
    deployment: UncheckedDeployment | Path = Field(default_factory=dict)  # type: ignore[assignment]
    """What it gets there, or the path of an Azure `deploymentconfig.json`."""
    deployments: Mapping[DeploymentName, ServiceDeployment] = {}
    """Several deployments that share the traffic, by name; by default there is one."""
    traffic: Mapping[DeploymentName, Percent] = {}
    """Percent of the requests that each deployment gets, 100 in all: `{blue: 90, green: 10}`."""
    sample_request: Path | None = None
    """File with a request's body that a new revision must answer before it takes traffic."""
    startup_timeout_seconds: Seconds = 300
    """How long `init()` may take."""

    @model_validator(mode="after")
    def _deployments_and_traffic(self) -> Self:
        if not self.deployments:
            if self.traffic:
                raise ValueError("has `traffic` and no `deployments` that it would go to; add them, or remove it")
            if self.inference is None:
                raise ValueError("has no `inference`, which says how it is served; add it")
            return self
        bare = [name for name, deployment in self.deployments.items() if deployment.inference is None]
        if self.inference is None and bare:
            raise ValueError(f"has no `inference`, and neither have its deployments {', '.join(bare)}; add it")
        unknown = [name for name in self.traffic if name not in self.deployments]
        if unknown:
            raise ValueError(
                f"sends `traffic` to {', '.join(map(repr, unknown))}; its deployments are {', '.join(self.deployments)}"
            )
        total = sum(self.traffic.values())
        if total != 100:
            raise ValueError(f"has `traffic` that adds up to {total}, not to 100; mend its percentages")
        return self
