"""What clients send that is no request, or none that can be taken: a status, a reason, and the server goes on."""

from __future__ import annotations

import gzip
import json
import re
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.serving.conftest import Serve
from tests.unit.serving.support import DEADLINE, ECHO, Serving, wait_for

LENGTH = "def init(): pass\ndef run(data: bytes): return len(data)\n"
STEADY = """
import numpy as np, pandas as pd
from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType

def init():
    pass

@input_schema("data", NumpyParameterType(np.array([[1.0, 2.0]])))
@input_schema("frame", PandasParameterType(pd.DataFrame({"a": [1], "b": ["x"]})))
@input_schema("top", StandardPythonParameterType(3), optional=True)
@output_schema(StandardPythonParameterType([1]))
def run(data, frame, top=7):
    return [len(data), len(frame)]
"""
HEAD = b"POST /score HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    started = Serving(tmp_path_factory.mktemp("server"), LENGTH, "--max-body-bytes", "100000").wait_ready()
    yield started
    started.stop()


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = HEAD + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"nonsense\r\n\r\n", 400, "not valid HTTP/1.1"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "not valid HTTP/1.1"),
        (b"POST /score HTTP/1.1\r\n\r\n", 400, "needs a Host header"),
        (b"POST /score HTTP/9.9\r\nhost: x\r\n\r\n", 400, "not valid HTTP/1.1"),
        (HEAD + b"content-length: -1\r\n\r\n", 400, "not valid HTTP/1.1"),
        (HEAD + b"content-length: 5x\r\n\r\n", 400, "not valid HTTP/1.1"),
        (HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n", 400, "not valid HTTP/1.1"),
        (HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", 400, ""),
        (HEAD + b"transfer-encoding: gzip\r\n\r\n", 400, "not valid HTTP/1.1"),
        (HEAD + b"content-length: 100001\r\n\r\n", 413, "limited to 100000 bytes"),
        (HEAD + b"content-length: 99999999999999999999999\r\n\r\n", 400, "not valid HTTP/1.1"),
        (HEAD + b"x: " + b"a" * 70000 + b"\r\n\r\n", 431, "limited to 65536 bytes"),
        (HEAD + b"x" * 70000, 431, "limited to 65536 bytes"),
        (HEAD + b"".join(b"x%d: y\r\n" % i for i in range(101)) + b"\r\n", 431, "limited to 100 headers"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414, "limited to 8192 bytes"),
        (HEAD + b"bad header: x\r\n\r\n", 400, "not valid HTTP/1.1"),
        (HEAD + b"x: a\x00b\r\n\r\n", 400, "not valid HTTP/1.1"),
        (HEAD + b"x: a\r\n folded\r\n\r\n", 400, ""),
        (HEAD + b"expect: a pony\r\n\r\n", 417, "100-continue"),
        (chunked(b"x" * 60000, b"x" * 60000), 413, "limited to 100000 bytes"),
        (chunked(end=b"zz\r\n"), 400, "not valid HTTP/1.1"),
        (chunked(end=b"fffffffffffffffffffff\r\n"), 400, "not valid HTTP/1.1"),
    ],
)
def test_what_is_no_request_is_answered_and_closed(server: Serving, data: bytes, status: int, words: str) -> None:
    received = server.raw(data)
    assert statuses(received) == [status], received[:300]
    head, _, body = received.partition(b"\r\n\r\n")
    assert words in json.loads(body)["message"]
    assert b"connection: close" in head
    assert str(status) in server.log
    assert server.score("abc").json() == 3


def test_large_bodies_are_refused_with_an_answer_that_arrives(server: Serving) -> None:
    """The client is still sending when it is refused; a reset would throw the answer away."""
    received = server.raw(HEAD + b"content-length: 1000000\r\n\r\n" + b"x" * 1_000_000)
    assert statuses(received) == [413]


