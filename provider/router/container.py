"""How the router's container is run: for whoever declares it. Nothing of it needs an image of our own.

Debian's HAProxy has what the scripts call, and so has the official image `haproxy` that is made of Debian: a shell with
coreutils, and perl. With socat in perl's place, other images will do as well.
"""

from __future__ import annotations

from pathlib import Path

from provider.router.refusal import FILE, script

USER = 65532
"""User and group of the router. The services' containers have the group, and each its own user."""
CONFIGURATION = "/etc/slipway-router"
"""Where the volume with the configuration is mounted: what the router is told outlives its container."""
SOCKETS = "/run/slipway"
"""Where the volume with the services' sockets is mounted, in the router and in the services."""
RUNTIME = "/run/router"
"""A tmpfs of the router alone (mode 0770, owner and group `USER`): HAProxy's own sockets, which give full control."""
MASTER = f"{RUNTIME}/master.sock"
STOP_SIGNAL = "SIGUSR1"
"""Ends HAProxy after the requests that are under way."""
HARD_STOP_MINUTES = 30
"""A process that a reload replaced ends by then, whatever its clients do; longer than any scoring timeout."""
LONGEST_SCORING_MS = (HARD_STOP_MINUTES - 1) * 60_000

_HERE = Path(__file__).parent


def command(metrics_port: int | None = None) -> list[str]:
    """The container's entry point, whole. `metrics_port`: a port of the host's loopback for Prometheus; without it the
    numbers are on the socket `metrics.sock` in `RUNTIME` alone."""
    metrics = f"unix@{RUNTIME}/metrics.sock" if metrics_port is None else f"127.0.0.1:{metrics_port}"
    start = (_HERE / "start.sh").read_text()
    return ["sh", "-c", start, "slipway-router", global_configuration(metrics, RUNTIME), script()]


def health_command() -> list[str]:
    """What tells, inside the container, whether HAProxy works: its own numbers are read."""
    return control("alive")


def control(*arguments: str) -> list[str]:
    """A command for inside the container: see control.sh."""
    return ["sh", "-c", (_HERE / "control.sh").read_text(), "slipway-router", *arguments]


def global_configuration(metrics: str, folder: str) -> str:
    """What holds for all services of a router. `metrics`: where it listens for Prometheus; `folder`: where the script
    of its refusals is (`refusal.FILE`)."""
    text = (_HERE / "global.cfg").read_text()
    values = {"RUNTIME": RUNTIME, "METRICS": metrics, "HARD_STOP": f"{HARD_STOP_MINUTES}m"}
    values["REFUSALS"] = f"{folder}/{FILE}"
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text
