"""scikit-learn models: skops files, which load no code, and joblib or pickle files, which do, with a notice.

`predict` is the default output; `predict_proba`, `decision_function` and `transform` are there where the model has
them.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from slipway_serving import logs
from slipway_serving.binding import BadInputError
from slipway_serving.failures import StartError, describe
from slipway_serving.frameworks import LoadedModel
from slipway_serving.frameworks.arrays import as_array
from slipway_serving.model import TensorSpec
from slipway_serving.tensors import Array

METHODS = ("predict", "predict_proba", "decision_function", "transform")


def load(path: Path) -> LoadedModel:
    """Load the estimator. Raises StartError for a skops file with types that are not trusted."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = _read_skops(path) if path.suffix == ".skops" else _read_pickle(path)
    for warning in caught:
        logs.warning(f"{path.name}: {warning.message}")
    methods = tuple(name for name in METHODS if hasattr(estimator, name))
    if not methods:
        raise StartError("ModelError", f"{path.name} holds a {type(estimator).__name__}, which cannot predict.")
    columns = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    count = int(getattr(estimator, "n_features_in_", -1))

    def predict(given: dict[str, Array], wanted: tuple[str, ...]) -> dict[str, Any]:
        for name in wanted:
            if name not in methods:
                raise BadInputError(400, f"there is no output {name!r}; there are: {', '.join(methods)}")
        rows = _rows(given, columns, count)
        try:
            return {name: getattr(estimator, name)(rows) for name in wanted or methods[:1]}
        except (ValueError, TypeError) as error:
            raise BadInputError(400, f"the model does not take this input: {describe(error)}") from None

    inputs = (TensorSpec("data", "FP64", (-1, count)),)
    return LoadedModel(
        "sklearn_" + type(estimator).__name__, inputs, _outputs(estimator, methods), predict, batchable=True
    )


def _outputs(estimator: Any, methods: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    classes = getattr(estimator, "classes_", None)
    labels = "FP64"
    if isinstance(classes, np.ndarray):
        labels = {"i": "INT64", "u": "INT64", "f": "FP64", "b": "BOOL"}.get(classes.dtype.kind, "BYTES")
    width = len(classes) if isinstance(classes, np.ndarray) else -1
    specs = {
        "predict": TensorSpec("predict", labels, (-1,)),
        "predict_proba": TensorSpec("predict_proba", "FP64", (-1, width)),
        "decision_function": TensorSpec("decision_function", "FP64", (-1,) if width <= 2 else (-1, width)),
        "transform": TensorSpec("transform", "FP64", (-1, -1)),
    }
    return tuple(specs[name] for name in methods)


def _read_skops(path: Path) -> Any:
    import skops.io  # type: ignore[import-untyped]

    trusted = [name.strip() for name in os.environ.get("SLIPWAY_SKOPS_TRUSTED", "").split(",") if name.strip()]
    unknown = [name for name in skops.io.get_untrusted_types(file=path) if name not in trusted]
    if unknown:
        raise StartError(
            "ModelError",
            f"{path.name} holds types that skops does not know to be harmless: {', '.join(unknown)}. "
            "If you trust them, list them in SLIPWAY_SKOPS_TRUSTED.",
        )
    return skops.io.load(path, trusted=trusted)


def _read_pickle(path: Path) -> Any:
    import joblib  # type: ignore[import-untyped]

    logs.warning(f"{path.name} is a pickle: loading it runs whatever code it holds. A skops file runs none.")
    return joblib.load(path)


def _rows(given: dict[str, Any], columns: list[str], count: int) -> Any:
    """A matrix, or a data frame where the model was fitted on one; columns may come one by one, or as records."""
    if len(given) > 1 or (columns and set(given) <= set(columns)):
        missing = [name for name in columns if name not in given]
        unknown = [name for name in given if name not in columns]
        if not columns or missing or unknown:
            what = f"missing: {', '.join(missing)}" if missing else f"unknown: {', '.join(unknown)}"
            raise BadInputError(400, f"the model takes one matrix, or its columns by name ({what})")
        return _frame({name: _column(as_array(given[name], name)) for name in columns}, columns)
    name, value = next(iter(given.items()))
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        if not columns:
            raise BadInputError(400, "the model was fitted without column names: send rows as lists of numbers")
        for row in value:
            if set(row) != set(columns):
                raise BadInputError(400, f"each row must have the members {', '.join(columns)}")
        return _frame({column: [row[column] for row in value] for column in columns}, columns)
    if columns and isinstance(value, list):
        matrix = np.array([list(row) if isinstance(row, list) else [row] for row in value], dtype=object)
        if matrix.ndim == 2 and not all(isinstance(item, int | float) for item in matrix.flat):
            _check_width(matrix, count)
            return _frame({column: list(matrix[:, index]) for index, column in enumerate(columns)}, columns)
    matrix = as_array(value, name)
    if matrix.ndim == 1:
        matrix = matrix[np.newaxis]
    _check_width(matrix, count)
    return _frame(matrix, columns) if columns else matrix


def _check_width(matrix: Array, count: int) -> None:
    if matrix.ndim >= 2 and count >= 0 and matrix.shape[1] != count:
        raise BadInputError(400, f"the input has {matrix.shape[1]} columns, but the model takes {count}")


def _column(array: Array) -> Array:
    flat = array.reshape(-1)
    if flat.dtype != object:
        return flat
    return np.array(
        [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in flat], dtype=object
    )


def _frame(data: Any, columns: list[str]) -> Any:
    try:
        import pandas as pd  # type: ignore[import-untyped]
    except ImportError:
        return np.column_stack([data[name] for name in columns]) if isinstance(data, dict) else data
    return pd.DataFrame(data, columns=columns)
