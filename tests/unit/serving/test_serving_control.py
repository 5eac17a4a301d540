"""The control protocol: what a supervisor sees of a server, and how one server takes over from another."""

from __future__ import annotations

import http.client
import signal
import socket
import threading
from functools import partial
from pathlib import Path

from tests.unit.serving.conftest import Serve
from tests.unit.serving.support import DEADLINE, ECHO, Serving, exchange, listening_socket, wait_for


def connect(public: socket.socket) -> http.client.HTTPConnection:
    host, port = public.getsockname()
    return http.client.HTTPConnection(host, port, timeout=DEADLINE)


def supervised(serve: Serve, script: str = ECHO, *options: str) -> Serving:
    server = serve(script, *options, control=True, wait=False)
    assert server.control is not None
    return server


def test_ready_carries_the_revision_and_comes_before_anything_listens(serve: Serve) -> None:
    server = supervised(serve, ECHO, "--revision", "r1")
    assert server.control is not None
    assert server.control.event() == {"event": "ready", "revision": "r1"}
    with listening_socket() as public:
        server.control.listen(public)
        connection = connect(public)
        answer = exchange(connection, "GET", "/ready")
        connection.close()
    assert (answer.status, answer.json()) == (200, {"status": "ready", "revision": "r1"})
    assert answer.headers["slipway-revision"] == "r1"


def test_a_unix_probe_socket_and_a_public_one_are_served_side_by_side(serve: Serve, tmp_path: Path) -> None:
    server = supervised(serve)
    assert server.control is not None
    server.control.event()
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as probe, listening_socket() as public:
        probe.bind(str(path))
        probe.listen()
        server.control.listen(probe)
        server.control.listen(public)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE)
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        connection = connect(public)
        assert exchange(connection, "POST", "/score", "hello").json() == "hello"
        connection.close()
        server.control.drain(5)
        assert server.control.event() == {"event": "drained"}
        assert server.wait_exit() == 0
    assert path.exists(), "the probe's path is the supervisor's to remove"


def test_a_failing_init_is_reported_with_the_scripts_own_frames(serve: Serve) -> None:
    server = supervised(
        serve, "def load():\n    raise ValueError('no weights')\ndef init():\n    load()\ndef run(d): pass\n"
    )
    assert server.control is not None
    event = server.control.event()
    assert (event["event"], event["reason"]) == ("failed", "InitError")
    assert event["message"] == "init() of score.py failed: ValueError: no weights"
    text = "\n".join(event["traceback"])
    assert "in load" in text
    assert "in init" in text
    assert text.endswith("ValueError: no weights")
    assert "slipway_serving" not in text
    assert server.wait_exit() == 3


def test_each_broken_script_has_its_reason(serve: Serve) -> None:
    cases = {
        "import nowhere_at_all\n": ("ImportError", "imports 'nowhere_at_all'"),
        "def init(:\n": ("EntryScriptError", "SyntaxError"),
        "def init(): pass\n": ("EntryScriptError", "score.py defines no run()."),
        "x = 1\n": ("EntryScriptError", "score.py defines no init() and no run()."),
        "raise SystemExit(0)\n": ("EntryScriptError", "SystemExit"),
        "def init(): pass\ndef run(*data): pass\n": ("EntryScriptError", "*args"),
        "def init(): pass\ndef run(): pass\n": ("EntryScriptError", "needs to accept an argument"),
        "import sys\ndef init(): sys.exit(0)\ndef run(data): pass\n": ("InitError", "SystemExit"),
    }
    for script, (reason, part) in cases.items():
        server = supervised(serve, script)
        assert server.control is not None
        event = server.control.event()
        assert (event["event"], event["reason"]) == ("failed", reason), script
        assert part in event["message"]
        assert server.wait_exit() == 3


def test_a_missing_script_names_the_places(serve: Serve) -> None:
    server = serve(None, "--entry-script", "nope.py", control=True, wait=False)
    assert server.control is not None
    event = server.control.event()
    assert event["reason"] == "EntryScriptError"
    assert "'nope.py'" in event["message"]
    assert str(server.directory) in event["message"]


