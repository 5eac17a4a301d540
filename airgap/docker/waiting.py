"""Repeats what the engine refuses for the moment: something is still in use by a container that is on its way out."""

from __future__ import annotations

import time
from collections.abc import Callable

from airgap.docker import sdk
from airgap.docker.connection import explained

SECONDS = 30
_PAUSE_SECONDS = 0.5


def remove(operation: Callable[[], object], what: str, *in_use: str) -> None:
    """Runs `operation`, again while its error says one of `in_use`, at most SECONDS long. Gone already is well.

    Raises EngineError.
    """
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            operation()
        except sdk.NotFound:
            return
        except sdk.APIError as error:
            passing = any(words in str(error.explanation) for words in in_use)
            if not passing or time.monotonic() > deadline:
                raise explained(f"{what} cannot be removed", error) from error
            time.sleep(_PAUSE_SECONDS)
        else:
            return
