"""A registry service with TLS: reached from other machines, and given another certificate while it is used."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import stat
import threading
from datetime import timedelta
from typing import Any

import pytest

from provider.certificates import issue, life
from provider.certificates.issue import Issued
from provider.registry.errors import RegistryError
from provider.registry_host.spec import Files
from provider.values import UNKNOWN
from tests.registry.registry_process import free_port
from tests.registry.service import Service, context, eventually, is_alive, run
from tests.registry.support import content, put, read

NAMES = ("127.0.0.1", "::1", "localhost", "registry.example")


@pytest.fixture(scope="module")
def authority() -> Issued:
    return issue.authority("Example", 100, life.now())


@pytest.fixture(scope="module")
def pair(authority: Issued) -> dict[str, str]:
    return issued(authority)


def issued(authority: Issued, *names: str) -> dict[str, str]:
    made = issue.server(authority.certificate, authority.private_key, "registry", names or NAMES, 30, life.now())
    return {"certificate": made.certificate, "privateKey": made.private_key}


def served(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port))


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0"])
def test_it_speaks_tls_where_it_listens(
    service: Service, authority: Issued, pair: dict[str, str], name: str, bind: str
) -> None:
    host = {"0.0.0.0": "localhost"}.get(bind)
    state = service.up(bind=bind, host=host, **pair)
    assert state["address"] == f"https://{host or bind}:{service.inputs['port']}"
    registry, blob = service.registry(authority.certificate), content(1000, seed=600)
    put(registry.repository(name), blob)
    assert read(registry.repository(name), blob.digest) == blob.data
    service.refresh()
    assert service.resource.diff(service.state, service.inputs) == []


def test_who_does_not_trust_the_authority_is_told(service: Service, pair: dict[str, str]) -> None:
    service.up(**pair)
    with pytest.raises(RegistryError, match="do not agree on TLS"):
        service.registry().check()


@pytest.mark.parametrize(("days", "words"), [(-40, "certificate has expired"), (1, "certificate is not yet valid")])
def test_a_certificate_out_of_its_time_is_told_with_a_word_about_the_clock(
    service: Service, authority: Issued, pair: dict[str, str], days: int, words: str
) -> None:
    """As a client sees it whose clock is wrong, or a registry that was never refreshed."""
    at = life.now() + timedelta(days=days)
    other = issue.authority("Example", 100, at, authority.private_key)
    made = issue.server(other.certificate, other.private_key, "registry", NAMES, 30, at)
    service.up(**pair)
    files = Files(service.folder)
    files.certificate.write_text(made.certificate)
    files.private_key.write_text(made.private_key)
    killed = service.status()["pid"]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: service.status()["pid"] not in (None, killed) and _serves(service), "another one serves")
    with pytest.raises(RegistryError, match=rf"{words}.*; renew its certificate, or set this machine's clock right"):
        service.registry(authority.certificate).check()


def _serves(service: Service) -> bool:
    """By the word of its keeper, which has asked it: clients that come too early leave sockets open in Python's ssl."""
    return bool(service.status()["state"] == "Serving")


def test_old_versions_of_tls_are_refused(service: Service, pair: dict[str, str]) -> None:
    service.up(**pair)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", service.inputs["port"])) as plain, pytest.raises(OSError):
        old.wrap_socket(plain)


def test_its_key_lies_in_a_file_of_the_owner_alone(service: Service, pair: dict[str, str]) -> None:
    service.up(**pair)
    assert stat.S_IMODE(Files(service.folder).private_key.stat().st_mode) == 0o600
    assert "PRIVATE KEY" not in Files(service.folder).spec.read_text() + service.log


def test_another_certificate_comes_in_place_while_pushes_are_running(
    service: Service, authority: Issued, pair: dict[str, str], name: str
) -> None:
    service.up(**pair)
    repository, stop, errors = service.registry(authority.certificate).repository(name), threading.Event(), []
    pushed = []

    def push() -> None:
        while not stop.is_set():
            blob = content(100_000, seed=610 + len(pushed))
            try:
                put(repository, blob)
            except BaseException as error:
                errors.append(error)
                return
            pushed.append(blob)

    pusher = threading.Thread(target=push)
    pusher.start()
    eventually(lambda: len(pushed) > 2 or errors, "the pushes have begun")
    renewed = issued(authority)
    service.up(**renewed)
    count = len(pushed)
    eventually(lambda: len(pushed) > count + 2 or errors, "the pushes go on")
    stop.set()
    pusher.join()
    assert errors == []
    assert served(service.inputs["port"]) == renewed["certificate"]
    for blob in pushed:
        assert read(repository, blob.digest) == blob.data


