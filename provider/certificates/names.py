"""The names that a certificate can carry: DNS names, with `*` for the first label, and IP addresses."""

from __future__ import annotations

import ipaddress
import re

_LABEL = re.compile(r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?", re.IGNORECASE)
_LONGEST_NAME = 253
_LONGEST_COMMON_NAME = 64  # RFC 5280, ub-common-name

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_of(name: str) -> Address | None:
    """`name` as an IP address; None where it is none."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def refusal(name: str) -> str | None:
    """Why `name` cannot stand in a certificate; None: it can."""
    if address_of(name) is not None:
        return None
    if not name.isascii():
        return f"{name!r} has letters outside ASCII; write it as DNS does{_in_ascii(name)}"
    labels = name.split(".")
    if labels[0] == "*" and len(labels) > 2:
        labels = labels[1:]
    if len(name) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, labels)):
        return (
            f"{name!r} is neither a DNS name nor an IP address; expected the likes of registry.example, *.team.example "
            f"or 192.0.2.10, without a port"
        )
    if labels[-1].isdigit():
        return f"{name!r} looks like an IP address and is none"
    return None


def common_name_refusal(name: str) -> str | None:
    """Why `name` cannot be the name of a certificate's holder; None: it can."""
    if not name.strip():
        return "is empty; give it a name that people will recognise"
    if len(name) > _LONGEST_COMMON_NAME:
        return f"has {len(name)} characters, and {_LONGEST_COMMON_NAME} is the most that a certificate takes"
    if not name.isprintable():
        return f"{name!r} holds characters that cannot be printed"
    return None


def covers(pattern: str, name: str) -> bool:
    """Whether a certificate's DNS name `pattern` stands for `name` (RFC 6125: `*` for exactly the first label)."""
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if pattern == name:
        return True
    first, _, rest = name.partition(".")
    return pattern.startswith("*.") and bool(first) and pattern[2:] == rest


def _in_ascii(name: str) -> str:
    try:
        return f": {name.encode('idna').decode()}"
    except UnicodeError:
        return ""
