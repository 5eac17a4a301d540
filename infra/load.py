"""From Pulumi's raw configuration to a checked plan. Every mistake that can be found is in one `ConfigurationError`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from infra import config, preflight, references
from infra.config import NAMESPACE, DeploymentConfig, InferenceConfig, Section, Service
from infra.environments import from_azure, resolve_environments
from infra.plan import EnvironmentPlan, ModelReference, ServicePlan, StackPlan
from infra.problems import ConfigurationError, Problem, near, path_of, problems_of

_KEYS = ("workspace", "registry", "computeTargets", "environments", "models", "services")

S = TypeVar("S", bound=Section)


def load(raw: Mapping[str, str], secret_keys: Sequence[str], root: Path, stack: str) -> StackPlan:
    """The plan of the stack `stack` of the project in the folder `root`.

    `raw` maps Pulumi's configuration keys to their values as JSON. Raises `ConfigurationError`."""
    loader = _Loader(root, f"stacks/Pulumi.{stack}.yaml")
    plan = loader.plan(_sections(raw, secret_keys, loader))
    if loader.problems:
        raise ConfigurationError(loader.problems)
    return plan


def _sections(raw: Mapping[str, str], secret_keys: Sequence[str], loader: _Loader) -> dict[str, Any]:
    sections: dict[str, Any] = {}
    for key, value in raw.items():
        if not key.startswith(NAMESPACE):
            continue
        name = key.removeprefix(NAMESPACE)
        if name not in _KEYS:
            loader.report(key, f"is no section of the configuration; {near(name, _KEYS)}")
        elif key in secret_keys:
            loader.report(
                key, "holds a secret where a plain value is expected; set it without --secret, it is shown in previews"
            )
        else:
            try:
                sections[name] = json.loads(value)
            except json.JSONDecodeError:
                loader.report(key, f"must be a section with fields, not {value!r}")
    return sections


class _Loader:
    """Validates section by section, so that a mistake in one hides none in another."""

    def __init__(self, root: Path, file: str) -> None:
        self.root = root
        self.file = file
        self.problems: list[Problem] = []

    def report(self, path: str, message: str) -> None:
        self.problems.append(Problem(self.file, path, message))

    def plan(self, sections: Mapping[str, Any]) -> StackPlan:
        workspace = self._validated(config.Workspace, sections.get("workspace", {}), ("workspace",))
        registry = self._validated(config.Registry, sections.get("registry", {}), ("registry",))
        targets = self._each(config.ComputeTarget, sections, "computeTargets", config.AssetName)
        models = self._each(config.Model, sections, "models", config.AssetName)
        declared = self._each(config.Environment, sections, "environments", config.AssetName)
        environments = resolve_environments(declared, self.file, self.problems)
        shaped = self._each(Service, sections, "services", config.DnsLabel)
        services = {
            name: plan for name, service in shaped.items() if (plan := self._service(name, service, environments))
        }
        known = references.Known(
            targets=_names(sections, "computeTargets"),
            environments={*environments, *_names(sections, "environments")},
            models=_names(sections, "models"),
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

    def _service(self, name: str, service: Service, environments: dict[str, EnvironmentPlan]) -> ServicePlan | None:
        inference, base, where = self._inline_or_file(
            service.inference, InferenceConfig, ("services", name, "inference")
        )
        deployment, _, _ = self._inline_or_file(service.deployment, DeploymentConfig, ("services", name, "deployment"))
        if inference is None or deployment is None:
            return None
        environment = inference.environment
        if not isinstance(environment, str):
            plan = from_azure(environment, where[0], path_of([*where[1], "environment"]), self.problems)
            if environments.setdefault(environment.name, plan) != plan:
                self.report(
                    path_of(("services", name, "inference")),
                    f"writes out an environment {environment.name!r} that differs from another; rename one",
                )
            environment = environment.name
        return ServicePlan(
            models=tuple(map(ModelReference.parse, service.models)),
            entry_script=inference.entry_script,
            source_directory=(base / (inference.source_directory or ".")).resolve(),
            environment=environment,
            compute_target=service.compute_target,
            deployment=deployment,
            sample_request=(self.root / service.sample_request) if service.sample_request else None,
            startup_timeout_seconds=service.startup_timeout_seconds,
        )

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
