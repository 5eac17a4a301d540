"""What a registry service is asked to be, and its files.

Everything lies in one folder: `spec.json` (what is asked for), `status.json` (what is), `lock` (held by the living
keeper), `config.yml`, `htpasswd` and `credentials.json` (all readable by the owner alone), `data/`, and `keeper.log`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
_DRAIN_SECONDS = 60
"""How long a registry that is to end goes on with requests that have begun."""


@dataclass(frozen=True)
class Spec:
    """What is asked for."""

    program: str
    """The registry's executable."""
    port: int
    quota_bytes: int
    cpus: float
    """CPUs that it may use; whole ones, as a process has no part of one."""
    memory_bytes: int
    """What it tries to stay within."""
    collect_seconds: int
    """How often what nothing refers to is removed."""
    retention_days: int | None
    """After how many days untagged manifests go; None: they stay."""

    @property
    def digest(self) -> str:
        """Names exactly this."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Files:
    """The files of the service in `folder`."""

    folder: Path

    @property
    def spec(self) -> Path:
        return self.folder / "spec.json"

    @property
    def status(self) -> Path:
        return self.folder / "status.json"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def configuration(self) -> Path:
        return self.folder / "config.yml"

    @property
    def users(self) -> Path:
        return self.folder / "htpasswd"

    @property
    def credentials(self) -> Path:
        return self.folder / "credentials.json"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "keeper.log"


def configuration(files: Files, spec: Spec, secret: str) -> dict[str, Any]:
    """The registry's configuration. `secret` signs what it tells clients of their uploads: the same one lets an
    upload go on after the registry was started again."""
    return {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(files.data)},
            "delete": {"enabled": True},
            "cache": {"blobdescriptor": "inmemory"},
            "maintenance": {"uploadpurging": {"enabled": True, "age": "24h", "interval": "1h", "dryrun": False}},
        },
        "http": {"addr": f"{HOST}:{spec.port}", "secret": secret, "draintimeout": f"{_DRAIN_SECONDS}s"},
        "auth": {"htpasswd": {"realm": "slipway", "path": str(files.users)}},
    }
