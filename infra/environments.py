"""Environments as configured: curated, cloned, with packages added, or written out in Azure's form."""

from __future__ import annotations

import re
from collections.abc import Mapping

from components.environment import CURATED
from infra.config import AzureEnvironment, Environment
from infra.plan import EnvironmentPlan
from infra.problems import Problem, near

# Azure's own scoring server: Slipway's takes its place, and the old pins of these packages would hold others back.
_AZURE_SERVER = re.compile(r"^azureml-(defaults|inference-server-http)\b", re.IGNORECASE)
_LOWEST_MINOR = 11


def resolve_environments(
    environments: Mapping[str, Environment], file: str, problems: list[Problem]
) -> dict[str, EnvironmentPlan]:
    """Every environment by name, curated ones included, with the packages of what it clones."""
    plans = {name: EnvironmentPlan(pip, None, {}) for name, pip in CURATED.items()}
    for name, environment in environments.items():
        if name in CURATED:
            problems.append(
                Problem(file, f"environments.{name}", f"{name!r} is a curated environment; choose another name")
            )
            continue
        _resolve(name, environment, environments, plans, file, problems, ())
    return plans


def _resolve(
    name: str,
    environment: Environment,
    all_of_them: Mapping[str, Environment],
    plans: dict[str, EnvironmentPlan],
    file: str,
    problems: list[Problem],
    cloning: tuple[str, ...],
) -> EnvironmentPlan | None:
    if name in plans:
        return plans[name]
    base = EnvironmentPlan((), None, {})
    path = f"environments.{name}.clone"
    if environment.clone is not None:
        if environment.clone in (*cloning, name):
            problems.append(Problem(file, path, f"environments clone each other: {' -> '.join((*cloning, name))}"))
            return None
        parent = all_of_them.get(environment.clone)
        if environment.clone in plans:
            base = plans[environment.clone]
        elif parent is None:
            hint = near(environment.clone, {*plans, *all_of_them} - {name})
            problems.append(Problem(file, path, f"no environment is named {environment.clone!r}; {hint}"))
            return None
        else:
            resolved = _resolve(environment.clone, parent, all_of_them, plans, file, problems, (*cloning, name))
            if resolved is None:
                return None
            base = resolved
    plans[name] = EnvironmentPlan(
        pip=(*base.pip, *environment.pip),
        python_version=environment.python_version or base.python_version,
        environment_variables={**base.environment_variables, **environment.environment_variables},
    )
    return plans[name]


def from_azure(environment: AzureEnvironment, file: str, path: str, problems: list[Problem]) -> EnvironmentPlan:
    """The environment that an Azure `inferenceconfig.json` writes out: pip packages and Python's version."""
    pip: list[str] = []
    version: str | None = None
    conda = environment.python.conda_dependencies
    for index, dependency in enumerate(conda.dependencies if conda else ()):
        where = f"{path}.python.condaDependencies.dependencies[{index}]"
        if not isinstance(dependency, str):
            pip += [item for item in dependency.get("pip", ()) if _AZURE_SERVER.match(item) is None]
        elif match := re.fullmatch(r"python\s*=?=\s*(3\.(\d+))(\.\d+)*", dependency):
            version = match.group(1)
            if int(match.group(2)) < _LOWEST_MINOR:
                problems.append(
                    Problem(file, where, f"{dependency}: the scoring server needs Python 3.{_LOWEST_MINOR}")
                )
        elif dependency != "pip" and not dependency.startswith("pip="):
            problems.append(
                Problem(file, where, f"{dependency!r} is a conda package; name what it is on PyPI below `pip` instead")
            )
    return EnvironmentPlan(tuple(pip), version, environment.environment_variables)
