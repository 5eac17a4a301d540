"""The server on its own: its routes, its command line, and the order of what a script prints."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import closing

from tests.unit.serving.conftest import Serve
from tests.unit.serving.support import DEADLINE, ECHO, SERVING, exchange, listening_socket, wait_for

BUSY = """
import os
def init(): pass
def run(data):
    print("in run")
    while not os.path.exists("go"):
        sum(range(10_000))
    return "done"
"""


def test_liveness_readiness_and_scoring(serve: Serve) -> None:
    server = serve(ECHO, "--revision", "abc")
    live = server.ask("GET", "/")
    assert (live.status, live.body) == (200, b"Healthy")
    head = server.ask("HEAD", "/")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "7")
    assert server.ask("GET", "/ready").json() == {"status": "ready", "revision": "abc"}
    scored = server.score("[1, 2]")
    assert (scored.status, scored.json()) == (200, "[1, 2]")
    assert scored.headers["slipway-revision"] == "abc"
    assert scored.headers["x-ms-run-function-failed"] == "False"
    assert float(scored.headers["x-ms-run-fn-exec-ms"]) >= 0
    assert scored.headers["x-ms-request-id"] == scored.headers["x-request-id"]


def test_liveness_and_readiness_while_init_runs(serve: Serve) -> None:
    script = (
        "import pathlib, time\ndef init():\n    while not pathlib.Path('go').exists(): time.sleep(0.01)\n"
        "def run(data): return 1\n"
    )
    server = serve(script, wait=False)
    assert server.ask("GET", "/").status == 200
    ready = server.ask("GET", "/ready")
    assert (ready.status, ready.json()["status"]) == (503, "starting")
    assert "init() has been running" in ready.json()["message"]
    scored = server.score("1")
    assert (scored.status, scored.headers["retry-after"]) == (503, "1")
    (server.directory / "go").touch()
    server.wait_ready()
    assert server.score("1").status == 200


def test_liveness_answers_while_a_run_keeps_the_interpreter_busy(serve: Serve) -> None:
    server = serve(BUSY)
    scored = threading.Thread(target=lambda: server.score("x"))
    with closing(server.connect()) as connection:
        exchange(connection, "GET", "/")
        scored.start()
        wait_for(lambda: "in run" in server.log, "the call")
        answered = [exchange(connection, "GET", "/").status for _ in range(10)]
    assert answered == [200] * 10
    assert scored.is_alive(), "the call was not under way any more"
    (server.directory / "go").touch()
    scored.join()


def test_a_run_that_raises_is_a_500_and_the_server_goes_on(serve: Serve) -> None:
    server = serve(
        "def init(): pass\ndef run(data):\n    if data == 'x': raise ValueError('my own words')\n    return 1\n"
    )
    failed = server.score("x")
    assert failed.status == 500
    assert failed.json() == {"message": "An unexpected error occurred in scoring script. Check the logs for more info."}
    assert failed.headers["x-ms-run-function-failed"] == "True"
    assert server.score("y").status == 200
    assert "ValueError: my own words" in server.log
    assert "slipway_serving" not in server.log


def test_a_run_that_exits_does_not_end_the_server(serve: Serve) -> None:
    server = serve("import sys\ndef init(): pass\ndef run(data):\n    if data == 'x': sys.exit(0)\n    return 1\n")
    assert server.score("x").status == 500
    assert server.score("y").status == 200


def test_whatever_a_run_raises_does_not_end_the_server(serve: Serve) -> None:
    script = (
        "import asyncio\nclass Odd(BaseException): pass\ndef init(): pass\n"
        "def run(data):\n    if data: raise eval(data)\n    return 1\n"
    )
    server = serve(script)
    for error in (
        "Odd()",
        "GeneratorExit()",
        "KeyboardInterrupt()",
        "RecursionError()",
        "MemoryError()",
        "StopIteration()",
    ):
        assert server.score(error).status == 500, error
    assert server.score("").status == 200
    later = serve(script.replace("def run", "async def run"))
    for error in ("Odd()", "asyncio.CancelledError()"):
        assert later.score(error).status == 500, error
    assert later.score("").status == 200


def test_signals_still_drain_when_a_script_has_used_event_loops(serve: Serve) -> None:
    script = (
        "import asyncio, signal\nasync def main():\n    loop = asyncio.get_running_loop()\n"
        "    loop.add_signal_handler(signal.SIGTERM, print)\n    await asyncio.sleep(0)\n"
        "def init(): asyncio.run(main())\ndef run(data): return data\n"
    )
    server = serve(script)
    server.process.terminate()
    assert server.wait_exit() == 0
    assert "draining" in server.log


def test_unknown_paths_and_methods(serve: Serve) -> None:
    server = serve()
    missing = server.ask("GET", "/nothing")
    assert missing.status == 404
    assert "/nothing" in missing.json()["message"]
    wrong = server.ask("DELETE", "/score")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST, GET, OPTIONS")
    assert server.ask("GET", "http://elsewhere/ready").status == 200
    assert server.ask("GET", "/re%61dy").status == 200


def test_what_a_script_prints_and_logs_is_in_order(serve: Serve) -> None:
    script = (
        "import logging, sys\nlogging.basicConfig(level='INFO', format='%(message)s')\ndef init():\n"
        "    for i in range(20):\n        print(f'print {i}')\n        logging.info(f'log {i}')\n"
        "    print('whole lines:', not sys.stdout.write_through)\ndef run(data): pass\n"
    )
    server = serve(script, env={"PYTHONUNBUFFERED": "1"})
    assert "whole lines: True\n" in server.log
    lines = [line for line in server.log.splitlines() if line.startswith(("print", "log"))]
    assert lines == [f"{kind} {i}" for i in range(20) for kind in ("print", "log")]


def test_several_models_and_modules_beside_the_script(serve: Serve) -> None:
    script = (
        "import os, pathlib\nimport helper\ndef init():\n    global names\n"
        "    names = sorted(p.name for p in pathlib.Path(os.environ['AZUREML_MODEL_DIR']).iterdir())\n"
        "def run(data): return helper.join(names)\n"
    )
    directory = serve().directory
    for name in ("first", "second"):
        (directory / "models" / name / "1").mkdir(parents=True)
    (directory / "code").mkdir()
    (directory / "code" / "helper.py").write_text("def join(names): return '+'.join(names)\n")
    (directory / "code" / "entry.py").write_text(script)
    server = serve(
        None,
        "--source-directory",
        str(directory / "code"),
        "--entry-script",
        "entry.py",
        "--model-dir",
        str(directory / "models"),
    )
    assert server.score("x").json() == "first+second"


def test_a_port_in_use_is_named_with_the_remedy(serve: Serve) -> None:
    with listening_socket() as taken:
        port = taken.getsockname()[1]
        server = serve(ECHO, "--port", str(port), wait=False)
        assert server.wait_exit() == 3
    assert f"Cannot listen on 127.0.0.1 port {port}" in server.log
    assert "choose another with --port" in server.log


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "slipway_serving", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env={"PYTHONPATH": str(SERVING)},
    )


def test_wrong_options_name_the_setting_and_the_range() -> None:
    for arguments, words in [
        ([], "name an entry script with --entry-script"),
        (["--entry-script", "x.py", "--port", "70000"], "SERVER_PORT is 70000: give a whole number from 0 to 65535"),
        (["--entry-script", "x.py", "--port", "http"], "SERVER_PORT is 'http'"),
        (["--entry-script", "x.py", "--model-dir", "/nowhere"], "the model directory /nowhere does not exist"),
        (["--entry-script", "x.py", "--source-directory", "/nowhere"], "the source directory /nowhere does not exist"),
        (["--entry-script", "x.py", "--revision", "a b"], "cannot stand in a header"),
    ]:
        done = command(*arguments)
        assert done.returncode == 2
        assert words in done.stderr


def test_help_shows_how_to_start_it() -> None:
    assert "slipway-serve --entry-script score.py --model-dir model --port 8890" in command("--help").stdout
