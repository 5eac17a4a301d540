"""The layout of a resource's state, the official plugin's: the live object, and what it was made from.

Beside the object's own members: `__inputs`, `__initialApiVersion` and `__fieldManager`. What was secret in the inputs
is secret in both, at the same depth; the data of a Secret always is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulumi.provider.experimental.property_value import PropertyValue

from airgap.kubernetes.objects import Object, to_api, to_state, without_nulls
from provider.values import to_plain_map, to_values

INPUTS = "__inputs"
INITIAL_API_VERSION = "__initialApiVersion"
FIELD_MANAGER = "__fieldManager"
_HIDDEN = ("data", "stringData")

Values = Mapping[str, PropertyValue]


def state(
    live: Object, inputs: Object, given: Values, initial_api_version: str, manager: str
) -> dict[str, PropertyValue]:
    """The state of a resource; `given`: the inputs as the engine sent them, which say what is secret."""
    values = values_of(live, given)
    values[INPUTS] = PropertyValue(values_of(inputs, given))
    values[INITIAL_API_VERSION] = PropertyValue(initial_api_version)
    values[FIELD_MANAGER] = PropertyValue(manager)
    return values


def values_of(obj: Object, given: Values) -> dict[str, PropertyValue]:
    """An object as property values, as secret as `given` is."""
    return _as_secret(to_values(without_nulls(to_state(obj))), given)


def _as_secret(values: Values, given: Values) -> dict[str, PropertyValue]:
    result = dict(values)
    kind = result.get("kind")
    if kind is not None and kind.value == "Secret":
        result |= {key: result[key].with_secret(True) for key in _HIDDEN if key in result}
    for key, was in given.items():
        value = result.get(key)
        if value is None:
            continue
        if isinstance(value.value, Mapping) and isinstance(was.value, Mapping) and not was.is_secret:
            result[key] = value.with_value(_as_secret(value.value, was.value))
        elif was.contains_secret():
            # A list as a whole: the server may have put its members into another order.
            result[key] = value.with_secret(True)
    return result


def split(values: Values) -> tuple[Object, Object]:
    """The live object and the inputs that a state holds. A state of a resource that was imported may hold no inputs."""
    plain: dict[str, Any] = to_api(to_plain_map(values))
    inputs = plain.pop(INPUTS, None) or {}
    plain.pop(INITIAL_API_VERSION, None)
    plain.pop(FIELD_MANAGER, None)
    return plain, inputs


def field_manager(values: Values) -> str:
    """The name under which the object's fields are owned; empty where the state has none."""
    return _string(values, FIELD_MANAGER)


def initial_api_version(values: Values) -> str:
    return _string(values, INITIAL_API_VERSION)


def _string(values: Values, name: str) -> str:
    value = values.get(name)
    return value.value if value is not None and isinstance(value.value, str) else ""
