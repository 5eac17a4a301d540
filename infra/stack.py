"""Declares the resources of a plan: components, put together, and the stack's outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi

from components import Environment, Model, Registry, Webservice, Workspace
from components.registry import RegistryArgs
from components.targets import ComputeTarget, LocalTarget
from components.webservice import DeploymentArgs
from infra.config import ExternalRegistry, SecretReference, ServiceRegistry
from infra.hosts import port_of
from infra.plan import DeploymentPlan, EnvironmentPlan, ServicePlan, StackPlan


def deploy(plan: StackPlan, root: Path, home: Path, stack: str) -> dict[str, Any]:
    """Declares everything in `plan`. `root` is the project's folder, `home` the workspace's. Returns the outputs."""
    return _Stack(plan, root, home, stack).outputs()


class _Stack:
    def __init__(self, plan: StackPlan, root: Path, home: Path, stack: str) -> None:
        self.plan, self.root, self.stack = plan, root, stack
        workspace = plan.workspace
        self.workspace = Workspace(
            workspace.name,
            {
                "name": workspace.name,
                "home": str(home),
                "description": workspace.description or "",
                "tags": workspace.tags,
            },
        )
        self.home = self.workspace.home
        self.below = pulumi.ResourceOptions(parent=self.workspace)
        self.registry = self._registry()
        self.targets: dict[str, ComputeTarget] = {
            name: LocalTarget(self.home, self.registry) for name in plan.compute_targets
        }
        self.models = {name: self._model(name) for name in plan.models}
        used = {item.environment for service in plan.services.values() for item in service.deployments.values()}
        self.environments = {
            name: self._environment(name, environment)
            for name, environment in plan.environments.items()
            if name in used
        }
        self.services = {name: self._service(name, service) for name, service in plan.services.items()}

    def _registry(self) -> Registry:
        registry = self.plan.registry
        args: RegistryArgs = {"kind": registry.kind, "tier": registry.tier, "home": self.home}
        match registry:
            case ServiceRegistry():
                args["port"] = registry.port
                args["retention_days"] = registry.retention_days
            case ExternalRegistry():
                args["address"] = registry.address
                args["username"] = registry.username
                args["password"] = self._secret(registry.password)
                if registry.ca_certificate is not None:
                    args["ca_certificate"] = (self.root / registry.ca_certificate).read_text(encoding="utf-8")
        return Registry("registry", args, self.below)

    def _secret(self, reference: SecretReference | None) -> pulumi.Output[str] | None:
        return None if reference is None else pulumi.Config().require_secret(reference.secret)

    def _model(self, name: str) -> Model:
        model = self.plan.models[name]
        return Model(
            name,
            {
                "registry": self.registry,
                "name": name,
                "path": str(self.root / model.location),
                "framework": model.framework,
                "framework_version": model.framework_version,
                "description": model.description,
                "tags": model.tags,
                "properties": model.properties,
                "keep_versions": model.keep_versions,
                "pinned": self._pinned(name),
                "aliases": model.aliases,
                "sample_input": self._sample(model.sample_input),
                "sample_output": self._sample(model.sample_output),
            },
            self.below,
        )

    def _sample(self, file: str | None) -> str | None:
        return None if file is None else (self.root / file).read_text(encoding="utf-8")

    def _pinned(self, model: str) -> list[int]:
        deployments = [item for service in self.plan.services.values() for item in service.deployments.values()]
        references = [reference for deployment in deployments for reference in deployment.models]
        return sorted({item.version for item in references if item.name == model and item.version is not None})

    def _environment(self, name: str, environment: EnvironmentPlan) -> Environment:
        lock_file = self.root / "stacks" / "locks" / f"{self.stack}.{name}.txt"
        return Environment(
            name,
            {
                "home": self.home,
                "pip": environment.pip,
                "lock_file": str(lock_file),
                "python_version": environment.python_version,
                "environment_variables": environment.environment_variables,
                "sources": environment.sources,
                "torch_backend": environment.torch_backend,
            },
            self.below,
        )

    def _service(self, name: str, service: ServicePlan) -> Webservice:
        return Webservice(
            name,
            {
                "name": name,
                "deployments": {key: self._deployment(item) for key, item in service.deployments.items()},
                "target": self.targets[service.compute_target],
                "port": port_of(service.deployment),
            },
            self.below,
        )

    def _deployment(self, deployment: DeploymentPlan) -> DeploymentArgs:
        sample, memory = deployment.sample_request, deployment.resources.memory_in_gb
        return {
            "models": [self.models[reference.name].served(reference.version) for reference in deployment.models],
            "entry_script": deployment.entry_script,
            "source_directory": str(deployment.source_directory),
            "environment": self.environments[deployment.environment],
            "startup_timeout_seconds": deployment.startup_timeout_seconds,
            "sample_request": None if sample is None else str(sample),
            "weight": deployment.weight,
            "replicas": deployment.replicas,
            "cpus": deployment.resources.cpu,
            "memory_bytes": None if memory is None else int(memory * 2**30),
        }

    def outputs(self) -> dict[str, Any]:
        return {
            "workspace": {"name": self.plan.workspace.name, "home": self.home},
            "registry": {"kind": self.registry.kind, "tier": self.registry.tier, "location": self.registry.location},
            "models": {
                name: {"id": model.id, "version": model.version, "digest": model.digest}
                for name, model in self.models.items()
            },
            "services": {name: self._service_outputs(name, service) for name, service in self.services.items()},
        }

    def _service_outputs(self, name: str, service: Webservice) -> dict[str, Any]:
        outputs: dict[str, Any] = {
            "state": service.state,
            "scoringUri": service.scoring_uri,
            "swaggerUri": service.swagger_uri,
            "revision": service.revision,
        }
        sample = next(iter(self.plan.services[name].deployments.values())).sample_request
        if sample is not None:
            outputs["sampleRequest"] = str(sample.relative_to(self.root))
        return outputs
