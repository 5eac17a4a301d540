"""Models without an entry script: ONNX and scikit-learn files, through /score and V2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import lightgbm
import numpy as np
import onnx
import pandas as pd  # type: ignore[import-untyped]
import pytest
import skops.io  # type: ignore[import-untyped]
from onnx import TensorProto, helper
from sklearn.compose import make_column_transformer  # type: ignore[import-untyped]
from sklearn.datasets import load_iris  # type: ignore[import-untyped]
from sklearn.linear_model import LinearRegression, LogisticRegression  # type: ignore[import-untyped]
from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import OneHotEncoder  # type: ignore[import-untyped]

from tests.unit.serving.conftest import Serve
from tests.unit.serving.support import Answer, Serving

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]


def start(serve: Serve, model_dir: Path, *options: str, **keywords: Any) -> Serving:
    return serve(None, "--model-dir", str(model_dir), "--service-name", "m", *options, **keywords)


def infer(server: Serving, inputs: list[dict[str, Any]], outputs: list[str] | None = None) -> Answer:
    message: dict[str, Any] = {"inputs": inputs}
    if outputs is not None:
        message["outputs"] = [{"name": name} for name in outputs]
    return server.ask("POST", "/v2/models/m/infer", json.dumps(message))


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("iris") / "azureml-models" / "iris" / "3"
    directory.mkdir(parents=True)
    data = load_iris()
    skops.io.dump(LogisticRegression(max_iter=500).fit(data.data, data.target), directory / "model.skops")
    return directory


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = x + x in float32, and the number of rows' width fixed at 3."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path_factory.mktemp("double") / "model.onnx"
    onnx.save(model, path)
    return path.parent


def test_a_scikit_learn_classifier(serve: Serve, iris: Path) -> None:
    server = start(serve, iris)
    for body in (
        {"data": ROWS},
        {"input_data": ROWS},
        ROWS,
        {"inputs": {"data": ROWS}},
        {"data": ROWS, "method": "predict"},
    ):
        assert server.score(body).json() == {"predict": [0, 2]}, body
    assert server.score({"data": ROWS[0]}).json() == {"predict": [0]}
    both = server.score({"data": ROWS, "outputs": ["predict", "predict_proba"]}).json()
    assert np.argmax(both["predict_proba"], axis=1).tolist() == both["predict"]
    refusals: list[tuple[Any, str]] = [
        ({"data": [[1, 2]]}, "the input has 2 columns, but the model takes 4"),
        ({"data": [["a", "b", "c", "d"]]}, "does not take this input"),
        ({"data": [[1, 2, 3, None]]}, "not an array of numbers"),
        ({"data": ROWS, "method": "fit"}, "there is no output 'fit'; there are: predict, predict_proba"),
        ({"a": 1, "b": 2}, "the model takes one matrix"),
        ({}, "names no input"),
        ("text", "must be a JSON object"),
    ]
    for wrong, words in refusals:
        refused = server.score(json.dumps(wrong))
        assert refused.status == 400, wrong
        assert words in refused.json()["message"]


def test_scikit_learn_through_v2(serve: Serve, iris: Path) -> None:
    server = start(serve, iris)
    metadata = server.ask("GET", "/v2/models/iris/versions/3").json()
    assert metadata["platform"] == "sklearn_LogisticRegression"
    assert metadata["inputs"] == [{"name": "data", "datatype": "FP64", "shape": [-1, 4]}]
    assert metadata["outputs"][:2] == [
        {"name": "predict", "datatype": "INT64", "shape": [-1]},
        {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 3]},
    ]
    tensor = {"name": "anything", "shape": [2, 4], "datatype": "FP32", "data": ROWS}
    answer = infer(server, [tensor]).json()
    assert answer["outputs"] == [{"name": "predict", "shape": [2], "datatype": "INT64", "data": [0, 2]}]
    assert [o["name"] for o in infer(server, [tensor], ["predict_proba"]).json()["outputs"]] == ["predict_proba"]
    assert infer(server, [tensor], ["nope"]).status == 400


def test_a_pipeline_fitted_on_named_columns(serve: Serve, tmp_path: Path) -> None:
    frame = pd.DataFrame({"size": [1.0, 2.0, 3.0, 4.0], "kind": ["a", "b", "a", "b"]})
    steps = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough")
    joblib.dump(make_pipeline(steps, LinearRegression()).fit(frame, [1.0, 2.0, 3.0, 4.0]), tmp_path / "model.joblib")
    server = start(serve, tmp_path)
    assert "is a pickle" in server.log
    for body in (
        {"data": [{"kind": "a", "size": 3}]},
        {"data": [[3, "a"]]},
        {"size": [3], "kind": ["a"]},
        {"input_data": {"columns": ["kind", "size"], "data": [["a", 3]]}},
    ):
        assert server.score(body).json()["predict"][0] == pytest.approx(3.0), body
    tensors = [
        {"name": "size", "shape": [1], "datatype": "FP64", "data": [3]},
        {"name": "kind", "shape": [1], "datatype": "BYTES", "data": ["a"]},
    ]
    assert infer(server, tensors).json()["outputs"][0]["data"] == [pytest.approx(3.0)]
    missing = server.score({"data": [{"size": 3}]})
    assert (missing.status, missing.json()["message"]) == (400, "each row must have the members size, kind")


def test_skops_types_that_are_not_trusted_are_named(serve: Serve, tmp_path: Path) -> None:
    skops.io.dump(make_pipeline(Odd()), tmp_path / "model.skops")
    server = start(serve, tmp_path, wait=False)
    assert server.wait_exit() == 3
    assert "types that skops does not know to be harmless: " in server.log
    assert "Odd" in server.log
    assert "SLIPWAY_SKOPS_TRUSTED" in server.log


class Odd(LinearRegression):  # type: ignore[misc]
    """A type that skops does not know."""


def test_an_onnx_model(serve: Serve, double: Path) -> None:
    server = start(serve, double)
    assert server.ask("GET", "/v2/models/m").json()["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    for body in ({"data": [[1, 2, 3]]}, {"x": [[1, 2, 3]]}, {"inputs": {"x": [1, 2, 3]}}):
        assert server.score(body).json() == {"y": [[2.0, 4.0, 6.0]]}, body
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    assert infer(server, [tensor]).json()["outputs"][0] == {
        "name": "y",
        "shape": [1, 3],
        "datatype": "FP32",
        "data": [2.0, 4.0, 6.0],
    }
    refusals: list[tuple[Any, str]] = [
        ({"x": [[1, 2]]}, "has the shape [1, 2], but the model takes [-1, 3]"),
        ({"x": [[1, 2], [3]]}, "not a regular array"),
        ({"x": [["a", "b", "c"]]}, "does not fit its datatype FP32"),
        ({"x": [[1, 2, 3]], "z": 1}, "there is no input 'z'; there are: x"),
        ({"data": [[1, 2, 3]], "outputs": ["q"]}, "there is no output 'q'; there are: y"),
        ({"x": [[[[1, 2, 3]]]]}, "has the shape"),
    ]
    for wrong, words in refusals:
        refused = server.score(wrong)
        assert refused.status == 400, wrong
        assert words in refused.json()["message"]


def test_which_model_is_meant(serve: Serve, tmp_path: Path, double: Path) -> None:
    empty = start(serve, tmp_path, wait=False)
    assert empty.wait_exit() == 3
    assert "*.onnx, *.skops" in empty.log
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes((double / "model.onnx").read_bytes())
    several = start(serve, tmp_path, wait=False)
    assert several.wait_exit() == 3
    assert "several Onnx models (a.onnx, b.onnx)" in several.log
    assert start(serve, tmp_path / "a.onnx").score({"x": [1, 2, 3]}).status == 200


def test_a_model_file_that_is_none(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    server = start(serve, tmp_path, control=True, wait=False)
    assert server.control is not None
    event = server.control.event()
    assert event["reason"] == "ModelError"
    assert "The Onnx model model.onnx cannot be loaded" in event["message"]


def test_a_framework_that_is_not_installed_is_named(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"")
    server = start(serve, tmp_path, control=True, wait=False)
    assert server.control is not None
    event = server.control.event()
    assert event["reason"] == "ImportError"
    assert "needs the package 'tensorflow'" in event["message"]
    assert "slipway-serving[tensorflow]" in event["message"]


def test_a_lightgbm_booster(serve: Serve, tmp_path: Path) -> None:
    data = load_iris()
    booster = lightgbm.train(
        {"objective": "regression", "verbose": -1, "num_threads": 1},
        lightgbm.Dataset(data.data, data.target),
        num_boost_round=20,
    )
    booster.save_model(tmp_path / "model.txt")
    server = start(serve, tmp_path, "--framework", "LightGBM")
    assert np.rint(server.score({"data": ROWS}).json()["predict"]).tolist() == [0, 2]
    assert server.score({"data": [[1, 2]]}).status == 400
