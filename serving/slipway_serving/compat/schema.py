"""`inference_schema`: the decorators that say what `run` takes and returns, and its standard Python parameter type.

The package itself pins an old `wrapt` that many environments cannot have; where it is installed, it is used.
A decorated function carries its `Schema` as the attribute `_slipway_schema`.
"""

from __future__ import annotations

import base64
import copy
import datetime
import functools
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

__all__ = [
    "AbstractParameterType",
    "StandardPythonParameterType",
    "get_input_schema",
    "get_output_schema",
    "get_supported_versions",
    "input_schema",
    "is_schema_decorated",
    "output_schema",
]
VERSIONS = ["2.0", "3.0", "3.1"]
ATTRIBUTE = "_slipway_schema"
DATE = "%Y-%m-%d"
DATETIME = "%Y-%m-%d %H:%M:%S.%f %z"
TIME = "%H:%M:%S.%f %z"


class AbstractParameterType(ABC):
    """A kind of value, known from a sample: reads it from JSON and describes it for Swagger."""

    def __init__(self, sample_input: Any) -> None:
        self.sample_input = sample_input
        self.sample_data_type = type(sample_input)

    @abstractmethod
    def deserialize_input(self, input_data: Any) -> Any:
        """The value from what JSON held. Raises ValueError where it does not fit the sample."""

    @abstractmethod
    def input_to_swagger(self) -> dict[str, Any]:
        """The Swagger schema of the sample, with the sample as `example`."""

    def supported_versions(self) -> list[str]:
        """The Swagger versions that can describe it."""
        return VERSIONS


class Schema:
    """What the decorators said about one function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        names = [name for name in inspect.signature(function).parameters if name != "self"]
        self.input: dict[str, Any] | None = None
        self.output: dict[str, Any] | None = None
        self.versions = VERSIONS
        self.types: dict[str, AbstractParameterType] = {}
        self._names = names

    def add_input(self, name: str, kind: AbstractParameterType) -> None:
        """Describe the parameter `name`."""
        if self.input is None:
            self.input = {
                "type": "object",
                "properties": {other: {} for other in self._names},
                "example": dict.fromkeys(self._names, ""),
            }
        described = copy.deepcopy(kind.input_to_swagger())
        self.input["example"][name] = described.pop("example")
        self.input["properties"][name] = described
        self.types[name] = kind
        self.versions = [version for version in self.versions if version in kind.supported_versions()]

    def add_output(self, kind: AbstractParameterType) -> None:
        """Describe the result."""
        self.output = kind.input_to_swagger()
        self.versions = [version for version in self.versions if version in kind.supported_versions()]


def schema_of(function: Callable[..., Any]) -> Schema:
    """The function's schema; a new one where no decorator was applied yet."""
    found = getattr(function, ATTRIBUTE, None)
    return found if isinstance(found, Schema) else Schema(function)