def test_bodies_in_chunks_and_at_the_limit(server: Serving) -> None:
    received = server.raw(chunked(b"ab", b"cde"))
    assert statuses(received) == [200]
    assert received.endswith(b"\r\n\r\n5")
    assert server.score(b"x" * 100_000).json() == 100_000
    assert server.score(b"x" * 100_001).status == 413
    trailers = chunked(b"ab", end=b"0\r\nx-trailer: y\r\n\r\n")
    assert statuses(server.raw(trailers)) == [200]


def test_truncated_bodies_leave_no_trace(server: Serving) -> None:
    assert server.raw(HEAD + b"content-length: 10\r\n\r\nabc", then_close=True) == b""
    assert server.raw(chunked(b"ab", end=b""), then_close=True) == b""
    assert server.raw(b"POST /sc", then_close=True) == b""
    assert server.score("abc").json() == 3


def test_a_client_that_stops_sending_still_gets_its_answers(server: Serving) -> None:
    request = HEAD + b"content-length: 2\r\n\r\nab"
    received = server.raw(request * 3, then_close=True)
    assert statuses(received) == [200, 200, 200]


def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    server = serve()
    count = 60
    requests = b"".join(HEAD + b"content-length: %d\r\n\r\n%d" % (len(str(i)), i) for i in range(count))
    received = server.raw(requests + b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert statuses(received) == [200] * (count + 1)
    assert re.findall(rb'\r\n\r\n"(\d+)"', received) == [str(i).encode() for i in range(count)]


def test_an_error_keeps_its_place_behind_answers(serve: Serve) -> None:
    server = serve()
    received = server.raw(HEAD + b"content-length: 1\r\n\r\nanonsense\r\n\r\n")
    assert statuses(received) == [200, 400]


def test_continue_is_sent_to_a_client_that_waits_for_it(server: Serving) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as client:
        client.sendall(HEAD + b"content-length: 3\r\nexpect: 100-continue\r\n\r\n")
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_an_upgrade_is_not_taken_up(server: Serving) -> None:
    received = server.raw(b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    assert statuses(received) == [200]
    assert statuses(server.raw(b"CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n")) == [405]


def test_http_1_0_is_answered_and_closed(server: Serving) -> None:
    assert statuses(server.raw(b"GET / HTTP/1.0\r\n\r\n")) == [200]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw", "x-gzip", "identity", "deflate, gzip"])
def test_compressed_bodies(server: Serving, encoding: str) -> None:
    plain = b"x" * 50_000
    packed = {
        "gzip": gzip.compress(plain[:1000]) + gzip.compress(plain[1000:]),
        "x-gzip": gzip.compress(plain),
        "deflate": zlib.compress(plain),
        "raw": zlib.compress(plain)[2:-4],
        "identity": plain,
        "deflate, gzip": gzip.compress(zlib.compress(plain)),
    }[encoding]
    name = "deflate" if encoding == "raw" else encoding
    assert server.score(packed, {"Content-Encoding": name}).json() == 50_000


@pytest.mark.parametrize(
    ("encoding", "body", "status", "words"),
    [
        ("gzip", gzip.compress(b"\0" * 50_000_000), 413, "also after it is unpacked"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"\0" * 50_000_000)), 413, "also after it is unpacked"),
        ("gzip, gzip, gzip", b"x", 415, "unknown"),
        ("br", b"x", 415, "unknown"),
        ("gzip", b"no", 400, "not gzip"),
        ("deflate", b"\xff\xff", 400, "not deflate"),
        ("gzip", gzip.compress(b"x" * 1000)[:-9], 400, "cut short"),
    ],
    ids=["bomb", "bomb in gzip", "three", "br", "no gzip", "no deflate", "cut short"],
)
def test_compressed_bodies_that_are_not(server: Serving, encoding: str, body: bytes, status: int, words: str) -> None:
    answer = server.score(body, {"Content-Encoding": encoding})
    assert answer.status == status
    assert words in answer.json()["message"]


