"""What a web service asks of a compute target, and what it gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pulumi

from components.environment import Environment
from components.model import ServedModel


@dataclass(frozen=True)
class Deployment:
    """One deployment of a service: what runs, in terms that every target understands."""

    models: Sequence[ServedModel]
    source_directory: str
    entry_script: str
    environment: Environment
    environment_variables: Mapping[str, str]
    sample_request: str | None
    startup_timeout_seconds: int | None
    weight: int = 100
    """Percent of the service's requests."""
    replicas: int = 1
    """How many run side by side, where a target has several."""
    cpus: float | None = None
    """Limit of each one; None: the host's."""
    memory_bytes: int | None = None
    """Limit of each one; None: the host's."""


@dataclass(frozen=True)
class Service:
    """A service to be deployed."""

    name: str
    port: int
    """TCP port that clients connect to."""
    deployments: Mapping[str, Deployment]
    """By name; their weights add up to 100."""
    settings: Any = None
    """What only one kind of target knows, in that target's words."""


@dataclass(frozen=True)
class Deployed:
    """What became of it."""

    state: pulumi.Output[str]
    """Transitioning, Unhealthy, Unschedulable, Failed or Healthy."""
    revision: pulumi.Output[str]
    """The revision that serves: of several deployments, the one with the largest share."""
    scoring_uri: pulumi.Input[str]
    """Where requests go."""
    swagger_uri: pulumi.Input[str]
    """Where the service's interface is described."""
    more: Mapping[str, Any]
    """What else a stack tells of it, by the names of its outputs."""


class ComputeTarget(Protocol):
    """A place where services run."""

    def deploy(self, name: str, service: Service, parent: pulumi.Resource) -> Deployed:
        """Declares the resources of `service` as children of `parent`, named from `name`."""
