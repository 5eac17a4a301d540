"""Who is let in: anybody, a user with a password, whoever has a token; over TLS, and without telling the secret."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from provider.registry.address import Address, parse
from provider.registry.auth import IDENTITY_USERS, Challenge, Credentials, challenges
from provider.registry.client import Registry
from provider.registry.errors import RegistryDeniedError, RegistryError, RegistryUnavailableError
from tests.registry.faulty_proxy import FaultyProxy, answers
from tests.registry.registry_process import RegistryProcess
from tests.registry.support import MANIFEST, QUICK, content, manifest_of, put, read
from tests.registry.token_server import TokenServer

PASSWORD = "correct horse"
USER = Credentials("deployer", PASSWORD)
# bcrypt of PASSWORD, of the least cost
HTPASSWD = "deployer:$2b$04$2Gm2D99LKgJ61YUXk585GeOa9oHW0pBvt0.VF7TKi8eXqYBS6c/Zy\n"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """A registry with one user."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "htpasswd").write_text(HTPASSWD)
    section = {"auth": {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}}
    process = RegistryProcess(folder, section)
    try:
        process.start()
        yield process
    finally:
        process.stop()


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    """A token server with one user."""
    with TokenServer(tmp_path, (USER.username, USER.password)) as server:
        yield server


@pytest.fixture
def tokened(tokens: TokenServer, tmp_path: Path) -> Iterator[RegistryProcess]:
    """A registry that believes the token server."""
    process = RegistryProcess(tmp_path, tokens.registry_section())
    try:
        process.start()
        yield process
    finally:
        process.stop()


# --- a password


def test_a_user_with_the_right_password_is_let_in(guarded: RegistryProcess, name: str) -> None:
    registry, blob = Registry(guarded.address, USER, patience=QUICK), content(1000, seed=300)
    registry.check()
    put(registry.repository(name), blob)
    assert read(registry.repository(name), blob.digest) == blob.data


def test_a_wrong_password_is_told_with_the_user_and_without_the_password(guarded: RegistryProcess) -> None:
    registry = Registry(guarded.address, Credentials("deployer", "s3cret-wrong"), patience=QUICK)
    with pytest.raises(
        RegistryDeniedError, match=r"in as deployer: 401 .*check the user name and the password"
    ) as raised:
        registry.check()
    assert "s3cret" not in str(raised.value)


def test_missing_credentials_are_asked_for(guarded: RegistryProcess) -> None:
    with pytest.raises(RegistryDeniedError, match="wants a user name and a password, and none are given"):
        Registry(guarded.address, patience=QUICK).check()


def test_the_challenge_is_answered_once_and_remembered(guarded: RegistryProcess, name: str) -> None:
    with FaultyProxy(guarded.port) as proxy:
        put(Registry(proxy.address, USER, patience=QUICK).repository(name), content(1000, seed=301))
        without = [item for item in proxy.requests if "Authorization" not in item.headers]
        assert len(without) == 1


