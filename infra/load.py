"""From Pulumi's raw configuration to a checked plan. Every mistake that can be found is in one `ConfigurationError`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from infra import config, preflight, references
from infra.config import DeploymentConfig, InferenceConfig, Section, Service
from infra.environments import EnvironmentReader
from infra.model_sources import find_runs
from infra.plan import EnvironmentPlan, ModelReference, ServicePlan, StackPlan
from infra.problems import ConfigurationError, Problem, path_of, problems_of
from infra.sections import gather

S = TypeVar("S", bound=Section)


def load(raw: Mapping[str, str], secret_keys: Sequence[str], root: Path, stack: str) -> StackPlan:
    """The plan of the stack `stack` of the project in the folder `root`.

    `raw` maps Pulumi's configuration keys to their values as JSON. Raises `ConfigurationError`."""
    sections = gather(raw, secret_keys, root, f"stacks/Pulumi.{stack}.yaml")
    loader = _Loader(root, sections.file)
    plan = loader.plan(sections.content)
    problems = [*sections.problems, *map(sections.located, loader.problems)]
    if problems:
        raise ConfigurationError(problems)
    return plan


class _Loader:
    """Validates section by section, so that a mistake in one hides none in another."""

    def __init__(self, root: Path, file: str) -> None:
        self.root = root
        self.file = file
        self.problems: list[Problem] = []
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
            if (plan := self._service(name, service, environments, models))
        }
        known = references.Known(
            targets=_names(sections, "computeTargets"),
            environments={*environments, *_names(sections, "environments")},
            models=_names(sections, "models"),
            aliases={name: model.aliases for name, model in declared_models.items()},
        )
        self.problems += references.check(shaped, services, known, self.file)
        self.problems += preflight.check_models(models, self.root, self.file)
        self.problems += preflight.check_services(services, self.file)
        return StackPlan(
            workspace=workspace or config.Workspace(name="none"),
            registry=registry or config.Registry(),
            compute_targets=targets,
            environments=environments,
            models=models,
            services=services,
            notices=tuple(dict.fromkeys(self.environments.notices)),
        )

    def _each(self, model: type[S], sections: Mapping[str, Any], key: str, name_type: Any) -> dict[str, S]:
        items = sections.get(key, {})
        if not isinstance(items, dict):
            self.report(key, f"must be a section with a name for each entry, not {items!r}")
            return {}
        valid: dict[str, S] = {}
        for name, item in items.items():
            try:
                TypeAdapter(name_type).validate_python(name)
            except ValidationError as error:
                self.problems += problems_of(error, self.file, (key, name), ())
            checked = self._validated(model, item, (key, name))
            if checked is not None:
                valid[name] = checked
        return valid

    def _validated(self, model: type[S], value: Any, prefix: Sequence[str | int], file: str | None = None) -> S | None:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            self.problems += problems_of(error, file or self.file, prefix, config.field_names())
            return None

    def _service(
        self,
        name: str,
        service: Service,
        environments: dict[str, EnvironmentPlan],
        models: Mapping[str, config.Model],
    ) -> ServicePlan | None:
        inference, base, where = self._inline_or_file(
            service.inference, InferenceConfig, ("services", name, "inference")
        )
        deployment, _, _ = self._inline_or_file(service.deployment, DeploymentConfig, ("services", name, "deployment"))
        if inference is None or deployment is None:
            return None
        source_directory = (base / (inference.source_directory or ".")).resolve()
        return ServicePlan(
            models=tuple(ModelReference.parse(text, models) for text in service.models),
            entry_script=inference.entry_script,
            source_directory=source_directory,
            environment=self._environment(name, inference, source_directory, base, where, environments),
            compute_target=service.compute_target,
            deployment=deployment,
            sample_request=(self.root / service.sample_request) if service.sample_request else None,
            startup_timeout_seconds=service.startup_timeout_seconds,
        )

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
        self, value: S | str, model: type[S], location: tuple[str, ...]
    ) -> tuple[S | None, Path, tuple[str, tuple[str, ...]]]:
        """The section itself or the one in the file it names, the folder its paths begin at, and where it stands."""
        if not isinstance(value, str):
            return value, self.root, (self.file, location)
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


def _names(sections: Mapping[str, Any], key: str) -> set[str]:
    items = sections.get(key, {})
    return set(items) if isinstance(items, dict) else set()
