"""ONNX models, run by onnxruntime. Names, types and shapes come from the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime  # type: ignore[import-untyped]

from slipway_serving.binding import BadInputError
from slipway_serving.frameworks import LoadedModel
from slipway_serving.frameworks.arrays import fit
from slipway_serving.model import TensorSpec
from slipway_serving.tensors import Array

TYPES = {
    "tensor(bool)": "BOOL",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
} | {f"tensor({s}int{bits})": f"{s.upper()}INT{bits}" for s in ("", "u") for bits in (8, 16, 32, 64)}


def load(path: Path) -> LoadedModel:
    """Open the model. Raises whatever onnxruntime raises for one that it cannot run."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=onnxruntime.get_available_providers())
    inputs = tuple(_spec(node) for node in session.get_inputs())
    # Sequences and maps (a classifier's ZipMap) have no shape; as tensors they are JSON text.
    outputs = tuple(_spec(node) for node in session.get_outputs())
    names = tuple(spec.name for spec in outputs)

    def predict(given: dict[str, Array], wanted: tuple[str, ...]) -> dict[str, Any]:
        chosen = _wanted(wanted, names)
        feed = fit(given, inputs)
        for spec in inputs:
            if spec.datatype == "BYTES":
                feed[spec.name] = _text(feed[spec.name])
        try:
            return dict(zip(chosen, session.run(list(chosen), feed), strict=True))
        except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument as error:
            raise BadInputError(400, f"the model does not take this input: {error}") from None

    free_rows = all(spec.shape and spec.shape[0] == -1 for spec in (*inputs, *outputs))
    return LoadedModel("onnx_onnxruntime", inputs, outputs, predict, batchable=free_rows)


def _wanted(wanted: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    for name in wanted:
        if name not in names:
            raise BadInputError(400, f"there is no output {name!r}; there are: {', '.join(names)}")
    return wanted or names


def _spec(node: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape or ())
    return TensorSpec(node.name, TYPES.get(node.type, "BYTES"), shape)


def _text(array: Array) -> Array:
    flat = array.astype(object)
    for index, item in enumerate(flat.flat):
        if isinstance(item, bytes):
            flat.flat[index] = item.decode("utf-8", "replace")
    return flat