def test_tls_comes_and_goes_in_place(service: Service, authority: Issued, pair: dict[str, str], name: str) -> None:
    service.up()
    blob = content(1000, seed=620)
    put(service.registry().repository(name), blob)
    service.up(**pair)
    assert read(service.registry(authority.certificate).repository(name), blob.digest) == blob.data
    service.up(certificate=None, privateKey=None)
    assert read(service.registry().repository(name), blob.digest) == blob.data
    assert not Files(service.folder).private_key.exists()


def test_a_certificate_that_was_taken_away_is_brought_back(service: Service, pair: dict[str, str]) -> None:
    service.up(**pair)
    Files(service.folder).private_key.unlink()
    service.refresh()
    assert {change.path for change in service.resource.diff(service.state, service.inputs)} == {
        "certificate",
        "privateKey",
    }
    service.up()
    assert served(service.inputs["port"]) == pair["certificate"]


def test_a_keeper_that_was_killed_comes_back_with_tls(
    service: Service, authority: Issued, pair: dict[str, str]
) -> None:
    service.up(**pair)
    status = service.status()
    os.kill(status["keeper"], signal.SIGKILL)
    eventually(lambda: not is_alive(status["pid"]), "the registry ends with its keeper")
    service.refresh()
    service.up()
    service.registry(authority.certificate).check()


@pytest.mark.parametrize(
    ("changed", "address"),
    [
        ({"bind": "::1"}, "https://[::1]:5000"),
        ({"bind": "0.0.0.0", "host": "registry.example"}, "registry.example:5000"),
        ({"bind": "192.0.2.1"}, "192.0.2.1:5000"),
        ({"bind": UNKNOWN}, UNKNOWN),
    ],
)
def test_its_address_is_known_in_a_preview(service: Service, changed: dict[str, Any], address: object) -> None:
    inputs = {**service.inputs, "port": 5000, "certificate": "PEM", "privateKey": "PEM", **changed}
    assert run(service.resource.create(context(preview=True), inputs))[1]["address"] == address


# --- refused


def failures(service: Service, **changed: object) -> list[tuple[str, str]]:
    return [(failure.property, failure.reason) for failure in service.failures(**changed)]


@pytest.mark.parametrize("bind", ["0.0.0.0", "192.0.2.1", "::"])
def test_it_does_not_listen_beyond_loopback_without_tls(service: Service, bind: str) -> None:
    ((name, reason),) = failures(service, bind=bind, host="registry.example")
    assert name == "bind"
    assert f"{bind} is reached from other machines" in reason
    assert "give certificate and privateKey" in reason


def test_half_of_a_pair_is_refused(service: Service, pair: dict[str, str]) -> None:
    assert failures(service, certificate=pair["certificate"]) == [
        ("privateKey", "is required with certificate: TLS needs both")
    ]
    assert failures(service, privateKey=pair["privateKey"])[0][0] == "certificate"


def test_every_address_needs_a_name_for_clients(service: Service, pair: dict[str, str]) -> None:
    ((name, reason),) = failures(service, bind="0.0.0.0", **pair)
    assert (name, reason.startswith("is required where bind is 0.0.0.0")) == ("host", True)


@pytest.mark.parametrize("host", ["registry.example:5000", "https://registry.example", "a b", ""])
def test_a_host_is_a_name_alone(service: Service, pair: dict[str, str], host: str) -> None:
    assert [name for name, _ in failures(service, host=host, **pair)] == ["host"]


def test_a_certificate_for_another_name_is_refused(service: Service, authority: Issued) -> None:
    ((name, reason),) = failures(service, **issued(authority, "other.example"))
    assert (name, "is not for 127.0.0.1: it has other.example" in reason) == ("certificate", True)


def test_a_certificate_that_expired_is_refused(service: Service, authority: Issued) -> None:
    before = life.now() - timedelta(days=40)
    old = issue.authority("Example", 100, before, authority.private_key)
    made = issue.server(old.certificate, old.private_key, "registry", NAMES, 30, before)
    ((name, reason),) = failures(service, certificate=made.certificate, privateKey=made.private_key)
    assert (name, reason.startswith("expired at")) == ("certificate", True)


def test_an_address_of_another_machine_is_refused(service: Service, authority: Issued) -> None:
    ((name, reason),) = failures(service, bind="192.0.2.1", **issued(authority, "192.0.2.1"))
    assert (name, "is no address of this machine" in reason) == ("bind", True)


def test_what_is_no_address_is_refused(service: Service) -> None:
    assert failures(service, bind="eth0")[0][0] == "bind"


def test_what_is_not_known_yet_is_not_judged(service: Service) -> None:
    assert failures(service, bind="0.0.0.0", host="x", port=free_port(), certificate=UNKNOWN, privateKey=UNKNOWN) == []
    assert json.dumps(failures(service, certificate=UNKNOWN, privateKey=UNKNOWN)) == "[]"
