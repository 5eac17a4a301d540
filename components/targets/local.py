"""This machine as a compute target: a supervised process a service, without a container."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import pulumi

from components.environment import SERVING
from components.model import ServedModel, repositories_of
from components.registry import Registry
from components.targets.base import Deployed, Service
from provider import sdk


class _ModelArgs(TypedDict, total=False):
    model_registry: pulumi.Input[str]
    model_username: pulumi.Input[str] | None
    model_password: pulumi.Input[str] | None
    model_ca_certificate: pulumi.Input[str] | None
    model_port_forward: Mapping[str, Any] | None
    model_parallel: pulumi.Input[int] | None
    model_repositories: Mapping[str, pulumi.Input[str]] | None


class LocalTarget:
    """Services run as processes of the user who runs `pulumi up`, and listen on 127.0.0.1."""

    def __init__(self, home: pulumi.Input[str], registry: Registry) -> None:
        """`home` is the folder of the workspace on this machine, `registry` where its models are."""
        self._home = home
        self._registry = registry

    def deploy(self, name: str, service: Service, parent: pulumi.Resource) -> Deployed:
        """A `LocalService`, and an `Endpoint` that waits for it."""
        (deployment,) = service.deployments.values()
        uri = f"http://127.0.0.1:{service.port}"
        below = pulumi.ResourceOptions(parent=parent)
        models = [model.reference.apply(_without_size) for model in deployment.models]
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
                "models": models,
                **self._where_models_are(deployment.models),
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
                "models": models,
            },
            below,
        )
        return Deployed(endpoint.state, process.revision, f"{uri}/score", f"{uri}/swagger.json", {})

    def _where_models_are(self, models: Sequence[ServedModel]) -> _ModelArgs:
        registry = self._registry
        if registry.kind == "layout" or not models:
            return {}
        return {
            "model_registry": registry.location,
            "model_username": registry.username,
            "model_password": registry.password,
            "model_ca_certificate": registry.ca_certificate,
            "model_port_forward": registry.port_forward,
            "model_parallel": registry.parallel,
            "model_repositories": repositories_of(models),
        }


def _without_size(model: dict[str, Any]) -> dict[str, Any]:
    # A process needs no size, and what it runs is named by the rest.
    return {key: value for key, value in model.items() if key != "size"}
