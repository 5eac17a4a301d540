"""Tensors of the Open Inference Protocol V2: requests and responses, as JSON and with the binary tensor extension.

Source: the protocol's "Predict Protocol - Version 2" and its "Binary Tensor Data Extension". Whatever a client sends is
checked before NumPy sees it; a request that does not fit is a TensorError, whose message says which tensor and why.
"""

from __future__ import annotations

from array import array as number_list
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import orjson

NUMPY_TYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "int8",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BYTES": "object",
}
PROTOCOL_TYPES = {np.dtype(name): kind for kind, name in NUMPY_TYPES.items()}
MAX_RANK = 32
Array = np.ndarray[Any, np.dtype[Any]]


class TensorError(ValueError):
    """A request, or a result, that is no set of tensors by the protocol's rules."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that the client asked for."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class Inference:
    """A request to infer."""

    id: str | None
    inputs: dict[str, Array]
    outputs: tuple[Wanted, ...]
    """Empty: every output."""
    binary: bool
    """Whether outputs that were not asked for by name go out as bytes."""


def read(body: bytes, header_length: bytes | None) -> Inference:
    """The inference in a request body; `header_length` is the header Inference-Header-Content-Length.

    Raises TensorError.
    """
    raw = memoryview(b"")
    head: bytes | memoryview = body
    if header_length is not None:
        if not header_length.isdigit() or len(header_length) > 12 or int(header_length) > len(body):
            raise TensorError(
                f"the header Inference-Header-Content-Length is {header_length[:40].decode('latin-1')!r}, "
                f"but the body has {len(body)} bytes"
            )
        view = memoryview(body)
        head, raw = view[: int(header_length)], view[int(header_length) :]
    try:
        message = orjson.loads(head)
    except ValueError as error:
        raise TensorError(f"the request is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise TensorError("the request is no JSON object")
    identifier = message.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise TensorError("id must be a string")
    entries = message.get("inputs")
    if not isinstance(entries, list) or not entries:
        raise TensorError("inputs must be a list of at least one tensor")
    inputs: dict[str, Array] = {}
    used = 0
    for entry in entries:
        name, array, size = _read_input(entry, raw[used:])
        if name in inputs:
            raise TensorError(f"input {name!r} is given twice")
        inputs[name] = array
        used += size
    if used != len(raw):
        raise TensorError(f"the body has {len(raw)} bytes of binary tensors, but the inputs name {used}")
    binary = _flag(message, "binary_data_output", "the request")
    return Inference(identifier, inputs, _read_outputs(message.get("outputs"), binary), binary)


def _parameters(entry: dict[str, Any], what: str) -> dict[str, Any]:
    parameters = entry.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise TensorError(f"the parameters of {what} must be a JSON object")
    return parameters


def _flag(entry: dict[str, Any], name: str, what: str) -> bool:
    value = _parameters(entry, what).get(name, False)
    if not isinstance(value, bool):
        raise TensorError(f"{name} of {what} must be true or false")
    return value


def _read_outputs(entries: Any, binary: bool) -> tuple[Wanted, ...]:
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise TensorError("outputs must be a list")
    wanted = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise TensorError("each of outputs must be an object with a name")
        what = f"output {entry['name']!r}"
        given = "binary_data" in _parameters(entry, what)
        wanted.append(Wanted(entry["name"], _flag(entry, "binary_data", what) if given else binary))
    return tuple(wanted)


def _read_input(entry: Any, raw: memoryview) -> tuple[str, Array, int]:
    """One input: its name, its values, and how many of the binary bytes it took."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise TensorError("each of inputs must be an object with a name")
    name = entry["name"]
    what = f"input {name!r}"
    kind = entry.get("datatype")
    if not isinstance(kind, str) or kind not in NUMPY_TYPES:
        raise TensorError(f"{what} has the datatype {kind!r}; known are {', '.join(NUMPY_TYPES)}")
    shape = _shape(entry.get("shape"), what)
    size = _parameters(entry, what).get("binary_data_size")
    if size is None:
        if "data" not in entry:
            raise TensorError(f"{what} has no data")
        return name, _from_json(entry["data"], kind, shape, what), 0
    if "data" in entry:
        raise TensorError(f"{what} has both data and binary_data_size")
    if type(size) is not int or not 0 <= size <= len(raw):
        raise TensorError(f"binary_data_size of {what} is {size!r}, but {len(raw)} bytes are left of the body")
    return name, _from_bytes(raw[:size], kind, shape, what), size


