"""What a registry service is asked to be, and its files.

Everything lies in one folder: `spec.json` (what is asked for), `status.json` (what is), `lock` (held by the living
keeper), `config.yml`, `htpasswd`, `credentials.json`, `certificate.pem` and `key.pem` (all readable by the owner
alone), `data/` (what is stored), `events.db` (events that are still to be delivered), `collected` (its time is that of
the last cleaning), and `keeper.log`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
TOKEN_VARIABLE = "SLIPWAY_EVENTS_TOKEN"
"""Where the courier finds what registries show it."""
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
    """CPUs that it may use, all its processes together; whole ones, as a process has no part of one."""
    memory_bytes: int
    """What it tries to stay within, all its processes together."""
    collect_seconds: int
    """How often what nothing refers to is removed."""
    retention_days: int | None
    """After how many days untagged manifests go; None: they stay."""
    bind: str = LOOPBACK
    """The address to listen on."""
    host: str = LOOPBACK
    """The name or address by which clients reach it."""
    certificate: str | None = None
    """Digest of the certificate and key in the folder; None: it speaks no TLS."""
    replicas: int = 1
    """How many registries serve the same data."""
    webhooks: list[dict[str, Any]] = field(default_factory=list)
    """Where events go: `name`, `url`, `actions`, and perhaps `scope` and `headers`."""

    @property
    def digest(self) -> str:
        """Names exactly this."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def authority(self) -> str:
        """HOST:PORT as clients write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Where clients find it, with its scheme."""
        return f"{'http' if self.certificate is None else 'https'}://{self.authority}"

    @property
    def near(self) -> str:
        """An address of this machine at which it listens."""
        address = ipaddress.ip_address(self.bind)
        if not address.is_unspecified:
            return self.bind
        return "::1" if address.version == 6 else LOOPBACK


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
        return self.configuration_of(0)

    def configuration_of(self, place: int) -> Path:
        """That of one of several registries."""
        return self.folder / ("config.yml" if place == 0 else f"config-{place}.yml")

    @property
    def users(self) -> Path:
        return self.folder / "htpasswd"

    @property
    def credentials(self) -> Path:
        return self.folder / "credentials.json"

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    @property
    def private_key(self) -> Path:
        return self.folder / "key.pem"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def events(self) -> Path:
        return self.folder / "events.db"

    @property
    def collected(self) -> Path:
        return self.folder / "collected"

    @property
    def log(self) -> Path:
        return self.folder / "keeper.log"


def socket_name(place: int) -> str:
    """The Unix socket of one of several registries, in the service's folder. Always used from there: the paths of
    sockets may have no more than 107 bytes."""
    return f"replica-{place}.sock"


@dataclass(frozen=True)
class Events:
    """Where registries send what happens."""

    port: int
    """On loopback."""
    token: str = field(repr=False)
    """What shows that it is they who send."""


def configuration(files: Files, spec: Spec, secret: str, place: int, events: Events | None) -> dict[str, Any]:
    """The configuration of the registry in `place`. `secret` signs what registries tell clients of their uploads: with
    the same one an upload goes on after a registry was started again, and at another one."""
    alone = spec.replicas == 1
    storage: dict[str, Any] = {
        "filesystem": {"rootdirectory": str(files.data)},
        "delete": {"enabled": True},
        "maintenance": {
            "uploadpurging": {"enabled": place == 0, "age": "24h", "interval": "1h", "dryrun": False},
        },
    }
    if alone:
        # Several registries have none: what one deletes, another would go on remembering.
        storage["cache"] = {"blobdescriptor": "inmemory"}
    http: dict[str, Any] = {"secret": secret, "draintimeout": f"{_DRAIN_SECONDS}s"}
    if alone:
        http["addr"] = f"[{spec.bind}]:{spec.port}" if ":" in spec.bind else f"{spec.bind}:{spec.port}"
    else:
        http |= {"net": "unix", "addr": socket_name(place)}
    if spec.certificate is not None:
        http["tls"] = {"certificate": str(files.certificate), "key": str(files.private_key), "minimumtls": "tls1.2"}
    document: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": storage,
        "http": http,
        "auth": {"htpasswd": {"realm": "slipway", "path": str(files.users)}},
    }
    if events is not None:
        document["notifications"] = {"endpoints": [_endpoint(spec, events)]}
    return document


def _endpoint(spec: Spec, events: Events) -> dict[str, Any]:
    asked = {action for webhook in spec.webhooks for action in webhook["actions"]}
    return {
        "name": "slipway",
        "url": f"http://{LOOPBACK}:{events.port}/",
        "headers": {"Authorization": [f"Bearer {events.token}"]},
        "timeout": "10s",
        # What cannot be handed over is tried again and again, and kept in the registry's memory meanwhile.
        "threshold": 3,
        "backoff": "1s",
        "ignore": {
            "mediatypes": ["application/octet-stream"],  # blobs
            "actions": sorted({"push", "pull", "delete", "mount"} - asked),
        },
    }
