"""This machine as a compute target: a supervised process a service, without a container."""

import pulumi

from components.environment import SERVING
from components.targets.base import Deployed, Service
from provider import sdk


class LocalTarget:
    """Services run as processes of the user who runs `pulumi up`, and listen on 127.0.0.1."""

    def __init__(self, home: pulumi.Input[str]) -> None:
        """`home` is the folder of the workspace on this machine."""
        self._home = home

    def deploy(self, name: str, service: Service, parent: pulumi.Resource) -> Deployed:
        """A `LocalService`, and an `Endpoint` that waits for it."""
        (deployment,) = service.deployments.values()
        uri = f"http://127.0.0.1:{service.port}"
        below = pulumi.ResourceOptions(parent=parent)
        process = sdk.LocalService(
            f"{name}-service",
            {
                "workspace": self._home,
                "name": service.name,
                "port": service.port,
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
                "target": {"kind": "local", "workspace": self._home, "service": service.name},
                "revision": process.revision,
                "scoring_uri": f"{uri}/score",
                "sample_request": deployment.sample_request,
                "models": list(deployment.models),
            },
            below,
        )
        return Deployed(endpoint.state, process.revision, f"{uri}/score", f"{uri}/swagger.json", {})
