"""What must fit together across sections: the names that services use. What a target gives is `infra.hosts'` matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from infra.config import Package, Service
from infra.plan import DeploymentPlan, PackagePlan
from infra.problems import Problem, near


@dataclass(frozen=True)
class Known:
    """The names that the configuration defines, also where their sections have mistakes of their own."""

    targets: Set[str]
    environments: Set[str]
    models: Set[str]
    aliases: Mapping[str, Mapping[str, int]]
    """By model, of those without mistakes."""


def check(
    services: Mapping[str, Service], plans: Mapping[str, Mapping[str, DeploymentPlan]], known: Known, file: str
) -> Iterator[Problem]:
    """Yields names that nothing has."""
    for name, service in services.items():
        path = f"services.{name}"
        if service.compute_target not in known.targets:
            yield Problem(
                file,
                f"{path}.computeTarget",
                f"no compute target is named {service.compute_target!r}; {near(service.compute_target, known.targets)}",
            )
        for where, texts in _models(path, service):
            yield from _model_references(where, texts, known, file)
    yield from _environments(plans, known, file)


def check_packages(
    packages: Mapping[str, Package], plans: Mapping[str, PackagePlan], known: Known, file: str
) -> Iterator[Problem]:
    """Yields names in packages that nothing has."""
    for name, package in packages.items():
        yield from _model_references(f"packages.{name}.models", package.models, known, file)
    for name, plan in plans.items():
        if plan.environment not in known.environments:
            yield _no_environment(f"packages.{name}", plan.environment, known, file)


def _models(path: str, service: Service) -> Iterator[tuple[str, Sequence[str]]]:
    """Every list of models in a service, and where it stands."""
    yield f"{path}.models", service.models
    for name, deployment in service.deployments.items():
        if deployment.models is not None:
            yield f"{path}.deployments.{name}.models", deployment.models


def _model_references(path: str, texts: Sequence[str], known: Known, file: str) -> Iterator[Problem]:
    for index, text in enumerate(texts):
        model, alias = _model_and_alias(text)
        where = f"{path}[{index}]"
        if model not in known.models:
            yield Problem(
                file,
                where,
                f"no model is named {model!r}; {near(model, known.models)} "
                f"(a model can be deleted once no service and no package names it)",
            )
        elif model in [_model_and_alias(other)[0] for other in texts[:index]]:
            yield Problem(file, where, f"the model {model!r} is named twice; a service has one version of a model")
        elif alias and alias not in known.aliases.get(model, {alias: 0}):
            yield Problem(
                file, where, f"the model {model!r} has no alias {alias!r}; {near(alias, known.aliases[model])}"
            )


def _model_and_alias(reference: str) -> tuple[str, str]:
    name, _, alias = reference.partition("@")
    return name.partition(":")[0], alias


def _environments(plans: Mapping[str, Mapping[str, DeploymentPlan]], known: Known, file: str) -> Iterator[Problem]:
    for name, deployments in plans.items():
        for environment in dict.fromkeys(deployment.environment for deployment in deployments.values()):
            if environment not in known.environments:
                yield _no_environment(f"services.{name}", environment, known, file)


def _no_environment(path: str, environment: str, known: Known, file: str) -> Problem:
    return Problem(
        file,
        f"{path}.inference.environment",
        f"no environment is named {environment!r}; {near(environment, known.environments)}",
    )
