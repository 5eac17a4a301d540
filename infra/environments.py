"""Environments as configured: curated, cloned, with packages added, from a file, or written out in Azure's form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from components.curated import curated_environments
from infra.builds import BuildPlan, build_of
from infra.builds import check as check_build
from infra.conda import LOWEST_MINOR, LOWEST_PYTHON, CondaEnvironment, Dependency, read_conda_file, translate
from infra.config import AzureEnvironment, CondaDependencies, Environment
from infra.plan import EnvironmentPlan
from infra.problems import Problem, near
from infra.requirements import Requirement, read_requirements_file, requirement_mistake, unreadable

# The one that a service has where it names none.
_DEFAULT = "minimal"


class EnvironmentReader:
    """Resolves the environments of the stack file `file` in the folder `root`.

    Mistakes are added to `problems`; `notices` is what whoever deploys should know."""

    def __init__(self, root: Path, file: str, problems: list[Problem]) -> None:
        self.root = root
        self.file = file
        self.problems = problems
        self.notices: list[str] = []

    def resolve(self, environments: Mapping[str, Environment]) -> dict[str, EnvironmentPlan]:
        """Every environment by name, with the packages of what it clones.

        The curated ones are among them, except where an environment of the file has the name of one."""
        curated = {
            name: EnvironmentPlan(item.pip, None, {}, torch_backend=item.torch_backend)
            for name, item in curated_environments().items()
        }
        plans: dict[str, EnvironmentPlan] = {}
        for name, environment in environments.items():
            if curated.get(name) == curated[_DEFAULT]:
                self._report(f"environments.{name}", f"{name!r} is a curated environment; choose another name")
            else:
                self._resolve(name, environment, environments, curated, plans, ())
        return {**curated, **plans}

    def _report(self, path: str, message: str) -> None:
        self.problems.append(Problem(self.file, path, message))

    def _resolve(
        self,
        name: str,
        environment: Environment,
        declared: Mapping[str, Environment],
        curated: Mapping[str, EnvironmentPlan],
        plans: dict[str, EnvironmentPlan],
        cloning: tuple[str, ...],
    ) -> EnvironmentPlan | None:
        if name in plans:
            return plans[name]
        base = EnvironmentPlan((), None, {})
        clone = environment.clone
        path = f"environments.{name}.clone"
        # A name that is declared comes before a curated one; but an environment may add to the curated one it is
        # named like.
        if clone is not None and clone in declared and not (clone == name and clone in curated):
            if clone in (*cloning, name):
                self._report(path, f"environments clone each other: {' -> '.join((*cloning, name))}")
                return None
            resolved = self._resolve(clone, declared[clone], declared, curated, plans, (*cloning, name))
            if resolved is None:
                return None
            base = resolved
        elif clone is not None and clone in curated:
            base = curated[clone]
        elif clone is not None:
            self._report(
                path, f"no environment is named {clone!r}; {near(clone, {*plans, *curated, *declared} - {name})}"
            )
            return None
        plans[name] = self._added(name, environment, base)
        return plans[name]

    def _added(self, name: str, environment: Environment, base: EnvironmentPlan) -> EnvironmentPlan:
        """`base` with what the environment adds to it."""
        path = f"environments.{name}"
        for index, requirement in enumerate(environment.pip):
            if mistake := requirement_mistake(requirement):
                self._report(f"{path}.pip[{index}]", mistake)
        version = environment.python_version
        if version is not None and int(version.partition(".")[2]) < LOWEST_MINOR:
            self._report(f"{path}.pythonVersion", f"{version}: {LOWEST_PYTHON}")
        conda = self._conda_file(name, environment.conda_dependencies_file, self.file, f"{path}.condaDependenciesFile")
        required = [*self._requirements_file(environment.pip_requirements_file, path), *conda.requirements]
        return EnvironmentPlan(
            pip=(*base.pip, *(item.text for item in required), *environment.pip),
            python_version=version or conda.python_version or base.python_version,
            environment_variables={
                **base.environment_variables,
                **conda.variables,
                **environment.environment_variables,
            },
            sources={**base.sources, **_sources(required)},
            torch_backend=conda.torch_backend or base.torch_backend,
            build=self._build(name, environment, base),
        )

    def _build(self, name: str, environment: Environment, base: EnvironmentPlan) -> BuildPlan | None:
        build = build_of(environment, base.build, self.root)
        if build is not None:
            self.problems += check_build(f"environments.{name}", build, self.file)
        return build

    def _requirements_file(self, file: str | None, path: str) -> Iterator[Requirement]:
        if file is not None:
            try:
                yield from read_requirements_file(self.root / file, file, self.problems)
            except (OSError, UnicodeDecodeError) as error:
                self._report(f"{path}.pipRequirementsFile", f"{file}: {unreadable(error)}")

    def _conda_file(self, name: str, file: str | None, shown: str, path: str) -> CondaEnvironment:
        """What `file` says, which is named at `path` of the file `shown`."""
        if file is None:
            return CondaEnvironment()
        try:
            conda = read_conda_file(self.root / file, file, self.problems)
        except (OSError, UnicodeDecodeError) as error:
            self.problems.append(Problem(shown, path, f"{file}: {unreadable(error)}"))
            return CondaEnvironment()
        self._tell(name, file, conda)
        return conda

    def _tell(self, name: str, file: str, conda: CondaEnvironment) -> None:
        if conda.from_pypi:
            self.notices.append(
                f"environment {name}: conda packages of {file} are taken from PyPI: {', '.join(conda.from_pypi)}"
            )

    def from_conda_file(self, name: str, folder: Path, file: str, shown: str, path: str) -> EnvironmentPlan:
        """The environment of the `condaFile` that an inference configuration names at `path` of the file `shown`.

        `folder` is where its path begins."""
        return _plan(self._conda_file(name, _shown_below(folder, self.root, file), shown, path), {})

    def from_azure(self, environment: AzureEnvironment, shown: str, folder: Path, path: str) -> EnvironmentPlan:
        """The environment that an Azure `inferenceconfig.json` writes out at `path` of the file `shown`.

        `folder` is where that file's own paths begin."""
        python = environment.python
        where = f"{path}.python" if path else "python"
        if python.conda_dependencies_file is not None:
            if python.conda_dependencies is not None:
                self.problems.append(
                    Problem(
                        shown, f"{where}.condaDependenciesFile", "stands beside condaDependencies; remove one of them"
                    )
                )
            file = _shown_below(folder, self.root, python.conda_dependencies_file)
            conda = self._conda_file(environment.name, file, shown, f"{where}.condaDependenciesFile")
        else:
            conda = self._written_out(environment.name, python.conda_dependencies, shown, folder, where)
        build = self._azure_build(environment, shown, folder, f"{path}.docker" if path else "docker")
        return replace(_plan(conda, environment.environment_variables), build=build)

    def _azure_build(self, environment: AzureEnvironment, shown: str, folder: Path, where: str) -> BuildPlan | None:
        if environment.docker.base_image is not None:
            self.problems.append(
                Problem(
                    shown,
                    f"{where}.baseImage",
                    "is not what services begin with here: that is images.python of the stack's configuration, by "
                    "digest; remove it, or start a Dockerfile with it (baseDockerfile)",
                )
            )
        if environment.docker.base_dockerfile is None:
            return None
        build = BuildPlan(dockerfile=(folder / environment.docker.base_dockerfile).resolve())
        self.problems += check_build(where, build, shown, "baseDockerfile")
        return build

    def _written_out(
        self, name: str, dependencies: CondaDependencies | None, shown: str, folder: Path, where: str
    ) -> CondaEnvironment:
        def report(place: str, message: str) -> None:
            self.problems.append(Problem(shown, place, message))

        items = () if dependencies is None else _flat(dependencies, f"{where}.condaDependencies.dependencies")
        conda = translate(items, shown, folder, report, self.problems)
        self._tell(name, shown, conda)
        return conda


def _flat(dependencies: CondaDependencies, where: str) -> Iterator[Dependency]:
    for index, dependency in enumerate(dependencies.dependencies):
        place = f"{where}[{index}]"
        if isinstance(dependency, str):
            yield Dependency(dependency, place)
        else:
            for number, text in enumerate(dependency.get("pip", ())):
                yield Dependency(text, f"{place}.pip[{number}]", is_pip=True)


def _plan(conda: CondaEnvironment, variables: Mapping[str, str]) -> EnvironmentPlan:
    return EnvironmentPlan(
        pip=tuple(item.text for item in conda.requirements),
        python_version=conda.python_version,
        environment_variables={**conda.variables, **variables},
        sources=_sources(conda.requirements),
        torch_backend=conda.torch_backend,
    )


def _sources(requirements: Iterable[Requirement]) -> dict[str, str]:
    return {item.text: item.source for item in requirements}


def _shown_below(folder: Path, root: Path, file: str) -> str:
    """The path of a file that stands relative to `folder`, as seen from the project's folder."""
    path, root = (folder / file).resolve(), root.resolve()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
