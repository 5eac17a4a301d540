"""Small programs with objects of Kubernetes that the tests run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pulumi_kubernetes as k8s

from airgap.cluster.settings import PAUSE_IMAGE as IMAGE

SKIP = {"pulumi.com/skipAwait": "true"}
BROKEN = {"containers": [{"name": "main", "image": "127.0.0.1:1/missing"}]}
"""The members of a pod whose image nobody has."""


def config_map(namespace: str, **arguments: Any) -> Callable[[], Any]:
    """A program with one ConfigMap."""
    metadata = {"namespace": namespace, **arguments.pop("metadata", {})}
    options = arguments.pop("opts", None)
    return lambda: k8s.core.v1.ConfigMap(
        "it", metadata=metadata, **{"data": {"key": "value"}, **arguments}, opts=options
    )


def deployment(
    namespace: str, *, label: str = "one", replicas: int | None = 1, spec: Any = None, **metadata: Any
) -> Callable[[], Any]:
    """A program with one Deployment of a pod that does nothing."""
    body = {
        **({} if replicas is None else {"replicas": replicas}),
        "selector": {"matchLabels": {"app": "it"}},
        "template": {
            "metadata": {"labels": {"app": "it", "version": label}},
            "spec": {"containers": [{"name": "main", "image": IMAGE}], "terminationGracePeriodSeconds": 0},
        },
    }
    body["template"]["spec"] |= spec or {}  # type: ignore[index]
    options = metadata.pop("opts", None)
    return lambda: k8s.apps.v1.Deployment("it", metadata={"namespace": namespace, **metadata}, spec=body, opts=options)


def owners(metadata: Any) -> set[tuple[str, str]]:
    """Who owns fields of an object other than its status, and how they came to."""
    return {(entry.manager, entry.operation) for entry in metadata.managed_fields if entry.subresource is None}
