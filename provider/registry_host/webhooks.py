"""The webhooks that a user asks for, checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from provider.credentials import has_credentials
from provider.registry.address import is_loopback
from provider.registry_host.events import ACTIONS, DEFAULT_ACTIONS
from provider.resource import Failure
from provider.values import UNKNOWN, is_known

_FIELDS = ("name", "url", "actions", "scope", "headers")
_NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9]{0,49}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = frozenset({"content-type", "content-length", "transfer-encoding", "host", "connection"})
_SCOPE = re.compile(r"[a-z0-9._/*-]+(:[A-Za-z0-9._*-]+)?")


def failures(webhooks: Sequence[Any], most: int | None) -> list[Failure]:
    """What is wrong with them. `most`: how many the tier has."""
    found = [failure for index, webhook in enumerate(webhooks) for failure in _of(f"webhooks[{index}]", webhook)]
    names = [webhook["name"] for webhook in webhooks if isinstance(webhook, Mapping) and is_known(webhook.get("name"))]
    for name in sorted({str(name) for name in names if names.count(name) > 1}):
        found.append(Failure("webhooks", f"{name!r} is there more than once; each webhook has a name of its own"))
    if most is not None and len(webhooks) > most:
        found.append(
            Failure(
                "webhooks", f"there are {len(webhooks)}, and the tier has {most}; remove some, or choose another tier"
            )
        )
    return found


def complete(webhooks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """With the actions of those that name none."""
    return [{**webhook, "actions": list(webhook.get("actions") or DEFAULT_ACTIONS)} for webhook in webhooks]


def _of(path: str, webhook: Any) -> Iterator[Failure]:
    if webhook is UNKNOWN:
        return
    if not isinstance(webhook, Mapping):
        yield Failure(path, f"must be a map, not {type(webhook).__name__}")
        return
    for name in sorted(set(webhook) - set(_FIELDS)):
        yield Failure(f"{path}.{name}", f"unknown property; known are {', '.join(sorted(_FIELDS))}")
    for name in ("name", "url"):
        if webhook.get(name) is None:
            yield Failure(f"{path}.{name}", "is required")
    name, url, scope = webhook.get("name"), webhook.get("url"), webhook.get("scope")
    if name not in (None, UNKNOWN) and not (isinstance(name, str) and _NAME.fullmatch(name)):
        yield Failure(f"{path}.name", f"must be 1 to 50 letters, digits and hyphens, not {name!r}")
    if url not in (None, UNKNOWN) and (reason := _url_refusal(url, bool(webhook.get("headers")))) is not None:
        yield Failure(f"{path}.url", reason)
    if scope not in (None, UNKNOWN) and not (isinstance(scope, str) and _SCOPE.fullmatch(scope)):
        yield Failure(f"{path}.scope", f"must be REPOSITORY or REPOSITORY:TAG, in which * is anything, not {scope!r}")
    yield from _actions(f"{path}.actions", webhook.get("actions"))
    yield from _headers(f"{path}.headers", webhook.get("headers"))


def _actions(path: str, actions: Any) -> Iterator[Failure]:
    if actions is None or not is_known(actions):
        return
    known = ", ".join(ACTIONS)
    if not isinstance(actions, list) or not actions:
        yield Failure(path, f"must be a list of some of {known}")
        return
    for index, action in enumerate(actions):
        if action not in ACTIONS:
            yield Failure(f"{path}[{index}]", f"{action!r} is no action; known are {known}")


def _headers(path: str, headers: Any) -> Iterator[Failure]:
    """No message holds a value: those are secrets."""
    if headers is None or headers is UNKNOWN:
        return
    if not isinstance(headers, Mapping):
        yield Failure(path, "must be a map of names and values")
        return
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or name.lower() in _OWN_HEADERS:
            yield Failure(f"{path}.{name}", "is no header that can be set")
        elif value is not UNKNOWN and not (isinstance(value, str) and value.isprintable() and value.isascii()):
            yield Failure(f"{path}.{name}", "must be a string of printable ASCII characters")


def _url_refusal(url: Any, has_headers: bool) -> str | None:
    """The message does not repeat the URL: many hold a token."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, TypeError, AttributeError):
        fits = False
    if not fits or not url.isascii() or not url.isprintable() or " " in url:
        return "is no URL to post to; expected https://HOST[:PORT][/PATH], or http://"
    if parts.username is not None or parts.password is not None:
        return "holds a user name or a password; put them into a header instead: headers: {Authorization: ...}"
    if parts.scheme == "http" and not is_loopback(parts.hostname or "") and (has_headers or has_credentials(url)):
        return "is not encrypted, so that others could read its headers and tokens; use https://"
    return None
