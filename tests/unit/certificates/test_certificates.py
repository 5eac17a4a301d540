"""Certificates of an authority of one's own: made, trusted by TLS, renewed before they end, and kept secret."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from asyncio import run
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pulumi.provider.experimental import provider as api

from provider.certificates import life
from provider.certificates.authority import CertificateAuthority
from provider.certificates.certificate import Certificate
from provider.main import RESOURCES
from provider.plugin import SlipwayProvider
from provider.resource import Context, Resource, ResourceError
from provider.values import UNKNOWN, Properties, secret_names, to_plain_map, to_values
from tests import operations
from tests.operations import Lines

NAMES = ["registry.example", "*.team.example", "127.0.0.1", "::1"]


class Clock:
    """The time as the resources see it."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def forward(self, **by: float) -> None:
        self.at += timedelta(**by)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(life, "now", lambda: clock.at)
    return clock


def context(*, preview: bool = False, log: Lines | None = None) -> Context:
    return operations.context("slipway:index:Certificate", "tls", log=log, preview=preview)


class Managed:
    """A resource as a stack manages it."""

    def __init__(self, resource: Resource, **inputs: Any) -> None:
        self.resource = resource
        self.inputs: Properties = inputs
        self.state: Properties = {}
        self.log = Lines()

    def up(self, **changed: Any) -> Properties:
        self.inputs.update(changed)
        inputs, failures = run(self.resource.check(context(), self.inputs))
        assert failures == []
        if not self.state:
            _, self.state = run(self.resource.create(context(), inputs))
        elif self.resource.diff(self.state, inputs):
            self.state = run(self.resource.update(context(), "tls", self.state, inputs))
        return self.state

    def refresh(self) -> Properties:
        found = run(self.resource.read(context(log=self.log), "tls", self.state))
        assert found is not None
        self.state = found
        return found

    def changes(self) -> list[tuple[str, bool]]:
        return [(change.path, change.replaces) for change in self.resource.diff(self.state, self.inputs)]

    def failures(self, **changed: Any) -> list[tuple[str, str]]:
        found = run(self.resource.check(context(preview=True), {**self.inputs, **changed}))[1]
        return [(failure.property, failure.reason) for failure in found]


@pytest.fixture
def authority() -> Managed:
    return Managed(CertificateAuthority(), name="Slipway dev")


@pytest.fixture
def certificate(authority: Managed) -> Managed:
    made = authority.up()
    return Managed(
        Certificate(),
        caCertificate=made["certificate"],
        caPrivateKey=made["privateKey"],
        commonName="registry",
        names=NAMES,
    )


def parsed(state: Properties) -> x509.Certificate:
    return x509.load_pem_x509_certificate(state["certificate"].encode())


def extension(certificate: x509.Certificate, kind: type[x509.ExtensionTypeVar]) -> tuple[x509.ExtensionTypeVar, bool]:
    found = certificate.extensions.get_extension_for_class(kind)
    return found.value, found.critical


def server_context(state: Properties, folder: Path) -> ssl.SSLContext:
    (folder / "certificate.pem").write_text(state["certificate"])
    (folder / "key.pem").write_text(state["privateKey"])
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return server


def shake_hands(server: ssl.SSLContext, trusted: str, name: str) -> None:
    """A TLS handshake under the strictest rules that OpenSSL has. Raises `ssl.SSLError`."""
    client = ssl.create_default_context(cadata=trusted)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    def answer() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except (ssl.SSLError, OSError):
            theirs.close()

    answering = threading.Thread(target=answer)
    answering.start()
    try:
        client.wrap_socket(ours, server_hostname=name).close()
    finally:
        ours.close()
        answering.join()


# --- what is made


def test_the_authority_signs_servers_and_nothing_above_them(authority: Managed) -> None:
    made = parsed(authority.up())
    assert extension(made, x509.BasicConstraints) == (x509.BasicConstraints(ca=True, path_length=0), True)
    usage, critical = extension(made, x509.KeyUsage)
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature, critical) == (True, True, False, True)
    assert made.subject.rfc4514_string() == "CN=Slipway dev"
    key = made.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_a_server_s_certificate_is_one(certificate: Managed) -> None:
    made = parsed(certificate.up())
    assert extension(made, x509.BasicConstraints)[0].ca is False
    usage, critical = extension(made, x509.KeyUsage)
    assert (usage.digital_signature, usage.key_cert_sign, critical) == (True, False, True)
    assert [use.dotted_string for use in extension(made, x509.ExtendedKeyUsage)[0]] == ["1.3.6.1.5.5.7.3.1"]
    held = extension(made, x509.SubjectAlternativeName)[0]
    assert held.get_values_for_type(x509.DNSName) == NAMES[:2]
    assert [str(address) for address in held.get_values_for_type(x509.IPAddress)] == NAMES[2:]


