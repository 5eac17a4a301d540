"""Web services: models behind entry scripts, on a compute target."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi

from components.environment import Environment
from components.model import ServedModel
from components.targets.base import ComputeTarget, Deployment, Service


class DeploymentArgs(TypedDict):
    """One deployment of a service."""

    models: Sequence[ServedModel]
    """What it serves: `Model.served()` of each."""
    entry_script: str
    """The script with `init()` and `run()`, relative to the source directory."""
    source_directory: str
    """Folder with the script and all it imports."""
    environment: Environment
    """What it runs with."""
    environment_variables: NotRequired[Mapping[str, str]]
    """Environment variables beside those of the environment."""
    sample_request: NotRequired[str | None]
    """File with a request's body that a new revision must answer before it takes traffic."""
    startup_timeout_seconds: NotRequired[int | None]
    """How long `init()` may take."""
    weight: NotRequired[int]
    """Percent of the service's requests; 100 where it is not given."""
    replicas: NotRequired[int]
    """How many run side by side; 1 where it is not given."""
    cpus: NotRequired[float | None]
    """CPUs that each may use; by default all."""
    memory_bytes: NotRequired[int | None]
    """Memory that each may use; by default all."""
    cpus_promised: NotRequired[float | None]
    """CPUs that are kept for each, where a target does so."""
    memory_bytes_promised: NotRequired[int | None]
    """Memory that is kept for each, where a target does so."""


class WebserviceArgs(TypedDict):
    """Arguments of `Webservice`."""

    name: str
    """Name of the service, a DNS label."""
    deployments: Mapping[str, DeploymentArgs]
    """What runs, by name: one deployment, or several whose weights add up to 100."""
    target: ComputeTarget
    """Where it runs."""
    port: int
    """TCP port."""
    settings: NotRequired[Any]
    """What only this kind of target knows, `ContainerSettings` for one."""


class Webservice(pulumi.ComponentResource):
    """A deployed web service."""

    state: pulumi.Output[str]
    """Transitioning, Unhealthy, Unschedulable, Failed or Healthy."""
    revision: pulumi.Output[str]
    """The revision that serves: of several deployments, the one with the largest share."""
    scoring_uri: pulumi.Input[str]
    """Where requests go."""
    swagger_uri: pulumi.Input[str]
    """Where its interface is described."""
    more: Mapping[str, Any]
    """What else its target tells of it."""

    def __init__(self, name: str, args: WebserviceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:components:Webservice", name, {}, opts)
        deployed = args["target"].deploy(
            name,
            Service(
                name=args["name"],
                port=args["port"],
                deployments={key: _deployment(deployment) for key, deployment in args["deployments"].items()},
                settings=args.get("settings"),
            ),
            parent=self,
        )
        self.state = deployed.state
        self.revision = deployed.revision
        self.scoring_uri = deployed.scoring_uri
        self.swagger_uri = deployed.swagger_uri
        self.more = deployed.more
        self.register_outputs({"state": self.state, "revision": self.revision, "scoringUri": self.scoring_uri})


def _deployment(args: DeploymentArgs) -> Deployment:
    return Deployment(
        models=args["models"],
        source_directory=args["source_directory"],
        entry_script=args["entry_script"],
        environment=args["environment"],
        environment_variables=args.get("environment_variables", {}),
        sample_request=args.get("sample_request"),
        startup_timeout_seconds=args.get("startup_timeout_seconds"),
        weight=args.get("weight", 100),
        replicas=args.get("replicas", 1),
        cpus=args.get("cpus"),
        memory_bytes=args.get("memory_bytes"),
        cpus_promised=args.get("cpus_promised"),
        memory_bytes_promised=args.get("memory_bytes_promised"),
    )
