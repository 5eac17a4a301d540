"""Keys and certificates: who gets in, and how both change without a restart."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
from pathlib import Path

import pytest
import trustme

from tests.unit.serving.conftest import Serve
from tests.unit.serving.support import DEADLINE, ECHO, Answer, Serving, exchange, wait_for

ENVIRON = "import os\ndef init(): pass\ndef run(data): return sorted(os.environ)\n"


def ask(server: Serving, key: str | None, path: str = "/score", method: str = "POST") -> Answer:
    return server.ask(method, path, "x", {} if key is None else {"Authorization": key})


def test_either_key_is_good_and_nothing_else(serve: Serve) -> None:
    server = serve(ECHO, env={"SLIPWAY_PRIMARY_KEY": "first", "SLIPWAY_SECONDARY_KEY": "second"})
    for good in ("Bearer first", "Bearer second", "bearer first", "Bearer  first "):
        assert ask(server, good).status == 200
    for wrong in ("Bearer third", "Bearer firs", "Bearer first second", "Bearer \xe4"):
        answer = ask(server, wrong)
        assert (answer.status, answer.json()["message"]) == (403, "The key is not one of this service's.")
    for none in (None, "", "Bearer", "Basic Zmlyc3Q=", "first"):
        answer = ask(server, none)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "first" not in server.log
    assert "third" not in server.log


def test_what_is_open_without_a_key(serve: Serve) -> None:
    server = serve(ECHO, env={"SLIPWAY_PRIMARY_KEY": "first"})
    for path in ("/", "/ready", "/metrics", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/service/ready"):
        assert ask(server, None, path, "GET").status == 200, path
    for path in ("/score", "/swagger.json", "/v2/models/service", "/v2/models/nothing"):
        assert ask(server, None, path, "GET").status == 401, path
    refused = ask(server, "Bearer no", "/v2/models/service/infer")
    assert (refused.status, refused.json()["error"]) == (403, "The key is not one of this service's.")
    assert ask(server, None, "/score", "OPTIONS").status == 200


def test_the_script_does_not_see_the_keys(serve: Serve) -> None:
    server = serve(ENVIRON, env={"SLIPWAY_PRIMARY_KEY": "first", "SLIPWAY_SECONDARY_KEY": "second"})
    assert not [name for name in ask(server, "Bearer first").json() if name.endswith("_KEY")]


@pytest.mark.parametrize("content", ['{"primary": "one", "secondary": "two"}', "one\ntwo\n", '{"secondary": "one"}'])
def test_keys_from_a_file(serve: Serve, tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    server = serve(ECHO, "--keys-file", str(path))
    assert ask(server, "Bearer one").status == 200
    assert ask(server, None).status == 401


def test_keys_are_rotated_without_a_restart(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("old\n")
    server = serve(ECHO, "--keys-file", str(path))
    path.write_text("{broken")
    wait_for(lambda: "the former keys stay good" in server.log, "the notice")
    assert ask(server, "Bearer old").status == 200
    path.write_text("old\nnew\n")
    wait_for(lambda: ask(server, "Bearer new").status == 200, "the new key")
    assert ask(server, "Bearer old").status == 200
    path.write_text("new\n")
    wait_for(lambda: ask(server, "Bearer old").status == 403, "the end of the old key")
    assert ask(server, "Bearer new").status == 200


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "there is no key in it"),
        ("a\nb\nc", "more than two keys"),
        ('{"primary": "with space"}', "printable ASCII without spaces"),
        ('{"tertiary": "a"}', "'tertiary'; known are primary and secondary"),
        ("{secret", "starts as JSON and is none"),
    ],
)
def test_a_keys_file_that_is_none_stops_the_start(serve: Serve, tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    server = serve(ECHO, "--keys-file", str(path), wait=False)
    assert server.wait_exit() == 2
    assert words in server.log
    assert "secret" not in server.log


def write_certificate(authority: trustme.CA, directory: Path) -> list[str]:
    issued = authority.issue_cert("127.0.0.1")
    key, certificate = directory / "key.pem", directory / "cert.pem"
    issued.private_key_pem.write_to_path(key)
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    return ["--tls-certificate", str(certificate), "--tls-key", str(key)]


def fingerprint(server: Serving, authority: trustme.CA) -> str:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=DEADLINE)
    try:
        answer = exchange(connection, "POST", "/score", "x" * 100_000)
        assert (answer.status, len(answer.json())) == (200, 100_000)
        assert isinstance(connection.sock, ssl.SSLSocket)
        return hashlib.sha256(connection.sock.getpeercert(binary_form=True) or b"").hexdigest()
    finally:
        connection.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_tls_and_a_renewed_certificate(serve: Serve, tmp_path: Path, workers: str) -> None:
    authority = trustme.CA()
    options = write_certificate(authority, tmp_path)
    server = serve(ECHO, *options, "--workers", workers)
    assert "listening on https://" in server.log
    first = fingerprint(server, authority)
    write_certificate(authority, tmp_path)
    wait_for(lambda: fingerprint(server, authority) != first, "the renewed certificate")


def test_plain_http_on_a_tls_port_harms_no_one(serve: Serve, tmp_path: Path) -> None:
    authority = trustme.CA()
    server = serve(ECHO, *write_certificate(authority, tmp_path))
    assert server.raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").startswith(b"HTTP/1.1") is False
    assert fingerprint(server, authority)


def test_wrong_tls_settings_stop_the_start(serve: Serve, tmp_path: Path) -> None:
    options = write_certificate(trustme.CA(), tmp_path)
    half = serve(ECHO, *options[:2], wait=False)
    assert half.wait_exit() == 2
    assert "TLS needs both" in half.log
    Path(options[1]).write_text(json.dumps("no certificate"))
    broken = serve(ECHO, *options, wait=False)
    assert broken.wait_exit() == 2
    assert "cannot be used" in broken.log
