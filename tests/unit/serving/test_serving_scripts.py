"""Entry scripts as Azure documents them, unchanged: what `run` is given, and what its results become."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.serving.conftest import Serve
from tests.unit.serving.support import Serving

RESULTS = """
import numpy as np, pandas as pd, datetime
def init(): pass
def run(data):
    return eval(data)
"""
SCHEMA = """
import numpy as np, pandas as pd
from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType

def init():
    pass

numpy_input = NumpyParameterType(np.array([[1.0, 2.0]]))
pandas_input = PandasParameterType(pd.DataFrame({"a": [1], "b": ["x"]}))
nested = StandardPythonParameterType({
    "array": NumpyParameterType(np.array([1, 2])), "name": StandardPythonParameterType("x"), "free": 1,
})

@input_schema("data", numpy_input)
@input_schema("frame", pandas_input)
@input_schema("nested", nested)
@input_schema("top", StandardPythonParameterType(3), optional=True)
@output_schema(StandardPythonParameterType({"sum": 1.0}))
def run(data, frame, nested, top=7):
    if float(data[0, 0]) < 0:
        raise ValueError("from the script")
    return {"sum": float(data.sum()), "columns": list(frame.columns), "dtype": str(data.dtype), "top": top,
            "nested": type(nested["array"]).__name__}
"""
RAW = """
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse

def init():
    pass

@rawhttp
def run(request):
    if request.method == "GET":
        return AMLResponse(str(request.full_path), 200)
    if request.method != "POST":
        return AMLResponse("bad request", 500)
    kind = request.args.get("kind")
    if kind == "file":
        file = request.files["image"]
        return AMLResponse(file.read(), 201, {"Content-Type": "image/png", "X-Name": file.filename,
                                              "X-Field": request.form["title"]})
    if kind == "json":
        return {"got": request.get_json()["a"], "header": request.headers["X-Mine"]}
    if kind == "several":
        return AMLResponse("x", 200, {"Vary": "Origin, Accept"})
    if kind == "none":
        return AMLResponse(None, 200)
    if kind == "split":
        return AMLResponse("x", 200, {"X-Bad": "a\\r\\nSet-Cookie: b=c"})
    return AMLResponse(request.get_data(), 418, {"Content-Type": "application/x-mine"})
