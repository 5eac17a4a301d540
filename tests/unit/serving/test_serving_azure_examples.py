"""The kinds of entry script that Azure ML's documentation shows, written anew, each as a service with its requests."""

from __future__ import annotations

import json
from pathlib import Path

import joblib  # type: ignore[import-untyped]
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import Ridge  # type: ignore[import-untyped]

from tests.unit.serving.conftest import Serve

BASIC = """
import json
import joblib
import numpy as np
import os

def init():
    global model
    model_path = os.path.join(os.getenv("AZUREML_MODEL_DIR"), "sklearn_regression_model.pkl")
    model = joblib.load(model_path)

def run(data):
    try:
        data = np.array(json.loads(data)["data"])
        result = model.predict(data)
        return result.tolist()
    except Exception as e:
        error = str(e)
        return error
"""
BY_NAME = """
import json, joblib, numpy as np
from azureml.core.model import Model

def init():
    global model
    model = joblib.load(Model.get_model_path("sklearn_regression_model.pkl"))

def run(raw_data):
    return {"result": model.predict(np.array(json.loads(raw_data)["data"])).tolist()}
"""
SEVERAL = """
import json, joblib, os
import numpy as np

def init():
    global first, second
    root = os.getenv("AZUREML_MODEL_DIR")
    first = joblib.load(os.path.join(root, "local_model", "1", "sklearn_regression_model.pkl"))
    second = joblib.load(os.path.join(root, "second_model", "2", "sklearn_regression_model.pkl"))

def run(raw_data):
    data = np.array(json.loads(raw_data)["data"])
    return {"first": first.predict(data).tolist(), "second": second.predict(data).tolist()}
"""
CORS = """
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse

def init():
    print("This is init()")

@rawhttp
def run(request):
    print("This is run()")
    print("Request: [{0}]".format(request))
    if request.method == "GET":
        respBody = str.encode(request.full_path)
        resp = AMLResponse(respBody, 200)
    elif request.method == "POST":
        reqBody = request.get_data(False)
        resp = AMLResponse(reqBody, 200)
    elif request.method == "OPTIONS":
        resp = AMLResponse("", 200)
        resp.headers["Allow"] = "OPTIONS, GET, POST"
        resp.headers["Access-Control-Allow-Methods"] = "OPTIONS, GET, POST"
        resp.headers["Access-Control-Allow-Headers"] = "*"
    else:
        resp = AMLResponse("bad request", 400)
    resp.headers["Access-Control-Allow-Origin"] = "http://www.example.com"
    return resp
"""
ONNX = """
import json, os, time
import numpy as np
import onnxruntime

def init():
    global session, input_name, output_name
    model = os.path.join(os.getenv("AZUREML_MODEL_DIR"), "model.onnx")
    session = onnxruntime.InferenceSession(model, None)
    input_name = session.get_inputs()[0].name
    output_name = session.get_outputs()[0].name

def run(input_data):
    try:
        data = np.array(json.loads(input_data)["data"]).astype("float32")
        start = time.time()
        r = session.run([output_name], {input_name: data})[0]
        return {"result": int(np.argmax(r)), "time_in_sec": [time.time() - start]}
    except Exception as e:
        return {"error": str(e)}
"""


@pytest.fixture(scope="module")
def ridge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two registered models in Azure's layout: the first doubles, the second triples."""
    root = tmp_path_factory.mktemp("ridge") / "azureml-models"
    rows = np.array([[0.0], [1.0], [2.0]])
    for name, version, factor in (("local_model", "1", 2.0), ("second_model", "2", 3.0)):
        (root / name / version).mkdir(parents=True)
        joblib.dump(
            Ridge(alpha=1e-9).fit(rows, rows[:, 0] * factor), root / name / version / "sklearn_regression_model.pkl"
        )
    return root


def test_the_basic_script(serve: Serve, ridge: Path) -> None:
    server = serve(BASIC, "--model-dir", str(ridge / "local_model" / "1"))
    assert server.score({"data": [[5.0]]}).json() == [pytest.approx(10.0, abs=1e-5)]
    assert "Expecting value" in server.score("no JSON").json()


def test_a_model_by_its_name(serve: Serve, ridge: Path, tmp_path: Path) -> None:
    layout = tmp_path / "azureml-models" / "sklearn_regression_model.pkl" / "4"
    layout.mkdir(parents=True)
    (layout / "sklearn_regression_model.pkl").write_bytes(
        (ridge / "local_model" / "1" / "sklearn_regression_model.pkl").read_bytes()
    )
    server = serve(BY_NAME, "--model-dir", str(layout))
    assert server.score({"data": [[5.0]]}).json() == {"result": [pytest.approx(10.0, abs=1e-5)]}


def test_several_models(serve: Serve, ridge: Path) -> None:
    answer = serve(SEVERAL, "--model-dir", str(ridge)).score({"data": [[1.0]]}).json()
    assert answer == {"first": [pytest.approx(2.0, abs=1e-5)], "second": [pytest.approx(3.0, abs=1e-5)]}


def test_a_script_that_answers_cross_origin_requests_itself(serve: Serve) -> None:
    server = serve(CORS)
    preflight = server.ask("OPTIONS", "/score", headers={"Origin": "http://www.example.com"})
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-methods"] == "OPTIONS, GET, POST"
    posted = server.score(b"\x01\x02")
    assert posted.body == b"\x01\x02"
    assert posted.headers["access-control-allow-origin"] == "http://www.example.com"
    assert server.ask("GET", "/score?x=1").body == b"/score?x=1"


def test_a_preflight_request_reaches_no_guarded_script(serve: Serve) -> None:
    server = serve(CORS, env={"SLIPWAY_PRIMARY_KEY": "k"})
    assert server.ask("OPTIONS", "/score").status == 200
    assert "This is run()" not in server.log


def test_an_onnx_model_in_a_script(serve: Serve, tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", [x], [y])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx"
    )
    server = serve(ONNX, "--model-dir", str(tmp_path))
    answer = server.score(json.dumps({"data": [[0.1, 0.7, 0.2]]})).json()
    assert answer["result"] == 1
    assert answer["time_in_sec"][0] >= 0
    assert "error" in server.score(json.dumps({"data": [[0.1]]})).json()