def test_secrets_are_in_no_log_no_representation_and_no_address(
    guarded: RegistryProcess, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        put(Registry(guarded.address, USER, patience=QUICK).repository(name), content(1000, seed=302))
    assert caplog.text
    assert PASSWORD not in caplog.text
    assert USER.basic().removeprefix("Basic ") not in caplog.text
    assert PASSWORD not in repr(USER)


# --- a token


def test_a_token_is_fetched_for_what_is_to_be_done(tokened: RegistryProcess, tokens: TokenServer, name: str) -> None:
    registry, blob = Registry(tokened.address, USER, patience=QUICK), content(1000, seed=310)
    registry.check()
    repository = registry.repository(name)
    put(repository, blob)
    digest = repository.put_manifest("1", MANIFEST, manifest_of(blob))
    assert read(repository, blob.digest) == blob.data
    assert repository.delete_manifest(digest)
    scopes = {scope for asked in tokens.asked for scope in asked}
    assert scopes == {f"repository:{name}:{actions}" for actions in ("pull", "pull,push", "delete")}
    assert len(tokens.asked) == 4  # one of them for nothing but to be let in


def test_a_mount_asks_for_both_repositories(tokened: RegistryProcess, tokens: TokenServer, name: str) -> None:
    registry, blob = Registry(tokened.address, USER, patience=QUICK), content(1000, seed=311)
    put(registry.repository(f"{name}/from"), blob)
    assert registry.repository(f"{name}/to").mount_blob(blob.digest, f"{name}/from")
    assert [f"repository:{name}/to:pull,push", f"repository:{name}/from:pull"] in tokens.asked


def test_a_source_that_may_not_be_read_is_not_mounted(tokened: RegistryProcess, tokens: TokenServer, name: str) -> None:
    registry, blob = Registry(tokened.address, USER, patience=QUICK), content(1000, seed=312)
    put(registry.repository(f"{name}/from"), blob)
    tokens.withheld.add(f"{name}/from")
    assert not registry.repository(f"{name}/to").mount_blob(blob.digest, f"{name}/from")


def test_a_token_that_the_registry_no_longer_takes_is_renewed(
    tokened: RegistryProcess, tokens: TokenServer, name: str
) -> None:
    repository = Registry(tokened.address, USER, patience=QUICK).repository(name)
    tokens.lasts = -3000  # over already, though the answer says otherwise: the clocks disagree
    with pytest.raises(RegistryDeniedError):
        repository.tags()
    tokens.lasts = 300
    assert repository.tags() == []


def test_a_token_is_renewed_before_it_ends(tokened: RegistryProcess, tokens: TokenServer, name: str) -> None:
    tokens.expires_in = -1
    repository = Registry(tokened.address, USER, patience=QUICK).repository(name)
    repository.tags()
    before = len(tokens.asked)
    repository.tags()
    assert len(tokens.asked) == before + 1


def test_the_clock_of_the_token_server_does_not_matter(
    tokened: RegistryProcess, tokens: TokenServer, name: str
) -> None:
    tokens.clock_ahead = -10 * 365 * 86400
    repository = Registry(tokened.address, USER, patience=QUICK).repository(name)
    repository.tags()
    repository.tags()
    assert len(tokens.asked) == 1


def test_a_right_that_no_token_gives_is_told(tokened: RegistryProcess, tokens: TokenServer, name: str) -> None:
    tokens.withheld.add(name)
    with pytest.raises(RegistryDeniedError, match=f"{name}: the registry .* as deployer: 401"):
        put(Registry(tokened.address, USER, patience=QUICK).repository(name), content(10, seed=313))


def test_a_wrong_password_at_the_token_server_is_told(tokened: RegistryProcess, name: str) -> None:
    registry = Registry(tokened.address, Credentials("deployer", "s3cret-wrong"), patience=QUICK)
    with pytest.raises(RegistryDeniedError, match="refuses the user name deployer with the password given") as raised:
        registry.repository(name).tags()
    assert "s3cret" not in str(raised.value)


def test_anybody_gets_a_token_where_the_token_server_knows_no_users(
    tokened: RegistryProcess, tokens: TokenServer, name: str
) -> None:
    tokens.user = None
    blob = content(10, seed=314)
    put(Registry(tokened.address, patience=QUICK).repository(name), blob)


# --- an identity token


@pytest.mark.parametrize("user", sorted(IDENTITY_USERS))
def test_an_identity_token_is_exchanged_for_tokens(
    tokened: RegistryProcess, tokens: TokenServer, name: str, user: str
) -> None:
    tokens.identity = "an.identity-token"
    registry = Registry(tokened.address, Credentials(user, tokens.identity), patience=QUICK)
    blob = content(10, seed=315)
    put(registry.repository(f"{name}/from"), blob)
    assert registry.repository(f"{name}/to").mount_blob(blob.digest, f"{name}/from")
    assert read(registry.repository(f"{name}/to"), blob.digest) == blob.data
    assert tokens.asked == []  # nothing was asked for with a user name
    assert tokens.granted[0] == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["an.identity-token"],
        "client_id": ["slipway"],
        "service": ["test registry"],
        "scope": [f"repository:{name}/from:pull"],
    }
    assert f"repository:{name}/to:pull,push repository:{name}/from:pull" in [
        form["scope"][0] for form in tokens.granted
    ]


