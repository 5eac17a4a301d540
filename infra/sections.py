"""The sections of a stack's configuration: from Pulumi's keys, and from the files that `include` names.

Pulumi hands its configuration to programs and plugins as one environment variable, which Linux limits to 128 KiB: a
stack of several hundred services has to keep some of them in files of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.config import NAMESPACE
from infra.problems import Problem, near

_NAMED = ("computeTargets", "environments", "models", "services", "packages")
_KEYS = ("workspace", "registry", "images", *_NAMED)
_INCLUDE = "include"


@dataclass
class Sections:
    """Sections by name, with all that was included, and what was wrong with reading them."""

    file: str
    """The stack's own file."""
    content: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)
    """The names of the secrets that are set beside the sections."""
    _origins: dict[str, str] = field(default_factory=dict)

    def located(self, problem: Problem) -> Problem:
        """`problem` with the file that its entry was included from; one of another file stays as it is."""
        if problem.file == self.file:
            for path, file in self._origins.items():
                if problem.path == path or problem.path.startswith((f"{path}.", f"{path}[")):
                    return Problem(file, problem.path, problem.message)
        return problem

    def _report(self, file: str, path: str, message: str) -> None:
        self.problems.append(Problem(file, path, message))

    def _include(self, root: Path, name: Any) -> None:
        """Adds the entries of an included file."""
        if not isinstance(name, str):
            self._report(self.file, _INCLUDE, f"must be a list of paths; {name!r} is none")
            return
        import yaml  # only here: to load it costs every other preview time

        try:
            # libyaml where PyYAML was built with it: ten times as fast.
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            document = yaml.load((root / name).read_text(encoding="utf-8"), loader) or {}  # noqa: S506 - a safe loader
        except OSError as error:
            self._report(self.file, _INCLUDE, f"the file {name} cannot be read: {error.strerror}; mend the path")
            return
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            self._report(name, "", f"is no YAML document: {error}")
            return
        if not isinstance(document, dict):
            self._report(name, "", f"must hold sections ({', '.join(_NAMED)}), not {document!r}")
            return
        for section, entries in document.items():
            if section not in _NAMED:
                self._report(name, str(section), f"cannot be included; {near(str(section), _NAMED)}")
            elif not isinstance(entries, dict):
                self._report(name, section, f"must be a section with a name for each entry, not {entries!r}")
            else:
                self._add(name, section, entries)

    def _add(self, file: str, section: str, entries: Mapping[str, Any]) -> None:
        known = self.content.setdefault(section, {})
        for entry, value in entries.items():
            path = f"{section}.{entry}"
            if isinstance(known, dict) and entry not in known:
                known[entry] = value
                self._origins[path] = file
            else:
                self._report(file, path, f"is in {self._origins.get(path, self.file)} already; rename one of them")


def gather(raw: Mapping[str, str], secret_keys: Sequence[str], root: Path, file: str) -> Sections:
    """The sections in Pulumi's configuration `raw` (keys to JSON), with the files that it includes."""
    sections = Sections(file)
    included: Any = []
    for key, value in raw.items():
        if not key.startswith(NAMESPACE):
            continue
        name = key.removeprefix(NAMESPACE)
        if name not in (*_KEYS, _INCLUDE):
            if key in secret_keys:
                sections.secrets.add(name)
                continue
            sections.problems.append(
                Problem(file, key, f"is no section of the configuration; {near(name, (*_KEYS, _INCLUDE))}")
            )
        elif key in secret_keys:
            sections.problems.append(
                Problem(
                    file,
                    key,
                    "holds a secret where a plain value is expected; set it without --secret, it is shown in previews",
                )
            )
        else:
            try:
                content = json.loads(value)
            except json.JSONDecodeError:
                sections.problems.append(Problem(file, key, f"must be a section with fields, not {value!r}"))
                continue
            if name == _INCLUDE:
                included = content
            else:
                sections.content[name] = content
    for path in included if isinstance(included, list) else [included]:
        sections._include(root, path)
    return sections
