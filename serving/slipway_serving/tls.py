"""TLS with a given certificate, read again when it changes, so that a renewed one is used without a restart."""

from __future__ import annotations

import ssl
from pathlib import Path

from slipway_serving import logs
from slipway_serving.settings import SettingsError


class Certificate:
    """The server's certificate chain and key, in PEM files, and the context that new connections use."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises SettingsError where the files are no certificate and its key."""
        self._certificate = certificate
        self._key = key
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        try:
            self._stamp = self._current()
            self._load(self.context)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"the certificate {certificate} with the key {key} cannot be used: {error}") from None

    def _current(self) -> tuple[int, ...]:
        return tuple(
            number
            for path in (self._certificate, self._key)
            for status in (path.stat(),)
            for number in (status.st_mtime_ns, status.st_ino)
        )

    def _load(self, context: ssl.SSLContext) -> None:
        # An encrypted key would make OpenSSL ask on the terminal, and wait there.
        context.load_cert_chain(self._certificate, self._key, password=lambda: "")

    def reload(self) -> None:
        """Use the files again if they changed. Files that do not fit together yet leave the old certificate in use."""
        try:
            stamp = self._current()
            if stamp == self._stamp:
                return
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
        except FileNotFoundError:
            return
        except (OSError, ssl.SSLError) as error:
            self._stamp = stamp
            logs.error(f"the new certificate cannot be used, the former one stays: {error}")
            return
        self._stamp = stamp
        logs.info("the certificate was read again")