def input_schema(
    param_name: str,
    param_type: AbstractParameterType,
    convert_to_provided_type: bool = True,
    optional: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say what the parameter `param_name` is; it is converted to that before the function is called."""
    if not isinstance(param_type, AbstractParameterType):
        raise TypeError("param_type of @input_schema must be a parameter type, such as NumpyParameterType(sample)")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        schema = schema_of(function)
        if param_name not in inspect.signature(function).parameters:
            raise TypeError(f"@input_schema names {param_name!r}, which is no parameter of {function.__name__}()")
        schema.add_input(param_name, param_type)
        signature = inspect.signature(function)

        @functools.wraps(function)
        def convert(*args: Any, **kwargs: Any) -> Any:
            if not convert_to_provided_type:
                return function(*args, **kwargs)
            if param_name not in kwargs:
                kwargs = signature.bind_partial(*args, **kwargs).arguments
                args = ()
            if param_name in kwargs and not (optional and not _given(kwargs[param_name])):
                kwargs[param_name] = read(kwargs[param_name], param_type)
            return function(*args, **kwargs)

        setattr(convert, ATTRIBUTE, schema)
        return convert

    return decorate


def output_schema(output_type: AbstractParameterType) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say what the function returns. It is a description alone: nothing is converted."""
    if not isinstance(output_type, AbstractParameterType):
        raise TypeError("output_type of @output_schema must be a parameter type, such as NumpyParameterType(sample)")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        schema = schema_of(function)
        schema.add_output(output_type)
        setattr(function, ATTRIBUTE, schema)
        return function

    return decorate


def _given(value: Any) -> bool:
    """Whether an optional value was given; what is empty counts as not given, as in the original."""
    return value is not None and (hasattr(value, "dtype") or bool(value))


def read(value: Any, kind: AbstractParameterType) -> Any:
    """A value from JSON as `kind`, with the parameter types inside of nested samples applied too."""
    sample_type = kind.sample_data_type
    if sample_type is dict:
        if not isinstance(value, dict):
            raise ValueError(f"expected a JSON object, got {type(value).__name__}")
        nested = getattr(kind, "sample_data_type_map", {})
        return {name: read(item, nested[name]) if name in nested else item for name, item in value.items()}
    if sample_type in (list, tuple):
        if not isinstance(value, list | tuple):
            raise ValueError(f"expected a JSON array, got {type(value).__name__}")
        items = getattr(kind, "sample_data_type_list", [])
        return [read(item, items[0]) for item in value] if items else value
    return value if isinstance(value, sample_type) else kind.deserialize_input(value)


class StandardPythonParameterType(AbstractParameterType):
    """A standard Python value, or a list or dict that may hold further parameter types."""

    def __init__(self, sample_input: Any) -> None:
        super().__init__(sample_input)
        self.sample_data_type_map: dict[str, AbstractParameterType] = {}
        self.sample_data_type_list: list[AbstractParameterType] = []
        if isinstance(sample_input, dict):
            self.sample_data_type_map = {
                name: item for name, item in sample_input.items() if isinstance(item, AbstractParameterType)
            }
        elif isinstance(sample_input, list | tuple):
            self.sample_data_type_list = [item for item in sample_input if isinstance(item, AbstractParameterType)]

    def deserialize_input(self, input_data: Any) -> Any:
        """The value in the sample's type; dates and times from text, bytes from base64."""
        wanted = self.sample_data_type
        if isinstance(input_data, str):
            if wanted is datetime.datetime:
                return datetime.datetime.fromisoformat(input_data)
            if wanted is datetime.date:
                return datetime.date.fromisoformat(input_data)
            if wanted is datetime.time:
                return datetime.time.fromisoformat(input_data)
            if wanted in (bytes, bytearray):
                return wanted(base64.b64decode(input_data))
        if wanted is float and type(input_data) is int:
            return input_data
        if not isinstance(input_data, wanted):
            raise ValueError(f"expected {wanted.__name__}, got {type(input_data).__name__}")
        return input_data

    def input_to_swagger(self) -> dict[str, Any]:
        """The schema of the sample."""
        if self.sample_input is None:
            raise ValueError("the sample of a StandardPythonParameterType cannot be None")
        described = describe(self.sample_input)
        try:
            json.dumps(described)
        except TypeError as error:
            raise TypeError(f"the sample of a StandardPythonParameterType cannot be written as JSON: {error}") from None
        return described


def describe(sample: Any) -> dict[str, Any]:
    """The Swagger schema of a plain value, with the value as `example`."""
    if isinstance(sample, AbstractParameterType):
        return sample.input_to_swagger()
    simple: dict[type, tuple[str, str | None]] = {
        int: ("integer", "int64"),
        str: ("string", None),
        float: ("number", "double"),
        bool: ("boolean", None),
    }
    kind = type(sample)
    if kind in simple:
        name, form = simple[kind]
        return {"type": name, **({"format": form} if form else {}), "example": sample}
    if kind in (bytes, bytearray):
        return {"type": "string", "format": "byte", "example": base64.b64encode(sample).decode()}
    utc = datetime.UTC
    if kind is datetime.datetime:
        moment = sample if sample.tzinfo else sample.replace(tzinfo=utc)
        return {"type": "string", "format": "date-time", "example": moment.strftime(DATETIME)}
    if kind is datetime.date:
        return {"type": "string", "format": "date", "example": sample.strftime(DATE)}
    if kind is datetime.time:
        time = sample if sample.tzinfo else sample.replace(tzinfo=utc)
        return {"type": "string", "format": "time", "example": time.strftime(TIME)}
    if kind in (list, tuple, range):
        return _describe_list(list(sample))
    if kind is dict:
        return _describe_dict(sample)
    return {"type": "object", "example": sample}


def _describe_list(items: list[Any]) -> dict[str, Any]:
    described = [describe(item) for item in items]
    examples = [item.pop("example") for item in described]
    return {"type": "array", "items": described[-1] if described else {"type": "object"}, "example": examples}


def _describe_dict(members: dict[str, Any]) -> dict[str, Any]:
    described = {name: describe(item) for name, item in members.items()}
    examples = {name: item.pop("example") for name, item in described.items()}
    return {"type": "object", "required": list(described), "properties": described, "example": examples}


def is_schema_decorated(function: Callable[..., Any]) -> bool:
    """Whether one of the decorators was applied."""
    return isinstance(getattr(function, ATTRIBUTE, None), Schema)


def get_input_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """The Swagger schema of the function's parameters."""
    return schema_of(function).input or {"type": "object"}


def get_output_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """The Swagger schema of the function's result."""
    return schema_of(function).output or {"type": "object"}


def get_supported_versions(function: Callable[..., Any]) -> list[str]:
    """The Swagger versions that can describe the function."""
    return schema_of(function).versions
