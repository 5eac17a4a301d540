"""From Pulumi's raw configuration to a checked plan. Every mistake that can be found is in one `ConfigurationError`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from infra import builds, cluster_registry, clusters, config, hosts, kubeconfigs, preflight, references
from infra.config import (
    ContainerDeployment,
    ContainerResources,
    ContainerTarget,
    InferenceConfig,
    KubernetesDeployment,
    KubernetesTarget,
    LocalTarget,
    Section,
    Service,
    ServiceDeployment,
)
from infra.environments import EnvironmentReader
from infra.model_sources import find_runs
from infra.plan import DeploymentPlan, EnvironmentPlan, ImagePlan, ModelReference, PackagePlan, ServicePlan, StackPlan
from infra.problems import ConfigurationError, Problem, path_of, problems_of
from infra.secrets import check_secrets
from infra.sections import gather

S = TypeVar("S", bound=Section)
V = TypeVar("V")


def load(
    raw: Mapping[str, str], secret_keys: Sequence[str], root: Path, stack: str, images: Path | None = None
) -> StackPlan:
    """The plan of the stack `stack` of the project in the folder `root`.

    `raw` maps Pulumi's configuration keys to their values as JSON; `images` is the folder of images that were made on
    this machine. Raises `ConfigurationError`."""
    sections = gather(raw, secret_keys, root, f"stacks/Pulumi.{stack}.yaml")
    loader = _Loader(root, sections.file, images or root / ".slipway" / "images")
    plan = loader.plan(sections.content)
    loader.problems += check_secrets(plan.with_secrets, sections.secrets, sections.file, stack)
    problems = [*sections.problems, *map(sections.located, loader.problems)]
    if problems:
        raise ConfigurationError(problems)
    return plan


class _Loader:
    """Validates section by section, so that a mistake in one hides none in another."""

    def __init__(self, root: Path, file: str, images: Path) -> None:
        self.root = root
        self.file = file
        self.made_images = images
        self.problems: list[Problem] = []
        self.drafts: dict[str, dict[str, DeploymentPlan]] = {}
        """The deployments of each service, also of one whose target or `deployment` has a mistake."""
        self.environments = EnvironmentReader(root, file, self.problems)

    def report(self, path: str, message: str) -> None:
        self.problems.append(Problem(self.file, path, message))

    def plan(self, sections: Mapping[str, Any]) -> StackPlan:
        workspace = self._validated(config.Workspace, sections.get("workspace", {}), ("workspace",))
        registry = self._validated(config.Registry, sections.get("registry", {}), ("registry",))
        targets = self._each(config.ComputeTarget, sections, "computeTargets", config.AssetName)
        declared_models = self._each(config.Model, sections, "models", config.AssetName)
        models = find_runs(declared_models, self.root, self.file, self.problems)
        declared = self._each(config.Environment, sections, "environments", config.AssetName)
        environments = self.environments.resolve(declared)
        shaped = self._each(Service, sections, "services", config.DnsLabel)
        services = {
            name: plan
            for name, service in shaped.items()
            if (plan := self._service(name, service, targets, environments, models))
        }
        shaped_packages = self._each(config.Package, sections, "packages", config.DnsLabel)
        packages = {
            name: made
            for name, package in shaped_packages.items()
            if (made := self._package(name, package, environments, models))
        }
        known = references.Known(
            targets=_names(sections, "computeTargets"),
            environments={*environments, *_names(sections, "environments")},
            models=_names(sections, "models"),
            aliases={name: model.aliases for name, model in declared_models.items()},
        )
        self.problems += references.check(shaped, self.drafts, known, self.file)
        self.problems += references.check_packages(shaped_packages, packages, known, self.file)
        self.problems += hosts.check(shaped, services, targets, workspace.name if workspace else "", self.file)
        self.problems += clusters.check(shaped, services, targets, workspace.name if workspace else "", self.file)
        self.problems += hosts.check_registry(targets, registry, self.file)
        self.problems += cluster_registry.check(
            registry, targets, known.targets, workspace.name if workspace else "", self.file
        )
        self.problems += builds.check_uses(*_built_uses(packages, services, targets, environments), registry, self.file)
        self.problems += preflight.check_registry(registry, self.root, self.file)
        self.problems += preflight.check_targets(targets, self.root, self.file)
        self.problems += kubeconfigs.check(targets, self.root, self.file)
        self.problems += preflight.check_models(models, self.root, self.file)
        self.problems += preflight.check_services(services, self.drafts, self.file)
        self.problems += preflight.check_packages(packages, self.file)
        images = self._validated(config.Images, sections.get("images", {}), ("images",))
        python, router = self._images(images, packages, services, targets, environments) if images else (None, None)
        return StackPlan(
            workspace=workspace or config.Workspace(name="none"),
            registry=registry or config.LayoutRegistry(),
            compute_targets=targets,
            environments=environments,
            models=models,
            services=services,
            packages=packages,
            images=images or config.Images(),
            python_image=python,
            router_image=router,
            notices=tuple(dict.fromkeys(self.environments.notices)),
        )

    def _each(self, model: Any, sections: Mapping[str, Any], key: str, name_type: Any) -> dict[str, Any]:
        items = sections.get(key, {})
        if not isinstance(items, dict):
            self.report(key, f"must be a section with a name for each entry, not {items!r}")
            return {}
        valid: dict[str, Any] = {}
        for name, item in items.items():
            try:
                _adapter(name_type).validate_python(name)
            except ValidationError as error:
                self.problems += problems_of(error, self.file, (key, name), ())
            checked = self._validated(model, item, (key, name))
            if checked is not None:
                valid[name] = checked
        return valid

    def _validated(self, model: Any, value: Any, prefix: Sequence[str | int], file: str | None = None) -> Any:
        """The section in `value`; None where it is none. `model`: one kind of section, or a union of several."""
        try:
            return _adapter(model).validate_python(value)
        except ValidationError as error:
            self.problems += problems_of(error, file or self.file, prefix, config.field_names())
            return None

    def _service(
        self,
        name: str,
        service: Service,
        targets: Mapping[str, config.ComputeTarget],
        environments: dict[str, EnvironmentPlan],
        models: Mapping[str, config.Model],
    ) -> ServicePlan | None:
        target = targets.get(service.compute_target)
        deployment = None
        if target is not None:  # else it is not known which fields its deployment may have
            path = ("services", name, "deployment")
            deployment, _, _ = self._inline_or_file(service.deployment, config.DEPLOYMENTS[target.kind], path)
        deployments = self.drafts[name] = {
            key: plan
            for key, variant in (service.deployments or {config.ONLY_DEPLOYMENT: ServiceDeployment()}).items()
            if (plan := self._deployment(name, key, service, variant, deployment, environments, models))
        }
        if deployment is None or len(deployments) < len(service.deployments or (1,)):
            return None
        return ServicePlan(service.compute_target, deployment, deployments)

    def _deployment(
        self,
        service_name: str,
        name: str,
        service: Service,
        variant: ServiceDeployment,
        deployment: config.Deployment | None,
        environments: dict[str, EnvironmentPlan],
        models: Mapping[str, config.Model],
    ) -> DeploymentPlan | None:
        only = not service.deployments
        path: tuple[str, ...] = ("services", service_name)
        if variant.inference is not None:
            path = (*path, "deployments", name)
        inference, base, where = self._inline_or_file(
            service.inference if variant.inference is None else variant.inference, InferenceConfig, (*path, "inference")
        )
        if inference is None:
            return None
        source_directory = (base / (inference.source_directory or ".")).resolve()
        sample = service.sample_request if variant.sample_request is None else variant.sample_request
        texts = service.models if variant.models is None else variant.models
        plan = DeploymentPlan(
            models=tuple(ModelReference.parse(text, models) for text in texts),
            entry_script=inference.entry_script,
            source_directory=source_directory,
            environment=self._environment(
                service_name if only or variant.inference is None else f"{service_name}-{name}",
                inference,
                source_directory,
                base,
                where,
                environments,
            ),
            sample_request=(self.root / sample) if sample else None,
            startup_timeout_seconds=_first(variant.startup_timeout_seconds, service.startup_timeout_seconds),
            weight=100 if only else service.traffic.get(name, 0),
        )
        own = variant.container_resource_requirements
        match deployment:
            case ContainerDeployment():
                limits = None if own is None else ContainerResources(cpu=own.cpu, memory_in_gb=own.memory_in_gb)
                return replace(
                    plan,
                    replicas=_first(variant.num_replicas, deployment.num_replicas),
                    resources=_first(limits, deployment.container_resource_requirements),
                )
            case KubernetesDeployment():
                return replace(
                    plan,
                    replicas=_first(variant.num_replicas, _first(deployment.num_replicas, 1)),
                    resources=_first(own, deployment.container_resource_requirements),
                )
        return plan

    def _package(
        self,
        name: str,
        package: config.Package,
        environments: dict[str, EnvironmentPlan],
        models: Mapping[str, config.Model],
    ) -> PackagePlan | None:
        inference, base, where = self._inline_or_file(
            package.inference, InferenceConfig, ("packages", name, "inference")
        )
        if inference is None:
            return None
        source_directory = (base / (inference.source_directory or ".")).resolve()
        return PackagePlan(
            models=tuple(ModelReference.parse(text, models) for text in package.models),
            entry_script=inference.entry_script,
            source_directory=source_directory,
            environment=self._environment(name, inference, source_directory, base, where, environments),
            platforms=package.platforms,
        )

    def _images(
        self,
        images: config.Images,
        packages: Mapping[str, PackagePlan],
        services: Mapping[str, ServicePlan],
        targets: Mapping[str, config.ComputeTarget],
        environments: Mapping[str, EnvironmentPlan],
    ) -> tuple[ImagePlan | None, ImagePlan | None]:
        """What images of services begin with, and what routers run, where there are any; they must fit."""
        uses = list(_image_uses(packages, services, targets))
        routed = list(_router_uses(services, targets))
        adapters = _bringing_adapters(targets)
        if not uses and not routed and not adapters:
            return None, None
        # Only a stack that makes images pays for looking.
        from infra.images import ImageFinder, platform_mistake, version_mistake

        finder = ImageFinder(images, self.made_images, self.report)
        router = finder.find("router", routed[0]) if routed else None
        needed_by = [*(use.path for use in uses), *(f"computeTargets.{name}.metricsAdapter" for name in adapters)]
        python = finder.find("python", needed_by[0]) if needed_by else None
        if python is None:
            return None, router
        platforms = {f"computeTargets.{name}.platform": target.platform for name, target in adapters.items()}
        for path, platform in {**platforms, **{use.platform_path: use.platform for use in uses}}.items():
            if mistake := platform_mistake(python, platform):
                self.report(path, mistake)
        for use in uses:
            environment = environments.get(use.environment)
            version = None if environment is None else environment.python_version
            if mistake := version_mistake(python, version, use.environment):
                self.report(f"{use.path}.inference.environment", mistake)
        return python, router

    def _environment(
        self,
        service: str,
        inference: InferenceConfig,
        source_directory: Path,
        base: Path,
        where: tuple[str, tuple[str, ...]],
        environments: dict[str, EnvironmentPlan],
    ) -> str:
        """The name of the service's environment, which is added to `environments` where it is written out."""
        shown, location = where
        environment = inference.environment
        if inference.conda_file is not None:
            path = path_of([*location, "condaFile"])
            if "environment" in inference.model_fields_set:
                self.problems.append(Problem(shown, path, "stands beside environment; remove one of them"))
            written_out, name = (
                self.environments.from_conda_file(service, source_directory, inference.conda_file, shown, path),
                service,
            )
        elif isinstance(environment, str):
            return environment
        else:
            path = path_of([*location, "environment"])
            written_out, name = self.environments.from_azure(environment, shown, base, path), environment.name
        if environments.setdefault(name, written_out) != written_out:
            self.report(
                path_of(("services", service, "inference")),
                f"writes out an environment {name!r} that differs from another; rename one",
            )
        return name

    def _inline_or_file(
        self, value: object, model: type[S], location: tuple[str, ...]
    ) -> tuple[S | None, Path, tuple[str, tuple[str, ...]]]:
        """The section itself or the one in the file it names, the folder its paths begin at, and where it stands."""
        if isinstance(value, model):
            return value, self.root, (self.file, location)
        if not isinstance(value, str):
            return self._validated(model, value, location), self.root, (self.file, location)
        path = self.root / value
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            self.report(path_of(location), f"the file {value} cannot be read: {error.strerror}; mend the path")
        except ValueError as error:
            self.report(path_of(location), f"the file {value} is no JSON document: {error}")
        else:
            return self._validated(model, document, (), file=value), path.parent, (value, ())
        return None, self.root, (self.file, location)


