"""The way to several registries: bytes pass unchanged, a dead registry is passed by, a missing one is waited for."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from provider.registry_host import front
from provider.registry_host.front import Front

DEADLINE = 180.0


class Echo:
    """Stands for a registry: says its name, sends back what it is sent, until the client is done."""

    def __init__(self, path: Path, name: bytes) -> None:
        self.served = 0
        self._path, self._name = path, name
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        threading.Thread(target=self._run).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.served += 1
            self._open.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(self._name)
            while data := connection.recv(65536):
                connection.sendall(data)

    def die(self) -> None:
        """As a killed process does: connections end, and nobody takes new ones."""
        for one in (self._listening, *self._open):
            with contextlib.suppress(OSError):  # its thread has closed it
                one.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(DEADLINE)


class Served:
    """A front in this process."""

    def __init__(self, folder: Path) -> None:
        self.sockets = [folder / "replica-0.sock", folder / "replica-1.sock"]
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.listening.setblocking(False)
        self._ending, self._told = socket.socketpair()
        self._echoes: list[Echo] = []
        self.thread = threading.Thread(
            target=Front(self.listening, [str(path) for path in self.sockets]).run, args=(self._ending,)
        )
        self.thread.start()

    def registry(self, place: int, name: bytes) -> Echo:
        self._echoes.append(Echo(self.sockets[place], name))
        return self._echoes[-1]

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.settimeout(DEADLINE)
        return connection

    def end(self) -> None:
        self._told.send(b"\0")
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()
        for echo in self._echoes:
            echo.die()
        self._ending.close()
        self._told.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.end()


def said(connection: socket.socket, size: int = 1) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(65536)
        if not more:
            break
        data += more
    return data


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def test_bytes_pass_both_ways_unchanged(served: Served) -> None:
    served.registry(0, b"a")
    data = random.Random(1).randbytes(16 * 2**20)  # noqa: S311
    with served.connect() as connection:
        assert said(connection) == b"a"
        back = hashlib.sha256()

        def read() -> None:
            while more := connection.recv(2**20):
                back.update(more)

        reading = threading.Thread(target=read)
        reading.start()
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        reading.join()
    assert back.digest() == hashlib.sha256(data).digest()


def test_connections_go_to_the_registry_that_has_the_fewest(served: Served) -> None:
    first, second = served.registry(0, b"a"), served.registry(1, b"b")
    connections = [served.connect() for _ in range(6)]
    assert sorted(said(connection) for connection in connections) == [b"a", b"a", b"a", b"b", b"b", b"b"]
    assert (first.served, second.served) == (3, 3)
    for connection in connections:
        connection.close()


def test_a_registry_that_died_is_passed_by(served: Served) -> None:
    first, second = served.registry(0, b"a"), served.registry(1, b"b")
    with served.connect() as one, served.connect() as other:
        assert {said(one), said(other)} == {b"a", b"b"}
        first.die()
        # Its own connection ends, the other goes on.
        ends = [connection for connection in (one, other) if _ends(connection)]
        assert len(ends) == 1
        for _ in range(4):
            with served.connect() as later:
                assert said(later) == b"b"
    assert second.served == 5


def _ends(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"x")
        return said(connection) == b""
    except ConnectionError:
        return True


def test_a_client_waits_for_a_registry_that_is_just_being_started(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(b"early")
        eventually(lambda: served.thread.is_alive(), "the front runs")
        served.registry(1, b"b")
        assert said(connection, 6) == b"bearly"


def test_a_client_is_let_go_where_no_registry_comes(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "_PATIENCE_SECONDS", 0.1)
    with served.connect() as connection:
        assert said(connection) == b""


def test_a_client_that_goes_takes_its_connection_with_it(served: Served) -> None:
    served.registry(0, b"a")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with served.connect() as connection:
            assert said(connection) == b"a"
    eventually(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before, "every descriptor is closed")


def test_more_than_it_takes_wait(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "_MOST_CONNECTIONS", 2)
    (tmp_path / "narrow").mkdir()
    narrow = Served(tmp_path / "narrow")
    narrow.registry(0, b"a")
    connections = [narrow.connect() for _ in range(3)]
    assert [said(connection) for connection in connections[:2]] == [b"a", b"a"]
    connections[2].settimeout(0.2)
    with pytest.raises(TimeoutError):
        connections[2].recv(1)
    connections[0].close()
    connections[2].settimeout(DEADLINE)
    assert said(connections[2]) == b"a"
    for connection in connections:
        connection.close()
    narrow.end()


def test_one_that_ends_carries_what_is_there_to_its_end(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.registry(0, b"a")
    connection = served.connect()
    assert said(connection) == b"a"
    ending = threading.Thread(target=served.end)
    ending.start()
    eventually(lambda: served.listening.fileno() == -1, "it takes nobody any more")
    connection.sendall(b"still")
    assert said(connection, 5) == b"still"
    connection.close()
    ending.join(DEADLINE)
    assert not ending.is_alive()