def test_an_identity_token_that_is_renewed_is_used_from_then_on(
    tokened: RegistryProcess, tokens: TokenServer, name: str
) -> None:
    tokens.identity, tokens.next_identity = "the first", "the second"
    registry = Registry(tokened.address, Credentials("<token>", "the first"), patience=QUICK)
    registry.repository(name).tags()
    registry.repository(f"{name}/other").tags()
    assert [form["refresh_token"] for form in tokens.granted] == [["the first"], ["the second"]]


def test_an_identity_token_that_is_refused_is_told(tokened: RegistryProcess, tokens: TokenServer, name: str) -> None:
    tokens.identity = "another"
    registry = Registry(tokened.address, Credentials("<token>", "s3cret-expired"), patience=QUICK)
    with pytest.raises(RegistryDeniedError, match=r"refuses the identity token given; .*az acr login") as raised:
        registry.repository(name).tags()
    assert "s3cret" not in str(raised.value)


def test_a_token_server_without_oauth_is_asked_with_the_user_name(
    tokened: RegistryProcess, tokens: TokenServer, name: str
) -> None:
    tokens.user = ("<token>", PASSWORD)
    registry = Registry(tokened.address, Credentials("<token>", PASSWORD), patience=QUICK)
    registry.repository(name).tags()
    registry.repository(f"{name}/other").tags()
    assert len(tokens.asked) == 2


def test_an_identity_token_is_not_sent_readable_over_a_network(proxy: FaultyProxy) -> None:
    proxy.when("GET", "/v2/", answers(401, WWW_Authenticate='Bearer realm="http://tokens.example/token"'))
    with pytest.raises(RegistryDeniedError, match=r"to tokens\.example without TLS"):
        Registry(proxy.address, Credentials("<token>", "s3cret"), patience=QUICK).check()


# --- a token server that fails


def test_a_token_server_that_is_down_is_told(registry: Registry, proxy: FaultyProxy) -> None:
    challenge = f'Bearer realm="http://{proxy.address}/token",service="x"'
    proxy.when("GET", "/v2/", answers(401, WWW_Authenticate=challenge), times=100)
    proxy.when("GET", "/token", answers(503), times=100)
    with pytest.raises(RegistryUnavailableError, match="token server that answered 503"):
        registry.check()


def test_a_token_server_without_a_token_is_told(registry: Registry, proxy: FaultyProxy) -> None:
    proxy.when("GET", "/v2/", answers(401, WWW_Authenticate=f'Bearer realm="http://{proxy.address}/token"'), times=9)
    proxy.when("GET", "/token", answers(200, b"<html>"))
    with pytest.raises(RegistryUnavailableError, match="answered without a token"):
        registry.check()


# --- where secrets must not go


def test_credentials_do_not_follow_to_another_host(
    guarded: RegistryProcess, running: RegistryProcess, name: str
) -> None:
    blob = content(1000, seed=320)
    put(Registry(running.address).repository(name), blob)
    with FaultyProxy(guarded.port) as proxy, FaultyProxy(running.port) as storage:
        place = f"http://{storage.address}/v2/{name}/blobs/{blob.digest}?signature=abc"
        proxy.when("GET", "/blobs/", answers(307, Location=place))
        registry = Registry(proxy.address, USER, patience=QUICK)
        registry.check()
        assert read(registry.repository(name), blob.digest) == blob.data
        assert "Authorization" in proxy.asked("GET", "/blobs/")[0].headers
        assert "Authorization" not in storage.requests[0].headers


def test_credentials_are_not_sent_readable_over_a_network() -> None:
    with pytest.raises(RegistryDeniedError, match=r"password for registry\.example would be readable on the network"):
        Registry("http://registry.example", USER)


def test_credentials_are_not_sent_readable_to_a_token_server(proxy: FaultyProxy) -> None:
    proxy.when("GET", "/v2/", answers(401, WWW_Authenticate='Bearer realm="http://tokens.example/token"'))
    with pytest.raises(RegistryDeniedError, match=r"to tokens\.example without TLS"):
        Registry(proxy.address, USER, patience=QUICK).check()


