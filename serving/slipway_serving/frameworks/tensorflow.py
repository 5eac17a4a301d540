"""TensorFlow SavedModels, through their signature `serving_default`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf  # type: ignore[import-untyped,import-not-found,unused-ignore]

from slipway_serving.binding import BadInputError
from slipway_serving.failures import StartError
from slipway_serving.frameworks import LoadedModel
from slipway_serving.frameworks.arrays import fit
from slipway_serving.model import TensorSpec
from slipway_serving.tensors import Array

TYPES = {"float16": "FP16", "float32": "FP32", "float64": "FP64", "bool": "BOOL", "string": "BYTES"} | {
    f"{s}int{bits}": f"{s.upper()}INT{bits}" for s in ("", "u") for bits in (8, 16, 32, 64)
}


def load(path: Path) -> LoadedModel:
    """Load the SavedModel of which `path` is the `saved_model.pb`."""
    loaded = tf.saved_model.load(str(path.parent))
    if "serving_default" not in loaded.signatures:
        known = ", ".join(loaded.signatures) or "none"
        raise StartError("ModelError", f"The SavedModel has no signature serving_default; it has: {known}.")
    function = loaded.signatures["serving_default"]
    inputs = tuple(_spec(name, spec) for name, spec in sorted(function.structured_input_signature[1].items()))
    outputs = tuple(_spec(name, spec) for name, spec in sorted(function.structured_outputs.items()))
    names = tuple(spec.name for spec in outputs)

    def predict(given: dict[str, Array], wanted: tuple[str, ...]) -> dict[str, Any]:
        for name in wanted:
            if name not in names:
                raise BadInputError(400, f"there is no output {name!r}; there are: {', '.join(names)}")
        fitted = fit(given, inputs)
        feed = {
            spec.name: tf.constant(
                fitted[spec.name].tolist() if spec.datatype == "BYTES" else fitted[spec.name], dtype=_dtype(spec)
            )
            for spec in inputs
        }
        try:
            results = function(**feed)
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            raise BadInputError(400, f"the model does not take this input: {error}") from None
        return {name: results[name].numpy() for name in wanted or names}

    free_rows = all(spec.shape and spec.shape[0] == -1 for spec in (*inputs, *outputs))
    # The function is held by the signature alone; the object it belongs to must live as long.
    predict.loaded = loaded  # type: ignore[attr-defined]
    return LoadedModel("tensorflow_savedmodel", inputs, outputs, predict, batchable=free_rows)


def _spec(name: str, spec: Any) -> TensorSpec:
    shape = () if spec.shape.rank is None else tuple(-1 if size is None else int(size) for size in spec.shape)
    return TensorSpec(name, TYPES.get(spec.dtype.name, "BYTES"), shape)


def _dtype(spec: TensorSpec) -> Any:
    return {kind: getattr(tf, name) for name, kind in TYPES.items()}[spec.datatype]
