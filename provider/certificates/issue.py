"""Makes keys and certificates: EC P-256, the extensions of RFC 5280, no more than TLS needs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provider.certificates.life import BACKDATED
from provider.certificates.names import address_of
from provider.certificates.pair import Unreadable, read_chain, read_key

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
"""What signs certificates."""


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: str
    """PEM."""
    private_key: str = field(repr=False)
    """PEM, PKCS#8, not encrypted."""
    begins: datetime
    ends: datetime


def authority(name: str, days: int, now: datetime, private_key: str | None = None) -> Issued:
    """An authority that signs certificates of servers and no other authorities.

    `private_key`: that of the one which is renewed. What it has signed stays valid."""
    key = ec.generate_private_key(ec.SECP256R1()) if private_key is None else _issuer_key(private_key)
    subject = _subject(name)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    begins, ends = now - BACKDATED, now + timedelta(days=days)
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), begins, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return _signed(builder, key, key, begins, ends)


def server(
    authority_certificate: str, authority_key: str, common_name: str, names: Sequence[str], days: int, now: datetime
) -> Issued:
    """A server's certificate with a key of its own; it ends no later than its authority's.

    Raises `Unreadable` where the authority cannot sign."""
    issuer, issuer_key = usable_authority(authority_certificate, authority_key, now)
    key = ec.generate_private_key(ec.SECP256R1())
    begins = max(now - BACKDATED, issuer.not_valid_before_utc)
    ends = min(now + timedelta(days=days), issuer.not_valid_after_utc)
    issuer_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    builder = (
        x509.CertificateBuilder(
            issuer.subject, _subject(common_name), key.public_key(), x509.random_serial_number(), begins, ends
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_identifier, critical=False)
    )
    return _signed(builder, issuer_key, key, begins, ends)


def usable_authority(certificate: str, private_key: str, now: datetime) -> tuple[x509.Certificate, Key]:
    """An authority's certificate and key, where it can sign at `now`. Raises `Unreadable`."""
    issuer, key = read_chain(certificate)[0], _issuer_key(private_key)
    if key.public_key() != issuer.public_key():
        raise Unreadable("the authority's private key does not belong to its certificate; give both from one authority")
    try:
        is_authority = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    if not is_authority:
        raise Unreadable("the certificate is no authority's (its basic constraints do not say CA); it signs nothing")
    if now >= issuer.not_valid_after_utc:
        raise Unreadable(
            f"the authority's certificate ended at {issuer.not_valid_after_utc:%Y-%m-%d %H:%M UTC}; run "
            f"`pulumi up --refresh`, which renews it, or give one that is valid"
        )
    if now < issuer.not_valid_before_utc:
        raise Unreadable(
            f"the authority's certificate begins at {issuer.not_valid_before_utc:%Y-%m-%d %H:%M UTC}, and it is now "
            f"{now:%Y-%m-%d %H:%M UTC}; set this machine's clock right"
        )
    return issuer, key


def _issuer_key(pem: str) -> Key:
    key = read_key(pem)
    if not isinstance(key, Key):
        raise Unreadable(
            "the authority's private key is of a kind that signs no certificates; give an EC, RSA or Ed25519 key"
        )
    return key


def _signed(
    builder: x509.CertificateBuilder,
    issuer_key: Key,
    key: Key,
    begins: datetime,
    ends: datetime,
) -> Issued:
    # An Edwards curve brings its own digest.
    algorithm = None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    certificate = builder.sign(issuer_key, algorithm)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Issued(certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode(), begins, ends)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    address = address_of(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(ipaddress.ip_address(address))


def _usage(*allowed: str) -> x509.KeyUsage:
    every = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: name in allowed for name in every})
