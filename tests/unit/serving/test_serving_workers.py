"""Several processes for one service: they share the socket, are replaced when they crash, and drain together."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from slipway_serving.workers import STEADY, restart_delay
from tests.unit.serving.conftest import Serve
from tests.unit.serving.support import Serving, exchange, listening_socket, wait_for
from tests.unit.serving.test_serving_control import connect

PID = "import os\ndef init(): print('init of', os.getpid())\ndef run(data): return os.getpid()\n"


def pids(server: Serving, connections: int = 12) -> set[int]:
    """The processes that answer on so many connections, held open together."""
    with ExitStack() as stack:
        held = [stack.enter_context(closing(server.connect())) for _ in range(connections)]
        for connection in held:
            connection.connect()
        return {exchange(connection, "POST", "/score", "x").json() for connection in held}


def test_a_worker_that_lived_long_is_replaced_at_once_and_one_that_keeps_crashing_later_and_later() -> None:
    delays = [restart_delay(None, 0.1)]
    for _ in range(8):
        delays.append(restart_delay(delays[-1], 0.1))
    assert delays == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert restart_delay(delays[-1], STEADY) == 0.0


def is_gone(pid: int) -> bool:
    """Whether a process has ended, though nobody may have waited for it (in a container without an init)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_both_workers_get_connections(serve: Serve) -> None:
    server = serve(PID, "--workers", "2")
    found = wait_for(lambda: len(seen := pids(server)) == 2 and seen, "answers from both")
    assert server.process.pid not in found
    assert server.log.count("init of") == 2


def test_a_worker_that_crashes_is_replaced(serve: Serve) -> None:
    server = serve(PID, "--workers", "2")
    first = wait_for(lambda: len(seen := pids(server)) == 2 and seen, "answers from both")
    victim = min(first)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: server.log.count("init of") == 3, "a third worker")
    later = wait_for(lambda: len(seen := pids(server)) == 2 and seen, "answers from both again")
    assert victim not in later


def test_metrics_are_of_all_workers(serve: Serve) -> None:
    server = serve(PID, "--workers", "2")
    wait_for(lambda: len(pids(server)) == 2, "answers from both")
    answered = 24
    before = score_count(server)
    pids(server, answered)
    wait_for(lambda: score_count(server) >= before + answered, "the sum")


def score_count(server: Serving) -> float:
    text = server.ask("GET", "/metrics").body.decode()
    lines = [line for line in text.splitlines() if "requests_total" in line and 'route="/score"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_sigterm_ends_all(serve: Serve) -> None:
    server = serve(PID, "--workers", "2")
    found = wait_for(lambda: len(seen := pids(server)) == 2 and seen, "answers from both")
    server.process.terminate()
    assert server.wait_exit() == 0
    for pid in found:
        wait_for(partial(is_gone, pid), "the end of a worker")


def test_the_parents_death_ends_the_workers(serve: Serve) -> None:
    server = serve(PID, "--workers", "2")
    found = wait_for(lambda: len(seen := pids(server)) == 2 and seen, "answers from both")
    server.process.kill()
    for pid in found:
        wait_for(partial(is_gone, pid), "the end of a worker")


def test_a_failing_init_is_told_once(serve: Serve) -> None:
    server = serve(
        "def init(): raise ValueError('mine')\ndef run(d): pass\n", "--workers", "2", control=True, wait=False
    )
    assert server.control is not None
    event = server.control.event()
    assert (event["event"], event["reason"]) == ("failed", "InitError")
    assert server.wait_exit() == 3


def test_under_a_supervisor(serve: Serve) -> None:
    server = serve(PID, "--workers", "2", "--revision", "r", control=True, wait=False)
    assert server.control is not None
    assert server.control.event() == {"event": "ready", "revision": "r"}
    with listening_socket() as public:
        server.control.listen(public)
        with closing(connect(public)) as connection:
            assert exchange(connection, "POST", "/score", "x").headers["slipway-revision"] == "r"
        server.control.drain(5)
        assert server.control.event() == {"event": "drained"}
        assert server.wait_exit() == 0
