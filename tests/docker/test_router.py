"""The router under a real engine and real load: what is promised in docs/routing.md."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import socket
import ssl
import subprocess
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from provider.certificates import issue
from provider.certificates.issue import Issued
from provider.resource import ResourceError
from provider.router.refusal import HEADER, MISSING, UNKNOWN_DEPLOYMENT, WRONG
from provider.router.router import Router
from tests.docker.engine import SECONDS, free_port
from tests.docker.routed import Box, Routed, ask, failure
from tests.e2e.load import SteadyLoad
from tests.e2e.project import eventually


@pytest.fixture(scope="module")
def authority() -> Issued:
    return issue.authority("Test", 10, datetime.now(UTC))


def certificate_of(authority: Issued) -> dict[str, str]:
    """A route's inputs for TLS."""
    made = issue.server(authority.certificate, authority.private_key, "localhost", ["127.0.0.1"], 5, datetime.now(UTC))
    return {"certificate": made.certificate, "privateKey": made.private_key}


def trusting(authority: Issued) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.certificate)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# -- traffic moves, and no request is lost ---------------------------------------------------------------------------


def test_instances_are_swapped_under_load(box: Box, port: int) -> None:
    box.serve("r1", "r2", "r3")
    route = Routed(box.inputs(port, box.deployment("blue", 100, "r1")))
    with SteadyLoad(port, connections=8) as load:
        for revision in ("r2", "r3", "r1", "r2"):
            route.update(box.inputs(port, box.deployment("blue", 100, revision)))
            load.forget()
            eventually(lambda: load.answers.total() > 500, "answers")
            # When an update returns, what it replaced gets no request any more.
            assert set(load.answers) == {revision}
    assert load.failures == []
    assert route.drift() is None


def test_connections_to_instances_are_used_again(box: Box, port: int) -> None:
    box.serve("r1", "r2")
    route = Routed(box.inputs(port, box.deployment("blue", 100, "r1")))
    for revision in ("r2", "r1") * 3:
        route.update(box.inputs(port, box.deployment("blue", 100, revision)))
        with SteadyLoad(port, connections=2) as load:
            eventually(lambda: load.answers.total() > 100, "answers")
        assert load.failures == []
        # Idle connections do not keep the router from removing what was replaced.
        ((name, statistics),) = servers(box, "mnist").items()
        assert name == f"{box.name}-{revision}"
        assert int(statistics["reuse"]) > int(statistics["connect"])


def test_weights_shift_under_load(box: Box, port: int) -> None:
    box.serve("r1", "r2")
    blue, green = (
        (lambda weight: box.deployment("blue", weight, "r1")),
        (lambda weight: box.deployment("green", weight, "r2")),
    )
    route = Routed(box.inputs(port, blue(90), green(10)))
    assert route.state["revisions"] == {"blue": "r1", "green": "r2"}
    with SteadyLoad(port, connections=8) as load:
        for share in (90, 50, 0, 100):
            route.update(box.inputs(port, blue(share), green(100 - share)))
            load.forget()
            eventually(lambda: load.answers.total() > 2000, "answers")
            answers = load.answers.copy()
            assert answers["r1"] / answers.total() == pytest.approx(share / 100, abs=0.02)
            # A header picks, whatever the weights.
            for name, revision in (("blue", "r1"), ("green", "r2")):
                picked = ask(port, "POST", "/score", b"1", {HEADER: name})
                assert (picked.status, picked.headers["slipway-revision"]) == (200, revision)
    assert load.failures == []
    unknown = ask(port, "POST", "/score", b"1", {HEADER: "red"})
    assert (unknown.status, list(json.loads(unknown.body))) == (404, ["message"])


