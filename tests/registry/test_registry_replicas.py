"""A registry with replicas: any of them may be killed, and all of them changed, while pushes and pulls go on."""

from __future__ import annotations

import base64
import http.client
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from provider.certificates import issue, life
from provider.registry.client import Registry
from provider.registry.errors import RegistryFullError
from provider.registry_host.spec import Files
from tests.registry.receiver import Receiver
from tests.registry.registry_process import DEADLINE, free_port
from tests.registry.service import Service, eventually, is_alive
from tests.registry.support import MANIFEST, MIB, Content, content, manifest_of, put, read


@pytest.fixture
def replicated(service: Service) -> Service:
    service.inputs |= {"tier": "Premium", "quotaBytes": 512 * MIB, "cpus": 2, "memoryBytes": 1024 * MIB, "replicas": 2}
    return service


class Traffic:
    """Clients that push, each blob with a manifest of its own, and read back what they pushed."""

    def __init__(self, registry: Registry, name: str, size: int, seed: int) -> None:
        self.pushed: list[tuple[str, Content]] = []
        self.errors: list[BaseException] = []
        self._repository = registry.repository(name)
        self._size = size
        self._seeds = iter(range(seed, seed + 100_000))
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work) for _ in range(3)]

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                seed = next(self._seeds)
            blob, tag = content(self._size, seed), f"t{seed}"
            try:
                put(self._repository, blob)
                self._repository.put_manifest(tag, MANIFEST, manifest_of(blob))
                assert read(self._repository, blob.digest) == blob.data
            except BaseException as error:
                self.errors.append(error)
                return
            self.pushed.append((tag, blob))

    def go_on(self, more: int = 4) -> None:
        """Waits until that many more were pushed."""
        count = len(self.pushed)
        eventually(lambda: self.errors or len(self.pushed) >= count + more, "the pushes go on")
        assert self.errors == []

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def traffic(registry: Registry, name: str, size: int = 200_000, seed: int = 0) -> Iterator[Traffic]:
    """Pushes that go on meanwhile; afterwards none has failed, and all that was pushed is there."""
    going = Traffic(registry, name, size, seed)
    going.begin()
    try:
        going.go_on()
        yield going
    finally:
        going.end()
    assert going.errors == []
    repository = registry.repository(name)
    assert set(repository.tags()) >= {tag for tag, _ in going.pushed}
    for _, blob in going.pushed:
        assert read(repository, blob.digest) == blob.data


def ask_once(service: Service, name: str) -> None:
    """One request on a connection of its own. Raises where it is not answered."""
    credentials = base64.b64encode(f"{service.state['username']}:{service.state['password']}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", service.inputs["port"], timeout=60)
    try:
        headers = {"Authorization": f"Basic {credentials}", "Connection": "close"}
        connection.request("GET", f"/v2/{name}/tags/list", headers=headers)
        assert connection.getresponse().status in (200, 404)
    finally:
        connection.close()


def another(service: Service, place: int, pid: int) -> None:
    def found() -> bool:
        status = service.status()
        return status["replicas"][place] not in (None, pid) and status["state"] == "Serving"

    eventually(found, "another replica")


def test_two_registries_serve_the_same_data(replicated: Service, name: str) -> None:
    replicated.up()
    status = replicated.status()
    assert len({*status["replicas"], status["front"], status["keeper"]}) == 4
    assert all(is_alive(pid) for pid in (*status["replicas"], status["front"]))
    blob, repository = content(MIB, seed=800), replicated.registry().repository(name)
    put(repository, blob)
    for _ in range(4):  # a client's first connection goes to the registry that has the fewest
        assert read(replicated.registry().repository(name), blob.digest) == blob.data
    replicated.refresh()
    assert replicated.resource.diff(replicated.state, replicated.inputs) == []


def test_a_killed_replica_is_not_noticed_by_pushes_that_are_under_way(replicated: Service, name: str) -> None:
    replicated.up()
    with traffic(replicated.registry(), name, size=2 * MIB, seed=81_000) as going:
        for place in (0, 1, 0):
            pid = replicated.status()["replicas"][place]
            os.kill(pid, signal.SIGKILL)
            going.go_on()
            another(replicated, place, pid)


