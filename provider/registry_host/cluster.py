"""What a registry that runs in a cluster is told: its configuration, and who may use it.

Everything follows from the one password, so that nothing else has to be kept, and nothing changes from `up` to `up`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any, Final

USER: Final = "slipway"
PORT: Final = 5000
"""TCP port in its pod."""
DATA: Final = "/var/lib/registry"
FOLDER: Final = "/etc/slipway-registry"
"""Where the two files are."""
CONFIGURATION: Final = "config.yml"
USERS: Final = "htpasswd"
DRAIN_SECONDS: Final = 30
"""How long a registry that is to end goes on with requests that have begun."""
_BCRYPT_COST = 5
# The registry hashes what every request brings with it, on half a CPU. The password is 256 bits of randomness, which no
# number of guesses finds: a high cost would protect nothing.
_SALT_BYTES = 16
_BCRYPT_ALPHABET = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_BASE64_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def configuration(password: str | None) -> str:
    """The registry's configuration, as JSON, which is YAML. Without the password: what it is but for its secret."""
    http: dict[str, Any] = {"addr": f":{PORT}", "draintimeout": f"{DRAIN_SECONDS}s"}
    if password is not None:
        # Signs what it tells clients of their uploads: with the same one an upload goes on in the next pod.
        http["secret"] = hashlib.sha256(f"uploads\0{password}".encode()).hexdigest()
    document = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": DATA},
            "delete": {"enabled": True},
            "cache": {"blobdescriptor": "inmemory"},
            "maintenance": {"uploadpurging": {"enabled": True, "age": "24h", "interval": "1h", "dryrun": False}},
        },
        "http": http,
        "auth": {"htpasswd": {"realm": "slipway", "path": f"{FOLDER}/{USERS}"}},
    }
    return json.dumps(document, sort_keys=True)


def users(password: str) -> str:
    """The file of users: one, with a bcrypt hash of the password, the same whenever it is made."""
    import bcrypt  # for those who need it

    digest = hashlib.sha256(f"salt\0{password}".encode()).digest()[:_SALT_BYTES]
    letters = base64.b64encode(digest).rstrip(b"=").translate(bytes.maketrans(_BASE64_ALPHABET, _BCRYPT_ALPHABET))
    salt = b"$2b$%02d$" % _BCRYPT_COST + letters
    return f"{USER}:{bcrypt.hashpw(password.encode(), salt).decode()}\n"


def mark() -> str:
    """Names the configuration but for its secret: another one is read by another pod alone."""
    return hashlib.sha256(configuration(None).encode()).hexdigest()[:16]
