"""Pulumi's property values as plain Python values, and back.

Resources work on dicts of None, bool, int, float, str, list and dict; a value that is not known yet (in a preview) is
`UNKNOWN`. Secrecy is kept beside the values, by the name of the top-level property, and put back on the way out, so
that a secret input is secret in the outputs too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final

from pulumi.provider.experimental.property_value import Computed, PropertyValue
from pulumi.runtime import rpc

Properties = dict[str, Any]


class Unknown(Enum):
    """The type of `UNKNOWN`."""

    TOKEN = "unknown"

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown.TOKEN
"""Stands for a value that only the real deployment will know."""


def is_known(value: Any) -> bool:
    """Whether `value` and everything inside it is known."""
    if value is UNKNOWN:
        return False
    if isinstance(value, Mapping):
        return all(map(is_known, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_known, value))
    return True


def to_plain(value: PropertyValue) -> Any:
    """The plain value of one property. Whole numbers become int: Pulumi knows doubles alone."""
    inner = value.value
    # The SDK reads and writes an unknown value as the engine sends it, a string of its own; see `rpc.UNKNOWN`.
    if isinstance(inner, Computed) or inner == rpc.UNKNOWN:
        return UNKNOWN
    if inner is None or isinstance(inner, bool | str):
        return inner
    if isinstance(inner, float):
        return int(inner) if inner.is_integer() else inner
    if isinstance(inner, Mapping):
        return {key: to_plain(item) for key, item in inner.items()}
    if isinstance(inner, Iterable):
        return [to_plain(item) for item in inner]
    raise TypeError(f"a {value.type.value} property is not supported by Slipway's resources")


def to_plain_map(values: Mapping[str, PropertyValue] | None) -> Properties:
    """The plain values of a property map."""
    return {key: to_plain(value) for key, value in (values or {}).items()}


def secret_names(*maps: Mapping[str, PropertyValue] | None) -> set[str]:
    """The names of the top-level properties that hold a secret in any of `maps`."""
    return {key for values in maps for key, value in (values or {}).items() if value.contains_secret()}


def _to_value(plain: Any) -> PropertyValue:
    if plain is UNKNOWN:
        return PropertyValue(rpc.UNKNOWN)
    if isinstance(plain, int) and not isinstance(plain, bool):
        return PropertyValue(float(plain))
    if isinstance(plain, Mapping):
        return PropertyValue({key: _to_value(item) for key, item in plain.items()})
    if isinstance(plain, list | tuple):
        return PropertyValue([_to_value(item) for item in plain])
    return PropertyValue(plain)


def to_values(plain: Mapping[str, Any], secrets: Iterable[str] = ()) -> dict[str, PropertyValue]:
    """`plain` as a property map in which the properties named by `secrets` are secret."""
    hidden = set(secrets)
    values = {key: _to_value(value) for key, value in plain.items() if value is not None}
    return {key: value.with_secret(True) if key in hidden else value for key, value in values.items()}
