"""Certificates for an engine at tcp:// and for its clients, by an authority of the test's own."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_YEAR = timedelta(days=365)


class Authority:
    """Signs certificates."""

    def __init__(self, name: str = "Engines") -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        begins, ends = datetime.now(UTC) - _YEAR, datetime.now(UTC) + _YEAR
        self._certificate = (
            x509.CertificateBuilder(
                self._name, self._name, self._key.public_key(), x509.random_serial_number(), begins, ends
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def write(self, folder: Path, *names: str, ends: timedelta = _YEAR) -> Path:
        """Makes `folder` with ca.pem, cert.pem and key.pem: for a server of `names`, or for a client where none is
        given. `ends`: how long the certificate is valid from now on."""
        folder.mkdir(exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "client")])
        begins, until = datetime.now(UTC) - _YEAR / 2, datetime.now(UTC) + min(ends, _YEAR / 2)
        builder = x509.CertificateBuilder(
            self._name, subject, key.public_key(), x509.random_serial_number(), begins, until
        ).add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if names:
            held = [
                x509.DNSName(name) if name[0].isalpha() else x509.IPAddress(ipaddress.ip_address(name))
                for name in names
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(held), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        encoding = serialization.Encoding.PEM
        (folder / "ca.pem").write_bytes(self._certificate.public_bytes(encoding))
        (folder / "cert.pem").write_bytes(certificate.public_bytes(encoding))
        plain = serialization.NoEncryption()
        (folder / "key.pem").write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
        return folder
