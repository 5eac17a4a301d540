"""Whether a certificate and a private key can be used together, for certain names, at a certain time.

For certificates that users bring as well as for our own. No message holds anything of a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from provider.certificates import life
from provider.certificates.names import address_of, covers
from provider.resource import Failure

_BEGIN = "-----BEGIN "


class Unreadable(ValueError):  # noqa: N818 - it reads as what it is
    """PEM text that cannot be used. The message says why, and holds nothing of it."""


def check_pair(certificate: str, private_key: str, names: Sequence[str], now: datetime | None = None) -> list[Failure]:
    """What keeps a server from using `certificate` (PEM, itself first, then those up to its authority) with
    `private_key` (PEM) under `names` (DNS names, IP addresses); nothing: an empty list.

    The failures' properties are `certificate` and `privateKey`. `now`: by default the time of this machine."""
    failures, chain, key = [], None, None
    try:
        chain = read_chain(certificate)
    except Unreadable as error:
        failures.append(Failure("certificate", str(error)))
    try:
        key = read_key(private_key)
    except Unreadable as error:
        failures.append(Failure("privateKey", str(error)))
    if chain is not None:
        at = life.now() if now is None else now
        failures += [Failure("certificate", reason) for reason in (*_times(chain, at), *_order(chain))]
        failures += [Failure("certificate", reason) for reason in _missing_names(chain[0], names)]
    if chain is not None and key is not None and (reason := _misfit(chain, key)) is not None:
        failures.append(Failure("privateKey", reason))
    return failures


def check_chain(certificates: str, now: datetime | None = None) -> list[str]:
    """What keeps certificates (PEM) from being trusted at `now`, by default the time of this machine."""
    try:
        chain = read_chain(certificates)
    except Unreadable as error:
        return [str(error)]
    return _times(chain, life.now() if now is None else now)


def read_chain(pem: str) -> list[x509.Certificate]:
    """The certificates in `pem`. Raises `Unreadable`."""
    if "PRIVATE KEY-----" in pem:
        raise Unreadable("holds a private key, which belongs into privateKey alone; give the certificate without it")
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unreadable(
            f"is no certificate that can be read; give PEM text, which begins with {_BEGIN}CERTIFICATE-----"
        ) from None


def read_key(pem: str) -> PrivateKeyTypes:
    """The private key in `pem`. Raises `Unreadable`."""
    try:
        return load_pem_private_key(pem.encode(), password=None)
    except TypeError:
        raise Unreadable(
            "is protected by a passphrase; give it without one (openssl pkey -in key.pem), and as a secret"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise Unreadable(
            f"is no private key that can be read; give PEM text, which begins with {_BEGIN}PRIVATE KEY-----"
        ) from None


def _times(chain: list[x509.Certificate], now: datetime) -> list[str]:
    reasons = []
    for place, one in enumerate(chain):
        which = "" if place == 0 else f", the one for {one.subject.rfc4514_string()} below it,"
        if now >= one.not_valid_after_utc:
            ended = life.day(one.not_valid_after_utc)
            reasons.append(f"expired{which} at {ended}, and it is now {life.day(now)}; give one that is valid")
        elif now < one.not_valid_before_utc:
            begins = life.day(one.not_valid_before_utc)
            reasons.append(
                f"is not valid yet{which}: it begins at {begins}, and it is now {life.day(now)}; give another, or set "
                f"this machine's clock right"
            )
    return reasons


def _order(chain: list[x509.Certificate]) -> list[str]:
    for one, above in pairwise(chain):
        if one.issuer != above.subject:
            return [
                f"is out of order: {one.subject.rfc4514_string()} was signed by {one.issuer.rfc4514_string()}, and "
                f"{above.subject.rfc4514_string()} follows; put the server's own first, then the one that signed it"
            ]
    return []


def _missing_names(leaf: x509.Certificate, names: Sequence[str]) -> list[str]:
    try:
        held = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        held = x509.SubjectAlternativeName([])
    dns, addresses = held.get_values_for_type(x509.DNSName), held.get_values_for_type(x509.IPAddress)
    missing = [
        name
        for name in names
        if not (any(covers(pattern, name) for pattern in dns) if (ip := address_of(name)) is None else ip in addresses)
    ]
    if not missing:
        return []
    listed = ", ".join([*dns, *map(str, addresses)]) or "no names (a common name alone does not count)"
    return [f"is not for {', '.join(missing)}: it has {listed}; give one that names what clients connect to"]


def _misfit(chain: list[x509.Certificate], key: PrivateKeyTypes) -> str | None:
    public = key.public_key()
    if public == chain[0].public_key():
        return None
    if any(public == other.public_key() for other in chain[1:]):
        return "belongs to another certificate of the chain; put the server's own certificate first"
    return "does not belong to the certificate; give the key that the certificate was made for"
