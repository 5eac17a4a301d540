"""`CertificateAuthority`: an authority of a stack's own, which signs the certificates of its servers.

Its key and its certificate are in the stack's state alone. It is renewed in place, with the same key: whoever trusts
the earlier certificate goes on trusting what it signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import ClassVar

from provider.certificates import life
from provider.certificates.names import common_name_refusal
from provider.resource import Context, Failure, Input, Resource
from provider.values import UNKNOWN, Properties

VALID_DAYS = 3650
_MOST_DAYS = 36500


class CertificateAuthority(Resource):
    """See the module. Its id is its name."""

    token: ClassVar[str] = "slipway:index:CertificateAuthority"
    inputs: ClassVar[Mapping[str, Input]] = {
        "name": Input("string", replaces=True),
        "validDays": Input("integer", required=False),
    }
    secrets: ClassVar[Collection[str]] = ("privateKey",)
    sound: ClassVar[tuple[str, str | bool] | None] = ("state", "Valid")

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        failures = days_failures(news, _MOST_DAYS)
        if news["name"] is not UNKNOWN and (reason := common_name_refusal(news["name"])) is not None:
            failures.append(Failure("name", reason))
        return news, failures

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        if context.preview:
            name = news["name"]
            return ("" if name is UNKNOWN else name), unknown(news)
        return news["name"], await asyncio.to_thread(_issue, news, None)

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        return await asyncio.to_thread(looked_at, context, state)

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        if context.preview:
            return {**unknown(news), "privateKey": state.get("privateKey", UNKNOWN)}
        return await asyncio.to_thread(_issue, news, state.get("privateKey"))

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        """Nothing is anywhere but in the state."""


def _issue(news: Properties, private_key: str | None) -> Properties:
    from provider.certificates import issue

    days = news.get("validDays")
    made = issue.authority(news["name"], VALID_DAYS if days is None else days, life.now(), private_key)
    return {
        **news,
        "certificate": made.certificate,
        "privateKey": made.private_key,
        "notAfter": life.text(made.ends),
        "state": "Valid",
    }


# -- shared with `Certificate` -----------------------------------------------------------------------------------------


def unknown(news: Properties) -> Properties:
    """What a preview knows of a certificate that is to be made."""
    return {**news, "certificate": UNKNOWN, "privateKey": UNKNOWN, "notAfter": UNKNOWN, "state": "Valid"}


def days_failures(news: Properties, most: int) -> list[Failure]:
    """What is wrong with `validDays`."""
    days = news.get("validDays")
    if days in (None, UNKNOWN) or 1 <= days <= most:
        return []
    return [Failure("validDays", f"must be from 1 to {most}, not {days}")]


def looked_at(context: Context, state: Properties) -> Properties:
    """The state, marked where its certificate is to be renewed."""
    from provider.certificates.pair import Unreadable, read_chain

    try:
        certificate = read_chain(state["certificate"])[0]
    except (Unreadable, KeyError):
        context.log.warning("the certificate in the stack's state cannot be read: it will be made anew")
        return {**state, "state": "Unreadable"}
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    now = life.now()
    if not life.is_due(begins, ends, now):
        return {**state, "state": "Valid"}
    verb = "ended" if now >= ends else "ends"
    context.log.warning(f"the certificate {verb} at {life.day(ends)}: the next `pulumi up` renews it")
    return {**state, "state": "Due"}
