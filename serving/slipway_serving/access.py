"""Who may call: two keys, either of which is good, read from a file or the environment and never from the command line.

The file holds JSON, `{"primary": "...", "secondary": "..."}`, or one key a line. It is read again when it changes, so
that keys are rotated without a restart: write a new secondary, move the clients, then make it the primary.
"""

from __future__ import annotations

import hmac
import json
from pathlib import Path

from slipway_serving import logs
from slipway_serving.messages import Request
from slipway_serving.settings import SettingsError

MISSING = "This service needs a key: send the header Authorization: Bearer <key>."
WRONG = "The key is not one of this service's."
CHALLENGE = (("www-authenticate", "Bearer"),)


class Keys:
    """The keys of a service."""

    def __init__(self, primary: str | None, secondary: str | None, path: Path | None) -> None:
        """Raises SettingsError where the file cannot be read, or there is a file and no key in it."""
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._keys: tuple[bytes, ...] = tuple(key.encode() for key in (primary, secondary) if key)
        if path is not None:
            try:
                self._stamp = _stamp(path)
                self._keys = _read(path)
            except (OSError, ValueError) as error:
                raise SettingsError(f"the keys file {path} cannot be used: {error}") from None

    def __bool__(self) -> bool:
        return bool(self._keys)

    def refuse(self, request: Request) -> tuple[int, str] | None:
        """The status and message for a request that may not pass; None for one that may.

        Every key is compared, in a time that does not depend on where a wrong one differs.
        """
        header = request.headers.get(b"authorization")
        if header is None:
            return 401, MISSING
        kind, _, given = header.partition(b" ")
        given = given.strip()
        if kind.lower() != b"bearer" or not given:
            return 401, MISSING
        matches = [hmac.compare_digest(given, key) for key in self._keys]
        return None if any(matches) else (403, WRONG)

    def reload(self) -> None:
        """Read the file again if it changed. One that cannot be read leaves the keys as they are."""
        if self._path is None:
            return
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._keys = _read(self._path)
            logs.info("the keys were read again")
        except FileNotFoundError:
            # Between the two halves of a replacement, or gone: the keys that are known stay good.
            return
        except (OSError, ValueError) as error:
            logs.error(f"the keys file cannot be used, the former keys stay good: {error}")


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> tuple[bytes, ...]:
    """The keys in a file. Raises ValueError without ever quoting it, since it is secret."""
    text = path.read_text(encoding="utf-8").strip()
    found: list[object]
    if text.startswith("{"):
        try:
            members = json.loads(text)
        except ValueError:
            raise ValueError('it starts as JSON and is none; write {"primary": "...", "secondary": "..."}') from None
        unknown = [name for name in members if name not in ("primary", "secondary")]
        if unknown:
            raise ValueError(f"it has the member {unknown[0]!r}; known are primary and secondary")
        found = [members.get(name) for name in ("primary", "secondary") if members.get(name) is not None]
    else:
        found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise ValueError("there is no key in it")
    if len(found) > 2:
        raise ValueError("there are more than two keys in it")
    keys = []
    for key in found:
        if not isinstance(key, str) or not key or any(not 33 <= ord(c) <= 126 for c in key):
            raise ValueError("a key must be printable ASCII without spaces")
        keys.append(key.encode())
    return tuple(keys)
