"""`Certificate`: a server's certificate and key, signed by an authority of the stack's own.

Whatever changes, a new certificate with a new key takes the place of the earlier one: nothing has to be deleted, and
who uses it sees new values. Both are in the stack's state alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import ClassVar

from provider.certificates import life
from provider.certificates.authority import days_failures, looked_at, unknown
from provider.certificates.names import common_name_refusal, refusal
from provider.resource import Context, Failure, Input, Resource, ResourceError
from provider.values import UNKNOWN, Properties

VALID_DAYS = 365
_MOST_DAYS = 825
"""Longer ones are refused by some clients, also when an authority of one's own signed them."""


class Certificate(Resource):
    """See the module. Its id is its common name."""

    token: ClassVar[str] = "slipway:index:Certificate"
    inputs: ClassVar[Mapping[str, Input]] = {
        # PEM.
        "caCertificate": Input("string"),
        "caPrivateKey": Input("string"),
        "commonName": Input("string"),
        # DNS names and IP addresses that clients connect to.
        "names": Input("list"),
        "validDays": Input("integer", required=False),
    }
    secrets: ClassVar[Collection[str]] = ("caPrivateKey", "privateKey")
    sound: ClassVar[tuple[str, str | bool] | None] = ("state", "Valid")

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        return news, await asyncio.to_thread(_failures, news)

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        if context.preview:
            name = news["commonName"]
            return ("" if name is UNKNOWN else name), unknown(news)
        return news["commonName"], await asyncio.to_thread(_issue, news)

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        return await asyncio.to_thread(looked_at, context, state)

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        return unknown(news) if context.preview else await asyncio.to_thread(_issue, news)

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        """Nothing is anywhere but in the state."""


def _failures(news: Properties) -> list[Failure]:
    failures = days_failures(news, _MOST_DAYS)
    if news["commonName"] is not UNKNOWN and (reason := common_name_refusal(news["commonName"])) is not None:
        failures.append(Failure("commonName", reason))
    names = news["names"]
    if names is not UNKNOWN:
        if not names:
            failures.append(Failure("names", "is empty; give the DNS names or IP addresses that clients connect to"))
        for index, name in enumerate(names):
            if name is UNKNOWN:
                continue
            reason = refusal(name) if isinstance(name, str) else f"must be a string, not {name!r}"
            if reason is not None:
                failures.append(Failure(f"names[{index}]", reason))
    return failures + _authority_failures(news["caCertificate"], news["caPrivateKey"])


def _authority_failures(certificate: object, private_key: object) -> list[Failure]:
    from provider.certificates.issue import usable_authority
    from provider.certificates.pair import Unreadable, read_chain, read_key

    failures = []
    for name, value, read in (("caCertificate", certificate, read_chain), ("caPrivateKey", private_key, read_key)):
        if isinstance(value, str):
            try:
                read(value)
            except Unreadable as error:
                failures.append(Failure(name, str(error)))
    if failures or not isinstance(certificate, str) or not isinstance(private_key, str):
        return failures
    try:
        usable_authority(certificate, private_key, life.now())
    except Unreadable as error:
        return [Failure("caCertificate", str(error))]
    return []


def _issue(news: Properties) -> Properties:
    from provider.certificates import issue
    from provider.certificates.pair import Unreadable

    days = news.get("validDays")
    try:
        made = issue.server(
            news["caCertificate"],
            news["caPrivateKey"],
            news["commonName"],
            news["names"],
            VALID_DAYS if days is None else days,
            life.now(),
        )
    except Unreadable as error:
        raise ResourceError(f"the certificate {news['commonName']}: {error}") from None
    return {
        **news,
        "certificate": made.certificate,
        "privateKey": made.private_key,
        "notAfter": life.text(made.ends),
        "state": "Valid",
    }