@pytest.mark.parametrize("name", ["registry.example", "a.team.example", "127.0.0.1", "::1"])
def test_tls_accepts_it_under_each_of_its_names(
    certificate: Managed, authority: Managed, tmp_path: Path, name: str
) -> None:
    shake_hands(server_context(certificate.up(), tmp_path), authority.state["certificate"], name)


def test_tls_refuses_it_under_another_name(certificate: Managed, authority: Managed, tmp_path: Path) -> None:
    server = server_context(certificate.up(), tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(server, authority.state["certificate"], "other.example")


def test_tls_refuses_it_for_those_who_trust_another_authority(certificate: Managed, tmp_path: Path) -> None:
    server = server_context(certificate.up(), tmp_path)
    other = Managed(CertificateAuthority(), name="Slipway dev").up()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, other["certificate"], "registry.example")


def test_it_has_begun_for_clients_whose_clock_is_behind(clock: Clock, certificate: Managed) -> None:
    made = parsed(certificate.up())
    assert clock.at - made.not_valid_before_utc == timedelta(hours=1)
    assert certificate.state["notAfter"] == "2027-03-01T12:00:00Z"


def test_it_does_not_outlive_its_authority(clock: Clock) -> None:
    made = Managed(CertificateAuthority(), name="short", validDays=30).up()
    leaf = Managed(
        Certificate(),
        caCertificate=made["certificate"],
        caPrivateKey=made["privateKey"],
        commonName="x",
        names=["x.example"],
    ).up()
    assert leaf["notAfter"] == made["notAfter"] == "2026-03-31T12:00:00Z"


# --- over time


def test_nothing_changes_while_it_is_valid(clock: Clock, certificate: Managed) -> None:
    certificate.up()
    clock.forward(days=240)
    before = certificate.refresh()
    assert certificate.changes() == []
    assert certificate.up() == before


@pytest.mark.parametrize(("days", "words"), [(244, "ends at 2027-03-01"), (400, "ended at 2027-03-01")])
def test_with_a_third_of_its_life_left_it_is_renewed_in_place(
    clock: Clock, certificate: Managed, days: int, words: str
) -> None:
    before = certificate.up()
    clock.forward(days=days)
    assert certificate.changes() == []
    certificate.refresh()
    assert words in certificate.log.lines[-1]
    assert certificate.changes() == [("state", False)]
    after = certificate.up()
    assert after["notAfter"] == life.text(clock.at + timedelta(days=365))
    assert after["privateKey"] != before["privateKey"]
    certificate.refresh()
    assert certificate.changes() == []


