"""Has the engine start the provider's process before the first resource is declared.

The engine starts a provider when a program first asks for it; the process and the program each take half a second to
load. A program that asks before it loads the rest has both load at the same time. What it asks for is a function
without effect, and nobody waits for the answer: what is wrong with the provider, the first resource is told.
"""

from __future__ import annotations

from typing import Any

from pulumi.runtime import settings
from pulumi.runtime.proto import resource_pb2

START = "slipway:index:start"
"""The provider's function without effect."""


def start_provider() -> Any:
    """Asks for it; for Pulumi programs. Keep what is returned: without it the question is taken back."""
    monitor = settings.get_monitor()
    return None if monitor is None else monitor.Invoke.future(resource_pb2.ResourceInvokeRequest(tok=START))
