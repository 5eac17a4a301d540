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
    cpus_promised: float | None = None
    """What is kept for each one, where a target does so; None: what the target thinks fit."""
    memory_bytes_promised: int | None = None
    """What is kept for each one, where a target does so; None: what the target thinks fit."""


class Image(Protocol):
    """The image of one deployment, for targets that run containers."""

    reference: pulumi.Output[str]
    """`HOST/REPOSITORY@DIGEST`, as a container runtime pulls it."""
    revision: pulumi.Output[str]
    """Names what the image is made from."""


class ImageSource(Protocol):
    """Makes the images that containers run."""

    def __call__(
        self, name: str, service: str, key: str, port: int, deployment: Deployment, parent: pulumi.Resource
    ) -> Image:
        """The image of the deployment `key` of `service`, which listens on `port`; resources are named from `name`."""


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


STATES = ("Healthy", "Transitioning", "Unhealthy", "Unschedulable", "Failed")
"""From best to worst: a service is as well as the worst of its deployments."""


class ComputeTarget(Protocol):
    """A place where services run."""

    def deploy(self, name: str, service: Service, parent: pulumi.Resource) -> Deployed:
        """Declares the resources of `service` as children of `parent`, named from `name`."""
