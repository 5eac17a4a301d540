"""Connections to a port of a pod through an API server, and a registry that is reached so. Against stand-ins."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provider.content.watch import Watch
from provider.kubernetes.cluster import ApiError, AwayError, Cluster, ForbiddenError
from provider.kubernetes.forward import connect
from provider.kubernetes.kubeconfig import find
from provider.location import Location, way_problems
from provider.registry import forwarded
from provider.registry.errors import RegistryDeniedError, RegistryUnavailableError
from provider.registry.patience import Patience
from tests.unit.kubernetes.api_server import ApiServer, refusal, write_kubeconfig

POD = "/api/v1/namespaces/demo-registry/pods/slipway-registry-0/portforward"
SET = "/apis/apps/v1/namespaces/demo-registry/statefulsets/slipway-registry"


class Forwarder:
    """An API server that takes one connection to a port, and lets a test be the pod."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.head = ""

    def accept(self) -> None:
        """Makes the connection, and names the port on both channels."""
        self._connection, _ = self._server.accept()
        while "\r\n\r\n" not in self.head:
            self.head += self._connection.recv(4096).decode()
        key = self.head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        # As RFC 6455 has it: no secret depends on it.
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
        accepted = base64.b64encode(digest)
        self._connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\nSec-WebSocket-Accept: " + accepted + b"\r\n\r\n"
        )
        for channel in (0, 1):
            self.send(bytes([channel]) + struct.pack("<H", 5000))

    def send(self, message: bytes) -> None:
        self._connection.sendall(bytes([0x82, len(message)]) + message)

    def read(self) -> bytes:
        """The next message."""
        head = self._connection.recv(2, socket.MSG_WAITALL)
        if len(head) < 2:
            return b""
        mask = self._connection.recv(4, socket.MSG_WAITALL)
        masked = self._connection.recv(head[1] & 0x7F, socket.MSG_WAITALL)
        return bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))

    def close(self) -> None:
        self._server.close()
        if hasattr(self, "_connection"):
            self._connection.close()


@pytest.fixture
def forwarder() -> Iterator[Forwarder]:
    server = Forwarder()
    yield server
    server.close()


@pytest.fixture
def connection(forwarder: Forwarder, tmp_path: Path) -> Iterator[socket.socket]:
    cluster = Cluster(find(str(write_kubeconfig(tmp_path / "kubeconfig", forwarder.address)), None))
    accepting = threading.Thread(target=forwarder.accept)
    accepting.start()
    with connect(cluster, "demo-registry", "slipway-registry-0", 5000) as made:
        accepting.join()
        yield made


@pytest.fixture
def way(api: ApiServer, tmp_path: Path) -> dict[str, Any]:
    return {
        "cluster": {"kubeconfig": str(api.kubeconfig(tmp_path))},
        "namespace": "demo-registry",
        "statefulSet": "slipway-registry",
        "port": 5000,
    }


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarded, "PATIENCE", Patience(attempts=2, first_pause=0.01))


def test_bytes_go_both_ways(forwarder: Forwarder, connection: socket.socket) -> None:
    connection.sendall(b"ping")
    assert forwarder.read() == b"\0ping", "on the channel of the data"
    forwarder.send(b"\0pong")
    assert connection.recv(100) == b"pong"
    assert forwarder.head.startswith(f"GET {POD}?ports=5000 HTTP/1.1\r\n")
    assert "Bearer let-me-in" in forwarder.head


def test_what_went_wrong_in_the_pod_ends_the_connection(forwarder: Forwarder, connection: socket.socket) -> None:
    forwarder.send(b"\1connection refused")
    assert connection.recv(100) == b""


def test_closing_it_here_closes_it_there(forwarder: Forwarder, connection: socket.socket) -> None:
    connection.close()
    assert forwarder.read() == b""


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (refusal(404, 'pods "a" not found'), ApiError, 'the pod a cannot be reached: pods "a" not found'),
        (
            refusal(403, 'User "ann" cannot create resource "pods/portforward"'),
            ForbiddenError,
            "Grant the verbs get and create on pods/portforward",
        ),
        (refusal(503, "starting"), AwayError, "the pod a cannot be reached now: starting"),
    ],
)
def test_a_refusal_says_what_to_do(
    api: ApiServer, tmp_path: Path, answer: Any, error: type[Exception], said: str
) -> None:
    api.answers["/api/v1/namespaces/models/pods/a/portforward"] = answer
    with pytest.raises(error, match=said):
        connect(Cluster(find(str(api.kubeconfig(tmp_path)), None)), "models", "a", 5000)


def test_a_registry_whose_pod_is_away_is_waited_for(api: ApiServer, way: dict[str, Any]) -> None:
    api.answers[SET] = 200, {"kind": "StatefulSet"}
    api.answers[POD] = refusal(404, 'pods "slipway-registry-0" not found')

    with pytest.raises(RegistryUnavailableError) as raised:
        Location("127.0.0.1:30500", port_forward=way).registry(Watch()).check()

    assert "the registry 127.0.0.1:30500 has no pod that answers" in str(raised.value)
    assert 'pods "slipway-registry-0" not found' in str(raised.value)
    assert api.asked.count(f"GET {POD}?ports=5000") == 2


def test_a_registry_that_is_not_there_is_not_waited_for(api: ApiServer, way: dict[str, Any]) -> None:
    location = Location("127.0.0.1:30500", port_forward=way)
    said = "the cluster has no registry slipway-registry in the namespace demo-registry"

    with pytest.raises(RegistryUnavailableError, match=said):
        location.registry(Watch()).check()

    assert api.asked.count(f"GET {POD}?ports=5000") == 1
    assert location.gone(Watch()) == said


def test_a_registry_that_nobody_may_ask_about_is_not_gone(api: ApiServer, way: dict[str, Any]) -> None:
    api.answers[SET] = refusal(403, 'User "ann" cannot get resource "statefulsets"')
    api.answers[POD] = refusal(403, 'User "ann" cannot create resource "pods/portforward"')
    location = Location("127.0.0.1:30500", port_forward=way)

    assert location.gone(Watch()) is None
    with pytest.raises(RegistryDeniedError, match="the registry in the cluster cannot be reached: ports of the pods"):
        location.registry(Watch()).check()


def test_the_input_that_says_the_way_is_checked(way: dict[str, Any]) -> None:
    assert way_problems({"portForward": way}) == []
    assert way_problems({}) == []
    wrong = {**way, "cluster": {"name": "a"}, "pod": "b"}
    del wrong["port"]

    assert [(item.property, item.reason) for item in way_problems({"portForward": wrong})] == [
        ("portForward.pod", "is not known; known are cluster, namespace, statefulSet, port"),
        ("portForward.port", "is required"),
        ("portForward.cluster.name", "is not known; a cluster has kubeconfig and context"),
    ]
