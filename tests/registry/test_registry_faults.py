"""What may go wrong on the way to a registry and back."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from provider.content.errors import CancelledError
from provider.content.watch import Watch
from provider.registry import patience as patience_module
from provider.registry.answers import Answer
from provider.registry.client import Registry
from provider.registry.errors import (
    MissingBlobError,
    RegistryDeniedError,
    RegistryError,
    RegistryFullError,
    RegistryUnavailableError,
    RegistryUnsupportedError,
)
from provider.registry.patience import Attempts, Interrupted, Patience
from tests.registry.faulty_proxy import (
    FaultyProxy,
    Handler,
    answers,
    changes,
    cuts_download,
    cuts_upload,
    keeps_upload,
    loses_answer,
    stands_still,
)
from tests.registry.registry_process import RegistryProcess, free_port
from tests.registry.support import MANIFEST, MIB, QUICK, content, manifest_of, put, read

UPLOADS = "/blobs/uploads/"
# As CNCF Distribution 2.8 answered on a full tmpfs, once at the beginning of an upload, once within it.
FULL_AT_BEGIN = {
    "code": "UNKNOWN",
    "message": "unknown error",
    "detail": {"DriverName": "filesystem", "Enclosed": {"Op": "write", "Path": "/var/lib/registry/x", "Err": 28}},
}
FULL_WITHIN = {
    "code": "UNKNOWN",
    "message": "unknown error",
    "detail": "write /var/lib/registry/docker/registry/v2/repositories/a/_uploads/71/data: no space left on device",
}
# The words of Harbor's quota check.
QUOTA = {
    "code": "DENIED",
    "message": "adding 10.0 MiB of storage resource, which when updated to current usage of 95.0 MiB will exceed the "
    "configured upper limit of 100.0 MiB.",
}


def errors(*items: dict[str, Any]) -> bytes:
    return json.dumps({"errors": items}).encode()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
def test_an_upload_survives_a_registry_that_fails_for_a_while(
    registry: Registry, proxy: FaultyProxy, name: str, method: str, status: int
) -> None:
    fault = proxy.when(method, f"/v2/{name}/", answers(status), times=2)
    repository, blob = registry.repository(name), content(MIB, seed=1000 * ord(method[1]) + status)
    put(repository, blob)
    assert read(repository, blob.digest) == blob.data
    assert fault.met == 2


def test_a_registry_that_keeps_failing_is_named_with_what_it_said(
    registry: Registry, proxy: FaultyProxy, name: str
) -> None:
    said = errors({"code": "UNAVAILABLE", "message": "down for maintenance"})
    proxy.when("POST", UPLOADS, answers(503, said), times=100)
    blob = content(100, seed=200)
    with pytest.raises(
        RegistryUnavailableError,
        match=rf"could not upload the blob {blob.digest[:19]} \(100 bytes\) to {name}: the registry {proxy.address} "
        rf"answered 503 \(UNAVAILABLE: down for maintenance\) \(tried 4 times",
    ):
        put(registry.repository(name), blob)
    assert len(proxy.asked("POST")) == QUICK.attempts


def test_a_registry_that_is_away_is_named(name: str) -> None:
    registry = Registry(f"127.0.0.1:{free_port()}", patience=QUICK)
    with pytest.raises(
        RegistryUnavailableError, match=r"cannot be reached \(Connection refused\) .*check that it runs"
    ):
        registry.check()


def test_a_registry_whose_name_nobody_knows_is_named() -> None:
    registry = Registry("http://registry.invalid", patience=QUICK)
    with pytest.raises(RegistryUnavailableError, match=r"the registry registry\.invalid cannot be reached"):
        registry.check()


def test_an_upload_waits_for_a_registry_that_starts_again(tmp_path: Path, name: str) -> None:
    process = RegistryProcess(tmp_path)
    patient = Patience(attempts=2400, first_pause=0.05, longest_pause=0.1)
    try:
        process.start()
        repository, blob = Registry(process.address, patience=patient).repository(name), content(MIB, seed=201)
        process.stop()
        upload = threading.Thread(target=put, args=(repository, blob))
        upload.start()
        process.start()
        upload.join()
        assert read(repository, blob.digest) == blob.data
    finally:
        process.stop()


def test_a_registry_that_does_not_answer_is_given_up(proxy: FaultyProxy, name: str) -> None:
    hasty = Patience(attempts=2, first_pause=0.01, answer=0.1)
    proxy.when("HEAD", "/", stands_still, times=2)
    with pytest.raises(RegistryUnavailableError, match=r"did not answer within 0\.1 s \(tried 2 times"):
        Registry(proxy.address, patience=hasty).repository(name).has_blob(content(1).digest)


def test_a_slow_answer_is_asked_for_again(proxy: FaultyProxy, name: str) -> None:
    proxy.when("GET", "/manifests/", stands_still)
    hasty = Patience(attempts=3, first_pause=0.01, answer=5.0)  # the second answer has to come in that
    assert Registry(proxy.address, patience=hasty).repository(name).get_manifest("1") is None
    assert len(proxy.asked("GET")) == 2


def test_something_else_than_a_registry_is_told(proxy: FaultyProxy) -> None:
    proxy.when("GET", "/v2/", answers(404, b"<html>"))
    with pytest.raises(RegistryError, match="answered 404; check that the address is that of a registry"):
        Registry(proxy.address, patience=QUICK).check()


def test_an_endless_document_is_not_read(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    proxy.when("GET", "/manifests/", answers(200, b" " * (5 * MIB)))
    with pytest.raises(RegistryError, match="with more than 4194304 bytes"):
        registry.repository(name).get_manifest("1")


# --- connections that break


@pytest.mark.parametrize("after", [0, 1, 700_000])
def test_an_upload_that_was_cut_begins_anew(registry: Registry, proxy: FaultyProxy, name: str, after: int) -> None:
    proxy.when("PUT", UPLOADS, cuts_upload(after), times=2)
    repository, blob = registry.repository(name), content(4 * MIB, seed=210 + after)
    put(repository, blob)
    assert read(repository, blob.digest) == blob.data


def test_an_upload_that_is_refused_before_it_is_read_is_sent_again(
    registry: Registry, proxy: FaultyProxy, name: str
) -> None:
    def refuse(handler: Handler) -> None:
        handler.send_response_only(503)
        handler.send_header("Connection", "close")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        handler.close_connection = True

    proxy.when("PUT", UPLOADS, refuse, times=2)
    repository, blob = registry.repository(name), content(8 * MIB, seed=213)
    put(repository, blob)
    assert read(repository, blob.digest) == blob.data


def test_an_upload_that_was_cut_half_way_to_the_registry_itself_begins_anew(
    registry: Registry, proxy: FaultyProxy, name: str
) -> None:
    def half(handler: Handler) -> None:
        with socket.create_connection(("127.0.0.1", handler.proxy.upstream)) as connection:
            head = "".join(f"{key}: {value}\r\n" for key, value in handler.headers.items())
            connection.sendall(f"PUT {handler.path} HTTP/1.1\r\n{head}\r\n".encode() + handler.body(MIB))
        handler.cut()

    proxy.when("PUT", UPLOADS, half)
    repository, blob = registry.repository(name), content(4 * MIB, seed=214)
    put(repository, blob)
    assert read(repository, blob.digest) == blob.data


def test_an_upload_goes_on_where_the_registry_stopped_receiving(
    registry: Registry, proxy: FaultyProxy, name: str
) -> None:
    proxy.when("PUT", UPLOADS, keeps_upload(3 * MIB))
    proxy.when("PATCH", UPLOADS, keeps_upload(2 * MIB))
    repository, blob = registry.repository(name), content(8 * MIB, seed=215)
    put(repository, blob)
    sent = [item.received for item in (*proxy.asked("PUT"), *proxy.asked("PATCH"))]
    assert sorted(sent) == sorted([3 * MIB, 0, 2 * MIB, 3 * MIB])
    assert read(repository, blob.digest) == blob.data


def test_an_upload_that_keeps_moving_is_not_given_up(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    proxy.when("PUT", UPLOADS, keeps_upload(MIB))
    proxy.when("PATCH", UPLOADS, keeps_upload(MIB), times=2 * QUICK.attempts)
    repository, blob = registry.repository(name), content(12 * MIB, seed=216)
    put(repository, blob)
    assert read(repository, blob.digest) == blob.data


def test_an_upload_that_is_cut_again_and_again_is_given_up(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    proxy.when("PUT", UPLOADS, cuts_upload(1000), times=100)
    repository, blob = registry.repository(name), content(MIB, seed=217)
    with pytest.raises(RegistryUnavailableError, match=r"closed the connection \(tried 4 times"):
        put(repository, blob)
    assert not repository.has_blob(blob.digest)


def test_an_upload_whose_answer_was_lost_is_not_sent_again(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    proxy.when("PUT", UPLOADS, loses_answer)
    repository, blob = registry.repository(name), content(MIB, seed=218)
    put(repository, blob)
    assert len(proxy.asked("PUT")) == 1


def test_an_upload_that_the_registry_forgot_begins_anew(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    proxy.when("PUT", UPLOADS, answers(404, errors({"code": "BLOB_UPLOAD_UNKNOWN", "message": "unknown upload"})))
    repository, blob = registry.repository(name), content(MIB, seed=219)
    put(repository, blob)
    assert repository.has_blob(blob.digest)


def test_a_piece_that_was_cut_is_made_good(proxy: FaultyProxy, name: str) -> None:
    proxy.when("PATCH", UPLOADS, cuts_upload(1000), times=2)
    repository, blob = Registry(proxy.address, patience=QUICK, piece_bytes=MIB).repository(name), content(3 * MIB, 220)
    put(repository, blob)
    assert read(repository, blob.digest) == blob.data


@pytest.mark.parametrize("after", [0, 1, 2_500_000])
def test_a_download_that_was_cut_goes_on(registry: Registry, proxy: FaultyProxy, name: str, after: int) -> None:
    repository, blob = registry.repository(name), content(4 * MIB, seed=221)
    put(repository, blob)
    proxy.when("GET", "/blobs/sha256", cuts_download(after))
    assert read(repository, blob.digest) == blob.data


def test_a_download_goes_on_at_a_registry_that_knows_no_ranges(
    registry: Registry, proxy: FaultyProxy, name: str
) -> None:
    repository, blob = registry.repository(name), content(4 * MIB, seed=222)
    put(repository, blob)
    proxy.when("GET", "/blobs/sha256", cuts_download(2 * MIB + 5))
    proxy.when("GET", "/blobs/sha256", answers(200, blob.data))
    assert read(repository, blob.digest) == blob.data


def test_a_download_that_is_cut_again_and_again_is_given_up(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    repository, blob = registry.repository(name), content(MIB, seed=223)
    put(repository, blob)
    proxy.when("GET", "/blobs/sha256", cuts_download(0), times=100)
    with repository.open_blob(blob.digest) as file, pytest.raises(RegistryUnavailableError, match="closed the connect"):
        file.read()


def test_a_manifest_whose_answer_was_cut_is_stored_all_the_same(
    registry: Registry, proxy: FaultyProxy, name: str
) -> None:
    repository, blob = registry.repository(name), content(100, seed=224)
    put(repository, blob)
    proxy.when("PUT", "/manifests/", loses_answer)
    digest = repository.put_manifest("1", MANIFEST, manifest_of(blob))
    assert repository.get_manifest(digest) is not None


# --- no room, no right


@pytest.mark.parametrize("said", [FULL_AT_BEGIN, FULL_WITHIN])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_full_disk_is_told_at_once(
    registry: Registry, proxy: FaultyProxy, name: str, method: str, said: dict[str, Any]
) -> None:
    fault = proxy.when(method, UPLOADS, answers(500, errors(said)), times=100)
    blob = content(1000, seed=230)
    with pytest.raises(RegistryFullError, match=r"\(1000 bytes\).*has no room left.*free space"):
        put(registry.repository(name), blob)
    assert fault.met == 1


@pytest.mark.parametrize("status", [403, 412])
def test_a_used_up_quota_is_told_with_its_figures(
    registry: Registry, proxy: FaultyProxy, name: str, status: int
) -> None:
    proxy.when("PUT", "/manifests/", answers(status, errors(QUOTA)))
    with pytest.raises(RegistryFullError, match=r"usage of 95\.0 MiB .* upper limit of 100\.0 MiB"):
        registry.repository(name).put_manifest("1", MANIFEST, b"{}")


def test_a_disk_that_takes_no_more_is_told_by_a_real_registry(tmp_path: Path, name: str) -> None:
    process = RegistryProcess(tmp_path, limit=f"--fsize={MIB}")
    try:
        process.start()
        repository, blob = Registry(process.address, patience=QUICK).repository(name), content(4 * MIB, seed=231)
        with pytest.raises(RegistryFullError, match=r"\(4194304 bytes\).*has no room left"):
            put(repository, blob)
        assert not repository.has_blob(blob.digest)
    finally:
        process.stop()


def test_a_right_that_is_missing_is_told(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    said = errors({"code": "DENIED", "message": "requested access to the resource is denied"})
    proxy.when("POST", UPLOADS, answers(403, said))
    with pytest.raises(RegistryDeniedError, match=r"does not allow it without credentials: 403 \(DENIED: requested"):
        put(registry.repository(name), content(10, seed=232))


def test_a_registry_that_deletes_nothing_is_told(tmp_path: Path, name: str) -> None:
    process = RegistryProcess(tmp_path, {"storage": {"delete": {"enabled": False}}})
    try:
        process.start()
        repository, blob = Registry(process.address, patience=QUICK).repository(name), content(10, seed=233)
        put(repository, blob)
        with pytest.raises(RegistryUnsupportedError, match=r"storage\.delete\.enabled"):
            repository.delete_blob(blob.digest)
    finally:
        process.stop()


def test_a_proxy_that_takes_no_piece_either_is_told(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    proxy.when("PUT", UPLOADS, answers(413))
    proxy.when("PATCH", UPLOADS, answers(413))
    with pytest.raises(RegistryUnsupportedError, match="takes no request of this size"):
        put(registry.repository(name), content(1000, seed=234))


def test_a_registry_that_sends_in_circles_is_told(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    blob = content(10, seed=235)
    path = f"/v2/{name}/blobs/{blob.digest}"
    proxy.when("GET", path, answers(307, Location=path), times=100)
    with pytest.raises(RegistryError, match="sends in circles"):
        read(registry.repository(name), blob.digest)


def test_an_upload_that_leads_nowhere_is_told(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    def nowhere(headers: dict[str, str], body: bytes) -> bytes:
        del headers["Location"]
        return body

    proxy.when("POST", UPLOADS, changes(nowhere))
    with pytest.raises(RegistryError, match="does not say where to"):
        put(registry.repository(name), content(10, seed=236))


def test_a_blob_that_vanishes_while_it_is_read_is_told(registry: Registry, proxy: FaultyProxy, name: str) -> None:
    repository, blob = registry.repository(name), content(4 * MIB, seed=237)
    put(repository, blob)
    proxy.when("GET", "/blobs/sha256", cuts_download(MIB))
    proxy.when("GET", "/blobs/sha256", answers(404))
    with repository.open_blob(blob.digest) as file, pytest.raises(MissingBlobError):
        file.read()


# --- how long is waited


class Clock:
    """Stands in for the clock of `patience`: sleeping takes no time and is counted."""

    def __init__(self) -> None:
        self.slept = 0.0

    def monotonic(self) -> float:
        return self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience_module, "time", clock)
    return clock


def attempts(watch: Watch | None = None) -> Attempts:
    return Attempts(Patience(), watch or Watch(), "registry.example", "do it")


def test_a_wish_of_the_registry_is_granted(clock: Clock) -> None:
    attempts().pause(Interrupted("answered 429", 7.0))
    assert clock.slept == pytest.approx(7.0)


def test_a_wish_of_no_time_is_granted_too(clock: Clock) -> None:
    attempts().pause(Interrupted("answered 429", 0.0))
    assert clock.slept == 0


def test_a_registry_that_wishes_for_too_much_is_given_up(clock: Clock) -> None:
    with pytest.raises(RegistryUnavailableError, match="asks to wait for 3600 s"):
        attempts().pause(Interrupted("answered 429", 3600.0))
    assert clock.slept == 0


def test_pauses_grow_to_a_limit(clock: Clock) -> None:
    count, before, pauses = attempts(), 0.0, []
    for _ in range(Patience().attempts - 1):
        count.pause(Interrupted("closed the connection"))
        pauses.append(clock.slept - before)
        before = clock.slept
    assert all(0.125 * 2**n - 1e-6 <= pause <= 0.25 * 2**n + 1e-6 for n, pause in enumerate(pauses))
    with pytest.raises(RegistryUnavailableError, match="tried 6 times"):
        count.pause(Interrupted("closed the connection"))


def test_waiting_can_be_cancelled(clock: Clock) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(CancelledError, match="waiting for the registry"):
        attempts(Watch(cancelled=cancelled)).pause(Interrupted("answered 429", 60.0))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "12"}, 12.0),
        ({"Retry-After": "soon"}, None),
        # Our own clock has no say: the registry's may be years off.
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:27:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT"}, None),
    ],
)
def test_what_retry_after_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert Answer(429, headers, b"").seconds_to_wait() == seconds
