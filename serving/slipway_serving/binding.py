"""What a script's `run` is given from a request, and what its result becomes.

Azure's rules, kept: an undecorated `run(data)` gets the body as text, a GET's query as a JSON object; a `run` under
`@input_schema` gets the members of a JSON object by name; one under `@rawhttp` gets the request itself; a parameter
`request_headers` gets the headers; a result is sent as JSON, a string too. Beyond Azure's: a parameter annotated
`bytes` gets the body as it is; an undecorated `run` with several required parameters gets them by name; NumPy and
pandas values and bytes may be returned; NaN and infinity become null, which is what JSON has for them.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import orjson

from slipway_serving.failures import StartError
from slipway_serving.messages import JSON, Request, Response

OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
PLAIN = frozenset((dict, list, str, int, float, bool))
"""Results that are JSON beyond doubt."""
Run = Callable[..., Any]
Arguments = Callable[[Request], dict[str, Any]]


class BadInputError(Exception):
    """The request does not fit what `run` takes; `status` is the answer's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def text_of(request: Request) -> str:
    """The body as text. Raises BadInputError(400) where it is not UTF-8."""
    try:
        return request.body.decode()
    except UnicodeDecodeError as error:
        raise BadInputError(400, f"Input cannot be decoded as UTF-8: {error}") from None


def query_values(request: Request) -> dict[str, Any]:
    """The query's parameters, each read as JSON where it is JSON, else as text; a repeated one is a list.

    Raises BadInputError(400) for a query with more than a thousand parameters.
    """
    try:
        pairs = parse_qsl(request.query.decode("latin-1"), keep_blank_values=True, max_num_fields=1000)
    except ValueError as error:
        raise BadInputError(400, f"The query cannot be read: {error}.") from None
    values: dict[str, list[Any]] = {}
    for name, text in pairs:
        try:
            value = orjson.loads(text)
        except ValueError:
            value = text
        values.setdefault(name, []).append(value)
    return {name: found[0] if len(found) == 1 else found for name, found in values.items()}


def json_of(request: Request) -> Any:
    """The body as JSON, whatever its Content-Type says. Raises BadInputError(400)."""
    if not request.body:
        raise BadInputError(400, "POST body is empty. Expecting a JSON dictionary.")
    try:
        return orjson.loads(request.body)
    except ValueError as error:
        raise BadInputError(400, f"POST body could not be decoded as JSON: {error}") from None


def is_json(request: Request) -> bool:
    """True for the content types `application/json` and `application/*+json`."""
    kind = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))


def headers_of(request: Request) -> dict[str, str]:
    """The request's headers, named as HTTP writes them: `Content-Type`."""
    return {name.decode("latin-1").title(): value.decode("latin-1") for name, value in request.headers.items()}


def bind(run: Run) -> Arguments:
    """The function that makes `run`'s keyword arguments from a request.

    Raises StartError("EntryScriptError") for a `run` that cannot be called by name or takes no data.
    """
    parameters = list(inspect.signature(run).parameters.values())
    if any(p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters):
        raise StartError(
            "EntryScriptError",
            "run() cannot accept positional-only arguments, *args, or **kwargs: name each parameter.",
        )
    with_headers = any(p.name == "request_headers" for p in parameters)
    parameters = [p for p in parameters if p.name != "request_headers"]
    if not parameters:
        raise StartError("EntryScriptError", "run() needs to accept an argument for the input data.")
    raw, decorated = is_raw(run), is_schema_decorated(run)
    if raw and decorated:
        raise StartError("EntryScriptError", "run() cannot be decorated with both @rawhttp and @input_schema.")
    required = [p for p in parameters if p.default is p.empty]
    arguments: Arguments
    if raw:
        arguments = _raw_arguments(parameters[0].name)
    elif decorated or len(required) > 1:
        arguments = _named_arguments(parameters)
    else:
        arguments = _text_argument(parameters[0])
    if not with_headers:
        return arguments
    return lambda request: {**arguments(request), "request_headers": headers_of(request)}


def _text_argument(parameter: inspect.Parameter) -> Arguments:
    name = parameter.name

    def as_text(request: Request) -> dict[str, Any]:
        if request.method == b"GET":
            return {name: json.dumps(query_values(request))}
        try:
            return {name: request.body.decode()}
        except UnicodeDecodeError:
            return {name: text_of(request)}

    def as_bytes(request: Request) -> dict[str, Any]:
        return {name: json.dumps(query_values(request)).encode() if request.method == b"GET" else request.body}

    return as_bytes if parameter.annotation in (bytes, "bytes") else as_text


