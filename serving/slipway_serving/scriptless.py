"""A model without an entry script behind /score and V2: what the JSON body may look like, and what comes back.

/score takes `{"data": rows}` (also `input_data` or `instances`), `{"inputs": {name: values}}`, the inputs' names
themselves as members, or bare rows; `outputs` (or Azure's `method`) names what is wanted. It answers `{output name:
values}`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from slipway_serving.binding import BadInputError, encode_json, json_of, query_values
from slipway_serving.frameworks import LoadedModel
from slipway_serving.frameworks.arrays import as_array
from slipway_serving.messages import JSON, Request, Response
from slipway_serving.model import ServedModel, name_and_version
from slipway_serving.tensors import Array, Inference, plain

ROWS = ("data", "input_data", "instances")


def describe(loaded: LoadedModel, service_name: str, model_dir: str | None) -> ServedModel:
    """The model as V2 names it."""
    name, version = name_and_version(model_dir)
    aliases = (name,) if name is not None and name != service_name else ()
    return ServedModel(service_name, version, loaded.platform, loaded.inputs, loaded.outputs, aliases)


class Predictor:
    """The `run` of a model without a script, and the /score end of it."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded

    def run(self, inputs: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
        """Predict. Raises BadInputError for inputs that the model does not take."""
        return self.loaded.predict(inputs, wanted)

    def run_many(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Predict for several requests in as few calls as their shapes and wanted outputs allow."""
        results: list[dict[str, Any] | None] = [None] * len(calls)
        groups: dict[tuple[str, ...], list[int]] = {}
        for index, call in enumerate(calls):
            groups.setdefault(call["wanted"], []).append(index)
        for wanted, members in groups.items():
            together = joined([calls[index]["inputs"] for index in members])
            if together is None:
                for index in members:
                    results[index] = self.run(**calls[index])
                continue
            inputs, rows = together
            outputs = self.run(inputs, wanted)
            ends = np.cumsum(rows)
            for position, index in enumerate(members):
                span = slice(int(ends[position]) - rows[position], int(ends[position]))
                results[index] = {name: value[span] for name, value in outputs.items()}
        return [result for result in results if result is not None]

    def arguments(self, request: Request) -> dict[str, Any]:
        """The inputs in the body of /score. Raises BadInputError."""
        body = query_values(request) if request.method == b"GET" else json_of(request)
        if isinstance(body, list):
            return {"inputs": {"data": body}, "wanted": ()}
        if not isinstance(body, dict):
            raise BadInputError(400, "The body must be a JSON object or an array of rows.")
        wanted = _wanted(body.pop("outputs", None) or body.pop("method", None))
        if isinstance(body.get("inputs"), dict):
            inputs = body["inputs"]
        else:
            rows = [name for name in ROWS if name in body]
            inputs = {"data": _table(body[rows[0]])} if len(rows) == 1 and len(body) == 1 else body
        if not inputs:
            raise BadInputError(400, 'The body names no input: send {"data": rows} or {"inputs": {name: values}}.')
        return {"inputs": inputs, "wanted": wanted}

    def feed(self, inputs: dict[str, Array], request: Request) -> dict[str, Any]:
        """The arguments from V2 tensors."""
        inference: Inference = request.context
        return {"inputs": inputs, "wanted": tuple(output.name for output in inference.outputs)}

    def encode(self, request: Request, result: dict[str, Any]) -> Response:
        """The outputs as JSON."""
        return Response(200, encode_json({name: _readable(value) for name, value in result.items()}), JSON)


def _readable(value: Any) -> Any:
    return plain(value) if isinstance(value, np.ndarray) and value.dtype == object else value


def _wanted(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or any(not isinstance(name, str) for name in names):
        raise BadInputError(400, "outputs must be a name, or a list of names")
    return tuple(names)


def _table(value: Any) -> Any:
    """Rows; a table with columns and data apart (as MLflow's clients send it) becomes records."""
    if not (isinstance(value, dict) and isinstance(value.get("data"), list)):
        return value
    columns = value.get("columns")
    if columns is None:
        return value["data"]
    if not isinstance(columns, list) or any(not isinstance(r, list) or len(r) != len(columns) for r in value["data"]):
        raise BadInputError(400, "each row of the table must have one value for each of its columns")
    return [dict(zip(columns, row, strict=True)) for row in value["data"]]


def joined(parts: list[dict[str, Any]]) -> tuple[dict[str, Array], list[int]] | None:
    """Several requests' inputs as one, with the rows of each; None where they do not fit together."""
    arrays = [{name: as_array(value, name) for name, value in part.items()} for part in parts]
    first = arrays[0]
    for other in arrays:
        if other.keys() != first.keys():
            return None
        sizes = {array.shape[0] if array.ndim else -1 for array in other.values()}
        if len(sizes) != 1 or -1 in sizes:
            return None
        if any(a.shape[1:] != first[n].shape[1:] or a.dtype != first[n].dtype for n, a in other.items()):
            return None
    rows = [next(iter(part.values())).shape[0] for part in arrays]
    return {name: np.concatenate([part[name] for part in arrays]) for name in first}, rows
