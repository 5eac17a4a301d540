"""What a service serves, as the Open Inference Protocol names it: a model with a version and, where known, its
tensors.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_serving.binding import Run, schema_util


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that a model takes or gives. A size of -1 is free."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def describe(self) -> dict[str, Any]:
        """As model metadata shows it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model of a service. `aliases` are further names it answers to."""

    name: str
    version: str
    platform: str
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    aliases: tuple[str, ...] = ()

    def answers_to(self, name: str, version: str | None) -> bool:
        """Whether a client means this model."""
        return name in (self.name, *self.aliases) and version in (None, self.version)


def name_and_version(model_dir: str | None) -> tuple[str | None, str]:
    """The single model's name and version from Azure's layout, `azureml-models/<name>/<version>`; else None and "1"."""
    path = Path(model_dir or os.environ.get("AZUREML_MODEL_DIR") or "")
    if path.name.isdigit() and path.parent.name:
        return path.parent.name, path.name
    return None, "1"


def of_script(run: Run, service_name: str, model_dir: str | None) -> ServedModel:
    """The model that an entry script is: named after the service, its inputs from the schema decorators."""
    name, version = name_and_version(model_dir)
    util = schema_util(run)
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    if util is not None:
        for parameter, schema in util.get_input_schema(run).get("properties", {}).items():
            inputs += _specs(parameter, schema, util.get_input_schema(run)["example"].get(parameter))
        schema = util.get_output_schema(run)
        outputs += _specs("output", schema, schema.get("example"))
    aliases = (name,) if name is not None and name != service_name else ()
    return ServedModel(service_name, version, "slipway_script", tuple(inputs), tuple(outputs), aliases)


DATATYPES = {"integer": "INT64", "number": "FP64", "boolean": "BOOL", "string": "BYTES"}
FORMATS = {"float": "FP32", "double": "FP64", "byte": "BYTES"} | {
    f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def _specs(name: str, schema: dict[str, Any], example: Any) -> list[TensorSpec]:
    """A parameter's Swagger schema as tensors: an array as one, an object as one for each of its members."""
    kind = schema.get("type")
    if kind == "object" and isinstance(example, dict):
        members = schema.get("properties", {})
        return [spec for key, member in members.items() for spec in _specs(key, member, example.get(key))]
    depth = 0
    item, sample, shape = schema, example, []
    while item.get("type") == "array":
        shape.append(len(sample) if depth and isinstance(sample, list) else -1)
        sample = sample[0] if isinstance(sample, list) and sample else None
        item, depth = item.get("items", {}), depth + 1
    datatype = FORMATS.get(item.get("format", "")) or DATATYPES.get(item.get("type", ""))
    if datatype is None:
        return []
    return [TensorSpec(name, datatype, tuple(shape) or (1,))]