def _named_arguments(parameters: list[inspect.Parameter]) -> Arguments:
    defaults = [(p.name, p.default) for p in parameters]

    def by_name(request: Request) -> dict[str, Any]:
        if request.method == b"GET":
            body: Any = query_values(request)
        else:
            if not is_json(request):
                raise BadInputError(415, "Expects Content-Type to be application/json")
            body = json_of(request)
        if not isinstance(body, dict):
            raise BadInputError(400, "POST body should be a JSON dictionary.")
        values = {}
        for name, default in defaults:
            value = body.get(name, default)
            if value is inspect.Parameter.empty:
                raise BadInputError(400, f"A value is not provided for the {name!r} parameter.")
            values[name] = value
        return values

    return by_name


def _raw_arguments(name: str) -> Arguments:
    from slipway_serving.compat.services import AMLRequest

    return lambda request: {name: AMLRequest(request)}


def is_raw(run: Run) -> bool:
    """True where `@rawhttp` of one of the known packages was applied to the script's `run`."""
    names = ("azureml.contrib.services.aml_request", "azureml_inference_server_http.api.aml_request")
    modules = [sys.modules[name] for name in names if name in sys.modules]
    return bool(getattr(run, "_slipway_rawhttp", False)) or any(
        getattr(module, "_rawHttpRequested", False) is True for module in modules
    )


def schema_util(run: Run) -> Any:
    """The module that knows the schema decorators of `run`: the real package's or the stand-in; None without any."""
    if getattr(run, "_slipway_schema", None) is not None:
        from slipway_serving.compat import schema

        return schema
    real = sys.modules.get("inference_schema.schema_util")
    return real if real is not None and real.is_schema_decorated(run) else None


def is_schema_decorated(run: Run) -> bool:
    """True where the script uses `inference_schema`'s decorators on `run`."""
    return schema_util(run) is not None


def refused_by_schema(run: Run, error: Exception) -> bool:
    """Whether the error came out of the schema decorators' conversion, before the script's own `run` was entered."""
    if not is_schema_decorated(run):
        return False
    code = getattr(inspect.unwrap(run), "__code__", None)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is code:
            return False
        trace = trace.tb_next
    return True


def encode_json(value: Any) -> bytes:
    """`value` as JSON. Raises TypeError where it holds something that JSON cannot carry."""
    try:
        return orjson.dumps(value, default=_plain, option=OPTIONS)
    except TypeError as error:
        # Whole numbers beyond 64 bits and lone surrogates: what the standard library still writes.
        try:
            return json.dumps(value, default=_plain, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            raise error from None


def _plain(value: Any) -> Any:
    """A value `orjson` does not know, as one that it does; by what the value can do, so that nothing is imported."""
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    if package == "pandas" and hasattr(value, "to_dict"):
        return value.to_dict(orient="records") if kind.__name__ == "DataFrame" else value.tolist()
    if package == "pandas" and hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("bytes inside a JSON result: encode them as text, or return them alone")
    raise TypeError(f"a value of type {kind.__module__}.{kind.__qualname__}")


def encode(result: Any) -> Response:
    """The response for what `run` returned. Raises TypeError for what cannot be encoded."""
    if type(result) in PLAIN:
        return Response(200, encode_json(result), JSON)
    if isinstance(result, bytes | bytearray | memoryview):
        return Response(200, bytes(result), "application/octet-stream")
    if result is None:
        return Response(200, b"{}", JSON)
    if hasattr(result, "status_code") and hasattr(result, "get_data"):
        return _from_http_response(result)
    return Response(200, encode_json(result), JSON)


def _from_http_response(result: Any) -> Response:
    """An AMLResponse, ours or Azure's (a Flask response): status, headers and body as they are."""
    headers = []
    content_type = "text/html; charset=utf-8"
    failed = None
    for name, value in result.headers.items():
        lowered = name.lower()
        if lowered == "content-type":
            content_type = str(value)
        elif lowered == "x-ms-run-function-failed":
            failed = str(value)
        elif lowered not in ("content-length", "connection", "transfer-encoding", "date"):
            headers.append((str(name), str(value)))
    status = int(result.status_code)
    if not 200 <= status <= 599:
        raise TypeError(f"a response with the status {status}")
    headers.append(("x-ms-run-function-failed", "True" if status >= 500 else failed or "False"))
    return Response(status, bytes(result.get_data()), content_type, tuple(headers))
