"""What services are given that nobody else may know: their keys, and a mark of their secrets that is none."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pulumi

from provider import sdk
from provider.access_key import UNFIT, fits_a_header


def access_keys(
    name: str,
    service: str,
    primary: pulumi.Input[str] | None,
    secondary: pulumi.Input[str] | None,
    parent: pulumi.Resource,
) -> dict[str, pulumi.Output[str]]:
    """`primary` and `secondary`, the keys that clients of a service may send; made where they are not given.

    One that no header can hold fails, in a preview too."""
    below = pulumi.ResourceOptions(parent=parent)
    return {
        which: sdk.AccessKey(f"{name}-{which}-key", {"name": f"{name}-{which}"}, below).key
        if key is None
        else pulumi.Output.secret(key).apply(functools.partial(_fit_for_a_header, service, which))
        for which, key in (("primary", primary), ("secondary", secondary))
    }


def _fit_for_a_header(service: str, which: str, key: str) -> str:
    if not fits_a_header(key):
        raise pulumi.RunError(
            f"the {which}Key of the service {service} {UNFIT}; set another: pulumi config set --secret"
        )
    return key


def tls_pair(
    service: str, certificate: pulumi.Input[str], private_key: pulumi.Input[str], host: str | None
) -> tuple[pulumi.Output[str], pulumi.Output[str]]:
    """`certificate` and `private_key` (PEM) as given, to be shown to clients of a service, who connect to `host`.

    A pair that cannot be used together, now, and for `host`, fails, in a preview too."""
    both = pulumi.Output.all(certificate, private_key).apply(lambda pair: _fit_for_tls(service, pair[0], pair[1], host))
    good: pulumi.Output[tuple[str, str]] = pulumi.Output.secret(both)
    return good.apply(lambda pair: pair[0]), good.apply(lambda pair: pair[1])


def tls_secret(
    name: str, certificate: pulumi.Input[str], private_key: pulumi.Input[str]
) -> tuple[pulumi.Output[str], dict[str, Any]]:
    """The name and the body of the Secret with a certificate and its key (PEM). Another certificate is another Secret,
    for which the pods that show it are exchanged."""
    shown: pulumi.Output[str] = pulumi.Output.secret(certificate)
    kept: pulumi.Output[str] = pulumi.Output.secret(private_key)
    content = {"tls.crt": shown, "tls.key": kept}
    secret_name = mark(content).apply(lambda known: f"{name}-tls-{known[:8]}")
    return secret_name, {"type": "kubernetes.io/tls", "stringData": content}


def _fit_for_tls(service: str, certificate: str, private_key: str, host: str | None) -> tuple[str, str]:
    from provider.certificates.pair import check_pair  # here: it loads slowly, and most services have none

    fields = {"certificate": "sslCert", "privateKey": "sslKey"}
    failures = check_pair(certificate, private_key, [] if host is None else [host])
    if failures:
        told = [f"the {fields[failure.property]} of the service {service} {failure.reason}" for failure in failures]
        raise pulumi.RunError("\n".join(told))
    return certificate, private_key


def mark(secrets: Mapping[str, pulumi.Input[str]]) -> pulumi.Output[str]:
    """Changes with the secrets, and is none: it stands in names. To guess a secret by it takes long for each try."""
    if not secrets:
        return pulumi.Output.from_input("")
    return pulumi.Output.unsecret(
        pulumi.Output.all(**secrets).apply(
            lambda known: hashlib.scrypt(
                json.dumps(known, sort_keys=True).encode(), salt=b"slipway", n=2**15, r=8, p=1, maxmem=2**26, dklen=8
            ).hex()
        )
    )
