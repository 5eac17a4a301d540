"""The models that every server serves in the benchmark. Imports only what the model at hand needs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


def nothing(data: Any) -> Any:
    """The no-op."""
    return True


def same(data: Any) -> Any:
    """Gives back what it got."""
    return data


def load(case: str) -> Callable[[Any], Any]:
    """The model of a case: takes what JSON held under `data`, returns what goes under `result`."""
    if case == "noop":
        return nothing
    if case == "identity":
        return same
    if case == "sklearn":
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression

        digits = load_digits()
        model = LogisticRegression(max_iter=50).fit(digits.data, digits.target)
        return lambda data: model.predict(data).tolist()
    if case == "onnx":
        import numpy as np
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(os.environ["BENCH_ONNX"], options)
        return lambda data: session.run(None, {"x": np.asarray(data, "float32")})[0].tolist()
    raise ValueError(case)
