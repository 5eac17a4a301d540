"""Docker's SDK, loaded when the engine is first talked to: the plugin's start does not wait for it.

Loading it takes a quarter of the time that the plugin takes to start, and many commands never talk to the engine. Use
it as `sdk.APIClient`: what is imported by name is loaded at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker import APIClient
    from docker.context import ContextAPI
    from docker.errors import APIError, DockerException, ImageNotFound, NotFound
    from docker.tls import TLSConfig
    from requests.exceptions import RequestException
else:
    _MODULES = {
        "APIClient": "docker",
        "ContextAPI": "docker.context",
        "APIError": "docker.errors",
        "DockerException": "docker.errors",
        "ImageNotFound": "docker.errors",
        "NotFound": "docker.errors",
        "TLSConfig": "docker.tls",
        "RequestException": "requests.exceptions",
    }

    def __getattr__(name):
        if name not in _MODULES:
            raise AttributeError(name)
        return getattr(importlib.import_module(_MODULES[name]), name)


__all__ = [
    "APIClient",
    "APIError",
    "ContextAPI",
    "DockerException",
    "ImageNotFound",
    "NotFound",
    "RequestException",
    "TLSConfig",
    "load",
]


def load() -> None:
    """Loads it, so that the first call to the engine need not."""
    importlib.import_module("docker")
