"""A registry that runs in a Kubernetes cluster: CNCF Distribution in a StatefulSet of one pod, on a volume of its own.

It has a namespace of its own, apart from the services and their quotas. Nodes pull from a port of theirs, at 127.0.0.1;
whoever deploys reaches it through the API server. The volume's claim is a resource beside the StatefulSet: what a
StatefulSet says of claims can never change, and volumes grow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pulumi

from components.targets import pods
from components.targets.objects import SKIP_AWAIT, ClusterObject, Place, namespace
from components.targets.pods import Placement, Resources
from provider import sdk
from provider.registry_host import cluster as told

if TYPE_CHECKING:
    from components.registry import TierLimits

NAME: Final = "slipway-registry"
FILES: Final = "slipway-registry-configuration"
NODE: Final = "127.0.0.1"
"""Where nodes find it: container runtimes take it for granted that nobody listens in there, and ask for no TLS."""
_COMPONENT = "registry"
_GRACE_SECONDS = told.DRAIN_SECONDS + 5
_PROMISED_CPUS = 0.1
_GO_SHARE = 0.9
"""Of its memory, what Go may fill before it collects harder."""


@dataclass(frozen=True)
class ClusterPlace:
    """Where in which cluster a registry runs."""

    workspace: str
    provider: pulumi.ProviderResource
    """The kubernetes provider of the cluster."""
    cluster: Mapping[str, str]
    """How the cluster is reached: `kubeconfig` and `context`, where they are given."""
    namespace: str
    image: str
    """CNCF Distribution."""
    node_port: int
    """TCP port of each node."""
    make_namespace: bool = True
    """False: the namespace is there."""
    storage_class: str | None = None
    """Of the volume; by default the cluster's own default."""
    placement: Placement = field(default_factory=Placement)

    @property
    def address(self) -> str:
        """Where nodes pull from."""
        return f"{NODE}:{self.node_port}"

    @property
    def port_forward(self) -> dict[str, Any]:
        """How it is reached from elsewhere, in the words of the provider's resources."""
        return {
            "cluster": dict(self.cluster),
            "namespace": self.namespace,
            "statefulSet": NAME,
            "port": told.PORT,
        }


def declare(
    name: str, where: ClusterPlace, limits: TierLimits, password: pulumi.Output[str], parent: pulumi.Resource
) -> tuple[ClusterObject, sdk.RegistryEndpoint]:
    """Declares the registry's objects, named from `name`; returns its StatefulSet, and what is there once it serves."""
    place = Place(where.workspace, where.namespace, where.provider, None)
    if where.make_namespace:
        place = dataclasses.replace(place, made=namespace(name, place, "restricted", parent))
    labels = place.labels_of(NAME, _COMPONENT)
    volume = sdk.ClusterVolume(
        f"{name}-volume",
        {
            "cluster": where.cluster,
            "namespace": where.namespace,
            "name": NAME,
            "size_bytes": limits.quota_bytes,
            "storage_class": where.storage_class,
            "labels": labels,
        },
        pulumi.ResourceOptions(
            parent=parent, depends_on=[] if place.made is None else [place.made], deleted_with=place.made
        ),
    )
    files = place.declare(
        f"{name}-configuration",
        ("v1", "Secret"),
        FILES,
        {
            "type": "Opaque",
            "stringData": {
                told.CONFIGURATION: pulumi.Output.secret(password.apply(told.configuration)),
                told.USERS: pulumi.Output.secret(password.apply(told.users)),
            },
        },
        parent,
        labels=labels,
    )
    rules = place.declare(
        f"{name}-rules",
        ("networking.k8s.io/v1", "NetworkPolicy"),
        NAME,
        {"spec": _rules(labels)},
        parent,
        labels=labels,
    )
    entry = place.declare(
        f"{name}-entry",
        ("v1", "Service"),
        NAME,
        {"spec": _entry(where, labels)},
        parent,
        labels=labels,
        annotations=SKIP_AWAIT,  # it is there before the pod that it leads to
    )
    spec = _set(where, limits, labels)
    made = place.declare(
        f"{name}-set",
        ("apps/v1", "StatefulSet"),
        NAME,
        {"spec": spec},
        parent,
        labels=labels,
        annotations=SKIP_AWAIT,
        after=[volume, files, rules, entry],
    )
    endpoint = sdk.RegistryEndpoint(
        f"{name}-endpoint",
        {
            "registry": where.address,
            "username": told.USER,
            "password": password,
            "port_forward": where.port_forward,
            "revision": hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16],
        },
        pulumi.ResourceOptions(parent=parent, depends_on=[made], deleted_with=made),
    )
    return made, endpoint


def _rules(labels: Mapping[str, str]) -> dict[str, Any]:
    """Nothing comes in but requests, which nodes make from their own addresses; nothing goes out."""
    return {
        "podSelector": {"matchLabels": dict(labels)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"protocol": "TCP", "port": told.PORT}]}],
    }


def _entry(where: ClusterPlace, labels: Mapping[str, str]) -> dict[str, Any]:
    port = {"name": "http", "port": told.PORT, "targetPort": "http", "protocol": "TCP", "nodePort": where.node_port}
    return {"type": "NodePort", "selector": dict(labels), "ports": [port]}


def _set(where: ClusterPlace, limits: TierLimits, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "replicas": 1,
        "serviceName": NAME,
        # In order, a pod that never became ready would be waited for before it is replaced by one that may.
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": dict(labels)},
        "template": {
            "metadata": {"labels": dict(labels), "annotations": {"slipway/configuration": told.mark()}},
            "spec": {
                **_pod(where, labels),
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": NAME}},
                    {"name": "configuration", "secret": {"secretName": FILES, "defaultMode": 0o440}},
                ],
                "containers": [_container(where, limits)],
            },
        },
    }


def _pod(where: ClusterPlace, labels: Mapping[str, str]) -> dict[str, Any]:
    shared = pods.pod_members(where.placement, labels, _GRACE_SECONDS, None)
    del shared["topologySpreadConstraints"]  # of one pod
    # The namespace's own account, which may have a secret to pull the image with; of its token the pod gets nothing.
    return {**shared, "serviceAccountName": "default"}


def _container(where: ClusterPlace, limits: TierLimits) -> dict[str, Any]:
    mebibytes = int(limits.memory_bytes * _GO_SHARE) // 2**20
    probe = {"httpGet": {"path": "/", "port": "http"}, "timeoutSeconds": 5}
    return {
        "name": "registry",
        "image": where.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["serve", f"{told.FOLDER}/{told.CONFIGURATION}"],
        "env": [
            {"name": "GOMEMLIMIT", "value": f"{mebibytes}MiB"},
            # The next major version would look for somebody to send traces to.
            {"name": "OTEL_TRACES_EXPORTER", "value": "none"},
        ],
        "ports": [{"name": "http", "containerPort": told.PORT, "protocol": "TCP"}],
        "resources": Resources(
            cpus=_PROMISED_CPUS,
            cpu_limit=limits.cpus,
            memory_bytes=limits.memory_bytes,
            memory_limit_bytes=limits.memory_bytes,
        ).manifest(),
        "securityContext": pods.CONTAINER_RIGHTS,
        "readinessProbe": {**probe, "periodSeconds": 2},
        "livenessProbe": {**probe, "periodSeconds": 30, "failureThreshold": 3},
        "volumeMounts": [
            {"name": "data", "mountPath": told.DATA},
            {"name": "configuration", "mountPath": told.FOLDER, "readOnly": True},
        ],
    }
