"""The certificates of a cluster and the kubeconfigs that hold them.

Everything is made new for a cluster and lives as long as its folder. The folder of the certificates appears in one
step, so that a set-up that was killed leaves all of them or none.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from airgap.cluster.place import API, API_SERVICE, DOMAIN, Place

_VALID = datetime.timedelta(days=3650)
_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Authority:
    """A certificate authority: what it signs with."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Leaf:
    """A certificate to make: its file's name, whom it names, in which group, and for which addresses it serves."""

    name: str
    common_name: str
    group: str | None = None
    served: Sequence[str] = ()
    """Host names and addresses of a server; none: a client's."""


USERS = ("admin", "controller-manager", "scheduler", "proxy", "kubelet")
"""Those who get a kubeconfig, named as their certificates are."""


def leaves(node: str, address: str) -> list[Leaf]:
    """The certificates of the cluster's own authority."""
    api = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}"]
    return [
        Leaf("apiserver", "kube-apiserver", served=[*api, "localhost", node, "127.0.0.1", API_SERVICE, address]),
        Leaf("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters"),
        Leaf("admin", "admin", "system:masters"),
        Leaf("controller-manager", "system:kube-controller-manager"),
        Leaf("scheduler", "system:kube-scheduler"),
        Leaf("proxy", "system:kube-proxy"),
        Leaf("kubelet", f"system:node:{node}", "system:nodes"),
        Leaf("kubelet-serving", f"system:node:{node}", "system:nodes", served=[node, address, "127.0.0.1"]),
    ]


def make(place: Place, node: str, address: str) -> None:
    """Makes the certificates where there are none yet, and the kubeconfigs from them."""
    if not place.pki.is_dir():
        fresh = Path(tempfile.mkdtemp(prefix=".pki-", dir=place.folder))
        try:
            _fill(fresh, node, address)
            fresh.rename(place.pki)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    for user in USERS:
        file = place.kubeconfig if user == "admin" else place.configuration / f"{user}.kubeconfig"
        _write_private(file, kubeconfig(place.pki, user).encode())


def _fill(folder: Path, node: str, address: str) -> None:
    cluster = _authority(folder, "ca", "kubernetes-ca")
    for leaf in leaves(node, address):
        _sign(folder, cluster, leaf)
    front = _authority(folder, "front-ca", "front-proxy-ca")
    _sign(folder, front, Leaf("front-client", "front-proxy-client"))
    accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write_private(folder / "accounts.key", _pem(accounts))
    public = accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "accounts.pub").write_bytes(public)


def _authority(folder: Path, name: str, common_name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(common_name)
    certificate = (
        _builder(subject, subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _store(folder, name, certificate, key)
    return Authority(certificate, key)


def _sign(folder: Path, authority: Authority, leaf: Leaf) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if leaf.served else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(_subject(leaf.common_name, leaf.group), authority.certificate.subject, key.public_key())
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    if leaf.served:
        names = x509.SubjectAlternativeName([_alternative(name) for name in leaf.served])
        builder = builder.add_extension(names, critical=False)
    _store(folder, leaf.name, builder.sign(authority.key, hashes.SHA256()), key)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _VALID)
    )


def _subject(common_name: str, group: str | None = None) -> x509.Name:
    parts = [] if group is None else [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _store(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_private(folder / f"{name}.key", _pem(key))


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(file: Path, content: bytes) -> None:
    fresh = file.with_name(f".{file.name}.new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(content)
    fresh.replace(file)


def kubeconfig(pki: Path, user: str) -> str:
    """The kubeconfig of `user`, with everything inside: it works wherever it is copied to on this machine."""

    def inline(file: str) -> str:
        return base64.b64encode((pki / file).read_bytes()).decode()

    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "slipway", "cluster": {"server": API, "certificate-authority-data": inline("ca.crt")}}],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": inline(f"{user}.crt"),
                    "client-key-data": inline(f"{user}.key"),
                },
            }
        ],
        "contexts": [{"name": "slipway", "context": {"cluster": "slipway", "user": user}}],
        "current-context": "slipway",
    }
    return json.dumps(document, indent=2) + "\n"  # JSON is YAML