def _shape(value: Any, what: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_RANK:
        raise TensorError(f"the shape of {what} must be a list of at most {MAX_RANK} whole numbers")
    if any(type(size) is not int or not 0 <= size < 2**48 for size in value):
        raise TensorError(f"the shape of {what} must hold whole numbers from 0")
    return tuple(value)


def _from_bytes(raw: memoryview, kind: str, shape: tuple[int, ...], what: str) -> Array:
    count = prod(shape)
    if kind == "BYTES":
        return _object_array(_split_bytes(raw, count, what), shape)
    dtype = np.dtype(NUMPY_TYPES[kind])
    if len(raw) != count * dtype.itemsize:
        raise TensorError(
            f"{what} of shape {list(shape)} and datatype {kind} has {count * dtype.itemsize} bytes, not {len(raw)}"
        )
    if kind == "BOOL":
        # A byte other than 0 and 1 would be a bool that is neither.
        return np.not_equal(np.frombuffer(raw, np.uint8), 0).reshape(shape)
    return np.frombuffer(raw, dtype).reshape(shape)


def _split_bytes(raw: memoryview, count: int, what: str) -> list[bytes]:
    """The elements of a BYTES tensor: each its length in four bytes, then itself."""
    items: list[bytes] = []
    at = 0
    while at < len(raw) and len(items) <= count:
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        if at + 4 > len(raw) or end > len(raw):
            raise TensorError(f"{what} ends in the middle of an element")
        items.append(bytes(raw[at + 4 : end]))
        at = end
    if len(items) != count:
        raise TensorError(f"{what} should have {count} elements, not {'more' if at < len(raw) else len(items)}")
    return items


def _object_array(items: list[Any], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(items), object)
    array[:] = items
    return array.reshape(shape)


def _from_json(data: Any, kind: str, shape: tuple[int, ...], what: str) -> Array:
    if not isinstance(data, list):
        raise TensorError(f"the data of {what} must be a list")
    count = prod(shape)
    if kind == "BYTES":
        flat: list[Any] = []
        _flatten(data, flat, what)
        if any(not isinstance(item, str) for item in flat):
            raise TensorError(f"the data of {what} must be strings, as its datatype is BYTES")
        if len(flat) != count:
            raise TensorError(f"{what} of shape {list(shape)} has {count} elements, not {len(flat)}")
        return _object_array([item.encode("utf-8", "surrogatepass") for item in flat], shape)
    quick = _quickly(data, kind, shape)
    if quick is not None:
        return quick
    try:
        found = np.array(data)
    except (ValueError, OverflowError, RecursionError):
        raise TensorError(f"the data of {what} is not a regular array of numbers") from None
    wanted = np.dtype(NUMPY_TYPES[kind])
    allowed = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}[wanted.kind]
    if found.size == 0 and count == 0:
        return np.empty(shape, wanted)
    if found.dtype.kind not in allowed:
        raise TensorError(f"the data of {what} does not fit its datatype {kind}")
    if wanted.kind in "ui" and (found.min() < np.iinfo(wanted).min or found.max() > np.iinfo(wanted).max):
        raise TensorError(f"the data of {what} has values outside of {kind}")
    if found.size != count or (found.ndim > 1 and found.shape != shape):
        raise TensorError(f"{what} should have the shape {list(shape)}, but its data has {list(found.shape)}")
    with np.errstate(over="ignore"):
        return found.astype(wanted, copy=False).reshape(shape)


def _quickly(data: list[Any], kind: str, shape: tuple[int, ...]) -> Array | None:
    """The tensor, for data that is regular and of the right type; None to look closer at what is wrong.

    `array.array` reads a list of numbers several times faster than NumPy, which first looks for a common type.
    """
    wanted = np.dtype(NUMPY_TYPES[kind])
    if wanted.kind == "b" or not shape:
        return None
    flat = data
    if data and isinstance(data[0], list):
        if len(data) != shape[0]:
            return None
        for size in shape[1:]:
            if any(type(row) is not list or len(row) != size for row in flat):
                return None
            flat = list(chain.from_iterable(flat))
    if len(flat) != prod(shape):
        return None
    try:
        numbers = number_list({"f": "d", "i": "q", "u": "Q"}[wanted.kind], flat)
    except (TypeError, OverflowError):
        return None
    found = np.frombuffer(numbers, numbers.typecode)
    if wanted.kind in "iu" and found.size:
        limits = np.iinfo(wanted)
        if found.min() < limits.min or found.max() > limits.max:
            return None
    with np.errstate(over="ignore"):
        return found.astype(wanted, copy=False).reshape(shape)


