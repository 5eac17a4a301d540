"""Names that the program did not give: made once, kept from one check to the next, and marked as made."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from airgap.kubernetes.objects import Object, annotation, metadata, name_of
from provider.resource import ResourceError
from provider.values import UNKNOWN

AUTONAMED = "autonamed"


def named(news: Object, olds: Object, resource_name: str, seed: bytes) -> Object:
    """`news` with a name: its own, that of `olds` where that one was made, or a new one."""
    if news.get("metadata") is UNKNOWN:
        return news
    known = metadata(news)
    if known.get("generateName"):
        raise ResourceError(
            "metadata.generateName is not supported with server-side apply; leave metadata.name out to have a name made"
        )
    if known.get("name") or known.get("annotations") is UNKNOWN:
        return news
    if olds:
        return _with_name(news, name_of(olds)) if annotation(olds, AUTONAMED) == "true" else news
    suffix = hashlib.sha256(seed).hexdigest()[:8] if seed else secrets.token_hex(4)
    return _with_name(news, f"{resource_name}-{suffix}")


def _with_name(obj: Object, name: str) -> Object:
    known = metadata(obj)
    annotations: dict[str, Any] = {**(known.get("annotations") or {}), f"pulumi.com/{AUTONAMED}": "true"}
    return {**obj, "metadata": {**known, "name": name, "annotations": annotations}}
