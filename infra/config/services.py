"""The section `services`, and the fields of Azure's `inferenceconfig.json`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from infra.config.base import AssetName, Path, Section
from infra.config.deployments import DeploymentConfig
from infra.config.environments import AzureEnvironment


def _model_reference(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}(:[1-9][0-9]*|@[A-Za-z][A-Za-z0-9_]{0,62})?", text) is None:
        raise ValueError(
            f"{text!r} must be the name of a model, name:version with a whole number from 1, or name@alias"
        )
    return text


class InferenceConfig(Section):
    """How a model is served: the fields of Azure's `inferenceconfig.json`."""

    entry_script: Path
    """The script with `init()` and `run()`, relative to the source directory."""
    source_directory: str | None = None
    """Folder with the script and all it imports, relative to the project's folder (in a file: to that file's)."""
    environment: AssetName | AzureEnvironment = "minimal"
    """Name of an environment, or one written out."""
    conda_file: Path | None = None
    """In the place of an environment: a conda file, relative to the source directory."""
    runtime: Literal["python", "python-slim"] | None = None
    """Azure's word for the kind of service, where a file says it."""
    description: str | None = None
    """What this is."""


class Service(Section):
    """A web service: models, a script, a target."""

    models: tuple[Annotated[str, AfterValidator(_model_reference)], ...] = ()
    """Models it serves: `name`, `name:version` for one that stays, or `name@alias`."""
    inference: InferenceConfig | Path
    """How it is served, or the path of an Azure `inferenceconfig.json`."""
    compute_target: AssetName
    """Name of the target."""
    deployment: DeploymentConfig | Path
    """What it gets there, or the path of an Azure `deploymentconfig.json`."""
    sample_request: Path | None = None
    """File with a request's body that a new revision must answer before it takes traffic."""
    startup_timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = 300
    """How long `init()` may take."""
