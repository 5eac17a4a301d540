"""What large requests leave behind."""

from __future__ import annotations

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.unit.serving.conftest import Serve
from tests.unit.serving.support import Serving, wait_for

TENSORS = """
import numpy as np
from inference_schema.schema_decorators import input_schema
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType

def init(): pass

@input_schema("a", NumpyParameterType(np.zeros((1, 3), "float32")))
@input_schema("b", NumpyParameterType(np.zeros((1, 3), "float32")))
def run(a, b):
    return {"sum": a + b}
"""


def test_memory_of_large_requests_is_given_back(serve: Serve) -> None:
    rows = [[math.sin(row), math.cos(row), math.tan(row)] for row in range(100_000)]
    tensor = {"shape": [len(rows), 3], "datatype": "FP32", "data": rows}
    body = json.dumps({"inputs": [{"name": name, **tensor} for name in "ab"]}).encode()
    server = serve(TENSORS, "--service-name", "adder")
    before = resident_mib(server)

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: server.ask("POST", "/v2/models/adder/infer", body), range(24)))

    assert {answer.status for answer in answers} == {200}
    # Eight at once are 100 MiB of text alone, and several times that as numbers.
    wait_for(lambda: resident_mib(server) < before + 150, "the memory is given back")


def resident_mib(server: Serving) -> float:
    """What the process holds, in MiB."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
