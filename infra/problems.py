"""Mistakes in a stack's configuration: collected, worded and shown all at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from infra.config import AZURE_DEPLOYMENT_FIELDS, DEPLOYMENTS, REGISTRY_FIELDS
from provider.credentials import redacted


@dataclass(frozen=True)
class Problem:
    """One mistake: the file, the path in it (`services.mnist.models[0]`), and what is wrong and how to mend it."""

    file: str
    path: str
    message: str

    def __str__(self) -> str:
        message = redacted(self.message)
        return f"{self.file}: {self.path}: {message}" if self.path else f"{self.file}: {message}"


class ConfigurationError(Exception):
    """The configuration cannot be used; `problems` says all that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(set(problems), key=lambda problem: (problem.file, problem.path, problem.message))
        count = len(self.problems)
        heading = f"the stack's configuration has {count} mistake{'s' if count > 1 else ''}; nothing was changed:"
        super().__init__("\n".join([heading, *(f"  {problem}" for problem in self.problems)]))


def path_of(location: Iterable[str | int]) -> str:
    """A location in a document as text: `services.mnist.models[0]`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def near(name: str, known: Iterable[str]) -> str:
    """A hint at what `name` was meant to be: the near ones of `known`, or all of them where they are few."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(item) for item in close)}?"
    if not names:
        return "none is defined"
    return f"known: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"


def problems_of(error: ValidationError, file: str, prefix: Sequence[str | int], fields: Iterable[str]) -> list[Problem]:
    """The mistakes that pydantic found, in words for whoever wrote the file. `fields` are all known field names."""
    known = sorted(set(fields))
    return [
        Problem(file, path_of([*prefix, *_clean(details["loc"])]), _message(details, known, error.title))
        for details in error.errors()
    ]


def _clean(location: Sequence[str | int]) -> list[str | int]:
    """Without the parts that pydantic adds for the branch of a union and for a dict's key."""
    return [part for part in location if not (isinstance(part, str) and (part in _BRANCHES or part == "[key]"))]


_REGISTRIES = ("layout", "service", "cluster", "external")
_BRANCHES = {
    "local",
    "container",
    "kubernetes",
    "<text>",
    "<section>",
    *_REGISTRIES,
}


def _message(details: ErrorDetails, known: Sequence[str], section: str) -> str:
    kind, value = details["type"], details["input"]
    if kind == "extra_forbidden":
        name = str(details["loc"][-1])
        target = next((kind for kind, model in DEPLOYMENTS.items() if model.__name__ == section), None)
        if name in AZURE_DEPLOYMENT_FIELDS and target is not None:
            return f"cannot be honoured by a {target} target; remove it, or deploy to another kind of target"
        if name in REGISTRY_FIELDS and details["loc"][0] in _REGISTRIES:
            return f"cannot be honoured by a registry of kind {details['loc'][0]}; remove it, or choose another kind"
        # A name that another section has is no hint here.
        close = difflib.get_close_matches(name, [other for other in known if other != name], n=1, cutoff=0.6)
        return "is no field here" + (f"; did you mean '{close[0]}'?" if close else "; remove it")
    if kind == "missing":
        return "is missing; add it"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"kind must be one of {details['ctx'].get('expected_tags', 'local')}"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        what = "a text or a section" if details["loc"] and details["loc"][-1] == "<section>" else "a section"
        return f"must be {what} with fields, not {value!r}"
    if kind == "value_error":
        return str(details["ctx"]["error"])
    wording = details["msg"]
    return f"{wording[0].lower()}{wording[1:]}, not {value!r}"
