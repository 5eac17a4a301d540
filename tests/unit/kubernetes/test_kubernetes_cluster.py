"""What is said where a cluster cannot be asked, and what is tried again. Against a stand-in for the API server."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provider.kubernetes import cluster as connecting
from provider.kubernetes.cluster import (
    ApiError,
    AwayError,
    Cluster,
    ClusterError,
    ForbiddenError,
    LoginError,
    check_cluster,
    path_in,
)
from provider.kubernetes.command import execute
from provider.kubernetes.kubeconfig import find
from provider.resource import Failure
from provider.values import UNKNOWN
from tests.certificates import Authority
from tests.ports import free_port
from tests.unit.kubernetes.api_server import Answer, ApiServer, items, refusal, serving, write_kubeconfig

PODS = "/api/v1/namespaces/models/pods"


@pytest.fixture
def cluster(api: ApiServer, tmp_path: Path) -> Cluster:
    return Cluster(find(str(api.kubeconfig(tmp_path)), None))


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "_PAUSE_SECONDS", 0.01)


def told(error: type[ClusterError], cluster: Cluster) -> str:
    with pytest.raises(error) as raised:
        cluster.items(PODS)
    return str(raised.value)


def test_objects_are_read_with_the_kubeconfigs_token(api: ApiServer, cluster: Cluster) -> None:
    api.answers[PODS] = items({"kind": "Pod"})
    assert cluster.items(PODS, [("labelSelector", "app=a b")]) == [{"kind": "Pod"}]
    assert api.asked == [f"GET {PODS}?labelSelector=app%3Da+b"]
    assert api.headers[0]["authorization"] == "Bearer let-me-in"


def test_what_is_missing_is_none_and_may_be_deleted(cluster: Cluster) -> None:
    assert cluster.find(f"{PODS}/gone") is None
    cluster.delete(f"{PODS}/gone")


def test_nobody_listens(tmp_path: Path) -> None:
    port = free_port()
    kubeconfig = write_kubeconfig(tmp_path / "config", f"http://127.0.0.1:{port}")
    said = told(AwayError, Cluster(find(str(kubeconfig), None)))
    assert said == (
        f"the cluster at http://127.0.0.1:{port} does not answer: Connection refused. Is it running, can this machine "
        f"reach it, and is it the right one (the context 'one' of {kubeconfig})?"
    )


def test_a_right_that_is_missing_is_named(api: ApiServer, cluster: Cluster) -> None:
    said = 'pods is forbidden: User "ann" cannot list resource "pods" in API group "" in the namespace "models"'
    api.answers[PODS] = refusal(403, said, "Forbidden")
    assert told(ForbiddenError, cluster) == (
        f"ann has no right to list pods in the namespace models of the cluster at {api.address}. Grant it the verb "
        'list on pods: see "Rights that are needed" in docs/kubernetes.md'
    )


def test_credentials_that_have_expired(api: ApiServer, cluster: Cluster) -> None:
    api.answers[PODS] = refusal(401, "Unauthorized")
    said = told(LoginError, cluster)
    assert "does not accept the credentials of the context 'one'" in said
    assert "they have expired, or are those of another cluster. Log in again" in said


def test_what_is_no_api_server(api: ApiServer, cluster: Cluster) -> None:
    api.answers[PODS] = 404, "<html>nothing here</html>"
    said = told(ApiError, cluster)
    assert f"what answers at {api.address} is no API server of Kubernetes: <html>nothing here</html>" in said


def test_other_refusals_are_shown_as_they_are(api: ApiServer, cluster: Cluster) -> None:
    api.answers[PODS] = refusal(422, "spec is invalid")
    assert told(ApiError, cluster) == f"the cluster at {api.address} refused GET {PODS}: spec is invalid"


def test_an_authority_that_is_no_certificate(tmp_path: Path) -> None:
    authority = {"certificate-authority-data": "bm90aGluZw=="}
    kubeconfig = write_kubeconfig(tmp_path / "config", "https://127.0.0.1:1", cluster=authority)
    assert "the certificates of the context 'one'" in told(ClusterError, Cluster(find(str(kubeconfig), None)))


def with_a_certificate(folder: Path) -> Path:
    """A kubeconfig whose user shows a certificate; in `folder`, which has that of the server too."""
    server, client = (Authority().write(folder / one, *names) for one, names in (("server", ["here"]), ("client", [])))
    inline = {
        f"{name}-data": base64.b64encode((client / file).read_bytes()).decode()
        for name, file in (("client-certificate", "cert.pem"), ("client-key", "key.pem"))
    }
    authority = {"certificate-authority": str(server / "ca.pem"), "tls-server-name": "here"}
    return write_kubeconfig(folder / "config", "https://127.0.0.1:1", cluster=authority, **inline)


def test_the_users_certificate_is_shown(tmp_path: Path) -> None:
    cluster = Cluster(find(str(with_a_certificate(tmp_path)), None))
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(tmp_path / "server/cert.pem", tmp_path / "server/key.pem")
    accepting.load_verify_locations(tmp_path / "client/ca.pem")
    accepting.verify_mode = ssl.CERT_REQUIRED
    here, there = socket.socketpair()
    here.settimeout(60)
    there.settimeout(60)
    shown: list[Any] = []

    def accept() -> None:
        with accepting.wrap_socket(there, server_side=True) as connection:
            shown.append(connection.getpeercert())
            connection.sendall(b"hello")

    thread = threading.Thread(target=accept)
    thread.start()
    with cluster.tls(cluster.access.login()).wrap_socket(here, server_hostname="here") as connection:
        assert connection.recv(5) == b"hello"
    thread.join()
    assert shown[0]["subject"] == ((("commonName", "client"),),)


KILLED = """
import os, ssl, sys
from provider.kubernetes.cluster import Cluster
from provider.kubernetes.kubeconfig import find
ssl.SSLContext.load_cert_chain = lambda *_: os.kill(os.getpid(), 9)
Cluster(find(sys.argv[1], None)).session()
"""


def test_a_process_that_is_killed_leaves_no_private_key(tmp_path: Path) -> None:
    kubeconfig, temporary = with_a_certificate(tmp_path), tmp_path / "temporary"
    temporary.mkdir()

    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(kubeconfig)], env={**os.environ, "TMPDIR": str(temporary)}, check=False
    )

    assert done.returncode == -9
    assert list(temporary.iterdir()) == []


def test_a_proxy_is_asked_to_pass_on_what_is_asked(api: ApiServer, tmp_path: Path) -> None:
    way = api.address.replace("//", "//bob:p%40ss@")
    kubeconfig = write_kubeconfig(tmp_path / "config", "http://cluster.test", cluster={"proxy-url": way})
    api.answers[f"http://cluster.test{PODS}"] = items({"kind": "Pod"})
    assert Cluster(find(str(kubeconfig), None)).items(PODS) == [{"kind": "Pod"}]
    assert api.headers[0]["proxy-authorization"] == "Basic Ym9iOnBAc3M="


def test_a_proxy_of_another_kind_is_not_understood(tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "config", "http://cluster.test", cluster={"proxy-url": "socks5://a:1"})
    assert "is reached by http or https, not socks5" in told(ClusterError, Cluster(find(str(kubeconfig), None)))


# -- the API server starts again ---------------------------------------------------------------------------------------


def in_turn(*answers: Answer) -> Iterator[Answer]:
    yield from answers
    while True:
        yield answers[-1]


def test_a_busy_server_that_has_answered_before_is_asked_again(api: ApiServer, cluster: Cluster) -> None:
    turns = in_turn(items(), refusal(503, "starting"), refusal(429, "too many requests"), items({"kind": "Pod"}))
    api.answers[PODS] = lambda: next(turns)
    assert cluster.items(PODS) == []
    assert cluster.items(PODS) == [{"kind": "Pod"}]
    assert len(api.asked) == 4


@pytest.mark.parametrize(
    "said",
    [
        "etcdserver: request timed out",
        "rpc error: code = Unavailable desc = error reading from server: EOF",
        "context deadline exceeded",
    ],
)
def test_a_server_whose_store_is_slow_is_asked_again(api: ApiServer, cluster: Cluster, said: str) -> None:
    turns = in_turn(items(), refusal(500, said), items({"kind": "Pod"}))
    api.answers[PODS] = lambda: next(turns)
    assert cluster.items(PODS) == []
    assert cluster.items(PODS) == [{"kind": "Pod"}]


def test_a_failure_of_the_server_itself_is_told(api: ApiServer, cluster: Cluster) -> None:
    said = 'Internal error occurred: failed calling webhook "a.example": context deadline exceeded'
    turns = in_turn(items(), refusal(500, said))
    api.answers[PODS] = lambda: next(turns)
    cluster.items(PODS)
    assert said in told(ApiError, cluster)


def test_a_command_is_run_again_where_the_server_is_starting(api: ApiServer, cluster: Cluster) -> None:
    api.answers[PODS] = items()
    cluster.items(PODS)
    turns = in_turn(refusal(503, "starting"), refusal(404, "pods a not found"))
    api.answers[f"{PODS}/a/exec"] = lambda: next(turns)
    with pytest.raises(ApiError, match="no command can be run in the pod a: pods a not found"):
        execute(cluster, "models", "a", "server", ["true"])


def test_a_server_that_never_answered_is_not_waited_for(api: ApiServer, cluster: Cluster) -> None:
    api.answers[PODS] = refusal(503, "starting")
    assert "is busy or starting: starting" in told(AwayError, cluster)
    assert len(api.asked) == 1


def test_a_server_that_went_away_and_comes_back_on_its_port(tmp_path: Path) -> None:
    port = free_port()
    with serving(port) as first:
        first.answers[PODS] = items()
        asking = Cluster(find(str(first.kubeconfig(tmp_path)), None))
        assert asking.items(PODS) == []
    with serving(port) as second:
        second.answers[PODS] = items({"kind": "Pod"})
        assert asking.items(PODS) == [{"kind": "Pod"}]


def test_a_server_that_stays_away_is_told_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "_PATIENCE_SECONDS", 0.1)
    with serving(free_port()) as server:
        server.answers[PODS] = items()
        asking = Cluster(find(str(server.kubeconfig(tmp_path)), None))
        asking.items(PODS)
    assert "does not answer: Connection refused" in told(AwayError, asking)


def test_rights_that_a_starting_server_has_not_read_yet(api: ApiServer, cluster: Cluster) -> None:
    denied = refusal(403, 'User "ann" cannot list resource "pods"')
    turns = in_turn(items(), refusal(503, "starting"), denied, items({"kind": "Pod"}))
    api.answers[PODS] = lambda: next(turns)
    cluster.items(PODS)
    assert cluster.items(PODS) == [{"kind": "Pod"}]


# -- what is passed on -------------------------------------------------------------------------------------------------


def test_an_answer_of_the_server_in_the_pod_is_given_as_it_is(api: ApiServer, cluster: Cluster) -> None:
    path = f"{path_in('models', 'pods', 'a:5001', 'proxy')}/ready"
    api.answers[path] = 503, {"status": "starting"}
    assert cluster.passed_on(path, 5).status == 503


def test_a_refusal_of_the_api_server_to_pass_on_is_an_error(api: ApiServer, cluster: Cluster) -> None:
    path = f"{path_in('models', 'pods', 'a:5001', 'proxy')}/ready"
    api.answers[path] = refusal(403, 'User "ann" cannot get resource "pods/proxy"')
    with pytest.raises(ForbiddenError, match="ann has no right to get pods/proxy"):
        cluster.passed_on(path, 5)


@pytest.mark.parametrize(
    ("spec", "failures"),
    [
        ({}, []),
        ({"kubeconfig": UNKNOWN, "context": "prod"}, []),
        (UNKNOWN, []),
        ({"host": "x"}, [Failure("cluster.host", "is not known; a cluster has kubeconfig and context")]),
        ({"context": 3}, [Failure("cluster.context", "must be a name, not 3")]),
        ({"kubeconfig": ""}, [Failure("cluster.kubeconfig", "must be a path, not ''")]),
    ],
)
def test_the_connection_is_checked(spec: object, failures: list[Failure]) -> None:
    assert check_cluster(spec) == failures
