"""Conda's environment files, for environments that are installed from PyPI.

Of such a file, the packages below `pip`, Python's version and the variables are used as they are. A conda package is
taken from PyPI, under the name it has there, and that is said; what PyPI does not have is a mistake. Conda itself is
never run.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from infra.problems import Problem
from infra.requirements import Requirement, is_azure_server, read_requirements_file, requirement_mistake, unreadable

LOWEST_MINOR = 11
"""The lowest Python 3 that the scoring server runs on."""

_NAMES = Path(__file__).with_name("conda_names.toml")
# `channel/platform::name`, then whatever says the version (conda's "package match specification").
_PACKAGE = re.compile(r"(?:[\w./-]+::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)\s*(?P<version>[^\[]*)")
_CONSTRAINT = re.compile(r"(?P<operator>>=|<=|==|!=|~=|>|<|)\s*(?P<version>[0-9][0-9A-Za-z._+!-]*?)(?P<any>\.?\*)?")

Report = Callable[[str, str], None]
"""Takes a mistake: its place in the file, and what is wrong."""


@dataclass(frozen=True)
class Dependency:
    """One entry of `dependencies`, or of the `pip` below it."""

    text: str
    place: str
    is_pip: bool = False


@dataclass
class CondaEnvironment:
    """What is used of a conda environment."""

    requirements: list[Requirement] = field(default_factory=list)
    python_version: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    torch_backend: str | None = None
    from_pypi: list[str] = field(default_factory=list)
    """The conda packages that come from PyPI, each with its place."""


def read_conda_file(path: Path, shown: str, problems: list[Problem]) -> CondaEnvironment:
    """What the file at `path` says. `shown` is its name for whoever reads a mistake.

    Raises `OSError` and `UnicodeDecodeError` where it cannot be read."""
    import yaml  # Pulumi's SDK has it already, so this costs a preview nothing

    def report(place: str, message: str) -> None:
        problems.append(Problem(shown, place, message))

    try:
        root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        report(f"line {line}", f"is no YAML document: {error.problem}")
        return CondaEnvironment()
    sections = _sections(root, report)
    environment = translate(_dependencies(sections.get("dependencies"), report), shown, path.parent, report, problems)
    environment.variables = _variables(sections.get("variables"), report)
    return environment


def translate(
    dependencies: Iterable[Dependency], shown: str, folder: Path, report: Report, problems: list[Problem]
) -> CondaEnvironment:
    """The environment of these dependencies of the file `shown`; `folder` is where their own paths begin."""
    environment = CondaEnvironment()
    for dependency in dependencies:
        if dependency.is_pip:
            _add_pip(environment, dependency, shown, folder, report, problems)
        else:
            _add_conda(environment, dependency, shown, report)
    return environment


# --- the file's form


def _sections(root: Any, report: Report) -> dict[str, Any]:
    """The nodes of the sections that are used, by name."""
    if root is None or root.id != "mapping":
        report("line 1", "is no conda file: it has no section `dependencies`")
        return {}
    sections = {}
    for key, node in root.value:
        if key.value in ("dependencies", "variables"):
            sections[key.value] = node
        elif key.value not in ("name", "channels", "prefix"):
            report(_line(key), f"{key.value!r} is no section of a conda file; remove it")
    return sections


def _dependencies(node: Any, report: Report) -> Iterator[Dependency]:
    if node is None or _is_null(node):
        return
    if node.id != "sequence":
        report(_line(node), "dependencies must be a list")
        return
    for item in node.value:
        if item.id == "scalar":
            yield Dependency(str(item.value).strip(), _line(item))
        elif item.id == "mapping" and [key.value for key, _ in item.value] == ["pip"]:
            yield from _pip_dependencies(item.value[0][1], report)
        else:
            report(_line(item), "must be the name of a package, or `pip:` with a list of packages")


def _pip_dependencies(node: Any, report: Report) -> Iterator[Dependency]:
    if _is_null(node):
        return
    if node.id != "sequence" or any(item.id != "scalar" for item in node.value):
        report(_line(node), "pip must be a list of packages")
        return
    for item in node.value:
        yield Dependency(" ".join(str(item.value).split()), _line(item), is_pip=True)


def _variables(node: Any, report: Report) -> dict[str, str]:
    if node is None or _is_null(node):
        return {}
    if node.id != "mapping" or any(value.id != "scalar" for _, value in node.value):
        report(_line(node), "variables must be `name: value` pairs")
        return {}
    return {str(key.value): str(value.value) for key, value in node.value}


def _line(node: Any) -> str:
    return f"line {node.start_mark.line + 1}"


def _is_null(node: Any) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


# --- one dependency


def _add_pip(
    environment: CondaEnvironment,
    dependency: Dependency,
    shown: str,
    folder: Path,
    report: Report,
    problems: list[Problem],
) -> None:
    if match := re.fullmatch(r"(?:-r|--requirement)[\s=]*(\S+)", dependency.text):
        try:
            included = read_requirements_file(folder / match[1], str(Path(shown).parent / match[1]), problems)
            environment.requirements += included
        except (OSError, UnicodeDecodeError) as error:
            report(dependency.place, f"{dependency.text}: {unreadable(error)}")
    elif is_azure_server(dependency.text):
        return
    elif mistake := requirement_mistake(dependency.text):
        report(dependency.place, mistake)
    else:
        environment.requirements.append(Requirement(dependency.text, f"{shown}: {dependency.place}"))


def _add_conda(environment: CondaEnvironment, dependency: Dependency, shown: str, report: Report) -> None:
    text = dependency.text
    match = _PACKAGE.fullmatch(text)
    version = None if match is None else _specifier(match["version"].strip())
    if match is None or version is None:
        report(dependency.place, f"{text!r} cannot be put in pip's words; write the package below `pip` instead")
        return
    name = match["name"].lower()
    if name == "python":
        _set_python(environment, dependency, version, report)
    elif name == "cpuonly":  # conda's name for PyTorch without CUDA
        environment.torch_backend = "cpu"
    elif _is_missing(name):
        report(
            dependency.place,
            f"{text!r} is a conda package that PyPI does not have; remove it (wheels bring the libraries they need), "
            f"or name what it is on PyPI below `pip`",
        )
    elif name != "pip" and not is_azure_server(name):
        requirement = _conda_names()["renamed"].get(name, name) + version
        environment.requirements.append(Requirement(requirement, f"{shown}: {dependency.place}"))
        environment.from_pypi.append(f"{requirement} ({dependency.place})")


def _set_python(environment: CondaEnvironment, dependency: Dependency, version: str, report: Report) -> None:
    here = sys.version_info[:2]
    if version == "":
        return
    if match := re.fullmatch(r"==3\.(\d+)(?:\.(?:\d+|\*))*", version):
        if int(match[1]) < LOWEST_MINOR:
            report(dependency.place, f"{dependency.text}: {LOWEST_PYTHON}")
        environment.python_version = f"3.{match[1]}"
    elif not _admits(version, here):
        report(
            dependency.place,
            f"{dependency.text} leaves out Python {here[0]}.{here[1]}, which runs Slipway; name one version that the "
            f"scoring server runs on, such as python=3.{max(LOWEST_MINOR, 12)}",
        )


LOWEST_PYTHON = f"the scoring server needs Python 3.{LOWEST_MINOR}"
"""What is said of an older Python."""


def _admits(specifiers: str, version: tuple[int, ...]) -> bool:
    """Whether a minor version of Python is within ranges like `>=3.9,<3.12`."""
    for operator, bound in re.findall(r"(>=|<=|!=|~=|==|>|<)([0-9.]+)", specifiers):
        limit = tuple(int(part) for part in bound.strip(".").split("."))
        whole = version[: len(limit)]
        minor = limit[:2]
        fits = {
            ">=": version >= minor,
            ">": version > minor or (len(limit) > 2 and version >= minor),
            "<=": whole <= minor,
            "<": version < minor or (len(limit) > 2 and version <= minor),
            "==": whole == minor,
            "!=": whole != limit,
            "~=": version[0] == limit[0] and version >= minor and (len(limit) < 3 or version == minor),
        }[operator]
        if not fits:
            return False
    return True


def _specifier(text: str) -> str | None:
    """A version in conda's words as pip's: `=1.2` is `==1.2.*`. None where it has none there."""
    if text == "" or text == "*":
        return ""
    fuzzy = text.startswith("=") and not text.startswith("==")
    exact = re.fullmatch(r"(?:==?)?\s*([0-9][\w.!+-]*?(?:\.?\*)?)(?:[=\s]+([\w*.]+))?", text)
    if exact is not None:
        version, build = exact[1], exact[2]
        if version.endswith("*"):
            return f"=={version.rstrip('*').rstrip('.')}.*"
        return f"=={version}.*" if fuzzy and build is None else f"=={version}"
    constraints = []
    for part in text.split(","):
        match = _CONSTRAINT.fullmatch(part.strip())
        if match is None:
            return None
        operator = match["operator"] or "=="
        wild = ".*" if match["any"] and operator in ("==", "!=") else ""
        constraints.append(f"{operator}{match['version']}{wild}")
    return ",".join(constraints)


def _is_missing(name: str) -> bool:
    missing = _conda_names()["missing"]
    return name in missing["names"] or (name.startswith(tuple(missing["prefixes"])) and name not in missing["present"])


@cache
def _conda_names() -> Mapping[str, Any]:
    return tomllib.loads(_NAMES.read_text(encoding="utf-8"))
