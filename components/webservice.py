"""Web services: models behind an entry script, on a compute target."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi

from components.environment import Environment
from components.targets.base import ComputeTarget, Deployment


class WebserviceArgs(TypedDict):
    """Arguments of `Webservice`."""

    name: str
    """Name of the service, a DNS label."""
    models: Sequence[pulumi.Output[dict[str, Any]]]
    """What it serves: `Model.reference()` of each."""
    entry_script: str
    """The script with `init()` and `run()`, relative to the source directory."""
    source_directory: str
    """Folder with the script and all it imports."""
    environment: Environment
    """What it runs with."""
    target: ComputeTarget
    """Where it runs."""
    port: int
    """TCP port."""
    environment_variables: NotRequired[Mapping[str, str]]
    """Environment variables beside those of the environment."""
    sample_request: NotRequired[str | None]
    """File with a request's body that a new revision must answer before it takes traffic."""
    startup_timeout_seconds: NotRequired[int | None]
    """How long `init()` may take."""


class Webservice(pulumi.ComponentResource):
    """A deployed web service."""

    state: pulumi.Output[str]
    """Transitioning, Unhealthy, Unschedulable, Failed or Healthy."""
    revision: pulumi.Output[str]
    """The revision that serves."""
    scoring_uri: pulumi.Input[str]
    """Where requests go."""
    swagger_uri: pulumi.Input[str]
    """Where its interface is described."""

    def __init__(self, name: str, args: WebserviceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:components:Webservice", name, {}, opts)
        deployed = args["target"].deploy(
            name,
            Deployment(
                service_name=args["name"],
                models=args["models"],
                source_directory=args["source_directory"],
                entry_script=args["entry_script"],
                environment=args["environment"],
                port=args["port"],
                environment_variables=args.get("environment_variables", {}),
                sample_request=args.get("sample_request"),
                startup_timeout_seconds=args.get("startup_timeout_seconds"),
            ),
            parent=self,
        )
        self.state = deployed.state
        self.revision = deployed.revision
        self.scoring_uri = deployed.scoring_uri
        self.swagger_uri = deployed.swagger_uri
        self.register_outputs({"state": self.state, "revision": self.revision, "scoringUri": self.scoring_uri})
