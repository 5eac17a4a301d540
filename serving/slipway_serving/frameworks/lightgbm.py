"""LightGBM boosters, from their text files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm  # type: ignore[import-untyped,import-not-found,unused-ignore]

from slipway_serving.binding import BadInputError
from slipway_serving.frameworks import LoadedModel
from slipway_serving.frameworks.arrays import fit
from slipway_serving.model import TensorSpec
from slipway_serving.tensors import Array


def load(path: Path) -> LoadedModel:
    """Load the booster."""
    booster = lightgbm.Booster(model_file=str(path))
    inputs = (TensorSpec("data", "FP64", (-1, booster.num_feature())),)
    classes = booster.num_model_per_iteration()
    outputs = (TensorSpec("predict", "FP64", (-1,) if classes == 1 else (-1, classes)),)

    def predict(given: dict[str, Array], wanted: tuple[str, ...]) -> dict[str, Any]:
        if any(name != "predict" for name in wanted):
            raise BadInputError(400, f"there is no output {wanted[0]!r}; there are: predict")
        return {"predict": booster.predict(fit(given, inputs)["data"])}

    return LoadedModel("lightgbm", inputs, outputs, predict, batchable=True)
