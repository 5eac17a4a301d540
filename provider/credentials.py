"""Credentials in addresses: found, and taken out of what people will read.

Package indexes are set up in uv's own settings (UV_INDEX and the like, netrc, a keyring). Those stay where they are;
what uv says about them goes through `redacted` before it becomes an error, a log line or a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

MASK = "****"

# An address' user part, to its last '@' before the path; and a query, where signatures and tokens are.
_USER = re.compile(r"(?<=://)[^/\s?#'\"<>]*@")
_QUERY = re.compile(r"(://[^\s?'\"`<>()]*)\?[^\s'\"`<>()#]+")
_SIGNED = re.compile(
    r"://[^\s?'\"<>]*\?(?:[^\s#'\"<>]*&)?[^=&\s]*(?:sig|token|secret|passw|key|credential)[^=&\s]*=", re.IGNORECASE
)
_SETTING = re.compile(r"(?:UV|PIP)_.*(?:INDEX|FIND_LINKS)")
_SHORTEST = 3


def has_credentials(text: str) -> bool:
    """Whether an address in `text` carries a user name, a password or a token before its host, or is a signed one."""
    return _USER.search(text) is not None or _SIGNED.search(text) is not None


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the user parts and the queries of its addresses, and without `secrets`."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return _QUERY.sub(rf"\1?{MASK}", _USER.sub(f"{MASK}@", text))


def index_secrets(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """What the settings of uv and pip in `environment` hold in the way of secrets, as written and decoded."""
    found: set[str] = set()
    for name, value in environment.items():
        if _SETTING.match(name) is None:
            continue
        if name.endswith(("_PASSWORD", "_USERNAME")):
            found.add(value)
        for match in _USER.finditer(value):
            found |= set(match.group().rstrip("@").split(":", 1))
    found |= {unquote(secret) for secret in found}
    # A name of one or two characters is no secret, and would blot out half of a message.
    return frozenset(secret for secret in found if len(secret) >= _SHORTEST)
