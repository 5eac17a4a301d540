"""What must fit together across sections: the names that services use, and the ports they share a machine's with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from infra.config import Service
from infra.plan import ServicePlan
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
    services: Mapping[str, Service], plans: Mapping[str, ServicePlan], known: Known, file: str
) -> Iterator[Problem]:
    """Yields unknown names and ports that are used twice."""
    for name, service in services.items():
        path = f"services.{name}"
        if service.compute_target not in known.targets:
            yield Problem(
                file,
                f"{path}.computeTarget",
                f"no compute target is named {service.compute_target!r}; {near(service.compute_target, known.targets)}",
            )
        for index, text in enumerate(service.models):
            model, alias = _model_and_alias(text)
            where = f"{path}.models[{index}]"
            if model not in known.models:
                yield Problem(
                    file,
                    where,
                    f"no model is named {model!r}; {near(model, known.models)} "
                    f"(a model can be deleted once no service names it)",
                )
            elif model in [_model_and_alias(other)[0] for other in service.models[:index]]:
                yield Problem(file, where, f"the model {model!r} is named twice; a service has one version of a model")
            elif alias and alias not in known.aliases.get(model, {alias: 0}):
                yield Problem(
                    file, where, f"the model {model!r} has no alias {alias!r}; {near(alias, known.aliases[model])}"
                )
    yield from _environments(plans, known, file)
    yield from _ports(plans, file)


def _model_and_alias(reference: str) -> tuple[str, str]:
    name, _, alias = reference.partition("@")
    return name.partition(":")[0], alias


def _environments(plans: Mapping[str, ServicePlan], known: Known, file: str) -> Iterator[Problem]:
    for name, plan in plans.items():
        if plan.environment not in known.environments:
            yield Problem(
                file,
                f"services.{name}.inference.environment",
                f"no environment is named {plan.environment!r}; {near(plan.environment, known.environments)}",
            )


def _ports(plans: Mapping[str, ServicePlan], file: str) -> Iterator[Problem]:
    owners: dict[int, str] = {}
    for name, plan in plans.items():
        port = plan.deployment.port
        owner = owners.setdefault(port, name)
        if owner != name:
            yield Problem(
                file,
                f"services.{name}.deployment.port",
                f"port {port} is taken by services.{owner}; services on this machine share its ports: choose another",
            )
