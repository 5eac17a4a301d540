"""XGBoost boosters, from their JSON or UBJSON files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xgboost  # type: ignore[import-untyped,import-not-found,unused-ignore]

from slipway_serving.binding import BadInputError
from slipway_serving.frameworks import LoadedModel
from slipway_serving.frameworks.arrays import fit
from slipway_serving.model import TensorSpec
from slipway_serving.tensors import Array


def load(path: Path) -> LoadedModel:
    """Load the booster."""
    booster = xgboost.Booster(model_file=str(path))
    inputs = (TensorSpec("data", "FP32", (-1, booster.num_features())),)
    names = booster.feature_names

    def predict(given: dict[str, Array], wanted: tuple[str, ...]) -> dict[str, Any]:
        if any(name != "predict" for name in wanted):
            raise BadInputError(400, f"there is no output {wanted[0]!r}; there are: predict")
        rows = fit(given, inputs)["data"]
        return {"predict": booster.predict(xgboost.DMatrix(rows, feature_names=names))}

    # How many numbers come for each row depends on the objective, and is known from the first prediction alone.
    width = booster.predict(xgboost.DMatrix([[0.0] * booster.num_features()], feature_names=names)).shape[1:]
    return LoadedModel("xgboost", inputs, (TensorSpec("predict", "FP32", (-1, *width)),), predict, batchable=True)
