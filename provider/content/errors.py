"""The errors of reading, packing and storing files."""

from __future__ import annotations


class ContentError(Exception):
    """Files cannot be read, packed or stored. The message says what, where, and how to mend it."""


class ContentChangedError(ContentError):
    """Files changed while they were being read."""


class CancelledError(ContentError):
    """The operation was asked to stop; what it had begun is cleared."""


class CorruptBlobError(ContentError):
    """A stored blob is missing, or is not what its digest says."""
