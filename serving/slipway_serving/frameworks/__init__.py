"""Models without an entry script: finds out what a model's files are, and loads them with the framework they are for.

Each framework is one module with a function `load(path) -> LoadedModel`; its package is an extra of this
distribution, and a missing one is named. Which file is taken stands in `KINDS`; `--framework` settles what the files
do not.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway_serving.failures import StartError, describe, user_traceback
from slipway_serving.model import TensorSpec

if TYPE_CHECKING:
    from slipway_serving.tensors import Array

Predict = Callable[["dict[str, Array]", tuple[str, ...]], "dict[str, Any]"]
"""Inputs by name and the outputs that are wanted (none named: the model's default), to outputs by name.

Raises BadInputError for inputs that the model does not take.
"""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to predict."""

    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    predict: Predict
    batchable: bool = False
    """Whether the first axis of every tensor counts rows that do not depend on each other."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A framework: the names of its model files, its module here, and the packages it needs."""

    patterns: tuple[str, ...]
    module: str
    extra: str


KINDS = {
    "Onnx": Kind(("*.onnx",), "onnx", "onnx"),
    "ScikitLearn": Kind(("*.skops", "*.joblib", "*.pkl", "*.pickle"), "sklearn", "sklearn"),
    "TensorFlow": Kind(("saved_model.pb", "*/saved_model.pb"), "tensorflow", "tensorflow"),
    "XGBoost": Kind(("*.ubj", "*.xgb.json"), "xgboost", "xgboost"),
    "LightGBM": Kind(("*.lgb", "*.txt"), "lightgbm", "lightgbm"),
}
"""By the names that Azure's `Model.Framework` has, where it has one; tried in this order."""


def find(model_dir: Path, framework: str | None) -> tuple[str, Path]:
    """The framework and the file of the model in a directory, or of the file itself.

    Raises StartError("ModelError") where there is none, or more than one.
    """
    kinds = KINDS if framework is None else {framework: KINDS[framework]}
    for name, kind in kinds.items():
        for pattern in kind.patterns:
            if model_dir.is_file():
                found = [model_dir] if model_dir.match(pattern) else []
            else:
                found = sorted(model_dir.glob(pattern)) or sorted(model_dir.glob(f"*/{pattern}"))
            if len(found) > 1:
                names = ", ".join(str(path.relative_to(model_dir)) for path in found[:5])
                raise StartError(
                    "ModelError", f"{model_dir} holds several {name} models ({names}): name one with --model-dir."
                )
            if found:
                return name, found[0]
    known = ", ".join(pattern for kind in kinds.values() for pattern in kind.patterns)
    raise StartError(
        "ModelError",
        f"There is no model in {model_dir} that can be served without an entry script: looked for {known}. "
        "Name a script with --entry-script, or the file with --model-dir.",
    )


def load(model_dir: Path, framework: str | None) -> LoadedModel:
    """Load the model. Raises StartError: ModelError, ImportError (the framework is not installed)."""
    name, path = find(model_dir, framework)
    kind = KINDS[name]
    try:
        module = importlib.import_module(f"slipway_serving.frameworks.{kind.module}")
        loaded: LoadedModel = module.load(path)
    except ModuleNotFoundError as error:
        raise StartError(
            "ImportError",
            f"The {name} model {path.name} needs the package {error.name!r}, which the environment does not have: "
            f"add it, or install slipway-serving[{kind.extra}].",
        ) from error
    except StartError:
        raise
    except Exception as error:
        raise StartError(
            "ModelError", f"The {name} model {path.name} cannot be loaded: {describe(error)}", user_traceback(error)
        ) from error
    return loaded