def test_a_client_cannot_split_the_response(server: Serving) -> None:
    received = server.raw(HEAD + b"x-request-id: a\rSet-Cookie: b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    assert b"\nset-cookie" not in received.lower()
    assert b"\rset-cookie" not in received.lower()
    received = server.raw(HEAD + b"x-request-id: \xe4\xff\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    assert b"x-request-id: \xe4\xff\r\n" in received


def test_slow_clients_are_cut_off(serve: Serve) -> None:
    server = serve(ECHO, env={"SLIPWAY_CLIENT_TIMEOUT_S": "1"})
    for start, words in [
        (b"POST /sco", "The head of the request did not arrive within 1 s."),
        (HEAD + b"content-length: 10\r\n\r\nab", "came too slowly: 2 bytes"),
    ]:
        received = server.raw(start)
        assert statuses(received) == [408]
        assert words in json.loads(received.partition(b"\r\n\r\n")[2])["message"]
    assert server.score("abc").status == 200


def test_a_client_that_does_not_read_is_cut_off(serve: Serve, tmp_path: Path) -> None:
    script = "def init(): pass\ndef run(data): return b'x' * 50_000_000\n"
    server = serve(script, env={"SLIPWAY_CLIENT_TIMEOUT_S": "1"})
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as client:
        client.sendall(HEAD + b"content-length: 0\r\n\r\n")
        client.recv(1)
        wait_for(lambda: "did not read its response" in server.log, "the cut")
    assert server.ask("GET", "/").status == 200


PIECES = st.sampled_from(
    [
        b"POST /score HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\n",
        b"host: x\r\n",
        b"content-length: 3\r\n",
        b"transfer-encoding: chunked\r\n",
        b"expect: 100-continue\r\n",
        b"connection: close\r\n",
        b"upgrade: h2c\r\n",
        b"content-encoding: gzip\r\n",
        b"\r\n",
        b"abc",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"\0",
    ]
)


@given(pieces=st.lists(PIECES | st.binary(max_size=8), max_size=12))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_make_the_server_fail(server: Serving, pieces: list[bytes]) -> None:
    """Whatever comes, the answers are no 500, and the next client is served."""
    received = server.raw(b"".join(pieces), then_close=True)
    assert all(status < 500 for status in statuses(received)), received
    assert server.ask("GET", "/").status == 200


TARGETS = st.sampled_from(["/", "/score", "/ready", "/swagger.json", "/metrics", "/v2", "/v2/models/service/infer"])


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH"]),
    path=TARGETS | st.builds(str.__add__, TARGETS, st.text("/.%2eabc?=&é\u2028", max_size=10)),
    headers=st.dictionaries(
        st.sampled_from(
            ["content-type", "content-encoding", "x-request-id", "inference-header-content-length", "origin"]
        ),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)
        | st.sampled_from(["application/json", "gzip", "10"]),
        max_size=3,
    ),
    body=st.binary(max_size=40) | st.sampled_from([b"", b"{}", b'{"inputs": [{}]}', b"[" * 40]),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_makes_the_server_fail(
    server: Serving, method: str, path: str, headers: dict[str, str], body: bytes
) -> None:
    target = path.encode("utf-8").decode("latin-1").replace("\x80", "").replace("\u0085", "")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n{lines}\r\n"
    received = server.raw(head.encode("latin-1") + body)
    found = statuses(received)
    assert len(found) == 1
    assert found[0] < 500, received


def test_schemathesis_finds_no_failure_of_the_servers_own(serve: Serve) -> None:
    """The service's own description, asked in every way that the description allows, and some that it does not."""
    described = serve(STEADY, "--service-name", "described")
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            "run",
            f"http://127.0.0.1:{described.port}/swagger.json?version=3",
            "--max-examples=15",
            "--seed=1",
            "--checks=not_a_server_error,content_type_conformance",
        ],
        cwd=described.directory,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + described.log[-3000:]
