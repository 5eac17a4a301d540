"""What a stack needs of this machine, as far as its file says. Pure, but for reading the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NAMESPACE = "slipway:"
_HOST = "unix:///var/run/docker.sock"
# Where a target names none: infra.config.targets.DEFAULT_HOST, which is not imported, as that takes its time.


@dataclass(frozen=True)
class Needs:
    """What has to be there before the stack can go up."""

    engine: bool = False
    """A Docker engine at the usual socket of this machine."""
    registry: bool = False
    """The program `docker-registry`."""
    registry_image: bool = False
    """An image of it, for a registry in a cluster that is made here."""
    images: bool = False
    """Base images made here, as the stack names none."""
    cluster: bool = False
    """A Kubernetes cluster, as the stack names none."""

    def __bool__(self) -> bool:
        return self.engine or self.registry or self.images or self.cluster


def needs_of(file: Path) -> Needs:
    """The needs of the stack in `file`. A file that is missing or no YAML needs nothing: Pulumi says what is wrong."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return Needs()
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        return Needs()
    config = document.get("config") if isinstance(document, dict) else None
    return needs_in(config if isinstance(config, dict) else {})


def needs_in(config: Mapping[str, Any]) -> Needs:
    """The needs of a configuration."""
    sections = {key.removeprefix(_NAMESPACE): value for key, value in config.items() if isinstance(value, dict)}
    targets = [target for target in sections.get("computeTargets", {}).values() if isinstance(target, dict)]
    hosts = [target.get("host", _HOST) for target in targets if target.get("kind") == "container"]
    clusters = [target for target in targets if target.get("kind") == "kubernetes"]
    registry = sections.get("registry", {}).get("kind")
    return Needs(
        engine=_HOST in hosts,
        registry=registry == "service",
        registry_image=registry == "cluster",
        # Packages of images need them as well as targets do.
        images=bool(hosts or clusters or sections.get("packages"))
        and not {"python", "router"} <= sections.get("images", {}).keys(),
        cluster=any(not {"kubeconfig", "context"} & cluster.keys() for cluster in clusters),
    )
