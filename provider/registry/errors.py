"""The errors of talking to a registry. Each message says what, where, and how to mend it; none holds a credential."""

from __future__ import annotations

from collections.abc import Sequence

from provider.content.errors import ContentError


class RegistryError(ContentError):
    """A registry did not do what it was asked to."""


class RegistryUnavailableError(RegistryError):
    """The registry cannot be reached, or keeps failing or refusing for now."""


class RegistryDeniedError(RegistryError):
    """The registry wants other credentials, or those that were given are not allowed to do this."""


class RegistryFullError(RegistryError):
    """The registry has no room left, or a quota is used up."""


class RegistryUnsupportedError(RegistryError):
    """The registry cannot do this, or is set up not to."""


class MissingBlobError(RegistryError):
    """A manifest names blobs that its repository does not hold; or the blob to read is not there."""

    def __init__(self, message: str, digests: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.digests = tuple(digests)
