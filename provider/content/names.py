"""How digests and repositories are written (OCI distribution specification, "Pulling manifests")."""

from __future__ import annotations

import re

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
REPOSITORY_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
"""One of a repository's parts, between the slashes."""
REPOSITORY = re.compile(rf"{REPOSITORY_PART.pattern}(?:/{REPOSITORY_PART.pattern})*")
