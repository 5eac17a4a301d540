"""What the properties of a resource type are, and what a change of each of them means.

The plain rules of the official plugin are data here: kinds, defaults, which property a change of which needs a new
resource, and which the engine fills in where the program says nothing. What a property does is left to the resources.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["string", "integer", "boolean", "list", "set", "map", "object", "objects", "object set"]
"""`list`, `set` and `map` hold strings. The order of `objects` counts, that of an `object set` does not."""


@dataclass(frozen=True)
class Field:
    """One property that a program can set."""

    kind: Kind
    required: bool = False
    replaces: bool = True
    """A change needs a new resource."""
    default: Any = None
    computed: bool = False
    """Where the program gives none, whatever the engine has is right."""
    blank_is_unset: bool = False
    """An empty string is the same as none at all, and the engine's value is right then."""
    choices: tuple[str, ...] = ()
    fields: Mapping[str, Field] = field(default_factory=dict)
    """The properties of an object."""


@dataclass(frozen=True)
class Schema:
    """A resource type."""

    inputs: Mapping[str, Field]
    outputs: Collection[str] = ()
    """What the engine alone says."""
    version: int = 0
    """Of the layout of its state, as the official plugin counts it: an older number would make it convert the state."""
    autonamed: bool = True
    """A name that is not given is made from the resource's."""
    delete_before_replace: bool = False


def string(**rules: Any) -> Field:
    return Field("string", **rules)


def integer(**rules: Any) -> Field:
    return Field("integer", **rules)


def boolean(**rules: Any) -> Field:
    return Field("boolean", **rules)


def strings(**rules: Any) -> Field:
    return Field("list", **rules)


def string_set(**rules: Any) -> Field:
    return Field("set", **rules)


def mapping(**rules: Any) -> Field:
    return Field("map", **rules)


def an_object(fields: Mapping[str, Field], **rules: Any) -> Field:
    return Field("object", fields=fields, **rules)


def objects(fields: Mapping[str, Field], **rules: Any) -> Field:
    return Field("objects", fields=fields, **rules)


def object_set(fields: Mapping[str, Field], **rules: Any) -> Field:
    return Field("object set", fields=fields, **rules)


LABELS: Mapping[str, Field] = {"label": string(required=True), "value": string(required=True)}