def test_services_come_and_go_under_load_of_another(box: Box, port: int) -> None:
    box.serve("r1")
    Routed(box.inputs(port, box.deployment("blue", 100, "r1")))
    other_port = free_port()
    with SteadyLoad(port, connections=8) as load:
        for _ in range(3):
            other = Routed(box.inputs(other_port, box.deployment("blue", 100, "r1"), service="other"))
            assert ask(other_port, "POST", "/score", b"1").status == 200
            other.delete()
            with pytest.raises(ConnectionRefusedError):
                ask(other_port, "GET", "/")
        eventually(lambda: load.answers.total() > 100, "answers")
    assert load.failures == []


def test_structure_and_revision_change_together_under_load(box: Box, port: int) -> None:
    box.serve("r1", "r2")
    route = Routed(box.inputs(port, box.deployment("blue", 100, "r1")))
    with SteadyLoad(port, connections=8) as load:
        eventually(lambda: load.answers.total() > 100, "answers")
        # A longer timeout takes a reload; the connections of before must move as well.
        route.update(box.inputs(port, box.deployment("blue", 100, "r2"), scoringTimeoutMs=90_000))
        load.forget()
        eventually(lambda: load.answers.total() > 500, "answers")
        assert set(load.answers) == {"r2"}
    assert load.failures == []


def test_keys_and_certificate_are_rotated_under_load(box: Box, port: int, authority: Issued) -> None:
    box.serve("r1")
    blue, tls = box.deployment("blue", 100, "r1"), trusting(authority)
    first = {**certificate_of(authority), "primaryKey": "one", "secondaryKey": "stays"}
    route = Routed(box.inputs(port, blue, **first))
    shown = [shown_by(port, tls)]
    with SteadyLoad(port, connections=8, headers=bearer("stays"), tls=tls) as load:
        eventually(lambda: load.answers.total() > 100, "answers")
        for key in ("two", "three"):
            route.update(box.inputs(port, blue, **certificate_of(authority), primaryKey=key, secondaryKey="stays"))
            shown.append(shown_by(port, tls))
            assert ask(port, "POST", "/score", b"1", bearer(key), tls).status == 200
            assert ask(port, "POST", "/score", b"1", bearer("one"), tls).status == 403
        pids = workers(box)
    assert load.failures == []
    assert len(set(shown)) == 3
    assert len(pids) == 1, "a certificate took a reload"
    assert route.drift() is None


def test_a_revoked_key_is_refused_on_connections_that_are_open(box: Box, port: int) -> None:
    box.serve("r1")
    blue = box.deployment("blue", 100, "r1")
    route = Routed(box.inputs(port, blue, primaryKey="one"))
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as connection:
        assert exchange(connection, "one").startswith("HTTP/1.1 200")
        # A reload in between: the connection stays with the former process.
        route.update(box.inputs(port, blue, primaryKey="one", scoringTimeoutMs=90_000))
        route.update(box.inputs(port, blue, primaryKey="two", scoringTimeoutMs=90_000))
        assert exchange(connection, "one").startswith("HTTP/1.1 403")


def test_the_last_request_of_what_is_replaced_is_answered(box: Box, port: int) -> None:
    box.serve("r1", "r2")
    route = Routed(box.inputs(port, box.deployment("blue", 100, "r1")))
    answers: list[tuple[int, str, float]] = []

    def slow() -> None:
        found = ask(port, "POST", "/score", b'"sleep4"')
        answers.append((found.status, found.headers["slipway-revision"], time.monotonic()))

    request = threading.Thread(target=slow)
    request.start()
    eventually(lambda: "mnist,t" in busy(box), "the request")
    route.update(box.inputs(port, box.deployment("blue", 100, "r2")))
    returned = time.monotonic()
    request.join()
    ((status, revision, answered),) = answers
    assert (status, revision) == (200, "r1")
    # Which of the two hears of it first is chance.
    assert answered <= returned + 1, "the update did not wait for it"