def test_the_end_of_the_control_socket_ends_the_server(serve: Serve) -> None:
    server = supervised(serve)
    assert server.control is not None
    server.control.event()
    server.control.socket.close()
    assert server.wait_exit() == 0


def test_the_supervisor_may_go_while_init_runs(serve: Serve) -> None:
    server = supervised(
        serve, "import time\ndef init():\n    print('in init')\n    time.sleep(600)\ndef run(d): pass\n"
    )
    assert server.control is not None
    wait_for(lambda: "in init" in server.log, "init")
    server.control.socket.close()
    assert server.wait_exit() == 0


def test_sigterm_answers_what_is_in_work(serve: Serve) -> None:
    script = (
        "import pathlib, time\ndef init(): pass\ndef run(data):\n    pathlib.Path('running').touch()\n"
        "    while not pathlib.Path('go').exists(): time.sleep(0.01)\n    return 'done'\n"
    )
    server = serve(script)
    answers = []
    client = threading.Thread(target=lambda: answers.append(server.score("x")))
    client.start()
    wait_for((server.directory / "running").exists, "the request to arrive")
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "draining" in server.log, "the drain")
    (server.directory / "go").touch()
    client.join()
    assert (answers[0].status, answers[0].json()) == (200, "done")
    assert answers[0].headers["connection"] == "close"
    assert server.wait_exit() == 0


def test_a_run_that_hangs_does_not_outlive_the_grace_time(serve: Serve) -> None:
    server = serve("import time\ndef init(): pass\ndef run(data):\n    print('in run')\n    time.sleep(600)\n")
    answers = []
    client = threading.Thread(target=lambda: answers.append(server.score("x")))
    client.start()
    wait_for(lambda: "in run" in server.log, "the call")
    server.process.send_signal(signal.SIGINT)
    wait_for(lambda: "draining" in server.log, "the drain")
    server.process.send_signal(signal.SIGINT)
    client.join()
    assert answers[0].status == 503
    assert server.wait_exit() == 0


def test_unknown_commands_are_refused_and_change_nothing(serve: Serve) -> None:
    server = supervised(serve)
    assert server.control is not None
    server.control.event()
    server.control.socket.sendall(b'{"command": "dance"}\nnonsense\n{"command": "listen"}\n')
    assert [server.control.event()["event"] for _ in range(3)] == ["refused"] * 3
    with listening_socket() as public:
        server.control.listen(public)


def test_one_server_takes_over_from_another_without_a_failed_request(serve: Serve) -> None:
    """Keep-alive clients under way all the time, the socket shared by the old process and the new one."""
    public = listening_socket()
    old = supervised(serve, ECHO, "--revision", "old")
    assert old.control is not None
    old.control.event()
    old.control.listen(public)
    stop = threading.Event()
    failures: list[str] = []
    seen: set[str] = set()

    def client() -> None:
        connection = connect(public)
        while not stop.is_set():
            try:
                answer = exchange(connection, "POST", "/score", "x" * 100)
            except (OSError, http.client.HTTPException) as error:
                failures.append(repr(error))
                connection.close()
                continue
            seen.add(answer.headers["slipway-revision"])
            if answer.status != 200:
                failures.append(str(answer.status))
        connection.close()

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    wait_for(lambda: "old" in seen, "traffic")
    for number in range(3):
        new = supervised(serve, ECHO, "--revision", f"new-{number}")
        assert new.control is not None
        new.control.event()
        new.control.listen(public)
        assert old.control is not None
        old.control.drain(10)
        assert old.control.event() == {"event": "drained"}
        assert old.wait_exit() == 0
        wait_for(partial(seen.__contains__, f"new-{number}"), "traffic on the new revision")
        old = new
    stop.set()
    for thread in clients:
        thread.join()
    public.close()
    assert failures == []