def _flatten(data: list[Any], into: list[Any], what: str, depth: int = 0) -> None:
    if depth > MAX_RANK:
        raise TensorError(f"the data of {what} is nested too deeply")
    for item in data:
        if isinstance(item, list):
            _flatten(item, into, what, depth + 1)
        else:
            into.append(item)


def plain(array: Array) -> Any:
    """A tensor as nested lists of numbers and text."""
    if array.dtype != object:
        return array.tolist()
    texts = [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in array.ravel()]
    return _object_array(texts, array.shape).tolist()


def outputs_of(result: Any) -> dict[str, Array]:
    """What a model returned, as named tensors: a dict gives the names, a data frame its columns, else it is `output`.

    Raises TensorError for what is no tensor.
    """
    if result is None:
        return {}
    if isinstance(result, dict):
        return {str(name): _as_tensor(value) for name, value in result.items()}
    if type(result).__name__ == "DataFrame" and hasattr(result, "columns"):
        return {str(name): _as_tensor(result[name].to_numpy()) for name in result.columns}
    return {"output": _as_tensor(result)}


def _as_tensor(value: Any) -> Array:
    """A value as an array of a type that the protocol knows; text and what JSON can carry become BYTES."""
    if isinstance(value, str | bytes):
        return _object_array([value.encode() if isinstance(value, str) else value], (1,))
    if isinstance(value, dict):
        return _object_array([_json_text(value)], (1,))
    try:
        array = np.asarray(value)
    except ValueError:
        return _object_array([_json_text(value)], (1,))
    array = array.reshape(1) if array.ndim == 0 else array
    if array.dtype.kind in "OUSM":
        return _object_array([_to_bytes(item) for item in array.ravel().tolist()], array.shape)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if little.dtype not in PROTOCOL_TYPES:
        raise TensorError(f"a result of the type {array.dtype} is no tensor of the protocol")
    return little


def _to_bytes(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    return item.encode("utf-8", "surrogatepass") if isinstance(item, str) else _json_text(item)


def _json_text(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS, default=str)
    except TypeError as error:
        raise TensorError(f"a result cannot be written: {error}") from None


def write(
    outputs: dict[str, Array], request: Inference, model: str, version: str
) -> tuple[bytes, tuple[memoryview, ...]]:
    """The JSON part of the response body, and the binary tensors that follow it.

    Raises TensorError where an output that was asked for is not there.
    """
    if request.outputs:
        missing = [wanted.name for wanted in request.outputs if wanted.name not in outputs]
        if missing:
            raise TensorError(f"there is no output {missing[0]!r}; there are: {', '.join(outputs) or 'none'}")
        chosen = [(wanted.name, wanted.binary) for wanted in request.outputs]
    else:
        chosen = [(name, request.binary) for name in outputs]
    entries: list[dict[str, Any]] = []
    chunks: list[memoryview] = []
    for name, binary in chosen:
        array = outputs[name]
        kind = PROTOCOL_TYPES[array.dtype]
        entry: dict[str, Any] = {"name": name, "shape": array.shape, "datatype": kind}
        if binary:
            chunk = memoryview(_join_bytes(array)) if kind == "BYTES" else _raw(array)
            entry["parameters"] = {"binary_data_size": chunk.nbytes}
            chunks.append(chunk)
        elif kind == "BYTES":
            entry["data"] = [item.decode("utf-8", "replace") for item in array.ravel()]
        else:
            flat = np.ascontiguousarray(array).reshape(-1)
            entry["data"] = flat.astype(np.float32) if kind == "FP16" else flat
        entries.append(entry)
    message: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": entries}
    if request.id is not None:
        message["id"] = request.id
    return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY), tuple(chunks)


def _raw(array: Array) -> memoryview:
    """The bytes of an array, without copying those of one that lies in order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def _join_bytes(array: Array) -> bytes:
    return b"".join(len(item).to_bytes(4, "little") + item for item in array.ravel())
