"""How the router refuses a request without a key of the service: services of HAProxy's, in Lua. Pure."""

from __future__ import annotations

from pathlib import Path

MISSING = "This service needs a key: send the header Authorization: Bearer <key>."
WRONG = "The key is not one of this service's."
NO_KEY = "slipway.no-key"
"""Answers with 401 and `MISSING`."""
WRONG_KEY = "slipway.wrong-key"
"""Answers with 403 and `WRONG`."""


def script() -> str:
    """What HAProxy loads (`lua-load-per-thread`)."""
    text = (Path(__file__).parent / "refuse.lua").read_text()
    for name, value in {"NO_KEY": NO_KEY, "WRONG_KEY": WRONG_KEY, "MISSING": MISSING, "WRONG": WRONG}.items():
        text = text.replace(f"@{name}@", value)
    return text