def test_an_upload_outlives_every_replica(replicated: Service, name: str) -> None:
    """One large upload: all registries are killed in its midst, and others take it up."""
    replicated.up()
    blob = content(48 * MIB, seed=820)
    reached, go_on = threading.Event(), threading.Event()

    class Slow:
        """Stops once a third was handed out, until the replicas are dealt with."""

        def __init__(self) -> None:
            self._at = 0

        def read(self, size: int = -1) -> bytes:
            if self._at >= blob.size // 3 and not go_on.is_set():
                reached.set()
                go_on.wait(DEADLINE)
            data = blob.data[self._at : self._at + min(size, MIB)]
            self._at += len(data)
            return data

        def seekable(self) -> bool:
            return True

        def seek(self, position: int, _: int = 0) -> int:
            self._at = position
            return position

        def tell(self) -> int:
            return self._at

        def close(self) -> None:
            pass

    errors: list[BaseException] = []
    repository = replicated.registry().repository(name)

    def push() -> None:
        try:
            repository.put_blob(blob.digest, blob.size, Slow)  # type: ignore[arg-type]
        except BaseException as error:
            errors.append(error)

    pusher = threading.Thread(target=push)
    pusher.start()
    assert reached.wait(DEADLINE)
    for pid in replicated.status()["replicas"]:
        os.kill(pid, signal.SIGKILL)
    go_on.set()
    pusher.join()
    assert errors == []
    assert read(repository, blob.digest) == blob.data


def test_a_front_that_was_killed_is_started_again_on_the_same_port(replicated: Service, name: str) -> None:
    replicated.up()
    with traffic(replicated.registry(), name, seed=83_000) as going:
        front = replicated.status()["front"]
        os.kill(front, signal.SIGKILL)
        going.go_on()
        # It serves before the keeper has written down which process it is.
        eventually(lambda: replicated.status()["front"] not in (None, front), "another front")


def test_a_keeper_that_was_killed_is_mended_by_refresh_and_up(replicated: Service, name: str) -> None:
    replicated.up()
    blob, status = content(1000, seed=840), replicated.status()
    put(replicated.registry().repository(name), blob)
    os.kill(status["keeper"], signal.SIGKILL)
    pids = [*status["replicas"], status["front"]]
    eventually(lambda: not any(map(is_alive, pids)), "all end with their keeper")
    found = replicated.refresh()
    assert found is not None
    assert found["state"] == "Stopped"
    replicated.up()
    assert read(replicated.registry().repository(name), blob.digest) == blob.data


def test_pushes_outlive_the_keeper(replicated: Service, name: str) -> None:
    """It takes all that it keeps with it; `up` brings it back, and the clients go on where they were."""
    replicated.up()
    with traffic(replicated.registry(), name, size=2 * MIB, seed=84_000) as going:
        os.kill(replicated.status()["keeper"], signal.SIGKILL)
        eventually(lambda: replicated.refresh() == {**replicated.state, "state": "Stopped"}, "its end is seen")
        replicated.up()
        going.go_on()


def test_replicas_come_and_go_in_place_while_pushes_are_running(service: Service, name: str) -> None:
    """The tiers up and down, Standard and Premium, with webhooks."""
    premium: dict[str, Any] = {"tier": "Premium", "quotaBytes": 512 * MIB, "cpus": 2, "memoryBytes": 1024 * MIB}
    standard: dict[str, Any] = {"tier": "Standard", "quotaBytes": 256 * MIB, "cpus": 1, "memoryBytes": 512 * MIB}
    with Receiver() as receiver:
        service.up(**standard, webhooks=[{"name": "ci", "url": receiver.url}])
        with traffic(service.registry(), name, seed=85_000) as going:
            service.up(**premium, replicas=2)
            assert len(service.status()["replicas"]) == 2
            going.go_on()
            service.up(**standard, replicas=None)
            assert len(service.status()["replicas"]) == 1
            assert service.status()["front"] is None
            going.go_on()
        expected = {f"{name}:{tag}" for tag, _ in going.pushed}
        eventually(lambda: {subject for _, subject in receiver.told} >= expected, "every push was told")


