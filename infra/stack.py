"""Declares the resources of a plan: components, put together, and the stack's outputs."""

from __future__ import annotations

import re
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi

from components import CopiedImage, Environment, Model, Package, Registry, Webservice, Workspace
from components.image import ImageSource
from components.registry import RegistryArgs
from components.targets import ComputeTarget
from components.webservice import DeploymentArgs
from infra import cluster_registry, config, targets
from infra.builds import BuildPlan
from infra.config import ClusterRegistry, ExternalRegistry, SecretReference, ServiceRegistry, Webhook
from infra.hosts import port_of
from infra.plan import DeploymentPlan, EnvironmentPlan, ImagePlan, PackagePlan, ServicePlan, StackPlan
from provider import sdk

if TYPE_CHECKING:
    from components.cluster_registry import ClusterPlace


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
        self.targets = {name: self._target(name) for name in plan.compute_targets}
        self.models = {name: self._model(name) for name in plan.models}
        used = _used_environments(plan)
        self.environments = {
            name: self._environment(name, environment, installed=used[name])
            for name, environment in plan.environments.items()
            if name in used
        }
        self.services = {name: self._service(name, service) for name, service in plan.services.items()}
        self.packages = {name: self._package(name, package) for name, package in plan.packages.items()}

    def _registry(self) -> Registry:
        registry = self.plan.registry
        args: RegistryArgs = {"kind": registry.kind, "tier": registry.tier, "home": self.home}
        match registry:
            case ServiceRegistry():
                args["port"] = registry.port
                args["retention_days"] = registry.retention_days
                args["host"] = registry.host
                args["bind"] = registry.bind
                args["authority"] = self._authority if registry.is_reached_by_others else None
                args["webhooks"] = [self._webhook(name, webhook) for name, webhook in registry.webhooks.items()]
            case ClusterRegistry():
                args["cluster"] = self._registry_place(registry)
            case ExternalRegistry():
                args["address"] = registry.address
                args["prefix"] = f"{_repository_name(self.stack)}/{self.plan.workspace.name}/"
                args["username"] = registry.username
                args["password"] = self._secret(registry.password)
                if registry.ca_certificate is not None:
                    args["ca_certificate"] = (self.root / registry.ca_certificate).read_text(encoding="utf-8")
        return Registry("registry", args, self.below)

    def _registry_place(self, registry: ClusterRegistry) -> ClusterPlace:
        target = self.plan.compute_targets[registry.compute_target]
        if not isinstance(target, config.KubernetesTarget):
            raise ValueError(f"the registry runs in a cluster, and {registry.compute_target} is none")
        provider = self._cluster_provider(registry.compute_target)
        return targets.registry_place(registry, target, self.plan.workspace.name, self.root, provider)

    @cache  # noqa: B019 - one stack in a process
    def _cluster_provider(self, name: str) -> pulumi.ProviderResource:
        """The provider of a target's cluster, for all that is there."""
        target = self.plan.compute_targets[name]
        if not isinstance(target, config.KubernetesTarget):
            raise ValueError(f"{name} is no cluster")
        return targets.cluster_provider(name, target, self.root, self.workspace)

    def _target(self, name: str) -> ComputeTarget:
        match self.plan.compute_targets[name]:
            case config.LocalTarget():
                return targets.local(self.home, self.registry)
            case config.ContainerTarget() as target:
                image = self.plan.router_image
                if image is None:
                    raise ValueError("the plan has a router, and no image that it runs")
                return targets.container(
                    name,
                    target,
                    self.plan.workspace.name,
                    self.root,
                    self.registry,
                    self._copied("router", image),
                    lambda *args: targets.service_image(self.registry, *self._python_image, target.platform, *args),
                    self.workspace,
                )

            case config.KubernetesTarget() as target:
                image = self.plan.router_image
                return targets.kubernetes(
                    name,
                    target,
                    self.plan.workspace.name,
                    self.root,
                    self.registry,
                    None if image is None else self._copied("router", image),
                    (self._python_image[0], self._authority) if target.metrics_adapter else None,
                    lambda *args: targets.service_image(self.registry, *self._python_image, target.platform, *args),
                    self._cluster_provider(name),
                    self.workspace,
                )

    @cached_property
    def _authority(self) -> sdk.CertificateAuthority:
        """Signs the certificates of services that are given none, and of a registry here that others reach."""
        # A name in a certificate has 64 characters at most, a workspace's up to 63.
        name = f"Slipway: {self.plan.workspace.name}"[:64]
        return sdk.CertificateAuthority("authority", {"name": name}, self.below)

    def _secret(self, reference: SecretReference | None) -> pulumi.Output[str] | None:
        return None if reference is None else pulumi.Config().require_secret(reference.secret)

    def _webhook(self, name: str, webhook: Webhook) -> dict[str, Any]:
        given = {
            "name": name,
            "url": self._plain_or_secret(webhook.url),
            "actions": list(webhook.actions),
            "scope": webhook.scope,
            "headers": {key: self._plain_or_secret(value) for key, value in webhook.headers.items()} or None,
        }
        return {key: value for key, value in given.items() if value is not None}

    def _plain_or_secret(self, value: str | SecretReference) -> pulumi.Input[str] | None:
        return self._secret(value) if isinstance(value, SecretReference) else value

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
        references = self.plan.model_references
        return sorted({item.version for item in references if item.name == model and item.version is not None})

    def _environment(self, name: str, environment: EnvironmentPlan, *, installed: bool) -> Environment:
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
                "installed": installed,
                "build": self._build(environment.build),
            },
            self.below,
        )

    def _build(self, build: BuildPlan | None) -> Any:
        """What Docker builds for an environment."""
        if build is None:
            return None
        from components.built_image import ImageBuild

        return ImageBuild(
            dockerfile=None if build.dockerfile is None else str(build.dockerfile),
            apt_packages=build.apt_packages,
            steps=build.steps,
            secrets={key: pulumi.Config().require_secret(item.secret) for key, item in build.secrets.items()},
        )

    def _service(self, name: str, service: ServicePlan) -> Webservice:
        return Webservice(
            name,
            {
                "name": name,
                "deployments": {key: self._deployment(item) for key, item in service.deployments.items()},
                "target": self.targets[service.compute_target],
                "port": port_of(service.deployment),
                "settings": self._settings(service),
            },
            self.below,
        )

    def _settings(self, service: ServicePlan) -> Any:
        """What only the service's kind of target knows."""
        target = self.plan.compute_targets[service.compute_target]
        match service.deployment, target:
            case config.ContainerDeployment() as deployment, config.ContainerTarget() as target:
                return targets.container_settings(deployment, target, lambda: self._authority, self._secret)
            case config.KubernetesDeployment() as deployment, config.KubernetesTarget() as target:
                return targets.kubernetes_settings(deployment, target, lambda: self._authority, self._secret)
        return None

    def _deployment(self, deployment: DeploymentPlan) -> DeploymentArgs:
        sample, limits = deployment.sample_request, targets.limits(deployment.resources)
        return {
            "models": [self.models[reference.name].served(reference.version) for reference in deployment.models],
            "entry_script": deployment.entry_script,
            "source_directory": str(deployment.source_directory),
            "environment": self.environments[deployment.environment],
            "startup_timeout_seconds": deployment.startup_timeout_seconds,
            "sample_request": None if sample is None else str(sample),
            "weight": deployment.weight,
            "replicas": deployment.replicas,
            "cpus": limits.cpus,
            "memory_bytes": limits.memory_bytes,
            "cpus_promised": limits.cpus_promised,
            "memory_bytes_promised": limits.memory_bytes_promised,
        }

    @cached_property
    def _python_image(self) -> tuple[CopiedImage, str]:
        """What images of services begin with, in the registry, and its Python."""
        image = self.plan.python_image
        if image is None or image.python_version is None:
            raise ValueError("the plan has images of services, and none that they begin with")
        return self._copied("python", image), image.python_version

    @cache  # noqa: B019 - one stack in a process
    def _copied(self, name: str, image: ImagePlan) -> CopiedImage:
        """An image of others in the registry."""
        source = ImageSource(
            image.location, image.repository, image.digest, image.username, self._secret(image.password)
        )
        return CopiedImage(
            f"{name}-image", {"source": source, "registry": self.registry, "repository": f"base/{name}"}, self.below
        )

    def _package(self, name: str, package: PackagePlan) -> Package:
        base, python_version = self._python_image
        return Package(
            f"{name}-package",
            {
                "name": name,
                "registry": self.registry,
                "base": base,
                "python_version": python_version,
                "environment": self.environments[package.environment],
                "models": [self.models[reference.name].served(reference.version) for reference in package.models],
                "entry_script": package.entry_script,
                "source_directory": str(package.source_directory),
                "platforms": package.platforms,
            },
            self.below,
        )

    def outputs(self) -> dict[str, Any]:
        return {
            "workspace": {"name": self.plan.workspace.name, "home": self.home},
            "registry": self._registry_outputs(),
            "models": {
                name: {"id": model.id, "version": model.version, "digest": model.digest}
                for name, model in self.models.items()
            },
            "services": {name: self._service_outputs(name, service) for name, service in self.services.items()},
            "packages": {name: _package_outputs(package) for name, package in self.packages.items()},
        }

    def _registry_outputs(self) -> dict[str, Any]:
        registry = self.registry
        outputs: dict[str, Any] = {"kind": registry.kind, "tier": registry.tier, "location": registry.location}
        if registry.kind not in ("service", "cluster"):
            return outputs
        if registry.ca_certificate is not None:
            outputs["caCertificate"] = registry.ca_certificate  # for whoever else is to trust it
        if registry.port_forward is not None:
            outputs["portForward"] = cluster_registry.command(registry.port_forward)
        # Of one that is there already, whoever deploys has them.
        return {**outputs, "username": registry.username, "password": registry.password}

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
        return {**outputs, **service.more}


def _used_environments(plan: StackPlan) -> dict[str, bool]:
    """The environments that something uses, and whether processes on this machine run in them."""
    used = {package.environment: False for package in plan.packages.values()}
    for service in plan.services.values():
        is_local = plan.compute_targets[service.compute_target].kind == "local"
        for deployment in service.deployments.values():
            used[deployment.environment] = is_local or used.get(deployment.environment, False)
    return used


def _package_outputs(package: Package) -> dict[str, Any]:
    return {"image": package.reference, "revision": package.revision, "digest": package.digest}


def _repository_name(text: str) -> str:
    """`text` as part of a repository's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "stack"
