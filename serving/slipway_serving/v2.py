"""The Open Inference Protocol V2 over HTTP: metadata, health, and the two ends of an inference.

`tensors` reads and writes the bodies; this module knows the paths, and how tensors meet an entry script: parameters get
the inputs of their names, a `run(data)` gets the JSON text that a client of /score would have sent.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from slipway_serving import __version__
from slipway_serving.binding import BadInputError, Run, encode_json, headers_of, is_raw, schema_util
from slipway_serving.messages import JSON, Request, Response, json_response
from slipway_serving.model import ServedModel

if TYPE_CHECKING:
    from slipway_serving.tensors import Inference

BINARY = "application/octet-stream"
LENGTH_HEADER = "Inference-Header-Content-Length"
EXTENSIONS = ["binary_tensor_data", "model_repository"]
Feed = Callable[["dict[str, Any]", Request], "dict[str, Any]"]


def v2_error(status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """An error as the protocol has it."""
    return json_response(status, {"error": message.encode("utf-8", "replace").decode()}, headers)


def split_path(path: bytes) -> tuple[str | None, str | None, str] | None:
    """Model, version and action of a path below /v2; model None for the server itself. None where there is no such
    path.

    Actions: "", "ready", "infer" of a model; "", "health/live", "health/ready", "repository/index" of the server.
    """
    parts = path.decode("utf-8", "replace").strip("/").split("/")[1:]
    if not parts:
        return None, None, ""
    if parts[0] != "models" or len(parts) < 2:
        return None, None, "/".join(parts)
    name, rest = parts[1], parts[2:]
    version = None
    if len(rest) >= 2 and rest[0] == "versions":
        version, rest = rest[1], rest[2:]
    return (name, version, rest[0] if rest else "") if len(rest) <= 1 else None


def server_metadata() -> Response:
    """GET /v2"""
    return json_response(200, {"name": "slipway-serving", "version": __version__, "extensions": EXTENSIONS})


def model_metadata(model: ServedModel) -> Response:
    """GET /v2/models/NAME"""
    return json_response(
        200,
        {
            "name": model.name,
            "versions": [model.version],
            "platform": model.platform,
            "inputs": [spec.describe() for spec in model.inputs],
            "outputs": [spec.describe() for spec in model.outputs],
        },
    )


def repository_index(model: ServedModel, ready: bool) -> Response:
    """POST /v2/repository/index"""
    state = "READY" if ready else "UNAVAILABLE"
    return json_response(200, [{"name": model.name, "version": model.version, "state": state, "reason": ""}])


class Inferring:
    """The V2 end of a model: makes `run`'s arguments from tensors, and tensors from its result."""

    def __init__(self, model: ServedModel, feed: Feed) -> None:
        self.model = model
        self.feed = feed

    def arguments(self, request: Request) -> dict[str, Any]:
        """Read the tensors. Raises BadInputError."""
        try:
            from slipway_serving import tensors
        except ImportError:
            raise BadInputError(501, "V2 inference needs numpy in the service's environment: add it.") from None
        try:
            inference = tensors.read(request.body, request.headers.get(b"inference-header-content-length"))
        except tensors.TensorError as error:
            raise BadInputError(400, str(error)) from None
        request.context = inference
        return self.feed(inference.inputs, request)

    def encode(self, request: Request, result: Any) -> Response:
        """Write the tensors. Raises TensorError for a result that is none."""
        from slipway_serving import tensors

        inference: Inference = request.context
        outputs = tensors.outputs_of(result)
        try:
            body, tail = tensors.write(outputs, inference, self.model.name, self.model.version)
        except tensors.TensorError as error:
            return v2_error(400, str(error))
        if not tail:
            return Response(200, body, JSON)
        headers = ((LENGTH_HEADER, str(len(body))), ("x-ms-run-function-failed", "False"))
        return Response(200, body, BINARY, headers, tail)


def script_feed(run: Run) -> Feed:
    """How tensors become the arguments of a script's `run`."""
    parameters = list(inspect.signature(run).parameters.values())
    with_headers = any(p.name == "request_headers" for p in parameters)
    parameters = [p for p in parameters if p.name != "request_headers"]
    required = [p for p in parameters if p.default is p.empty]
    if is_raw(run):
        return _no_feed
    util = schema_util(run)
    if util is None and len(required) <= 1:
        feed = _text_feed(parameters[0])
    else:
        arrays = _array_parameters(run, util)
        feed = _named_feed([(p.name, p.default, p.name in arrays) for p in parameters])
    if not with_headers:
        return feed
    return lambda inputs, request: {**feed(inputs, request), "request_headers": headers_of(request)}


def _array_parameters(run: Run, util: Any) -> set[str]:
    """Names of the parameters that the schema takes as NumPy arrays; the others get what JSON would have held."""
    if util is None:
        return set()
    properties = util.get_input_schema(run).get("properties", {})
    return {name for name, schema in properties.items() if schema.get("format") == "numpy.ndarray"}


def _no_feed(inputs: dict[str, Any], request: Request) -> dict[str, Any]:
    raise BadInputError(501, "This service's script takes the raw HTTP request: call /score instead.")


def _text_feed(parameter: inspect.Parameter) -> Feed:
    as_bytes = parameter.annotation in (bytes, "bytes")

    def feed(inputs: dict[str, Any], request: Request) -> dict[str, Any]:
        from slipway_serving.tensors import plain

        members = {name: plain(array) if array.dtype == object else array for name, array in inputs.items()}
        text = encode_json(members)
        return {parameter.name: text if as_bytes else text.decode()}

    return feed


def _named_feed(parameters: list[tuple[str, Any, bool]]) -> Feed:
    known = ", ".join(name for name, _, _ in parameters)

    def feed(inputs: dict[str, Any], request: Request) -> dict[str, Any]:
        from slipway_serving.tensors import plain

        for name in inputs:
            if all(name != known_name for known_name, _, _ in parameters):
                raise BadInputError(400, f"there is no input {json.dumps(name)}; there are: {known}")
        values: dict[str, Any] = {}
        for name, default, as_array in parameters:
            if name in inputs:
                array = inputs[name]
                # A copy, since scripts may write into what they are given, and the body's bytes cannot be written.
                values[name] = array.copy() if as_array and array.dtype != object else plain(array)
            elif default is inspect.Parameter.empty:
                raise BadInputError(400, f"a value is not provided for the input {name!r}")
            else:
                values[name] = default
        return values

    return feed
