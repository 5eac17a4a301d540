"""What a container of a service gets from the engine: its user, its limits and devices, how it is watched and logged.

In pulumi_docker's words, and only what the engine tells back as it was asked for: anything else would be a change at
every look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi_docker as docker

from components.targets.base import Deployment
from components.targets.server_settings import Liveness, ServerSettings
from provider.router import container as router

SERVICE_PORT: Final = 5001
"""TCP port of a service in its own container, for the engine's health check."""
SECRETS: Final = "/run/secrets"
"""Where a service finds its secrets, as files."""
GRACE_SECONDS: Final = 30
"""How long a container that goes may still answer what it has begun."""

TMP: Final = {"/tmp": "rw,noexec,nosuid,nodev,size=256m,mode=1777"}  # noqa: S108 - a file system of the container's own
"""What of its file system a service may write to."""

_FIRST_USER, _USERS = 10_000, 50_000
_LOG = {"max-size": "10m", "max-file": "3"}
_CPU_PERIOD = 100_000
_LIVES = (
    "import socket; s = socket.create_connection(('127.0.0.1', {port}), 5); "
    "s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); raise SystemExit(b' 200 ' not in s.recv(64))"
)


@dataclass(frozen=True)
class ContainerSettings(ServerSettings):
    """What only this kind of target knows of a service."""

    gpus: int = 0
    """GPUs that each container sees."""
    devices: Sequence[str] = ()
    """Paths of devices on the host."""


def user_of(service: str) -> int:
    """The user of a service's containers: no other service's, so that none can take another's socket away."""
    return _FIRST_USER + int.from_bytes(hashlib.sha256(service.encode()).digest()[:8]) % _USERS


def labels_of(labels: Mapping[str, str]) -> list[docker.ContainerLabelArgs]:
    """Labels, in an order that stays."""
    return [docker.ContainerLabelArgs(label=name, value=value) for name, value in sorted(labels.items())]


def hardened(user: int) -> dict[str, Any]:
    """What every container here shares: no rights, nothing to write to, logs that end, back after a restart."""
    return {
        "user": f"{user}:{router.USER}",
        "read_only": True,
        "capabilities": docker.ContainerCapabilitiesArgs(drops=["ALL"]),
        "security_opts": ["no-new-privileges"],
        "restart": "unless-stopped",
        "log_driver": "json-file",
        "log_opts": _LOG,
        "destroy_grace_seconds": GRACE_SECONDS + 5,
    }


def limits_of(deployment: Deployment) -> dict[str, Any]:
    """CPUs and memory, where they are limited."""
    limited: dict[str, Any] = {}
    if deployment.cpus is not None:
        # As a quota, which changes in place.
        limited |= {"cpu_period": _CPU_PERIOD, "cpu_quota": round(deployment.cpus * _CPU_PERIOD)}
    if deployment.memory_bytes is not None:
        mebibytes = max(6, deployment.memory_bytes // 2**20)
        # As much swap as memory means none: what is over the limit ends, and does not crawl.
        limited |= {"memory": mebibytes, "memory_swap": mebibytes}
    return limited


def devices_of(settings: ContainerSettings) -> dict[str, Any]:
    """GPUs and other devices, where it asks for any."""
    devices: dict[str, Any] = {}
    if settings.gpus:
        devices["device_requests"] = [
            docker.ContainerDeviceRequestArgs(driver="nvidia", count=settings.gpus, capabilities=["gpu"])
        ]
    if settings.devices:
        devices["devices"] = [_device(path) for path in settings.devices]
    if devices:
        # Its `Endpoint` starts it, and so can tell what the host lacks as the service's state.
        devices |= {"start": False, "must_run": False}
    return devices


def _device(path: str) -> docker.ContainerDeviceArgs:
    """Whole, as the engine tells it: anything left out would be a change at every look."""
    return docker.ContainerDeviceArgs(host_path=path, container_path=path, permissions="rwm")


def health_check(liveness: Liveness, startup_seconds: int | None) -> docker.ContainerHealthcheckArgs:
    """How the engine looks whether a service lives, from when it may take `startup_seconds` to start."""
    delay = liveness.initial_delay if liveness.initial_delay is not None else startup_seconds or 0
    return docker.ContainerHealthcheckArgs(
        tests=["CMD", "python3", "-I", "-S", "-c", _LIVES.format(port=SERVICE_PORT)],
        interval=duration(liveness.period),
        timeout=duration(liveness.timeout),
        retries=liveness.failures,
        start_period=duration(delay),
    )


def duration(seconds: int) -> str:
    """As Go writes it, `5m0s`: the engine tells it like that, and anything else would be a change at every look."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
