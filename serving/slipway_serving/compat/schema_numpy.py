"""`inference_schema.parameter_types.numpy_parameter_type`: NumPy arrays as parameters and results."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from slipway_serving.compat.schema import AbstractParameterType

__all__ = ["NumpyParameterType"]
FORMATS = {
    "bool": {"type": "boolean"},
    "float16": {"type": "number", "format": "float"},
    "float32": {"type": "number", "format": "float"},
    "float64": {"type": "number", "format": "double"},
    "object": {"type": "object"},
} | {name: {"type": "integer", "format": name} for name in ("int8", "int16", "int32", "int64")}
FORMATS |= {name: {"type": "integer", "format": name} for name in ("uint8", "uint16", "uint32", "uint64")}
UNITS = {
    "years": "Y",
    "months": "M",
    "weeks": "W",
    "days": "D",
    "hours": "h",
    "minutes": "m",
    "seconds": "s",
    "milliseconds": "ms",
    "microseconds": "us",
    "nanoseconds": "ns",
}


class NumpyParameterType(AbstractParameterType):
    """An array whose type, and shape but for the first dimension, are those of the sample."""

    def __init__(self, sample_input: Any, enforce_column_type: bool = True, enforce_shape: bool = True) -> None:
        if not isinstance(sample_input, np.ndarray):
            raise TypeError("the sample of a NumpyParameterType must be a NumPy array")
        super().__init__(sample_input)
        self.enforce_column_type = enforce_column_type
        self.enforce_shape = enforce_shape

    def deserialize_input(self, input_data: Any) -> Any:
        """The array. Raises ValueError for another type or shape."""
        if isinstance(input_data, np.ndarray):
            return input_data
        if not isinstance(input_data, list):
            raise ValueError(f"Invalid input format: expected an array of items, got {type(input_data).__name__}.")
        sample = self.sample_input
        try:
            if not self.enforce_column_type:
                array = np.array(input_data)
            elif sample.dtype.names or sample.dtype.kind in "mM":
                array = np.array([_element(item, sample.dtype) for item in input_data], dtype=sample.dtype)
            else:
                array = np.array(input_data, dtype=sample.dtype)
        except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
            raise ValueError(f"Invalid input array: {error}") from None
        if self.enforce_shape:
            if array.ndim != sample.ndim:
                raise ValueError(
                    f"Invalid input array: an array with {sample.ndim} dimensions is expected; "
                    f"input has {array.ndim} [shape {array.shape}]"
                )
            for axis in range(1, sample.ndim):
                if array.shape[axis] != sample.shape[axis]:
                    raise ValueError(
                        f"Invalid input array: array has size {array.shape[axis]} on dimension #{axis}, "
                        f"while expected value is {sample.shape[axis]}"
                    )
        return array

    def input_to_swagger(self) -> dict[str, Any]:
        """Nested arrays of the sample's type."""
        sample = self.sample_input
        schema = _array(_item(sample.dtype), sample.shape)
        return {**schema, "example": _example(sample), "format": "numpy.ndarray"}


def _item(dtype: np.dtype[Any]) -> dict[str, Any]:
    if dtype.names:
        return {"type": "object", "properties": {name: _item(dtype[name]) for name in dtype.names}}
    if dtype.subdtype is not None:
        return _array(_item(dtype.subdtype[0]), dtype.subdtype[1])
    name = dtype.name.lower()
    if name in FORMATS:
        return dict(FORMATS[name])
    for start, form in (("datetime", "date-time"), ("timedelta", "timedelta"), ("bytes", "binary"), ("void", "binary")):
        if name.startswith(start):
            return {"type": "string", "format": form}
    if name.startswith("str"):
        return {"type": "string"}
    raise TypeError(f"a schema cannot be made from NumPy's {name}")


def _array(item: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    schema = {"type": "array", "items": item}
    for _ in shape[1:]:
        schema = {"type": "array", "items": schema}
    return schema


def _example(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim:
        return [_example(item) for item in value]
    if getattr(value, "dtype", None) is not None and value.dtype.names:
        return {name: _example(value[name]) for name in value.dtype.names}
    if isinstance(value, np.datetime64):
        return str(value).replace("T", " ")
    if isinstance(value, np.timedelta64):
        return str(value)
    plain = value.item() if hasattr(value, "item") else value
    return base64.b64encode(plain).decode() if isinstance(plain, bytes) else plain


def _element(value: Any, dtype: np.dtype[Any]) -> Any:
    """One item for a structured array, or one of dates."""
    if dtype.names:
        chosen = [value[name] for name in dtype.names] if isinstance(value, dict) else value
        return tuple(_element(item, dtype[name]) for item, name in zip(chosen, dtype.names, strict=True))
    if isinstance(value, list):
        return [_element(item, dtype) for item in value]
    if dtype.kind == "M":
        return np.datetime64(value)
    if dtype.kind == "m" and isinstance(value, str):
        count, _, unit = value.partition(" ")
        if unit.strip().lower() not in UNITS:
            raise ValueError(f"{value!r} is no time span: write for example '3 days'")
        return np.timedelta64(int(count), UNITS[unit.strip().lower()])  # type: ignore[call-overload]
    return value
