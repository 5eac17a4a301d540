"""Checks, defaults, names and differences of the resources, from their schemas alone. Pure.

They follow the official plugin, which is a Terraform provider behind Pulumi's bridge: inputs carry the list of the
defaults that were filled in (`__defaults`), the state the version of its layout (`__meta`), and a difference is one
between the state and the inputs, in which a missing value equals an empty one.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import Any, Final, Literal

from airgap.docker.schema import Field, Schema
from provider.resource import Change, Failure, member
from provider.values import UNKNOWN, Properties, is_known

DEFAULTS = "__defaults"
META = "__meta"
_MAX_NAME = 255
_RANDOM_DIGITS = 7
_MEMBER: Final = Field("string")
"""Of a list or a map."""

_PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "list": (list,),
    "set": (list,),
    "map": (dict,),
    "object": (dict,),
    "objects": (list,),
    "object set": (list,),
}


def check(schema: Schema, news: Properties, olds: Properties, name: str, seed: bytes) -> Properties:
    """`news` with names and defaults filled in, each noted in `__defaults`. `olds` are the inputs of the last time."""
    filled = dict(news)
    filled.pop(DEFAULTS, None)
    noted = []
    if schema.autonamed and filled.get("name") is None:
        noted.append("name")
        kept = olds.get("name") if "name" in (olds.get(DEFAULTS) or []) else None
        filled["name"] = kept if kept is not None else unique_name(name, seed)
    return _filled(schema.inputs, filled, noted)


def unique_name(name: str, seed: bytes) -> str:
    """A name for the resource `name`: the same `seed` of the engine gives the same name."""
    random = hashlib.sha256(seed).hexdigest() if seed else secrets.token_hex(_RANDOM_DIGITS)
    return f"{name[: _MAX_NAME - _RANDOM_DIGITS - 1]}-{random[:_RANDOM_DIGITS]}"


def _filled(fields: Mapping[str, Field], news: Properties, noted: list[str]) -> Properties:
    filled = {name: _filled_inside(fields.get(name), value) for name, value in news.items() if value is not None}
    for name, field in fields.items():
        if field.default is not None and name not in filled:
            filled[name] = field.default
            noted.append(name)
    return {**filled, DEFAULTS: sorted(noted)}


def _filled_inside(field: Field | None, value: Any) -> Any:
    if field is None or value is UNKNOWN:
        return value
    if field.kind == "object":
        return _filled(field.fields, _without_defaults(value), []) if isinstance(value, dict) else value
    if field.kind in {"objects", "object set"} and isinstance(value, list):
        return [
            _filled(field.fields, _without_defaults(item), []) if isinstance(item, dict) else item for item in value
        ]
    return value


def _without_defaults(value: Properties) -> Properties:
    return {name: item for name, item in value.items() if name != DEFAULTS}


def failures(token: str, schema: Schema, news: Properties) -> list[Failure]:
    """What is wrong with the names and types of `news`."""
    return list(_failures(token, "", schema.inputs, news))


def _failures(token: str, path: str, fields: Mapping[str, Field], news: Properties) -> Iterator[Failure]:
    for name in news:
        if name not in fields and not name.startswith("__"):
            where = f"{token}'s {path.rstrip('.')}" if path else token
            yield Failure(
                f"{path}{name}",
                f"{where} has no property {name} in this stand-in for Pulumi's docker plugin; it knows "
                f"{', '.join(sorted(fields))}. Leave it out, or install the official plugin.",
            )
    for name, field in fields.items():
        value = news.get(name)
        if value is None:
            if field.required:
                yield Failure(f"{path}{name}", "is required")
        elif value is not UNKNOWN:
            yield from _value_failures(token, f"{path}{name}", field, value)


def _value_failures(token: str, path: str, field: Field, value: Any) -> Iterator[Failure]:
    of_kind: bool = isinstance(value, _PYTHON_TYPES[field.kind])
    if not of_kind or (isinstance(value, bool) and field.kind != "boolean"):
        yield Failure(path, f"must be a {field.kind}, not {_shown(value)}")
        return
    if field.choices and value not in field.choices:
        yield Failure(path, f"must be one of {', '.join(field.choices)}, not {value}")
    items: list[Any] = []
    if field.kind in {"object", "objects", "object set"}:
        items = [value] if isinstance(value, dict) else value
    for index, item in enumerate(items):
        inside = f"{path}[{index}]." if field.kind != "object" else f"{path}."
        if isinstance(item, dict):
            yield from _failures(token, inside, field.fields, item)
        elif item is not UNKNOWN:
            yield Failure(inside.rstrip("."), f"must be an object, not {_shown(item)}")


def _shown(value: Any) -> str:
    """The type alone: a value in the wrong place may be a secret."""
    return type(value).__name__


def differences(schema: Schema, state: Properties, news: Properties) -> list[Change]:
    """What of `state` is not as `news` wants it: of objects, maps and lists the members alone. The members of a set
    have no paths; of those it is the whole."""
    return [
        Change(path, kind, replaces=field.replaces, of_input=False)
        for name, field in schema.inputs.items()
        for path, kind in _differences(name, field, state.get(name), news.get(name))
    ]


def _differences(
    path: str, field: Field, old: Any, new: Any
) -> Iterator[tuple[str, Literal["add", "delete", "update"]]]:
    if same(field, old, new):
        return
    if new is None or _blank(old):
        yield path, "delete" if new is None else "add"
    elif new is not UNKNOWN and field.kind in ("object", "objects", "map", "list"):
        for inside, inner, before, after in _members(path, field, old, new):
            yield from _differences(inside, inner, before, after)
    else:
        yield path, "update"


def _members(path: str, field: Field, old: Any, new: Any) -> Iterator[tuple[str, Field, Any, Any]]:
    """The path of each member of two values, its rules, and both of its values."""
    if field.kind == "object":
        for name, inner in field.fields.items():
            yield member(path, name), inner, old.get(name), new.get(name, inner.default)
    elif field.kind == "map":
        for key in sorted(old.keys() | new.keys()):
            yield member(path, key), _MEMBER, old.get(key), new.get(key)
    else:
        inner = replace(field, kind="object") if field.kind == "objects" else _MEMBER
        for index, (before, after) in enumerate(zip_longest(old, new)):
            yield f"{path}[{index}]", inner, before, after


def same(field: Field, old: Any, new: Any) -> bool:
    """Whether the value `old` of the state is what the input `new` asks for."""
    if not is_known(new):
        return False
    if new is None or (field.blank_is_unset and new == ""):
        return field.computed or field.blank_is_unset or _blank(old)
    if field.kind == "object":
        return _same_object(field.fields, old or {}, new)
    if field.kind == "objects":
        old = old or []
        return len(old) == len(new) and all(
            _same_object(field.fields, before, after) for before, after in zip(old, new, strict=True)
        )
    if field.kind == "object set":
        return _same_objects(field.fields, old or [], new)
    if field.kind == "set":
        return sorted(set(old or [])) == sorted(set(new))
    if field.kind in {"list", "map"}:
        return bool((old or type(new)()) == new)
    return bool(old == new) or (_blank(old) and _blank(new))


def _same_object(fields: Mapping[str, Field], old: Properties, new: Properties) -> bool:
    return all(same(field, old.get(name), new.get(name, field.default)) for name, field in fields.items())


def _same_objects(fields: Mapping[str, Field], old: list[Any], new: list[Any]) -> bool:
    left = list(old)
    for wanted in new:
        match = next((item for item in left if _same_object(fields, item, wanted)), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def _blank(value: Any) -> bool:
    return value is None or value == "" or value == 0 or value == [] or value == {}


def planned(schema: Schema, news: Properties) -> Properties:
    """What a preview can say of a resource that will be created."""
    state = _plain(news)
    for name, field in schema.inputs.items():
        if field.computed and name not in state:
            state[name] = UNKNOWN
    return {**state, **dict.fromkeys(schema.outputs, UNKNOWN)}


def carried_on(schema: Schema, state: Properties, news: Properties) -> Properties:
    """What is known of a resource with `state` that is about to become `news`: what only the engine says stays."""
    kept = {name: value for name, value in state.items() if name not in schema.inputs or schema.inputs[name].computed}
    return {**kept, **_plain(news)}


def state_of(schema: Schema, known: Properties, found: Properties) -> Properties:
    """The state: `known` (inputs, or the state of before), with what was `found` over it."""
    state = {**_plain(known), **found}
    if schema.version:
        state[META] = json.dumps({"schema_version": str(schema.version)}, separators=(",", ":"))
    return {name: value for name, value in state.items() if value is not None}


def inputs_of(schema: Schema, inputs: Properties, state: Properties) -> Properties:
    """The inputs that a program would have to give for `state`: `inputs` where they still hold.

    Without inputs (an import) those are all that the state has a value for.
    """
    if not inputs:
        return {
            name: state[name]
            for name, field in schema.inputs.items()
            if field.required or name == "name" or not _blank(state.get(name))
        }
    fields = schema.inputs
    return {
        name: value if name not in fields or same(fields[name], state.get(name), value) else state.get(name)
        for name, value in inputs.items()
    }


def _plain(value: Any) -> Any:
    """`value` without the notes that inputs carry."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if name != DEFAULTS}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
