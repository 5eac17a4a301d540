"""`AccessKey`: a key that clients of a service send, made once and kept in the stack's state alone.

It stays until `renewal` changes, which makes another one in place. A service has two of them, so that clients can
change over to the other one first.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from typing import ClassVar

from provider.resource import Context, Input, Resource
from provider.values import UNKNOWN, Properties

UNFIT = "must be printable ASCII without spaces, and not empty"
"""What is wrong with a key that a header cannot hold. It is secret: it is not shown."""
_BYTES = 32  # of randomness: 43 characters of URL-safe base64


def fits_a_header(key: str) -> bool:
    """Whether clients can send that key."""
    return bool(key) and all(33 <= ord(sign) <= 126 for sign in key)


class AccessKey(Resource):
    """See the module. Its id is its name."""

    token: ClassVar[str] = "slipway:index:AccessKey"
    inputs: ClassVar[Mapping[str, Input]] = {
        "name": Input("string", replaces=True),
        # Any text; another one asks for another key.
        "renewal": Input("string", required=False),
    }
    secrets: ClassVar[Collection[str]] = ("key",)

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        if context.preview:
            return "", {**news, "key": UNKNOWN}
        return news["name"], {**news, "key": secrets.token_urlsafe(_BYTES)}

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        return (await self.create(context, news))[1]

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        """Nothing is anywhere but in the state."""
