"""Requests that wait together are worked on together, when that was asked for."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from slipway_serving.scriptless import joined
from tests.unit.serving.conftest import Serve
from tests.unit.serving.support import Answer, Serving, wait_for

SCRIPT = """
import pathlib, time
def init(): pass
def run(data):
    print("alone", data)
    if data == "bad": raise ValueError("no")
    if data == "gate":
        pathlib.Path("waiting").touch()
        while not pathlib.Path("go").exists(): time.sleep(0.005)
    return data
def run_batch(calls):
    names = [call["data"] for call in calls]
    print("batch of", len(names))
    if "bad" in names: raise ValueError("no")
    return names
"""


def ask_while_busy(server: Serving, bodies: list[Any]) -> list[Answer]:
    """Send requests while the one worker is held up, so that they wait together."""
    answers: dict[int, Answer] = {}

    def ask(index: int) -> None:
        answers[index] = server.score(bodies[index])

    gate = threading.Thread(target=lambda: server.score("gate"))
    gate.start()
    wait_for((server.directory / "waiting").exists, "the gate")
    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(bodies))]
    for thread in threads:
        thread.start()
    wait_for(lambda: queued(server) == len(bodies), "the queue")
    (server.directory / "go").touch()
    for thread in [gate, *threads]:
        thread.join()
    return [answers[index] for index in range(len(bodies))]


def queued(server: Serving) -> float:
    lines = server.ask("GET", "/metrics").body.decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("slipway_requests_queued{"))


def test_what_waits_is_done_together_and_answered_apart(serve: Serve) -> None:
    server = serve(SCRIPT, "--max-batch-size", "4")
    answers = ask_while_busy(server, [str(i) for i in range(6)])
    assert [answer.json() for answer in answers] == [str(i) for i in range(6)]
    assert "batch of 4" in server.log
    assert "batch of 2" in server.log


def test_one_bad_request_spoils_no_other(serve: Serve) -> None:
    server = serve(SCRIPT, "--max-batch-size", "8")
    answers = ask_while_busy(server, ["a", "bad", b"\xff", "c"])
    assert [answer.status for answer in answers] == [200, 500, 400, 200]


def test_batches_need_a_model_that_allows_them(serve: Serve) -> None:
    server = serve("def init(): pass\ndef run(d): pass\n", "--max-batch-size", "4", wait=False)
    assert server.wait_exit() == 3
    assert "the entry script defines no run_batch(calls)" in server.log


def test_a_wait_gathers_more(serve: Serve) -> None:
    server = serve(SCRIPT, "--max-batch-size", "3", "--max-batch-wait-ms", "60000")
    threads = [threading.Thread(target=lambda: server.score("x")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "batch of 3" in server.log


def test_an_onnx_model_in_batches(serve: Serve, tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    server = serve(None, "--model-dir", str(tmp_path), "--max-batch-size", "8", "--max-batch-wait-ms", "50")
    answers: dict[int, Answer] = {}

    def ask(index: int) -> None:
        rows = [[index, index]] * (index + 1)
        answers[index] = server.score({"data": rows if index != 3 else [[1, 2, 3]]})

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in (0, 1, 2, 4, 5):
        assert answers[index].json() == {"y": [[2.0 * index] * 2] * (index + 1)}
    assert answers[3].status == 400


@pytest.mark.parametrize(
    "parts",
    [
        [{"a": [[1]]}, {"b": [[1]]}],
        [{"a": [[1]]}, {"a": [[1, 2]]}],
        [{"a": [[1]]}, {"a": [[1.5]]}],
        [{"a": 1}, {"a": 2}],
        [{"a": [1], "b": [1, 2]}, {"a": [1], "b": [1, 2]}],
    ],
)
def test_inputs_that_do_not_fit_together_are_not_joined(parts: list[dict[str, Any]]) -> None:
    assert joined(parts) is None


def test_inputs_that_fit_are_joined_in_order() -> None:
    together = joined([{"a": [[1], [2]]}, {"a": np.array([[3]])}])
    assert together is not None
    assert together[0]["a"].tolist() == [[1], [2], [3]]
    assert together[1] == [2, 1]
