"""A Kubernetes cluster for a stack that names none, where this machine knows of none: the one of `airgap.cluster`.

It is made in the place where that makes it by itself, and where the target `kubernetes` looks for it. One that somebody
made there by hand stays; one that was made for a stack goes when nothing is left on it.
"""

from __future__ import annotations

import os
from pathlib import Path

from airgap.cluster import __main__ as clusters
from airgap.cluster import other, programs
from airgap.cluster.place import Place
from airgap.host import packages
from infra.setup.problem import say

PLACE = Place(clusters.DEFAULT)
_NOTE = "made-for-stacks"
_OF_THE_CLUSTER = {"default", "kube-node-lease", "kube-public", "kube-system", "traefik", "local-path-storage"}
"""Namespaces that come with a cluster."""


def named() -> str | None:
    """Who names a cluster already, as kubectl would look for it; None where nobody does. Raises `SetupError`."""
    file = other.named(os.environ)
    if file is not None:
        return f"KUBECONFIG ({file})"
    if clusters.made_by(PLACE) is not None:
        return None
    usual = Path("~/.kube/config").expanduser()
    return str(usual) if _has_context(usual) else None


def _has_context(file: Path) -> bool:
    """Whether a kubeconfig has a current context. One that cannot be read is for whoever uses it to complain of."""
    import yaml

    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(document, dict) and bool(document.get("current-context"))


def missing_packages(with_registry: bool = False) -> list[str]:
    """The packages of Debian's that a cluster of this machine lacks; none where kind, k3d or minikube makes it.

    `with_registry`: one runs in it, whose image is made of a package as well."""
    if _maker() != clusters.OWN:
        return []
    of_the_registry = packages.missing(packages.REGISTRY) if with_registry else []
    return sorted({*programs.missing_from_debian().values(), *of_the_registry})


def make() -> None:
    """Makes the cluster, or completes it after a restart of the machine. Raises `SetupError`."""
    if clusters.made_by(PLACE) is None:
        maker = _maker()
        how = "built of its Go modules" if maker == clusters.OWN else f"by {maker}"
        say(f"this stack needs a Kubernetes cluster, and none is named here: making one, {how}, in {PLACE.folder}")
        PLACE.folder.mkdir(parents=True, exist_ok=True)
        (PLACE.folder / _NOTE).touch()
    clusters.up(PLACE)


def is_ours() -> bool:
    """Whether a cluster was made here for a stack."""
    return (PLACE.folder / _NOTE).is_file()


def remove() -> None:
    """Removes the cluster that `make` made, where nothing is left on it. Raises `SetupError`."""
    if not is_ours():
        return
    left = _namespaces() - _OF_THE_CLUSTER
    if left:
        have = "has" if len(left) == 1 else "have"
        say(f"the cluster in {PLACE.folder} stays: {', '.join(sorted(left))} still {have} something on it")
        return
    say(f"removing the cluster in {PLACE.folder}")
    clusters.down(PLACE)


def _maker() -> str:
    return clusters.made_by(PLACE) or clusters.choice()


def _namespaces() -> set[str]:
    """The cluster's namespaces; none where it does not answer."""
    from kubernetes import client, config
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    if not PLACE.kubeconfig.is_file():
        return set()
    with config.new_client_from_config(str(PLACE.kubeconfig)) as api:
        try:
            found = client.CoreV1Api(api).list_namespace(_request_timeout=30).items
        except (ApiException, HTTPError):
            return set()
    return {str(namespace.metadata.name) for namespace in found}
