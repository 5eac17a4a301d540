"""Webhooks of a registry service: what a registry does arrives as CloudEvents, whoever is away or killed meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provider.registry.repository import RegistryRepository
from provider.registry_host.spec import Files
from tests.registry.receiver import Receiver
from tests.registry.registry_process import free_port
from tests.registry.service import Service, eventually, is_alive
from tests.registry.support import MANIFEST, MIB, content, manifest_of, put


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def hook(receiver: Receiver, name: str = "ci", **more: Any) -> dict[str, Any]:
    return {"name": name, "url": receiver.url, **more}


def push(repository: RegistryRepository, tag: str, seed: int) -> str:
    blob = content(1000, seed)
    put(repository, blob)
    return repository.put_manifest(tag, MANIFEST, manifest_of(blob))


def test_a_push_and_a_deletion_arrive_as_cloud_events(service: Service, receiver: Receiver, name: str) -> None:
    state = service.up(webhooks=[hook(receiver, headers={"Authorization": "Bearer of-the-user"})])
    repository = service.registry().repository(name)
    digest = push(repository, "1", 700)
    eventually(lambda: receiver.received, "the push was told")
    ((path, headers, event),) = receiver.received
    assert path == "/hook"
    assert headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert headers["Authorization"] == "Bearer of-the-user"
    assert event["specversion"] == "1.0"
    assert event["type"] == "Microsoft.ContainerRegistry.ImagePushed"
    assert event["source"] == f"http://{state['address']}"
    assert event["subject"] == f"{name}:1"
    size = len(manifest_of(content(1000, 700)))
    assert event["data"]["target"] == {
        "mediaType": MANIFEST,
        "size": size,
        "digest": digest,
        "length": size,
        "repository": name,
        "tag": "1",
    }
    assert event["data"]["request"]["host"] == state["address"]
    repository.delete_manifest(digest)
    eventually(lambda: len(receiver.received) == 3, "the deletion was told, and that of its tag")
    deleted = receiver.events[1:]
    assert {event["type"] for event in deleted} == {"Microsoft.ContainerRegistry.ImageDeleted"}
    by_subject = {event["subject"]: event["data"]["target"] for event in deleted}
    assert by_subject[name] == {"mediaType": MANIFEST, "digest": digest, "repository": name}
    assert by_subject[f"{name}:1"] == {"repository": name, "tag": "1"}
    assert len({event["id"] for event in receiver.events}) == 3


def test_blobs_are_not_told(service: Service, receiver: Receiver, name: str) -> None:
    service.up(webhooks=[hook(receiver)])
    repository, alone = service.registry().repository(name), content(1000, seed=710)
    put(repository, alone)
    push(repository, "1", 711)
    repository.delete_blob(alone.digest)
    push(repository, "2", 712)
    eventually(lambda: ("push", f"{name}:2") in receiver.told, "the last push was told")
    assert receiver.told == [("push", f"{name}:1"), ("push", f"{name}:2")]


def test_pulls_are_told_to_those_who_ask(service: Service, receiver: Receiver, name: str) -> None:
    service.up(webhooks=[hook(receiver, "pulls", actions=["pull"]), hook(receiver, "pushes", actions=["push"])])
    repository = service.registry().repository(name)
    push(repository, "1", 720)
    repository.get_manifest("1")
    eventually(lambda: len(receiver.received) == 2, "both were told")
    assert sorted(receiver.told) == [("pull", f"{name}:1"), ("push", f"{name}:1")]
    assert {event["type"] for event in receiver.events} >= {"slipway.registry.ImagePulled"}


def test_a_scope_keeps_others_out(service: Service, receiver: Receiver, name: str) -> None:
    service.up(webhooks=[hook(receiver, scope=f"{name}/models/*:prod*")])
    registry = service.registry()
    push(registry.repository(f"{name}/images/a"), "prod-1", 730)
    push(registry.repository(f"{name}/models/a"), "test-1", 730)
    push(registry.repository(f"{name}/models/a"), "prod-1", 730)
    eventually(lambda: receiver.received, "one was told")
    assert receiver.told == [("push", f"{name}/models/a:prod-1")]


def test_a_receiver_that_is_away_is_told_when_it_is_back(service: Service, name: str) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/hook"
    service.up(webhooks=[{"name": "ci", "url": url}])
    repository = service.registry().repository(name)
    push(repository, "1", 740)
    push(repository, "2", 741)
    eventually(lambda: "webhook ci: 127.0.0.1 cannot be reached" in service.log, "an attempt failed")
    with Receiver(port) as receiver:
        eventually(lambda: len(receiver.received) == 2, "both were told")
        assert receiver.told == [("push", f"{name}:1"), ("push", f"{name}:2")]


def test_events_outlive_the_processes(service: Service, name: str) -> None:
    """Neither the courier's nor the keeper's end, nor that of the machine, loses an event that was taken."""
    port = free_port()
    service.up(webhooks=[{"name": "ci", "url": f"http://127.0.0.1:{port}/hook"}])
    push(service.registry().repository(name), "1", 750)
    eventually(lambda: "cannot be reached" in service.log, "an attempt failed")
    courier = service.status()["courier"]
    os.kill(courier, signal.SIGKILL)
    eventually(lambda: service.status()["courier"] not in (None, courier), "another courier")
    push(service.registry().repository(name), "2", 751)
    status = service.status()
    eventually(lambda: _kept(service) == 2, "both are on disk")
    os.kill(status["keeper"], signal.SIGKILL)
    eventually(lambda: not is_alive(status["courier"]), "the courier ends with its keeper")
    service.refresh()
    service.up()
    with Receiver(port) as receiver:
        eventually(lambda: len(receiver.received) == 2, "both were told")
        assert sorted(receiver.told) == [("push", f"{name}:1"), ("push", f"{name}:2")]


def _kept(service: Service) -> int:
    import sqlite3

    database = sqlite3.connect(Files(service.folder).events)
    try:
        return int(database.execute("SELECT count(*) FROM deliveries").fetchone()[0])
    finally:
        database.close()


def test_webhooks_change_in_place_while_pushes_are_running(service: Service, receiver: Receiver, name: str) -> None:
    """Each push from when a webhook is there is told, whatever else changes."""
    service.up(webhooks=[hook(receiver)])
    repository, errors, pushed, stop = service.registry().repository(name), [], [], threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                push(repository, f"t{len(pushed)}", 760 + len(pushed))
            except BaseException as error:
                errors.append(error)
                return
            pushed.append(f"{name}:t{len(pushed)}")

    def more() -> bool:
        count = len(pushed)
        eventually(lambda: len(pushed) > count + 3 or errors, "the pushes go on")
        return not errors

    pusher = threading.Thread(target=work)
    pusher.start()
    with Receiver() as second:
        assert more()
        pid = service.status()["pid"]
        service.up(webhooks=[hook(receiver), hook(second, "second")])
        assert service.status()["pid"] == pid
        since = len(pushed)
        assert more()
        service.up(tier="Standard", quotaBytes=128 * MIB, cpus=1, memoryBytes=512 * MIB)
        assert more()
        stop.set()
        pusher.join()
        assert errors == []
        eventually(lambda: {subject for _, subject in receiver.told} >= set(pushed), "all were told to the first")
        eventually(lambda: {subject for _, subject in second.told} >= set(pushed[since + 1 :]), "and to the second")
        assert service.status()["pid"] != pid


def test_a_registry_whose_webhooks_went_tells_nobody(service: Service, receiver: Receiver, name: str) -> None:
    service.up(webhooks=[hook(receiver)])
    courier = service.status()["courier"]
    service.up(webhooks=None)
    assert not is_alive(courier)
    assert not Files(service.folder).events.exists()
    push(service.registry().repository(name), "1", 770)
    service.up(webhooks=[hook(receiver)])
    push(service.registry().repository(name), "2", 771)
    eventually(lambda: receiver.received, "the second was told")
    assert receiver.told == [("push", f"{name}:2")]


def test_what_a_refresh_finds_is_what_was_asked_for(service: Service, receiver: Receiver) -> None:
    service.up(webhooks=[hook(receiver), hook(receiver, "all", actions=["pull"], scope="a/*")])
    service.refresh()
    assert service.resource.diff(service.state, service.inputs) == []


def test_secrets_of_webhooks_are_in_no_log_and_no_process_list(service: Service, name: str) -> None:
    secret = "s3cr3t-of-the-receiver"
    url = f"http://127.0.0.1:{free_port()}/hook?code={secret}"
    service.up(webhooks=[{"name": "ci", "url": url, "headers": {"X-Key": secret}}])
    push(service.registry().repository(name), "1", 780)
    eventually(lambda: "cannot be reached" in service.log, "an attempt failed")
    assert secret not in service.log
    status = service.status()
    for pid in (status["keeper"], status["courier"], status["pid"]):
        for place in ("cmdline", "environ"):
            assert secret.encode() not in Path(f"/proc/{pid}/{place}").read_bytes()


def test_a_manifest_that_retention_removes_is_told(service: Service, receiver: Receiver, name: str) -> None:
    """With the schedule as it is: only the clock of what is stored is set back."""
    service.up(webhooks=[hook(receiver)], retentionDays=1)
    repository = service.registry().repository(name)
    digest = push(repository, "1", 790)
    push(repository, "1", 791)
    eventually(lambda: len(receiver.received) == 2, "the pushes were told")
    files = Files(service.folder)
    for path in files.data.rglob("*"):
        os.utime(path, (0, 0))
    os.utime(files.collected, (0, 0))
    os.kill(service.status()["keeper"], signal.SIGHUP)
    eventually(lambda: len(receiver.received) == 3, "the removal was told")
    event = receiver.events[-1]
    assert (event["type"], event["subject"]) == ("Microsoft.ContainerRegistry.ImageDeleted", name)
    assert event["data"]["target"] == {"mediaType": MANIFEST, "digest": digest, "repository": name}
    eventually(lambda: service.status()["state"] == "Serving", "it serves again")
    assert repository.find_manifest(digest) is None
    assert repository.tags() == ["1"]


# --- refused


def test_more_webhooks_than_the_tier_has_are_refused(service: Service, receiver: Receiver) -> None:
    webhooks = [hook(receiver, f"w{number}") for number in range(3)]
    (failure,) = service.failures(webhooks=webhooks, webhookLimit=2)
    assert (failure.property, failure.reason) == (
        "webhooks",
        "there are 3, and the tier has 2; remove some, or choose another tier",
    )
    assert service.failures(webhooks=webhooks, webhookLimit=10) == []