def test_a_renewed_authority_keeps_its_key_and_what_it_signed(
    certificate: Managed, authority: Managed, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3650 * 2 // 3 + 1)
    before = authority.up(name="long-lived")
    leaf_of_before = certificate.up(caCertificate=before["certificate"], caPrivateKey=before["privateKey"])
    monkeypatch.undo()
    leaf = certificate.up(names=["new.example"])
    authority.refresh()
    after = authority.up()
    assert after["certificate"] != before["certificate"]
    assert after["privateKey"] == before["privateKey"]
    assert parsed(leaf_of_before).issuer == parsed(after).subject
    # Who trusts the earlier one accepts what is signed now, and the other way round.
    shake_hands(server_context(leaf, tmp_path), after["certificate"], "new.example")
    renewed = certificate.up(caCertificate=after["certificate"])
    shake_hands(server_context(renewed, tmp_path), before["certificate"], "new.example")


def test_a_state_whose_certificate_is_damaged_is_mended(certificate: Managed) -> None:
    certificate.up()
    certificate.state["certificate"] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    certificate.refresh()
    assert certificate.changes() == [("state", False)]
    parsed(certificate.up())


def test_other_names_are_a_change_in_place(certificate: Managed) -> None:
    certificate.up()
    certificate.inputs["names"] = [*NAMES[:3], "new.example"]
    assert certificate.changes() == [("names[3]", False)]
    held = extension(parsed(certificate.up()), x509.SubjectAlternativeName)[0]
    assert "new.example" in held.get_values_for_type(x509.DNSName)


def test_an_authority_of_another_name_is_another_one(authority: Managed) -> None:
    authority.up()
    authority.inputs["name"] = "Other"
    assert authority.changes() == [("name", True)]


def test_a_preview_makes_nothing_and_keeps_the_authority_s_key(authority: Managed) -> None:
    _, made = run(authority.resource.create(context(preview=True), authority.inputs))
    assert (made["certificate"], made["privateKey"]) == (UNKNOWN, UNKNOWN)
    state = authority.up()
    seen = run(authority.resource.update(context(preview=True), "tls", state, {**authority.inputs, "validDays": 10}))
    assert (seen["certificate"], seen["privateKey"]) == (UNKNOWN, state["privateKey"])


# --- secrets


def test_keys_are_secret_whatever_the_program_says(authority: Managed) -> None:
    provider = SlipwayProvider(RESOURCES)
    provider._context = lambda urn, preview=False: context(preview=preview)  # type: ignore[assignment, method-assign]
    urn = "urn:pulumi:dev::slipway::slipway:index:CertificateAuthority::ca"
    made = run(provider.create(api.CreateRequest(urn, to_values({"name": "ca"}), 0, preview=False)))
    assert secret_names(made.properties) == {"privateKey"}
    plain = to_plain_map(made.properties)
    inputs = {
        "caCertificate": plain["certificate"],
        "caPrivateKey": plain["privateKey"],
        "commonName": "x",
        "names": ["x.example"],
    }
    urn = "urn:pulumi:dev::slipway::slipway:index:Certificate::tls"
    checked = run(provider.check(api.CheckRequest(urn, {}, to_values(inputs), b"")))
    assert secret_names(checked.inputs) == {"caPrivateKey"}


def test_no_message_and_no_log_holds_a_key(clock: Clock, certificate: Managed) -> None:
    key = certificate.up()["privateKey"]
    clock.forward(days=360)
    certificate.refresh()
    other = Managed(CertificateAuthority(), name="other").up()
    said = [
        *certificate.log.lines,
        json.dumps(certificate.failures(caPrivateKey=other["privateKey"])),
        json.dumps(certificate.failures(caPrivateKey=key[:200])),
    ]
    for line in (*key.splitlines()[1:-1], *other["privateKey"].splitlines()[1:-1]):
        assert not any(line in text for text in said)


def test_the_key_is_pkcs8_without_a_passphrase(certificate: Managed) -> None:
    key = load_pem_private_key(certificate.up()["privateKey"].encode(), password=None)
    assert key.public_key() == parsed(certificate.state).public_key()


# --- bad input


@pytest.mark.parametrize(
    ("wrong", "property_name", "words"),
    [
        ({"names": []}, "names", "is empty"),
        ({"names": ["ok.example", "no spaces"]}, "names[1]", "is neither a DNS name nor an IP address"),
        ({"names": ["registry.example:5000"]}, "names[0]", "without a port"),
        ({"names": ["a.*.example"]}, "names[0]", "is neither a DNS name"),
        ({"names": ["*"]}, "names[0]", "is neither a DNS name"),
        ({"names": ["*.example"]}, "names[0]", "is neither a DNS name"),
        ({"names": ["300.0.0.1"]}, "names[0]", "looks like an IP address and is none"),
        ({"names": ["bücher.example"]}, "names[0]", "xn--bcher-kva.example"),
        ({"names": [7]}, "names[0]", "must be a string"),
        ({"commonName": " "}, "commonName", "is empty"),
        ({"commonName": "x" * 65}, "commonName", "has 65 characters"),
        ({"commonName": "a\nb"}, "commonName", "cannot be printed"),
        ({"validDays": 0}, "validDays", "must be from 1 to 825"),
        ({"validDays": 826}, "validDays", "must be from 1 to 825"),
        ({"caCertificate": "nothing"}, "caCertificate", "is no certificate that can be read"),
        ({"caPrivateKey": "nothing"}, "caPrivateKey", "is no private key that can be read"),
    ],
)
def test_what_cannot_be_is_refused(certificate: Managed, wrong: dict[str, Any], property_name: str, words: str) -> None:
    ((found, reason),) = certificate.failures(**wrong)
    assert found == property_name
    assert words in reason


def test_an_authority_s_life_is_bounded(authority: Managed) -> None:
    assert authority.failures(validDays=36501) == [("validDays", "must be from 1 to 36500, not 36501")]


def test_what_is_no_authority_signs_nothing(certificate: Managed) -> None:
    leaf = certificate.up()
    ((name, reason),) = certificate.failures(caCertificate=leaf["certificate"], caPrivateKey=leaf["privateKey"])
    assert (name, "is no authority's" in reason) == ("caCertificate", True)


def test_another_authority_s_key_is_refused(certificate: Managed) -> None:
    other = Managed(CertificateAuthority(), name="other").up()
    ((name, reason),) = certificate.failures(caPrivateKey=other["privateKey"])
    assert (name, "does not belong to its certificate" in reason) == ("caCertificate", True)


@pytest.mark.parametrize(("years", "words"), [(11, "ended at 2036-02-27"), (-1, "set this machine's clock right")])
def test_an_authority_out_of_its_time_is_refused(
    clock: Clock, authority: Managed, certificate: Managed, years: int, words: str
) -> None:
    clock.forward(days=365 * years)
    ((name, reason),) = certificate.failures()
    assert (name, words in reason) == ("caCertificate", True)
    with pytest.raises(ResourceError, match=words):
        run(certificate.resource.create(context(), certificate.inputs))


def test_what_is_not_known_yet_is_not_judged(certificate: Managed) -> None:
    assert certificate.failures(caCertificate=UNKNOWN, caPrivateKey=UNKNOWN, names=UNKNOWN, commonName=UNKNOWN) == []