@pytest.mark.parametrize("header", ["", "Negotiate", 'Digest realm="x"'])
def test_an_authentication_that_is_not_known_is_named(registry: Registry, proxy: FaultyProxy, header: str) -> None:
    proxy.when("GET", "/v2/", answers(401, WWW_Authenticate=header))
    with pytest.raises(RegistryDeniedError, match=r"asks for an authentication that is not known here"):
        registry.check()


# --- TLS


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RegistryProcess, Path]]:
    """A registry with TLS, and its authority's certificate."""
    folder = tmp_path_factory.mktemp("encrypted")
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(str(folder / "key.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    tls = {"certificate": str(folder / "certificate.pem"), "key": str(folder / "key.pem")}
    process = RegistryProcess(folder, {"http": {"tls": tls}})
    try:
        process.start()
        yield process, folder / "authority.pem"
    finally:
        process.stop()


def test_a_registry_with_tls(encrypted: tuple[RegistryProcess, Path], name: str) -> None:
    process, authority = encrypted
    trusted = authority.read_text()
    registry = Registry(f"https://{process.address}", ca_certificate=trusted, patience=QUICK)
    blob = content(1000, seed=330)
    put(registry.repository(name), blob)
    assert read(registry.repository(name), blob.digest) == blob.data


def test_an_authority_that_is_not_known_is_told(encrypted: tuple[RegistryProcess, Path]) -> None:
    process, _ = encrypted
    with pytest.raises(RegistryError, match=r"do not agree on TLS: .*give the certificate of its authority"):
        Registry(f"https://{process.address}", patience=QUICK).check()


def test_a_registry_without_tls_at_an_https_address_is_told(running: RegistryProcess) -> None:
    with pytest.raises(RegistryError, match="do not agree on TLS"):
        Registry(f"https://{running.address}", patience=QUICK).check()


@pytest.mark.parametrize("text", ["", "authority.pem", "-----BEGIN CERTIFICATE-----\nä\n"])
def test_what_is_no_certificate_is_told(text: str) -> None:
    with pytest.raises(RegistryError, match=r"authority of registry\.example is none that can be read; give it in PEM"):
        Registry("https://registry.example", ca_certificate=text)


# --- addresses and challenges


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("registry.example", Address("https", "registry.example", "")),
        ("registry.example:5000/team/ml/", Address("https", "registry.example:5000", "team/ml")),
        ("http://registry.example", Address("http", "registry.example", "")),
        ("127.0.0.1:5000", Address("http", "127.0.0.1:5000", "")),
        ("localhost:5000", Address("http", "localhost:5000", "")),
        ("[::1]:5000", Address("http", "[::1]:5000", "")),
        ("https://localhost", Address("https", "localhost", "")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse(text) == address


def test_docker_hub_serves_elsewhere_and_keeps_its_own_images_in_a_library() -> None:
    hub = parse("docker.io")
    assert hub.url == "https://registry-1.docker.io"
    assert [hub.full_name(name) for name in ("python", "bitnami/python")] == ["library/python", "bitnami/python"]
    assert parse("docker.io/bitnami").full_name("python") == "bitnami/python"


@pytest.mark.parametrize("text", ["", "ftp://a", "a:port", "http://", "a?b", "a/UPPER"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(RegistryError, match=r"is no registry's address|is no repository's name"):
        parse(text)


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(RegistryError, match="holds a user name or a password") as raised:
        parse("https://me:s3cret@registry.example")
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Negotiate", [Challenge("negotiate", {})]),
        ('Basic realm="a, Bearer b=c"', [Challenge("basic", {"realm": "a, Bearer b=c"})]),
        (
            'Bearer realm="https://t.example/x?a=b",service="r",scope="repository:a/b:pull,push"',
            [
                Challenge(
                    "bearer", {"realm": "https://t.example/x?a=b", "service": "r", "scope": "repository:a/b:pull,push"}
                )
            ],
        ),
        (
            'Negotiate, BEARER realm="x", service=y, Basic realm="say \\"z\\""',
            [
                Challenge("negotiate", {}),
                Challenge("bearer", {"realm": "x", "service": "y"}),
                Challenge("basic", {"realm": 'say "z"'}),
            ],
        ),
    ],
)
def test_challenges(header: str, expected: list[Challenge]) -> None:
    assert challenges(header) == expected