"""


@pytest.fixture
def results(serve: Serve) -> Serving:
    return serve(RESULTS)


def test_results_of_every_kind(results: Serving) -> None:
    cases: dict[str, Any] = {
        "'text'": "text",
        "None": {},
        "{'a': [1, 2.5, None, True]}": {"a": [1, 2.5, None, True]},
        "[1, 2]": [1, 2],
        "(1, 2)": [1, 2],
        "{1: 'a'}": {"1": "a"},
        "np.arange(4).reshape(2, 2)": [[0, 1], [2, 3]],
        "np.arange(4).reshape(2, 2).T": [[0, 2], [1, 3]],
        "{'a': np.float32(0.5), 'b': np.int64(7), 'c': np.bool_(True)}": {"a": 0.5, "b": 7, "c": True},
        "np.array(['a', 'bc'])": ["a", "bc"],
        "np.array([1.5], dtype='float16')": [1.5],
        "pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}],
        "pd.Series([1, 2])": [1, 2],
        "[pd.Timestamp('2026-01-02')]": ["2026-01-02T00:00:00"],
        "float('nan')": None,
        "[float('inf'), np.nan]": [None, None],
        "2**70": 2**70,
        "datetime.date(2026, 1, 2)": "2026-01-02",
        "''": "",
        "0": 0,
    }
    for expression, expected in cases.items():
        answer = results.score(expression)
        assert (answer.status, answer.json()) == (200, expected), expression
        assert answer.headers["content-type"] == "application/json"


def test_bytes_go_out_as_they_are(results: Serving) -> None:
    answer = results.score("b'\\x00\\xff'")
    assert (answer.status, answer.body) == (200, b"\x00\xff")
    assert answer.headers["content-type"] == "application/octet-stream"


def test_results_that_cannot_be_sent_are_errors_of_the_script(results: Serving) -> None:
    for expression in ("object()", "{'a': {1, 2}}", "[b'x']", "(lambda a: a.append(a) or a)([])", "run"):
        answer = results.score(expression)
        assert answer.status == 500, expression
        assert answer.headers["x-ms-run-function-failed"] == "True"
    assert "run() returned what cannot be sent" in results.log
    assert results.score("1").json() == 1


def test_the_query_of_a_get_is_the_data(serve: Serve) -> None:
    server = serve("import json\ndef init(): pass\ndef run(raw_data): return json.loads(raw_data)\n")
    answer = server.ask("GET", "/score?a=1&b=[1,2]&c=text&a=2&d=null")
    assert answer.json() == {"a": [1, 2], "b": [1, 2], "c": "text", "d": None}


def test_bytes_on_request_and_text_otherwise(serve: Serve) -> None:
    raw = serve("def init(): pass\ndef run(data: bytes): return list(data)\n")
    assert raw.score(b"\xff\x00").json() == [255, 0]
    text = serve("def init(): pass\ndef run(data, unused=1): return data\n")
    refused = text.score(b"\xff\x00")
    assert refused.status == 400
    assert "cannot be decoded as UTF-8" in refused.json()["message"]
    assert text.score("grün".encode()).json() == "grün"


def test_named_parameters_without_a_schema(serve: Serve) -> None:
    server = serve(
        "def init(): pass\ndef run(a, b, c=3, request_headers=None): return [a, b, c, request_headers['X-Mine']]\n"
    )
    headers = {"Content-Type": "application/json", "X-Mine": "yes"}
    assert server.score({"a": 1, "b": 2}, headers).json() == [1, 2, 3, "yes"]
    missing = server.score({"a": 1}, headers)
    assert (missing.status, missing.json()["message"]) == (400, "A value is not provided for the 'b' parameter.")
    assert server.score([1], headers).json()["message"] == "POST body should be a JSON dictionary."
    assert "could not be decoded as JSON" in server.score("{", headers).json()["message"]
    assert server.score("{}", {"Content-Type": "text/plain"}).status == 415
    assert "POST body is empty" in server.score("", headers).json()["message"]
    assert server.ask("GET", "/score?a=1&b=x", headers={"X-Mine": "q"}).json() == [1, "x", 3, "q"]


def test_schema_decorators_convert_and_check(serve: Serve) -> None:
    server = serve(SCHEMA)
    good: dict[str, Any] = {
        "data": [[1, 2], [3, 4]],
        "frame": [{"a": 5, "b": "y"}],
        "nested": {"array": [1, 2, 3], "name": "n", "free": 2},
        "top": 2,
    }
    assert server.score(good).json() == {
        "sum": 10.0,
        "columns": ["a", "b"],
        "dtype": "float64",
        "top": 2,
        "nested": "ndarray",
    }
    assert server.score({**good, "top": None}).status == 200
    changes: list[tuple[dict[str, Any], str]] = [
        ({"data": [[1, 2, 3]]}, "array has size 3 on dimension #1, while expected value is 2"),
        ({"data": [1, 2]}, "an array with 2 dimensions is expected"),
        ({"data": [["a", "b"]]}, "could not convert string to float"),
        ({"data": 5}, "expected an array of items"),
        ({"frame": [{"a": 5}]}, "data frame has size 1"),
        ({"nested": [1]}, "expected a JSON object, got list"),
    ]
    for change, words in changes:
        refused = server.score({**good, **change})
        assert refused.status == 400, change
        assert words in refused.json()["message"]
    failed = server.score({**good, "data": [[-1, 2]]})
    assert (failed.status, failed.headers["x-ms-run-function-failed"]) == (500, "True")


def test_rawhttp_keeps_status_headers_and_bytes(serve: Serve) -> None:
    server = serve(RAW)
    answer = server.score(b"\x00\x01")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (418, b"\x00\x01", "application/x-mine")
    assert server.ask("GET", "/score?a=b").body == b"/score?a=b"
    boundary = "xyz"
    form = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="title"\r\n\r\nhello\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
        f"Content-Type: image/png\r\n\r\n"
    ).encode() + b"\x89PNG\r\n\x00\xff\r\n--xyz--\r\n"
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = server.ask("POST", "/score?kind=file", form, kind)
    assert (answer.status, answer.body) == (201, b"\x89PNG\r\n\x00\xff")
    assert (answer.headers["x-name"], answer.headers["x-field"]) == ("a.png", "hello")
    answer = server.ask("POST", "/score?kind=json", '{"a": 1}', {"Content-Type": "application/json", "x-mine": "m"})
    assert answer.json() == {"got": 1, "header": "m"}
    assert server.ask("POST", "/score?kind=none", "x").json() == {}
    assert server.ask("POST", "/score?kind=several", "x").headers["vary"] == "Origin, Accept"


def test_a_response_header_cannot_be_split(serve: Serve) -> None:
    server = serve(RAW)
    answer = server.ask("POST", "/score?kind=split", "x")
    assert answer.status == 500
    assert "set-cookie" not in answer.headers
    assert "line break" in server.log


def test_rawhttp_and_schema_exclude_each_other(serve: Serve) -> None:
    script = SCHEMA.replace(
        '@input_schema("data"',
        'from azureml.contrib.services.aml_request import rawhttp\n@rawhttp\n@input_schema("data"',
        1,
    )
    server = serve(script, wait=False)
    assert server.wait_exit() == 3
    assert "cannot be decorated with both @rawhttp and @input_schema" in server.log


def test_model_paths_for_one_model_and_for_several(serve: Serve) -> None:
    script = (
        "import os\nfrom azureml.core.model import Model\ndef init(): pass\n"
        "def run(data):\n    try:\n        return os.path.relpath(Model.get_model_path(*eval(data)))\n"
        "    except Exception as e:\n        return str(e)\n"
    )
    directory = serve().directory
    models = directory / "azureml-models"
    for path in ("one/1/a.bin", "one/2/a.bin", "two/1/x/a.txt", "two/1/b.txt"):
        (models / path).parent.mkdir(parents=True, exist_ok=True)
        (models / path).write_text("x")
    several = serve(script, env={"AZUREML_MODEL_DIR": str(models)})
    base = "../server-0/azureml-models"
    assert several.score("['one']").json() == f"{base}/one/2/a.bin"
    assert several.score("['one', 1]").json() == f"{base}/one/1/a.bin"
    assert several.score("['two']").json() == f"{base}/two/1"
    assert "Models of this service: one, two" in several.score("['three']").json()
    assert "there are: 1, 2" in several.score("['one', 3]").json()
    single = serve(script, env={"AZUREML_MODEL_DIR": str(models / "two" / "1")})
    assert single.score("['two']").json() == f"{base}/two/1"


def test_the_environment_azure_gives_a_script(serve: Serve) -> None:
    script = "import os\ndef init(): pass\ndef run(name): return os.environ.get(name)\n"
    server = serve(script, "--model-dir", ".", "--service-name", "mine")
    assert server.score("AZUREML_MODEL_DIR").json() == str(server.directory)
    assert server.score("AML_APP_ROOT").json() == str(server.directory)
    assert server.score("AZUREML_ENTRY_SCRIPT").json() == "score.py"
    assert server.score("SERVICE_NAME").json() == "mine"


def test_azures_variables_alone_are_enough(serve: Serve) -> None:
    directory = serve().directory
    (directory / "src").mkdir()
    (directory / "src" / "entry.py").write_text("import beside\ndef init(): pass\ndef run(d): return beside.NAME\n")
    (directory / "src" / "beside.py").write_text("NAME = 'neighbour'\n")
    env = {"AML_APP_ROOT": str(directory), "AZUREML_SOURCE_DIRECTORY": "src", "AZUREML_ENTRY_SCRIPT": "entry.py"}
    assert serve(None, env=env).score("x").json() == "neighbour"


def test_a_scripts_modules_win_over_packages_but_not_over_the_standard_library(serve: Serve) -> None:
    directory = serve().directory
    for name in ("queue", "inspect", "http", "numpy"):
        (directory / f"{name}.py").write_text(f"NAME = 'the script has its own {name}'\n")
    (directory / "entry.py").write_text("import numpy\ndef init(): pass\ndef run(d): return numpy.NAME\n")
    env = {"AML_APP_ROOT": str(directory), "AZUREML_ENTRY_SCRIPT": "entry.py"}
    assert serve(None, env=env).score("x").json() == "the script has its own numpy"
    (directory / "entry.py").write_text("import queue\ndef init(): pass\ndef run(d): return hasattr(queue, 'Queue')\n")
    # From inside the directory, as a supervisor starts it
    inside = serve(None, "--entry-script", "entry.py", directory=directory)
    assert inside.score("x").json() is True


def test_an_async_run_works_on_several_requests_at_once(serve: Serve) -> None:
    script = (
        "import asyncio\nasync def init():\n    global both\n    both = asyncio.Barrier(3)\n"
        "async def run(data):\n    if data == 'raise': raise ValueError('mine')\n"
        "    await both.wait()\n    return data\n"
    )
    server = serve(script)
    connections = [server.connect() for _ in range(3)]
    for number, connection in enumerate(connections):
        connection.request("POST", "/score", str(number))
    answers = [json.loads(connection.getresponse().read()) for connection in connections]
    assert answers == ["0", "1", "2"]
    for connection in connections:
        connection.close()
    assert server.score("raise").status == 500
    server.process.terminate()
    assert server.wait_exit() == 0


def test_init_and_run_share_the_main_thread(serve: Serve) -> None:
    script = (
        "import sqlite3, threading\ndef init():\n    global db\n    db = sqlite3.connect(':memory:')\n"
        "def run(data):\n    main = threading.current_thread() is threading.main_thread()\n"
        "    return [main, *db.execute('select 7').fetchone()]\n"
    )
    assert serve(script).score("x").json() == [True, 7]


def test_identifiers_are_sent_back(serve: Serve) -> None:
    server = serve()
    answer = server.score("x", {"x-request-id": "r", "x-ms-client-request-id": "c", "TraceId": "t"})
    assert [answer.headers[n] for n in ("x-request-id", "x-ms-request-id", "x-ms-client-request-id")] == ["r", "c", "c"]
    assert answer.headers["traceid"] == "t"
    answer = server.score("x", {"x-ms-request-id": "old"})
    assert (answer.headers["x-ms-request-id"], answer.headers["x-ms-client-request-id"]) == ("old", "old")
    for name in ("x-request-id", "x-ms-client-request-id", "x-ms-request-id"):
        refused = server.score("x", {name: "i" * 101})
        assert refused.status == 431
        assert name in refused.json()["message"]
    first, second = server.score("x"), server.score("x")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert len(first.headers["x-request-id"]) == 36
