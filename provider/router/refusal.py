"""How the router refuses a request: services of HAProxy's, in Lua. Pure."""

from __future__ import annotations

from pathlib import Path

MISSING = "This service needs a key: send the header Authorization: Bearer <key>."
WRONG = "The key is not one of this service's."
HEADER = "azureml-model-deployment"
"""The request header that picks a deployment, whatever the weights; the name is Azure's."""
UNKNOWN_DEPLOYMENT = f"There is no deployment of the name in the header {HEADER}."
NO_KEY = "slipway.no-key"
"""Answers with 401 and `MISSING`."""
WRONG_KEY = "slipway.wrong-key"
"""Answers with 403 and `WRONG`."""
NO_DEPLOYMENT = "slipway.no-deployment"
"""Answers with 404 and `UNKNOWN_DEPLOYMENT`."""
FILE = "refuse.lua"
_VALUES = {
    "NO_KEY": NO_KEY,
    "WRONG_KEY": WRONG_KEY,
    "NO_DEPLOYMENT": NO_DEPLOYMENT,
    "MISSING": MISSING,
    "WRONG": WRONG,
    "UNKNOWN": UNKNOWN_DEPLOYMENT,
}


def script() -> str:
    """What HAProxy loads (`lua-load-per-thread`)."""
    text = (Path(__file__).parent / FILE).read_text()
    for name, value in _VALUES.items():
        text = text.replace(f"@{name}@", value)
    return text
