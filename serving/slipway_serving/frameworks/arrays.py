"""Inputs as a model wants them: the right names, types and shapes, or a reason for the client."""

from __future__ import annotations

from typing import Any

import numpy as np

from slipway_serving.binding import BadInputError
from slipway_serving.model import TensorSpec
from slipway_serving.tensors import NUMPY_TYPES, Array


def fit(inputs: dict[str, Any], specs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """The inputs by the names, types and shapes of `specs`.

    One input for a model that takes one may have any name. A missing first axis of one row is added.
    Raises BadInputError(400).
    """
    if len(specs) == 1 and len(inputs) == 1:
        inputs = {specs[0].name: next(iter(inputs.values()))}
    known = {spec.name for spec in specs}
    for name in inputs:
        if name not in known:
            raise BadInputError(400, f"there is no input {name!r}; there are: {', '.join(sorted(known))}")
    fitted = {}
    for spec in specs:
        if spec.name not in inputs:
            raise BadInputError(400, f"the input {spec.name!r} is missing")
        fitted[spec.name] = _fit_one(inputs[spec.name], spec)
    return fitted


def _fit_one(value: Any, spec: TensorSpec) -> Array:
    array = as_array(value, spec.name)
    wanted = np.dtype(NUMPY_TYPES[spec.datatype])
    if spec.datatype != "BYTES" and array.dtype != wanted:
        if array.dtype.kind not in {"f": "iufb", "i": "iub", "u": "iub", "b": "b"}[wanted.kind]:
            raise BadInputError(400, f"the input {spec.name!r} does not fit its datatype {spec.datatype}")
        if wanted.kind in "iu" and array.size and not _in_range(array, wanted):
            raise BadInputError(400, f"the input {spec.name!r} has values outside of {spec.datatype}")
        array = array.astype(wanted)
    if spec.shape and array.ndim == len(spec.shape) - 1:
        array = array[np.newaxis]
    if array.ndim != len(spec.shape) or any(
        size not in (-1, given) for size, given in zip(spec.shape, array.shape, strict=True)
    ):
        raise BadInputError(
            400, f"the input {spec.name!r} has the shape {list(array.shape)}, but the model takes {list(spec.shape)}"
        )
    return array


def _in_range(array: Array, wanted: np.dtype[Any]) -> bool:
    limits = np.iinfo(wanted)
    return bool(array.min() >= limits.min and array.max() <= limits.max)


def as_array(value: Any, name: str) -> Array:
    """A value from JSON, or a tensor, as an array. Raises BadInputError(400) for ragged lists."""
    if isinstance(value, np.ndarray):
        return value
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        raise BadInputError(400, f"the input {name!r} is not a regular array") from None
    if array.dtype == object:
        raise BadInputError(400, f"the input {name!r} is not an array of numbers or of text")
    return array.astype(object) if array.dtype.kind == "U" else array