def test_a_change_rolls_through_the_replicas(replicated: Service, name: str) -> None:
    """One after the other: whoever connects meanwhile is served, without a second attempt."""
    replicated.up()
    before = replicated.status()["replicas"]
    refused: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                ask_once(replicated, name)
            except Exception as error:
                refused.append(repr(error))

    asking = threading.Thread(target=ask)
    with traffic(replicated.registry(), name, seed=86_000) as going:
        asking.start()
        replicated.up(memoryBytes=2048 * MIB)
        going.go_on()
        stop.set()
        asking.join()
    assert not set(before) & set(replicated.status()["replicas"])
    assert refused == []


def test_replicas_with_tls_and_a_renewed_certificate(replicated: Service, name: str) -> None:
    authority = issue.authority("Example", 100, life.now())

    def pair() -> dict[str, str]:
        made = issue.server(authority.certificate, authority.private_key, "r", ["127.0.0.1"], 30, life.now())
        return {"certificate": made.certificate, "privateKey": made.private_key}

    replicated.up(**pair())
    with traffic(replicated.registry(authority.certificate), name, seed=87_000) as going:
        replicated.up(**pair())
        going.go_on()


def test_what_one_replica_deletes_the_other_does_not_remember(replicated: Service, name: str) -> None:
    replicated.up()
    first, blob = replicated.registry().repository(name), content(1000, seed=880)
    for _ in range(4):
        put(first, blob)
        # Each client has a connection of its own, and so both replicas are asked.
        clients = [replicated.registry().repository(name) for _ in range(4)]
        assert all(client.has_blob(blob.digest) for client in clients)
        assert first.delete_blob(blob.digest)
        assert not any(client.has_blob(blob.digest) for client in clients)


def test_both_replicas_keep_to_the_quota(replicated: Service, name: str) -> None:
    replicated.up(quotaBytes=4 * MIB)
    clients = [replicated.registry().repository(name) for _ in range(4)]
    put(clients[0], content(MIB, seed=890))
    for number, client in enumerate(clients):
        with pytest.raises(RegistryFullError, match="has no room left"):
            put(client, content(8 * MIB, seed=891 + number))


def test_a_cleaning_is_bridged(replicated: Service, name: str) -> None:
    """The registries stand still for a moment; who comes then waits for them, and is not refused."""
    replicated.up()
    repository = replicated.registry().repository(name)
    dropped, kept = content(1000, seed=900), content(1000, seed=901)
    for blob in (dropped, kept):
        put(repository, blob)
    repository.put_manifest("1", MANIFEST, manifest_of(kept))
    files = Files(replicated.folder)
    for path in files.data.rglob("*"):
        os.utime(path, (0, 0))
    os.utime(files.collected, (0, 0))
    before = replicated.status()["replicas"]
    os.kill(replicated.status()["keeper"], signal.SIGHUP)

    def cleaned() -> bool:
        ask_once(replicated, name)
        status = replicated.status()
        return status["state"] == "Serving" and not set(before) & set(status["replicas"])

    eventually(cleaned, "it was cleaned")
    assert [repository.has_blob(blob.digest) for blob in (dropped, kept)] == [False, True]


def test_deleting_leaves_no_process_and_no_file(replicated: Service, name: str) -> None:
    replicated.up(webhooks=[{"name": "ci", "url": f"http://127.0.0.1:{free_port()}/"}])
    status = replicated.status()
    pids = [*status["replicas"], status["front"], status["courier"], status["keeper"]]
    assert all(map(is_alive, pids))
    replicated.down()
    assert not any(map(is_alive, pids))
    assert not replicated.folder.exists()


def test_a_port_can_be_changed(replicated: Service) -> None:
    replicated.up()
    replicated.up(port=free_port())
    replicated.registry().check()


@pytest.mark.parametrize("replicas", [0, 5])
def test_a_number_that_cannot_be_is_refused(replicated: Service, replicas: int) -> None:
    assert [failure.property for failure in replicated.failures(replicas=replicas)] == ["replicas"]
