"""The Open Inference Protocol V2, spoken by hand and by a real client."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.unit.serving.conftest import Serve
from tests.unit.serving.support import Answer, Serving

ADD = """
import numpy as np
from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType

def init(): pass

@input_schema("a", NumpyParameterType(np.zeros((1, 3), "float32")))
@input_schema("b", NumpyParameterType(np.zeros((1, 3), "float32")))
@output_schema(StandardPythonParameterType({"sum": NumpyParameterType(np.zeros((1, 3), "float32"))}))
def run(a, b):
    a += 0
    return {"sum": a + b, "label": ["x"] * len(a)}
"""
TEXT = "import json\ndef init(): pass\ndef run(raw_data):\n    return {'got': json.loads(raw_data)['data']}\n"
CLIENT = """
import sys
import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("adder")
assert client.get_server_metadata()["name"] == "slipway-serving"
metadata = client.get_model_metadata("adder")
assert metadata["inputs"][0] == {"name": "a", "datatype": "FP32", "shape": [-1, 3]}, metadata
assert client.get_model_repository_index()[0]["state"] == "READY"
a = np.arange(6, dtype="float32").reshape(2, 3)
for binary in (True, False):
    inputs = [triton.InferInput(name, a.shape, "FP32") for name in "ab"]
    for tensor in inputs:
        tensor.set_data_from_numpy(a, binary_data=binary)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("sum", "label")]
    for wanted in (outputs, None):
        for compression in (None, "gzip", "deflate"):
            result = client.infer("adder", inputs, outputs=wanted, request_id="7",
                                  request_compression_algorithm=compression)
            assert result.as_numpy("sum").tolist() == (a + a).tolist()
            assert result.as_numpy("sum").dtype == np.float32
            assert result.as_numpy("label").tolist() in ([b"x", b"x"], ["x", "x"])
            assert result.get_response()["id"] == "7"
try:
    client.infer("other", inputs)
except triton.InferenceServerException as error:
    assert "there is no model other" in str(error), error
else:
    raise AssertionError("an unknown model was answered")
