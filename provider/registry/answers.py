"""Turns what a registry answers into errors that say what to do.

The error document is the distribution specification's; the figures for a full disk or a quota are looked for where
CNCF Distribution, Harbor and proxies before them put such things.
"""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provider.content.names import DIGEST
from provider.registry.errors import (
    MissingBlobError,
    RegistryDeniedError,
    RegistryError,
    RegistryFullError,
    RegistryUnavailableError,
    RegistryUnsupportedError,
)

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_NO_SPACE_NUMBERS = (27, 28, 122)  # EFBIG, ENOSPC and EDQUOT, as CNCF Distribution hands them on from its disk
_NO_SPACE = re.compile(
    r"no space left|file too large|disk quota exceeded|quota|exceed\w* the configured upper limit", re.IGNORECASE
)
_LONGEST_TEXT = 300


@dataclass(frozen=True)
class Answer:
    """A response whose body was read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def errors(self) -> list[dict[str, Any]]:
        """The specification's error objects; empty where the body holds none."""
        try:
            listed = json.loads(self.body).get("errors", [])
        except (ValueError, AttributeError):
            return []
        return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []

    def codes(self) -> set[str]:
        """The error codes, such as BLOB_UNKNOWN."""
        return {str(item.get("code")) for item in self.errors()}

    def said(self) -> str:
        """The answer in one line, for an error."""
        texts = [
            ": ".join(filter(None, (str(e.get("code") or ""), str(e.get("message") or "")))) for e in self.errors()
        ]
        text = " ".join("; ".join(texts).split())
        return f"{self.status}{f' ({text[:_LONGEST_TEXT]})' if text else ''}"

    @property
    def is_full(self) -> bool:
        """Whether the registry has no room left."""
        if self.status == 507:
            return True
        if self.status < 400 or self.status in (401, 404, 429):
            return False
        return any(_tells_no_space(item) for item in self.errors())

    @property
    def is_retried(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.status in RETRIED and not self.is_full

    def seconds_to_wait(self) -> float | None:
        """What Retry-After asks for; None where there is none.

        A date is taken relative to the registry's own clock (its Date header): ours may go wrong."""
        asked = self.headers.get("Retry-After", "").strip()
        if asked.isdigit():
            return float(asked)
        try:
            until = email.utils.parsedate_to_datetime(asked)
            now = email.utils.parsedate_to_datetime(self.headers.get("Date", ""))
            return max(0.0, (until - now).total_seconds())
        except (ValueError, TypeError):
            return None


def _tells_no_space(error: Mapping[str, Any]) -> bool:
    detail = error.get("detail")
    if isinstance(detail, Mapping):
        enclosed = detail.get("Enclosed", detail.get("Err"))
        numbers = (enclosed.get("Err"),) if isinstance(enclosed, Mapping) else (enclosed,)
        if any(number in _NO_SPACE_NUMBERS for number in numbers):
            return True
    return bool(_NO_SPACE.search(f"{error.get('message')} {json.dumps(detail)}"))


def failure(answer: Answer, *, doing: str, host: str, who: str) -> RegistryError:
    """The error for an answer that is none of those expected. `doing` reads on from "could not"."""
    if answer.is_full:
        return RegistryFullError(
            f"could not {doing}: the registry {host} has no room left: {_room(answer)}; free space on its disk, delete "
            f"what is no longer needed, or choose a larger tier or quota"
        )
    if answer.status == 401:
        return RegistryDeniedError(
            f"could not {doing}: the registry {host} does not let anyone in {who}: {answer.said()}; check the user "
            f"name and the password given for it, and that they have not expired"
        )
    if answer.status == 403:
        return RegistryDeniedError(
            f"could not {doing}: the registry {host} does not allow it {who}: {answer.said()}; give it the right, or "
            f"use other credentials"
        )
    if "MANIFEST_BLOB_UNKNOWN" in answer.codes():
        digests = sorted(_digests_in(answer))
        return MissingBlobError(
            f"could not {doing}: the registry {host} does not hold {', '.join(digests) or 'a blob'} that it names; run "
            f"`pulumi up` again, which uploads what is missing",
            digests,
        )
    if answer.status == 405 or "UNSUPPORTED" in answer.codes():
        return RegistryUnsupportedError(
            f"could not {doing}: the registry {host} does not do this ({answer.said()}); for a deletion, enable it in "
            f"the registry's own configuration (CNCF Distribution: storage.delete.enabled)"
        )
    if answer.status == 413:
        return RegistryUnsupportedError(
            f"could not {doing}: the registry {host}, or a proxy before it, takes no request of this size (413); raise "
            f"its limit for request bodies"
        )
    if answer.is_retried:
        return RegistryUnavailableError(
            f"could not {doing}: the registry {host} keeps answering {answer.said()}; try again later"
        )
    return RegistryError(
        f"could not {doing}: the registry {host} answered {answer.said()}; check that the address is that of a "
        f"registry and the name is one that it accepts"
    )


def _room(answer: Answer) -> str:
    """The registry's own words, with the figures where it gives some."""
    details = [
        f"{item.get('message')} {json.dumps(item['detail'])}" if item.get("detail") else str(item.get("message"))
        for item in answer.errors()
    ]
    return " ".join("; ".join(details).split())[:_LONGEST_TEXT] or f"it answered {answer.status}"


def _digests_in(answer: Answer) -> set[str]:
    """The digests in the errors' details, which registries write in several ways."""
    return set(DIGEST.findall(json.dumps([item.get("detail") for item in answer.errors()])))
