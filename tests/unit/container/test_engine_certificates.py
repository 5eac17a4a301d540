"""Certificates for an engine at tcp://: what is wrong with the files, and what a refusal says."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from provider.container.engine import Engine, EngineError
from provider.container.tls import mistakes
from tests.certificates import Authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def test_a_good_folder(authority: Authority, tmp_path: Path) -> None:
    assert mistakes(authority.write(tmp_path)) == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cert.pem", b"no", "cert.pem is no certificate"),
        ("key.pem", b"no", "key.pem is no private key"),
        ("ca.pem", b"no", "ca.pem is no certificate"),
        ("ca.pem", b"\xff", "ca.pem cannot be read: it is no text"),
    ],
)
def test_a_file_that_is_not_what_it_should_be(
    authority: Authority, tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (authority.write(tmp_path) / name).write_bytes(content)
    (mistake,) = mistakes(tmp_path)
    assert words in mistake


def test_a_key_of_another_certificate(authority: Authority, tmp_path: Path) -> None:
    one, other = authority.write(tmp_path / "one"), authority.write(tmp_path / "other")
    (one / "key.pem").write_bytes((other / "key.pem").read_bytes())
    (mistake,) = mistakes(one)
    assert mistake.startswith(f"{one / 'key.pem'} does not belong to the certificate")


@contextlib.contextmanager
def listening(context: ssl.SSLContext) -> Iterator[str]:
    """The address of a server that makes TLS connections, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    accepted = server.accept()[0]
                except OSError:
                    return
                with contextlib.suppress(OSError), accepted, context.wrap_socket(accepted, server_side=True):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def said(server: Path, client: Path) -> str:
    """What is said of an engine with the certificates of `server` to a client with those of `client`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server / "cert.pem", server / "key.pem")
    context.load_verify_locations(server / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with listening(context) as host, pytest.raises(EngineError) as raised:
        Engine(host, str(client))
    assert f"the Docker engine at {host} cannot be used: " in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "ends", "words"),
    [
        ("127.0.0.1", -timedelta(days=1), "its certificate is not accepted: certificate has expired"),
        ("192.0.2.1", timedelta(days=1), "its certificate is not accepted: IP address mismatch"),
    ],
)
def test_an_engine_with_a_wrong_certificate(
    authority: Authority, tmp_path: Path, name: str, ends: timedelta, words: str
) -> None:
    server = authority.write(tmp_path / "server", name, ends=ends)
    assert words in said(server, authority.write(tmp_path / "client"))


def test_an_engine_and_a_client_of_other_authorities(authority: Authority, tmp_path: Path) -> None:
    server, client = authority.write(tmp_path / "server", "127.0.0.1"), Authority("Other").write(tmp_path / "client")
    assert "its certificate is not accepted: self-signed certificate in certificate chain" in said(server, client)
    (client / "ca.pem").write_bytes((server / "ca.pem").read_bytes())
    assert "refuses the certificate in cert.pem" in said(server, client)
