"""The error that every operation of the provider fails with. By itself: what only reads files need not load the SDK."""

from __future__ import annotations


class ResourceError(Exception):
    """An operation failed. The message is shown to the user as it stands: what, where, and how to mend it."""
