"""Traefik, for ingresses and for routes of the Gateway API: built, like the rest, once it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

from airgap.cluster import programs
from airgap.cluster.images import Image
from airgap.cluster.programs import CLUSTER, HERE, TRAEFIK
from infra.setup.problem import explained

IMAGE = Image("slipway.local/traefik:1", TRAEFIK, "traefik")
_GATEWAY_API = "sigs.k8s.io/gateway-api"
"""The module with the definitions of the API's kinds, at the version that Traefik is made for."""
KINDS = tuple(
    f"{kind}.gateway.networking.k8s.io"
    for kind in ("gatewayclasses", "gateways", "httproutes", "grpcroutes", "referencegrants")
)


def build() -> None:
    """Builds what the cache does not hold yet. Raises SetupError."""
    programs.build_missing([TRAEFIK])
    kept = _kept()
    if kept.exists():
        return
    go = CLUSTER.find_go(HERE / TRAEFIK.name)
    module = json.loads(CLUSTER.run(go, HERE / TRAEFIK.name, ["mod", "download", "-json", _GATEWAY_API], _ignore))
    with explained(kept.parent, needed="the definitions take 1 MiB", move="or set XDG_CACHE_HOME to another directory"):
        fresh = kept.with_suffix(".new")
        files = sorted(Path(module["Dir"], "config", "crd", "standard").glob("*.yaml"))
        fresh.write_text("\n---\n".join(file.read_text() for file in files))
        fresh.replace(kept)


def definitions() -> str:
    """The manifest of the Gateway API's kinds."""
    return _kept().read_text()


def _kept() -> Path:
    return TRAEFIK.folder / "gateway-api.yaml"


def _ignore(_: str) -> None:
    """Nothing is told of a download of one small module."""
