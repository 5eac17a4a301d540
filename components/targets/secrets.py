"""What services are given that nobody else may know: their keys, and a mark of their secrets that is none."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping

import pulumi

from provider import sdk


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
    # It is secret: it is not shown.
    if not key or any(not 33 <= ord(sign) <= 126 for sign in key):
        raise pulumi.RunError(
            f"the {which}Key of the service {service} must be printable ASCII without spaces, and not empty; set "
            "another: pulumi config set --secret"
        )
    return key


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
