"""What the router of one service on Kubernetes is told: one file of HAProxy's language, made of plain values. Pure.

The rules are those of a Docker host (`provider.router.configuration`): TLS, the header that picks a deployment, and the
answers. What differs is what stands behind: the address of a deployment's Service, which knows the deployment's
pods. So a change of weights is a change of the file, which is rolled out as any other; keys are the pods' own matter.
"""

from __future__ import annotations

from collections.abc import Mapping

from provider.router.configuration import Deployment, Service, server_seconds, structure
from provider.router.container import RUNTIME, global_configuration

PORT = 8080
"""Where a router listens for clients, in its pods."""
METRICS_PORT = 8404
"""Where it listens for Prometheus, and tells that it works."""
FOLDER = "/etc/slipway-haproxy"
"""Where its pods have its files: this one, and `refusal.FILE`."""
FILE = "haproxy.cfg"
_HEALTH = "  http-request return status 200 if { path /ready }\n"
# A Service stands for several pods: one that cannot be connected to says little of the others, and the next try is of
# another one of them. Only the last one goes to another deployment.
_CHECK = "check inter 1s fall 3 rise 1"


def configuration(
    name: str, weights: Mapping[str, int], addresses: Mapping[str, str], *, tls: bool, scoring_timeout_ms: int
) -> str:
    """The whole of `FILE`. `weights` are percents by deployment, `addresses` HOST:PORT by deployment."""
    service = Service(
        name=name,
        port=PORT,
        bind="0.0.0.0",  # noqa: S104 - of its pod, which the cluster lets requests to
        tls=tls,
        guarded=False,
        scoring_timeout_ms=scoring_timeout_ms,
        deployments=tuple(Deployment(key, weight, ()) for key, weight in weights.items()),
    )
    servers = {name: {key: (addresses[key], weight) for key, weight in weights.items()}}
    servers |= {f"{name}:{key}": {key: (addresses[key], 1)} for key in weights}
    text = _global() + structure(service)
    for backend, members in servers.items():
        text += f"backend {backend}\n  balance roundrobin\n  timeout server {server_seconds(service)}s\n"
        # Each request is a connection of its own: a Service gives connections to pods, and those that stay would keep
        # to pods that go, and leave out those that came.
        text += "  option http-server-close\n  http-reuse never\n  option redispatch -1\n"
        text += "".join(
            f"  server {key} {address} weight {weight} {_CHECK}\n" for key, (address, weight) in members.items()
        )
    return text


def _global() -> str:
    text = global_configuration(f"0.0.0.0:{METRICS_PORT}", FOLDER)
    marker = "  http-request return status 404\n"
    return text.replace(marker, _HEALTH + marker)


def command() -> list[str]:
    """The container's entry point, whole."""
    return ["haproxy", "-W", "-S", f"{RUNTIME}/master.sock,mode,600", "-f", f"{FOLDER}/{FILE}"]
