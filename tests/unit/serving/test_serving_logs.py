"""What the log says: JSON with the request and the revision, the script's own lines among it, and traces to a
collector.
"""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from slipway_serving import logs
from tests.unit.serving.conftest import Serve
from tests.unit.serving.support import DEADLINE, ECHO, Serving, wait_for

TALKATIVE = """
import logging, sys
def init():
    print("from init")
def run(data):
    print("printed", end="")
    print(" in two parts")
    logging.getLogger("mine").info("logged %s", 1)
    sys.stderr.write("written\\n")
    logging.warning("warned")
    if data == "x":
        raise ValueError("no")
    return 1
"""


def events(server: Serving) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.splitlines()]


def test_json_lines_in_order_with_request_and_revision(serve: Serve) -> None:
    server = serve(TALKATIVE, "--log-format", "json", "--revision", "r1", "--service-name", "mine", "--access-log")
    server.score("secret-body", {"x-request-id": "abc"})
    server.score("x", {"x-request-id": "def"})
    found = events(server)
    mine = [(e["level"], e.get("logger"), e["message"]) for e in found if e.get("request_id") == "abc"]
    assert mine == [
        ("INFO", "stdout", "printed in two parts"),
        ("INFO", "mine", "logged 1"),
        ("WARNING", "stderr", "written"),
        ("WARNING", "root", "warned"),
        ("INFO", None, "POST /score 200"),
    ]
    failed = [e for e in found if e.get("request_id") == "def" and e["level"] == "ERROR"]
    assert "ValueError: no" in failed[0]["message"]
    assert all(e["revision"] == "r1" and e["service"] == "mine" and e["time"].endswith("Z") for e in found)
    assert "secret-body" not in server.log


def test_a_start_that_fails_is_json_too(serve: Serve) -> None:
    server = serve("def init(): raise ValueError('a\\nb')\ndef run(d): pass\n", "--log-format", "json", wait=False)
    assert server.wait_exit() == 3
    assert "InitError" in events(server)[-1]["message"]


def test_logging_works_without_being_configured(serve: Serve) -> None:
    server = serve(TALKATIVE)
    server.score("y")
    lines = [line.split(" ", 1)[-1] for line in server.log.splitlines()]
    assert "INFO logged 1 logger=mine" in lines
    assert "in two parts" in server.log


def test_levels(serve: Serve) -> None:
    server = serve(TALKATIVE, env={"AZUREML_LOG_LEVEL": "warning"}, wait=False)
    wait_for(lambda: server.process.poll() is None and "from init" in server.log, "the start")
    assert "INFO" not in server.log
    wrong = serve(ECHO, "--log-level", "loud", wait=False)
    assert wrong.wait_exit() == 2
    assert "AZUREML_LOG_LEVEL is 'LOUD'" in wrong.log


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), CollectorHandler)
        self.spans: list[dict[str, Any]] = []
        self.resources: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []


class CollectorHandler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        for resource in message["resourceSpans"]:
            self.server.resources.append(resource["resource"])
            for scope in resource["scopeSpans"]:
                self.server.spans += scope["spans"]
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep the test's output clean."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_traces_reach_a_collector(serve: Serve, collector: Collector) -> None:
    host, port = collector.server_address[:2]
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{host!s}:{port}", "OTEL_EXPORTER_OTLP_HEADERS": "x-team=a%20b"}
    server = serve(TALKATIVE, "--service-name", "mine", "--revision", "r2", env=env)
    trace, parent = "1234567890abcdef" * 2, "fedcba0987654321"
    server.score("y", {"traceparent": f"00-{trace}-{parent}-01", "x-request-id": "abc"})
    server.score("x", {"traceparent": f"00-{trace}-{parent}-00"})
    server.score("x")
    server.ask("GET", "/")
    server.process.terminate()
    assert server.wait_exit() == 0
    outer, inner, failed = collector.spans
    assert (outer["name"], outer["traceId"], outer["parentSpanId"], outer["kind"]) == ("POST /score", trace, parent, 2)
    attributes = {a["key"]: a["value"] for a in outer["attributes"]}
    assert attributes["http.response.status_code"] == {"intValue": "200"}
    assert attributes["slipway.request_id"] == {"stringValue": "abc"}
    assert (inner["name"], inner["traceId"], inner["parentSpanId"]) == ("run", trace, outer["spanId"])
    assert int(outer["startTimeUnixNano"]) <= int(inner["startTimeUnixNano"]) <= int(outer["endTimeUnixNano"])
    assert failed["status"] == {"code": 2}
    assert failed["traceId"] != trace
    assert {"key": "service.name", "value": {"stringValue": "mine"}} in collector.resources[0]["attributes"]
    assert collector.headers[0]["x-team"] == "a b"


def test_a_collector_that_is_away_costs_a_notice_and_no_request(serve: Serve) -> None:
    server = serve(ECHO, env={"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"})
    assert [server.score("x").status for _ in range(10)] == [200] * 10
    wait_for(lambda: "traces cannot be sent" in server.log, "the notice")
    server.process.terminate()
    assert server.wait_exit() == 0


def test_traces_go_on_after_an_answer_that_is_no_http(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as odd:
        endpoint = f"http://127.0.0.1:{odd.getsockname()[1]}/v1/traces"
        server = serve(ECHO, env={"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint})
        odd.settimeout(DEADLINE)
        for _ in range(2):
            server.score("x")
            connection, _ = odd.accept()
            with connection, connection.makefile("rb") as sent:
                # All of it: what is closed unread is reset, and never seen as an answer.
                head = list(iter(sent.readline, b"\r\n"))
                sent.read(next(int(line[15:]) for line in head if line.lower().startswith(b"content-length:")))
                connection.sendall(b"nonsense\r\n\r\n")
    assert "traces cannot be sent" in server.log


def test_lines_of_several_threads_are_not_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(logs, "write", lambda level, line, **fields: seen.append(line))
    lines = logs._Lines(io.StringIO(), "stdout")
    lines.write("one")
    other = threading.Thread(target=lambda: lines.write("two\n"))
    other.start()
    other.join()
    lines.write(" line\n")
    assert seen == ["two", "one line"]
