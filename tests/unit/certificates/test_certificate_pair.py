"""Certificates that users bring: each thing that may be wrong with one is told, before a server has to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from provider.certificates import issue
from provider.certificates.issue import Issued
from provider.certificates.pair import check_pair

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = ("scores.example", "*.team.example", "192.0.2.10")


@pytest.fixture(scope="module")
def authority() -> Issued:
    return issue.authority("Example", 3650, NOW)


@pytest.fixture(scope="module")
def own(authority: Issued) -> Issued:
    return issue.server(authority.certificate, authority.private_key, "scores", NAMES, 90, NOW)


def told(certificate: str, key: str, names: Sequence[str] = (), now: datetime = NOW) -> list[tuple[str, str]]:
    return [(failure.property, failure.reason) for failure in check_pair(certificate, key, names, now)]


@pytest.mark.parametrize("names", [(), NAMES[:1], ("SCORES.example",), ("a.team.example",), ("192.0.2.10",)])
def test_a_pair_that_fits_is_accepted(own: Issued, names: Sequence[str]) -> None:
    assert told(own.certificate, own.private_key, names) == []


def test_a_chain_is_accepted(own: Issued, authority: Issued) -> None:
    assert told(own.certificate + authority.certificate, own.private_key, NAMES[:1]) == []


def test_one_that_expired(own: Issued) -> None:
    ((name, reason),) = told(own.certificate, own.private_key, now=NOW + timedelta(days=91))
    assert name == "certificate"
    assert reason == "expired at 2026-05-30 00:00 UTC, and it is now 2026-05-31 00:00 UTC; give one that is valid"


def test_one_that_is_not_valid_yet(own: Issued) -> None:
    ((name, reason),) = told(own.certificate, own.private_key, now=NOW - timedelta(days=1))
    assert name == "certificate"
    assert reason.startswith("is not valid yet: it begins at 2026-02-28 23:00 UTC, and it is now 2026-02-28 00:00 UTC")
    assert "clock" in reason


def test_one_whose_authority_expired(own: Issued) -> None:
    short = issue.authority("Short", 10, NOW)
    leaf = issue.server(short.certificate, short.private_key, "x", ["x.example"], 5, NOW)
    reasons = [reason for _, reason in told(leaf.certificate + short.certificate, leaf.private_key, now=short.ends)]
    assert [reason.partition(" at ")[0] for reason in reasons] == ["expired", "expired, the one for CN=Short below it,"]


@pytest.mark.parametrize(
    "name", ["other.example", "team.example", "a.b.team.example", "192.0.2.11", "scores.example."[1:]]
)
def test_one_for_other_names(own: Issued, name: str) -> None:
    ((part, reason),) = told(own.certificate, own.private_key, [name, "scores.example"])
    assert part == "certificate"
    assert reason == (
        f"is not for {name}: it has scores.example, *.team.example, 192.0.2.10; give one that names what clients "
        f"connect to"
    )


def test_one_without_names(authority: Issued) -> None:
    ((_, reason),) = told(authority.certificate, authority.private_key, ["Example"])
    assert "it has no names (a common name alone does not count)" in reason


def test_a_key_of_another_certificate(own: Issued, authority: Issued) -> None:
    other = issue.server(authority.certificate, authority.private_key, "other", ["other.example"], 90, NOW)
    ((name, reason),) = told(own.certificate, other.private_key)
    assert (name, reason.partition(";")[0]) == ("privateKey", "does not belong to the certificate")


def test_a_chain_in_the_wrong_order(own: Issued, authority: Issued) -> None:
    found = told(authority.certificate + own.certificate, own.private_key)
    assert [name for name, _ in found] == ["certificate", "privateKey"]
    assert "put the server's own first" in found[0][1]
    assert found[1][1] == "belongs to another certificate of the chain; put the server's own certificate first"


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_text_that_is_no_certificate(own: Issued, text: str) -> None:
    ((name, reason),) = told(text, own.private_key, NAMES)
    assert (name, reason.partition(";")[0]) == ("certificate", "is no certificate that can be read")


def test_text_that_is_no_key(own: Issued) -> None:
    ((name, reason),) = told(own.certificate, own.certificate)
    assert (name, reason.partition(";")[0]) == ("privateKey", "is no private key that can be read")


def test_a_key_among_the_certificates(own: Issued) -> None:
    ((name, reason),) = told(own.certificate + own.private_key, own.private_key)
    assert (name, reason.partition(",")[0]) == ("certificate", "holds a private key")


def test_a_key_with_a_passphrase(own: Issued) -> None:
    protected = load_pem_private_key(own.private_key.encode(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    ((name, reason),) = told(own.certificate, protected.decode())
    assert (name, reason.partition(";")[0]) == ("privateKey", "is protected by a passphrase")


def test_an_authority_with_an_rsa_key_of_the_user_s_own(authority: Issued) -> None:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    own = issue.authority("RSA", 3650, NOW, key.decode())
    leaf = issue.server(own.certificate, own.private_key, "x", ["x.example"], 90, NOW)
    assert told(leaf.certificate + own.certificate, leaf.private_key, ["x.example"]) == []
