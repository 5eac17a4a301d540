"""The secrets that a configuration names: all of them have to be set. Their values are no matter of these modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set

from pydantic import BaseModel

from infra.config import NAMESPACE, SecretReference
from infra.problems import Problem, near, path_of


def check_secrets(sections: Mapping[str, object], known: Set[str], file: str, stack: str) -> Iterator[Problem]:
    """Yields the secrets that `sections` (path in the file -> section) names and that are not among the `known`."""
    for path, section in sections.items():
        for location, reference in references_in(section):
            if reference.secret not in known:
                yield Problem(
                    file,
                    path_of([path, *location]),
                    f"no secret is named {reference.secret!r} ({near(reference.secret, known)}); set it: "
                    f"`pulumi config set --secret {NAMESPACE}{reference.secret} --stack {stack}`",
                )


def references_in(value: object) -> Iterator[tuple[list[str | int], SecretReference]]:
    """Every reference to a secret in a section, and where in it."""
    if isinstance(value, SecretReference):
        yield [], value
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from _below(field.alias or name, getattr(value, name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _below(str(key), item)
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _below(index, item)


def _below(part: str | int, value: object) -> Iterator[tuple[list[str | int], SecretReference]]:
    for location, reference in references_in(value):
        yield [part, *location], reference
