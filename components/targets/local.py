"""This machine as a compute target: a supervised process a service, without a container."""

import pulumi

from components.environment import SERVING
from components.targets.base import Deployed, Deployment
from provider import sdk


class LocalTarget:
    """Services run as processes of the user who runs `pulumi up`, and listen on 127.0.0.1."""

    def __init__(self, home: pulumi.Input[str]) -> None:
        """`home` is the folder of the workspace on this machine."""
        self._home = home

    def deploy(self, name: str, deployment: Deployment, parent: pulumi.Resource) -> Deployed:
        """A `LocalService`, and an `Endpoint` that waits for it."""
        uri = f"http://127.0.0.1:{deployment.port}"
        below = pulumi.ResourceOptions(parent=parent)
        service = sdk.LocalService(
            f"{name}-service",
            {
                "workspace": self._home,
                "name": deployment.service_name,
                "port": deployment.port,
                "python": deployment.environment.python,
                "environment_digest": deployment.environment.lock_digest,
                "source_directory": deployment.source_directory,
                "entry_script": deployment.entry_script,
                "server_directory": str(SERVING / "slipway_serving"),
                "models": list(deployment.models),
                "environment_variables": {
                    **deployment.environment.environment_variables,
                    **deployment.environment_variables,
                }
                or None,
                "sample_request": deployment.sample_request,
                "startup_timeout_seconds": deployment.startup_timeout_seconds,
            },
            below,
        )
        endpoint = sdk.Endpoint(
            f"{name}-endpoint",
            {
                "target": {"kind": "local", "workspace": self._home, "service": deployment.service_name},
                "revision": service.revision,
                "scoring_uri": f"{uri}/score",
                "sample_request": deployment.sample_request,
                "models": list(deployment.models),
            },
            below,
        )
        return Deployed(endpoint.state, service.revision, f"{uri}/score", f"{uri}/swagger.json")