print("the client is content")
"""


@pytest.fixture
def adder(serve: Serve) -> Serving:
    return serve(ADD, "--service-name", "adder")


def infer(server: Serving, message: Any, model: str = "adder") -> Answer:
    return server.ask("POST", f"/v2/models/{model}/infer", json.dumps(message), {"Content-Type": "application/json"})


def tensor(name: str, data: Any, datatype: str = "FP32", shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or list(np.shape(data)), "data": data}


def test_a_real_client(adder: Serving) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, f"127.0.0.1:{adder.port}"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert "the client is content" in done.stdout, done.stderr + adder.log


def test_metadata_and_health(adder: Serving) -> None:
    assert adder.ask("GET", "/v2").json()["extensions"] == ["binary_tensor_data", "model_repository"]
    assert adder.ask("GET", "/v2/health/live").json() == {"live": True}
    assert adder.ask("GET", "/v2/health/ready").json() == {"ready": True}
    assert adder.ask("GET", "/v2/models/adder/versions/1/ready").json() == {"name": "adder", "ready": True}
    metadata = adder.ask("GET", "/v2/models/adder").json()
    assert metadata["versions"] == ["1"]
    assert metadata["outputs"] == [{"name": "sum", "datatype": "FP32", "shape": [-1, 3]}]


def test_paths_that_are_none(adder: Serving) -> None:
    for path in ("/v2/nothing", "/v2/models", "/v2/models/adder/nothing", "/v2/models/adder/infer/more", "/v2/../etc"):
        answer = adder.ask("GET", path)
        assert answer.status == 404, path
        assert answer.json()["error"]
    unknown = adder.ask("GET", "/v2/models/..%2f..%2fetc%2fpasswd")
    assert unknown.status == 404
    assert adder.ask("GET", "/v2/models/adder/versions/9").json()["error"] == (
        "there is no model adder version 9; this service has adder version 1"
    )
    wrong = adder.ask("GET", "/v2/models/adder/infer")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")


def test_inference_in_json(adder: Serving) -> None:
    row = [[1, 2, 3]]
    answer = infer(adder, {"id": "i", "inputs": [tensor("a", row), tensor("b", [1, 1, 1], shape=[1, 3])]})
    assert answer.status == 200, answer.body
    assert answer.json() == {
        "model_name": "adder",
        "model_version": "1",
        "id": "i",
        "outputs": [
            {"name": "sum", "shape": [1, 3], "datatype": "FP32", "data": [2.0, 3.0, 4.0]},
            {"name": "label", "shape": [1], "datatype": "BYTES", "data": ["x"]},
        ],
    }
    assert answer.headers["x-ms-run-function-failed"] == "False"


def test_outputs_by_name(adder: Serving) -> None:
    inputs = [tensor("a", [[1, 2, 3]]), tensor("b", [[1, 1, 1]])]
    answer = infer(adder, {"inputs": inputs, "outputs": [{"name": "label"}]})
    assert [output["name"] for output in answer.json()["outputs"]] == ["label"]
    missing = infer(adder, {"inputs": inputs, "outputs": [{"name": "nope"}]})
    assert (missing.status, missing.json()["error"]) == (400, "there is no output 'nope'; there are: sum, label")


def test_binary_tensors(adder: Serving) -> None:
    a = np.array([[1, 2, 3]], "<f4")
    head = json.dumps(
        {
            "inputs": [
                {"name": n, "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}} for n in "ab"
            ],
            "outputs": [{"name": "sum", "parameters": {"binary_data": True}}],
        }
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = adder.ask("POST", "/v2/models/adder/infer", head + a.tobytes() * 2, headers)
    assert answer.status == 200, answer.body
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 12}
    assert np.frombuffer(answer.body[length:], "<f4").tolist() == [2, 4, 6]


def test_a_script_that_takes_text_gets_the_inputs_as_a_json_object(serve: Serve) -> None:
    server = serve(TEXT, "--service-name", "adder")
    answer = infer(server, {"inputs": [tensor("data", [[1, 2]], "INT64")]})
    assert answer.json()["outputs"] == [{"name": "got", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}]
    answer = infer(server, {"inputs": [tensor("data", ["a", "grün"], "BYTES")]})
    assert answer.json()["outputs"][0]["data"] == ["a", "grün"]


def test_results_become_tensors(serve: Serve) -> None:
    server = serve(
        "import json, numpy as np, pandas as pd\ndef init(): pass\ndef run(d): return eval(json.loads(d)['e'][0])\n",
        "--service-name",
        "adder",
    )
    cases: dict[str, list[tuple[str, str, list[int], list[Any]]]] = {
        "[1, 2]": [("output", "INT64", [2], [1, 2])],
        "0.5": [("output", "FP64", [1], [0.5])],
        "'text'": [("output", "BYTES", [1], ["text"])],
        "np.array([1], 'float16')": [("output", "FP16", [1], [1.0])],
        "np.array([[True]])": [("output", "BOOL", [1, 1], [True])],
        "np.array([1, 2], '>i4')": [("output", "INT32", [2], [1, 2])],
        "np.arange(4).reshape(2, 2).T": [("output", "INT64", [2, 2], [0, 2, 1, 3])],
        "pd.DataFrame({'x': [1], 'y': ['a']})": [("x", "INT64", [1], [1]), ("y", "BYTES", [1], ["a"])],
        "{'p': {'q': 1}}": [("p", "BYTES", [1], ['{"q":1}'])],
        "[[1], [2, 3]]": [("output", "BYTES", [1], ["[[1],[2,3]]"])],
        "None": [],
    }
    for expression, expected in cases.items():
        answer = infer(server, {"inputs": [tensor("e", [expression], "BYTES")]})
        assert answer.status == 200, expression
        found = [(o["name"], o["datatype"], o["shape"], o["data"]) for o in answer.json()["outputs"]]
        assert found == expected, expression
    failed = infer(server, {"inputs": [tensor("e", ["np.array([1j])"], "BYTES")]})
    assert (failed.status, failed.headers["x-ms-run-function-failed"]) == (500, "True")


def test_raw_http_scripts_have_no_tensors(serve: Serve) -> None:
    script = (
        "from azureml.contrib.services.aml_request import rawhttp\ndef init(): pass\n@rawhttp\ndef run(r): return 1\n"
    )
    server = serve(script, "--service-name", "adder")
    answer = infer(server, {"inputs": [tensor("a", [1])]})
    assert answer.status == 501
    assert "call /score instead" in answer.json()["error"]
