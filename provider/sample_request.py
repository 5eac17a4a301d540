"""Sample requests: files with a request's body that a new revision must answer."""

from __future__ import annotations

import json
from pathlib import Path


def content_type(sample: Path) -> str:
    """The media type to send a sample request with: JSON where it is JSON."""
    try:
        json.loads(sample.read_bytes())
    except (OSError, ValueError):
        return "application/octet-stream"
    return "application/json"
