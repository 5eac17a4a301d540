"""Reaches a registry that runs in a cluster, through the API server: wherever a kubeconfig works, this does.

How a resource's input `portForward` says where it is: `cluster` (`kubeconfig` and `context`), `namespace`,
`statefulSet` (whose first pod it is) and `port`, the pod's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from provider.kubernetes.cluster import (
    ApiError,
    ClusterError,
    ForbiddenError,
    LoginError,
    check_cluster,
    cluster_of,
    path_in,
)
from provider.kubernetes.forward import connect
from provider.kubernetes.kubeconfig import KubeconfigError
from provider.registry.errors import RegistryDeniedError, RegistryUnavailableError
from provider.registry.patience import Interrupted, Patience
from provider.resource import Failure
from provider.values import Properties

PATIENCE = Patience(attempts=10)
"""A pod that is replaced is away for longer than a process that starts again: about 40 s."""
_MEMBERS = ("cluster", "namespace", "statefulSet", "port")


def dial(way: Properties) -> Callable[[], socket.socket]:
    """Makes connections to the registry. They raise `Interrupted` and `RegistryError`."""

    def connection() -> socket.socket:
        try:
            cluster = cluster_of(way["cluster"])
            return connect(cluster, way["namespace"], f"{way['statefulSet']}-0", int(way["port"]))
        except ApiError as error:
            if (why := missing(way)) is not None:
                raise RegistryUnavailableError(why) from None
            raise Interrupted(f"has no pod that answers ({error})") from None
        except (ForbiddenError, LoginError, KubeconfigError) as error:
            raise RegistryDeniedError(f"the registry in the cluster cannot be reached: {error}") from None
        except ClusterError as error:
            raise RegistryUnavailableError(f"the registry in the cluster cannot be reached: {error}") from None

    return connection


def missing(way: Properties) -> str | None:
    """Why there is no such registry in the cluster; None where there is one, and where nobody can say."""
    path = path_in(way["namespace"], "statefulsets", way["statefulSet"], group="apps/v1")
    try:
        found = cluster_of(way["cluster"]).find(path)
    except (ClusterError, KubeconfigError):
        return None
    if found is not None:
        return None
    return f"the cluster has no registry {way['statefulSet']} in the namespace {way['namespace']}"


def check(name: str, way: Properties) -> list[Failure]:
    """What is wrong with `way`, the input `name`."""
    failures = [
        Failure(f"{name}.{member}", f"is not known; known are {', '.join(_MEMBERS)}")
        for member in way
        if member not in _MEMBERS
    ]
    failures += [Failure(f"{name}.{member}", "is required") for member in _MEMBERS if way.get(member) is None]
    cluster = way.get("cluster")
    if isinstance(cluster, dict):
        failures += [Failure(f"{name}.{item.property}", item.reason) for item in check_cluster(cluster)]
    return failures