def test_an_instance_that_is_stopped_is_bridged_by_the_others(box: Box, port: int) -> None:
    box.serve("r1", "r2")
    Routed(box.inputs(port, box.deployment("blue", 50, "r1"), box.deployment("green", 50, "r2")))
    with SteadyLoad(port, connections=8) as load:
        eventually(lambda: load.answers["r1"] > 50 and load.answers["r2"] > 50, "answers of both")
        box.docker.run("stop", f"{box.name}-r1")
        load.forget()
        eventually(lambda: load.answers.total() > 500, "answers")
        assert set(load.answers) == {"r2"}
        box.docker.run("start", f"{box.name}-r1")
        eventually(lambda: load.answers["r1"] > 50, "its return")
    assert load.failures == []


# -- what is asked of clients ----------------------------------------------------------------------------------------

REQUESTS = [
    (method, path, headers)
    for method, path in [
        *(("POST", path) for path in ("/score", "/v2/models/echo/infer")),
        *(("GET", path) for path in ("/score?x=1", "/swagger.json", "/v2/models/echo", "/v2/models/echo/ready")),
        *(("GET", path) for path in ("/", "/ready", "/v2", "/v2/health/live", "/v2/health/ready")),
        ("HEAD", "/"),
        ("OPTIONS", "/score"),
    ]
    for headers in (
        {},
        {"Authorization": "Bearer good"},
        {"Authorization": "bearer   good"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic Z29vZA=="},
        {"Authorization": "Bearer good good"},
    )
]


def test_keys_are_checked_as_the_scoring_server_does(box: Box, port: int) -> None:
    """Two ways to the same service: the router checks the keys, or the server itself does."""
    server = box.start("own", variables={"SLIPWAY_PRIMARY_KEY": "good"})
    box.serve("r1")
    eventually(lambda: "ready to score" in box.log(server), "the server")
    Routed(box.inputs(port, box.deployment("blue", 100, "r1"), primaryKey="good"))
    own_port = free_port()
    Routed(box.inputs(own_port, box.deployment("blue", 100, "own"), service="own"))
    for method, path, headers in REQUESTS:
        body = b"1" if method == "POST" else None
        routed, own = (ask(place, method, path, body, headers) for place in (port, own_port))
        what = (method, path, headers)
        assert (routed.status, routed.headers.get("www-authenticate")) == (
            own.status,
            own.headers.get("www-authenticate"),
        ), what
        if routed.status in (401, 403):
            assert routed.body == own.body, what
            assert routed.headers["content-type"] == own.headers["content-type"]
            assert routed.headers["x-request-id"]


@pytest.mark.parametrize(
    "path", ["//score", "/sc%6Fre", "/x/../score", "/ready/../score", "/SCORE", "/score/", "/nothing"]
)
def test_no_way_round_the_keys(box: Box, port: int, path: str) -> None:
    box.serve("r1")
    Routed(box.inputs(port, box.deployment("blue", 100, "r1"), primaryKey="good"))
    assert ask(port, "POST", path, b"1").status == 401
    assert ask(port, "POST", "/score", b"1", bearer("good")).status == 200


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ((), 401, MISSING),
        (("Authorization: Bearer wrong",), 403, WRONG),
        (("Authorization: Bearer good", f"{HEADER}: red"), 404, UNKNOWN_DEPLOYMENT),
    ],
)
def test_a_large_request_is_refused_and_not_cut_off(
    box: Box,
    port: int,
    authority: Issued,
    tmp_path: Path,
    version: str,
    headers: tuple[str, ...],
    status: int,
    message: str,
) -> None:
    box.serve("r1")
    Routed(box.inputs(port, box.deployment("blue", 100, "r1"), primaryKey="good", **certificate_of(authority)))
    (tmp_path / "ca.pem").write_text(authority.certificate)
    (tmp_path / "body").write_bytes(bytes(5_000_000))
    command = ["curl", "-sS", version, "--cacert", str(tmp_path / "ca.pem"), "--data-binary", f"@{tmp_path / 'body'}"]
    command += [argument for header in headers for argument in ("--header", header)]
    command += ["--write-out", "\n%{http_code} %{http_version}", f"https://127.0.0.1:{port}/score"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    body, _, told = done.stdout.rpartition("\n")
    assert json.loads(body) == {"message": message}
    assert told == f"{status} {'2' if version == '--http2' else '1.1'}"


def test_no_key_is_on_the_host(box: Box, port: int, authority: Issued) -> None:
    box.serve("r1")
    key = "a-key-that-is-easy-to-find"
    Routed(box.inputs(port, box.deployment("blue", 100, "r1"), primaryKey=key, **certificate_of(authority)))
    found = box.docker.attempt("exec", box.router, "grep", "-r", key, "/etc/slipway-router", "/run/router")
    assert found.stdout == ""
    digest = hashlib.sha256(key.encode()).hexdigest().upper()
    assert digest in box.docker.run("exec", box.router, "cat", "/etc/slipway-router/keys/mnist.acl")
    assert box.docker.run("exec", box.router, "ls", "-A", "/etc/slipway-router/incoming") == ""
    modes = box.docker.run("exec", box.router, "stat", "-c", "%a %u", "/etc/slipway-router/certificates/mnist.pem")
    assert modes == "660 65532"


# -- faults ----------------------------------------------------------------------------------------------------------


def test_a_port_of_another_program_is_told_and_nothing_is_lost(box: Box, port: int) -> None:
    box.serve("r1")
    blue = box.deployment("blue", 100, "r1")
    Routed(box.inputs(port, blue))
    with socket.create_server(("127.0.0.1", 0)) as taken, SteadyLoad(port, connections=8) as load:
        eventually(lambda: load.answers.total() > 100, "answers")
        number = taken.getsockname()[1]
        said = failure(box.inputs(number, blue, service="other"))
        assert f"the service other cannot have 127.0.0.1:{number}" in said
        assert "another program of the host listens on port" in said
        said = failure(box.inputs(port, blue, service="third"))
        assert f"the service mnist has the port {port}" in said
    assert load.failures == []


def test_an_address_that_cannot_be_listened_on_is_told_and_nobody_is_refused(box: Box, port: int) -> None:
    box.serve("r1")
    blue = box.deployment("blue", 100, "r1")
    Routed(box.inputs(port, blue))
    # Connections of their own: those that are open would not notice that HAProxy paused its listeners.
    with Connecting(port) as clients:
        said = failure(box.inputs(free_port(), blue, service="other") | {"bind": "192.0.2.1"})
        assert "the host has no address 192.0.2.1" in said
        said = failure(box.inputs(79, blue, service="other"))
        assert "sysctl net.ipv4.ip_unprivileged_port_start=79" in said
        third = Routed(box.inputs(free_port(), blue, service="third"))
        third.delete()
        eventually(lambda: clients.answers > 100, "answers")
    assert clients.failures == []


@pytest.mark.parametrize("calls", range(1, 9))
def test_an_update_that_is_ended_at_any_point_is_completed_by_the_next(
    box: Box, port: int, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    box.serve("r1", "r2")
    route = Routed(box.inputs(port, box.deployment("blue", 100, "r1")))
    wanted = box.inputs(port, box.deployment("blue", 50, "r1"), box.deployment("green", 50, "r2"), primaryKey="k")
    made, upload, attempt = [0], Router._upload, Router._attempt

    def ending(operation: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            made[0] += 1
            if made[0] == calls:
                raise KeyboardInterrupt
            return operation(*arguments, **named)

        return call

    with SteadyLoad(port, connections=2) as load:
        monkeypatch.setattr(Router, "_upload", ending(upload))
        monkeypatch.setattr(Router, "_attempt", ending(attempt))
        try:
            route.update(wanted)
        except KeyboardInterrupt:
            assert made[0] == calls
        monkeypatch.undo()
        route.update(wanted)
    assert [problem for problem in load.failures if problem != "status 401"] == []
    assert route.drift() is None
    assert ask(port, "POST", "/score", b"1", bearer("k")).status == 200


def test_what_was_changed_by_hand_is_found_and_mended(box: Box, port: int) -> None:
    box.serve("r1", "r2")
    inputs = box.inputs(port, box.deployment("blue", 60, "r1"), box.deployment("green", 40, "r2"), primaryKey="one")
    route = Routed(inputs)
    pid = worker(box)
    for command, words in [
        (f"set server mnist/{box.name}-r1 state maint", "is out of service in mnist"),
        (f"set server mnist/{box.name}-r2 weight 9", "has the weight 9 in mnist, not 2"),
        ("add acl /etc/slipway-router/keys/mnist.acl AAAA", "other keys are accepted"),
    ]:
        box.docker.run("exec", box.router, "sh", "-c", TALK, "-", f"@!{pid} {command}")
        assert words in str(route.drift())
        route.update(inputs)
        assert route.drift() is None
    box.docker.run("exec", box.router, "sh", "-c", "echo '# mine' >> /etc/slipway-router/services/mnist.cfg")
    assert "its file is another" in str(route.drift())
    route.update(inputs)
    assert route.drift() is None


TALK = (
    'echo "$1" | perl -MSocket -e \'my $s; socket($s, AF_UNIX, SOCK_STREAM, 0); '
    'connect($s, pack_sockaddr_un("/run/router/master.sock")) or die; '
    "local $/; syswrite($s, <STDIN>); shutdown($s, 1); print <$s>'"
)


def test_an_instance_that_comes_back_is_waited_for(box: Box, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    box.serve("r1", "r2")
    inputs = box.inputs(port, box.deployment("blue", 100, "r1"), box.deployment("green", 0, "r2"))
    route = Routed(inputs)
    for revision, words in [("r1", "GET /ready was answered with 503"), ("r2", "GET /ready, deployment green, was")]:
        name = f"{box.name}-{revision}"
        box.docker.run("stop", name)
        assert words in str(route.drift())
        with pytest.raises(ResourceError, match=words):
            route.update(inputs)
        box.docker.run("start", name)
        # The router takes it back at its next check, and the route does not end before. How long it loads is no matter.
        with monkeypatch.context() as patient:
            patient.setattr("provider.route._SETTLE_SECONDS", float(SECONDS))
            route.update(inputs)
        assert ask(port, "POST", "/score", b"1").status == 200
        assert route.drift() is None


def test_services_come_back_with_the_router(box: Box, port: int, authority: Issued) -> None:
    box.serve("r1")
    inputs = box.inputs(port, box.deployment("blue", 100, "r1"), primaryKey="one", **certificate_of(authority))
    route = Routed(inputs)
    box.docker.run("kill", box.router)
    assert route.drift() == f"the router {box.router} does not run"
    with pytest.raises(ResourceError, match="does not run on"):
        route.update(inputs)
    box.docker.run("start", box.router)
    eventually(box.router_lives, "the router")
    assert route.drift() is None
    assert ask(port, "POST", "/score", b"1", bearer("one"), trusting(authority)).status == 200
    # A new container on the same volumes, as Pulumi makes it when its image changes.
    box.docker.run("rm", "--force", box.router)
    box.start_router()
    assert route.drift() is None


def test_a_route_is_removed_by_its_own_resource_alone(box: Box, port: int) -> None:
    box.serve("r1")
    inputs = box.inputs(port, box.deployment("blue", 100, "r1"))
    first = Routed(inputs)
    second = Routed(inputs)
    first.delete()
    assert ask(port, "GET", "/ready").status == 200
    second.delete()
    second.delete()
    with pytest.raises(ConnectionRefusedError):
        ask(port, "GET", "/ready")
    # With the same structure as before, in a router that has run on since.
    third = Routed(inputs)
    assert third.drift() is None
    box.docker.run("stop", "--time=5", box.router)
    third.delete()
    box.docker.run("start", box.router)
    eventually(box.router_lives, "the router")
    with pytest.raises(ConnectionRefusedError):
        ask(port, "GET", "/ready")
    box.docker.run("rm", "--force", box.router)
    third.delete()


def test_many_routes_are_made_at_once(box: Box) -> None:
    box.serve("r1")
    places = [free_port() for _ in range(12)]
    blue = box.deployment("blue", 100, "r1")

    async def all_of_them() -> list[Routed]:
        made = (asyncio.to_thread(Routed, box.inputs(place, blue, service=f"s{place}")) for place in places)
        return await asyncio.gather(*made)

    for route in asyncio.run(all_of_them()):
        assert route.drift() is None
    assert [ask(place, "GET", "/ready").status for place in places] == [200] * 12


def test_metrics_are_inside_alone(box: Box, port: int) -> None:
    box.serve("r1")
    Routed(box.inputs(port, box.deployment("blue", 100, "r1")))
    assert ask(port, "POST", "/score", b"1").status == 200
    said = box.docker.run(
        *("exec", box.router, "perl", "-MSocket", "-e"),
        'my $s; socket($s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack_sockaddr_un("/run/router/metrics.sock")) or die;'
        'syswrite($s, "GET /metrics HTTP/1.0\\r\\n\\r\\n"); print <$s>',
    )
    assert 'haproxy_server_status{proxy="mnist"' in said
    listening = box.docker.run("exec", box.router, "sh", "-c", "ls /run/slipway")
    assert "master" not in listening


# -- helpers ---------------------------------------------------------------------------------------------------------


class Connecting:
    """Clients that open a connection for each request, until the block ends."""

    def __init__(self, port: int) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]

    def __enter__(self) -> Connecting:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                answer = ask(self._port, "GET", "/ready")
            except (OSError, HTTPException) as error:
                self.failures.append(repr(error))
                continue
            self.answers += 1
            if answer.status != 200:
                self.failures.append(f"status {answer.status}")


def shown_by(port: int, tls: ssl.SSLContext) -> bytes:
    """The certificate that a new connection is shown."""
    with (
        closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as plain,
        tls.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


def workers(box: Box) -> list[int]:
    """The router's processes that answer."""
    return [int(line.split()[2]) for line in box.told("facts", "mnist").splitlines() if line.startswith("%% worker")]


def worker(box: Box) -> int:
    """The only one of them, once the one of before the last reload has ended."""
    eventually(lambda: len(workers(box)) == 1, "a process is left alone")
    (pid,) = workers(box)
    return pid


def servers(box: Box, backend: str) -> dict[str, dict[str, str]]:
    """HAProxy's own statistics of each server."""
    shown = box.docker.run("exec", box.router, "sh", "-c", TALK, "-", f"@!{worker(box)} show stat")
    lines = csv.DictReader(shown.removeprefix("# ").splitlines())
    apart = ("FRONTEND", "BACKEND")
    return {line["svname"]: line for line in lines if line["pxname"] == backend and line["svname"] not in apart}


def busy(box: Box) -> str:
    """Lines `backend,server` of the servers that work on a request."""
    said = box.docker.run("exec", box.router, "sh", "-c", TALK, "-", "@1 show stat")
    fields = (line.split(",") for line in said.splitlines())
    return "\n".join(f"{item[0]},{item[1]}" for item in fields if len(item) > 5 and item[4] not in ("0", "scur", ""))


def exchange(connection: socket.socket, key: str) -> str:
    """The head of the answer to one request on an open connection."""
    connection.sendall(f"GET /swagger.json HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
    said = b""
    while b"\r\n\r\n" not in said:
        said += connection.recv(65536)
    head, _, rest = said.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(rest) < length:
        rest += connection.recv(65536)
    return head.decode()