@cache
def _adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def _bringing_adapters(targets: Mapping[str, config.ComputeTarget]) -> dict[str, config.KubernetesTarget]:
    """The targets to which the stack brings an adapter for metrics."""
    return {
        name: target
        for name, target in targets.items()
        if isinstance(target, config.KubernetesTarget) and target.metrics_adapter
    }


@dataclass(frozen=True)
class _ImageUse:
    """Something that makes an image."""

    path: str
    platform: str
    platform_path: str
    environment: str


def _image_uses(
    packages: Mapping[str, PackagePlan],
    services: Mapping[str, ServicePlan],
    targets: Mapping[str, config.ComputeTarget],
) -> Iterator[_ImageUse]:
    for name, package in packages.items():
        for index, platform in enumerate(package.platforms):
            path = f"packages.{name}"
            yield _ImageUse(path, platform, f"{path}.platforms[{index}]", package.environment)
    for name, service in services.items():
        target = targets[service.compute_target]
        if isinstance(target, ContainerTarget | KubernetesTarget):
            where = f"computeTargets.{service.compute_target}.platform"
            for deployment in service.deployments.values():
                yield _ImageUse(f"services.{name}", target.platform, where, deployment.environment)


def _router_uses(services: Mapping[str, ServicePlan], targets: Mapping[str, config.ComputeTarget]) -> Iterator[str]:
    """What has a router: every Docker host, and services of clusters that nothing else there would do it for."""
    for name, target in targets.items():
        if isinstance(target, ContainerTarget):
            yield f"computeTargets.{name}"
    for name, service in services.items():
        target = targets[service.compute_target]
        match service.deployment, target:
            case KubernetesDeployment() as deployment, KubernetesTarget():
                if clusters.has_router(deployment, target, len(service.deployments)):
                    yield f"services.{name}"


def _built_uses(
    packages: Mapping[str, PackagePlan],
    services: Mapping[str, ServicePlan],
    targets: Mapping[str, config.ComputeTarget],
    environments: Mapping[str, EnvironmentPlan],
) -> tuple[dict[str, str], dict[str, str]]:
    """Who uses environments that Docker builds: processes on this machine, and images."""
    made = {f"packages.{name}": package.environment for name, package in packages.items()}
    local: dict[str, str] = {}
    for name, service in services.items():
        uses = local if isinstance(targets[service.compute_target], LocalTarget) else made
        uses.update({f"services.{name}": deployment.environment for deployment in service.deployments.values()})
    built = {name for name, environment in environments.items() if environment.build is not None}
    return _among(local, built), _among(made, built)


def _among(uses: Mapping[str, str], built: set[str]) -> dict[str, str]:
    return {path: environment for path, environment in uses.items() if environment in built}


def _first(value: V | None, otherwise: V) -> V:
    return otherwise if value is None else value


def _names(sections: Mapping[str, Any], key: str) -> set[str]:
    items = sections.get(key, {})
    return set(items) if isinstance(items, dict) else set()
