"""More load than the model can take, and calls that take too long."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import pytest

from tests.unit.serving.conftest import Serve
from tests.unit.serving.support import Answer, Serving, exchange, wait_for

GATE = """
import pathlib, time
def init(): pass
def run(data):
    print("in run", data)
    if data == "quick":
        return data
    while not pathlib.Path("go").exists():
        time.sleep(0.005)
    return data
"""
SLEEP = """
import time
def init(): pass
def run(data):
    kind, seconds = data.split()
    print("in run", kind)
    if kind == "python":
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end: pass
    elif kind == "stubborn":
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            try:
                time.sleep(0.01)
            except BaseException:
                print("swallowed")
    else:
        time.sleep(float(seconds))
    print("returned", kind)
    return kind
"""

ASYNC_SLEEP = """
import asyncio
def init(): pass
async def run(data):
    print("in run", data)
    try:
        await asyncio.sleep(float(data))
    except asyncio.CancelledError:
        print("cancelled")
        raise
    return data
"""


def ask_in_background(server: Serving, body: str) -> tuple[threading.Thread, list[Answer]]:
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(server.score(body)))
    thread.start()
    return thread, answers


def test_a_full_queue_turns_requests_away(serve: Serve) -> None:
    server = serve(GATE, "--max-queue", "2")
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(server.connect())) for _ in range(3)]
        connections[0].request("POST", "/score", "first")
        wait_for(lambda: "in run first" in server.log, "the first call")
        for connection in connections[1:]:
            connection.request("POST", "/score", "queued")
        wait_for(lambda: metric(server, "slipway_requests_queued") == 2, "a full queue")
        refused = server.score("more")
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert "2 requests are waiting already" in refused.json()["message"]
        v2 = server.ask("POST", "/v2/models/service/infer", "{}")
        assert (v2.status, v2.json()["error"]) == (429, "2 requests are waiting already.")
        wait_for(lambda: "requests were turned away (429, 503)" in server.log, "the notice")
        (server.directory / "go").touch()
        assert [connection.getresponse().status for connection in connections] == [200] * 3


def metric(server: Serving, name: str) -> float:
    for line in server.ask("GET", "/metrics").body.decode().splitlines():
        if line.startswith(name + "{"):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"{name} is not there")


def test_a_request_that_waits_too_long_is_turned_away(serve: Serve) -> None:
    server = serve(GATE, "--max-queue-wait-ms", "1000")
    thread, answers = ask_in_background(server, "slow")
    wait_for(lambda: "in run slow" in server.log, "the call")
    refused = server.score("late")
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["message"] == "No worker was free within 1000 ms."
    (server.directory / "go").touch()
    thread.join()
    assert answers[0].status == 200
    assert server.score("quick").status == 200
    assert "in run late" not in server.log


def test_a_call_past_its_time_is_answered_and_ended(serve: Serve) -> None:
    server = serve(SLEEP, "--scoring-timeout-ms", "1500")
    late = server.score("python 600")
    assert (late.status, late.headers["retry-after"]) == (504, "1")
    assert late.json()["message"] == "Scoring timeout after 1500 ms"
    assert late.headers["x-ms-run-function-failed"] == "True"
    assert server.score("python 0").json() == "python"
    assert "returned python" in server.log
    assert server.log.count("returned") == 1


def test_a_call_that_swallows_its_interruption_harms_no_other(serve: Serve) -> None:
    server = serve(SLEEP, "--scoring-timeout-ms", "1500")
    assert server.score("stubborn 3").status == 504
    wait_for(lambda: "returned stubborn" in server.log, "the end of the call")
    assert "swallowed" in server.log
    assert [server.score("sleep 0").status for _ in range(20)] == [200] * 20


def test_another_worker_takes_over_from_one_that_hangs(serve: Serve) -> None:
    server = serve(SLEEP, "--scoring-timeout-ms", "1500")
    assert server.score("sleep 600").status == 504
    wait_for(lambda: "another worker takes over" in server.log, "the replacement")
    assert server.score("sleep 0").status == 200
    server.process.terminate()
    assert server.wait_exit() == 0


def test_a_client_that_leaves_the_queue_is_not_worked_for(serve: Serve) -> None:
    server = serve(GATE)
    thread, _ = ask_in_background(server, "first")
    wait_for(lambda: "in run first" in server.log, "the call")
    connection = server.connect()
    connection.request("POST", "/score", "gone")
    wait_for(lambda: metric(server, "slipway_requests_queued") == 1, "the queue")
    reset(connection)
    wait_for(lambda: metric(server, "slipway_requests_in_flight") == 1, "the loss of the client")
    (server.directory / "go").touch()
    thread.join()
    assert server.score("quick").status == 200
    assert "in run gone" not in server.log


def reset(connection: HTTPConnection) -> None:
    """As from a client that is gone; one that only ends its sending still waits for the answer."""
    assert connection.sock is not None
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("call", ["python 600", "sleep 600"])
def test_a_call_whose_client_left_is_ended_as_well(serve: Serve, call: str) -> None:
    server = serve(SLEEP, "--scoring-timeout-ms", "1500")
    connection = server.connect()
    connection.request("POST", "/score", call)
    wait_for(lambda: "in run" in server.log, "the call")
    reset(connection)
    wait_for(lambda: "a call whose client had left was ended after 1500 ms" in server.log, "the end of the call")
    wait_for(lambda: server.score("sleep 0").status == 200, "an answer to the next client")


def test_an_async_call_whose_client_left_is_cancelled(serve: Serve) -> None:
    server = serve(ASYNC_SLEEP, "--scoring-timeout-ms", "1500", "--max-concurrent-requests", "1")
    connection = server.connect()
    connection.request("POST", "/score", "600")
    wait_for(lambda: "in run" in server.log, "the call")
    reset(connection)
    wait_for(lambda: "cancelled" in server.log, "the cancellation")
    assert server.score("0").status == 200


def test_several_calls_at_a_time_when_asked_for(serve: Serve) -> None:
    script = (
        "import threading\ndef init():\n    global both\n    both = threading.Barrier(3)\n"
        "def run(data):\n    both.wait(60)\n    return data\n"
    )
    server = serve(script, "--max-concurrent-requests", "3")
    threads = [ask_in_background(server, str(number)) for number in range(3)]
    for thread, _ in threads:
        thread.join()
    assert [answers[0].status for _, answers in threads] == [200] * 3


def test_an_async_call_past_its_time_is_cancelled(serve: Serve) -> None:
    server = serve(ASYNC_SLEEP, "--scoring-timeout-ms", "1500")
    assert server.score("600").status == 504
    wait_for(lambda: "cancelled" in server.log, "the cancellation")
    assert server.score("0").status == 200


def test_liveness_tells_when_too_many_calls_hang(serve: Serve) -> None:
    server = serve(SLEEP, "--scoring-timeout-ms", "200", "--max-concurrent-requests", "8")

    def has_one_more_that_hangs() -> bool:
        """And is unhealthy. A call may be past its time before it sleeps, and then ends as it should."""
        assert server.score("sleep 600").status == 504
        return server.ask("GET", "/").status == 500

    threads = [ask_in_background(server, "sleep 600") for _ in range(8)]
    for thread, answers in threads:
        thread.join()
        assert answers[0].status == 504
    wait_for(has_one_more_that_hangs, "an unhealthy server")
    assert "calls of run() hang" in server.ask("GET", "/").json()["message"]
    assert server.ask("GET", "/ready").status == 503


def test_connections_are_kept(serve: Serve) -> None:
    server = serve()
    with closing(server.connect()) as connection:
        assert isinstance(connection, HTTPConnection)
        assert [exchange(connection, "POST", "/score", str(i)).json() for i in range(5)] == list("01234")


def test_idle_connections_are_closed_in_the_end(serve: Serve) -> None:
    server = serve(GATE, env={"SLIPWAY_KEEP_ALIVE_S": "1"})
    with closing(server.connect()) as connection:
        exchange(connection, "GET", "/")
        assert connection.sock is not None
        assert connection.sock.recv(1) == b""
