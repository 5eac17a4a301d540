"""What a web service asks of a compute target, and what it gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pulumi

from components.environment import Environment


@dataclass(frozen=True)
class Deployment:
    """A service to be deployed, in terms that every target understands."""

    service_name: str
    models: Sequence[pulumi.Output[dict[str, Any]]]
    """`name`, `version` and layer `digest` of each model."""
    source_directory: str
    entry_script: str
    environment: Environment
    port: int
    environment_variables: Mapping[str, str]
    sample_request: str | None
    startup_timeout_seconds: int | None


@dataclass(frozen=True)
class Deployed:
    """What became of it."""

    state: pulumi.Output[str]
    """Transitioning, Unhealthy, Unschedulable, Failed or Healthy."""
    revision: pulumi.Output[str]
    scoring_uri: pulumi.Input[str]
    """Where requests go."""
    swagger_uri: pulumi.Input[str]
    """Where the service's interface is described."""


class ComputeTarget(Protocol):
    """A place where services run."""

    def deploy(self, name: str, deployment: Deployment, parent: pulumi.Resource) -> Deployed:
        """Declares the resources of `deployment` as children of `parent`, named from `name`."""
