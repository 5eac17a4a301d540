"""The router of a service on Kubernetes, where nothing else in the cluster splits its traffic or speaks TLS: HAProxy as
a Deployment of its own. Its configuration is a ConfigMap with its content's digest in the name, so that a change is a
rolling update like that of any service.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi

from components.targets import pods
from components.targets.objects import (
    AWAITED_IN_THE_END,
    PROGRESS_SECONDS,
    Place,
    disruption_budget,
    rolling_update,
)
from components.targets.pods import Placement, Resources
from provider import sdk
from provider.router import cluster as router
from provider.router import refusal
from provider.router.configuration import certificate_file
from provider.router.container import RUNTIME, USER

REPLICAS: Final = 2
_IDLE_SECONDS = 60
"""How long a router that ends leaves idle connections open: their clients' next requests are answered."""
_PATIENCE_SECONDS: Final = PROGRESS_SECONDS + 60
"""When Kubernetes itself has given a rollout up, and its pods tell why."""
_RESOURCES = Resources(cpus=0.1, memory_bytes=64 * 2**20)


@dataclass(frozen=True)
class Backend:
    """A deployment of the service."""

    weight: int
    """Percent of the requests."""
    address: pulumi.Input[str]
    """HOST:PORT of its Service."""


@dataclass(frozen=True)
class RouterArgs:
    """What a router is made of."""

    service: str
    labels: Mapping[str, str]
    image: pulumi.Input[str]
    backends: Mapping[str, Backend]
    """By deployment."""
    scoring_timeout_ms: int
    placement: Placement
    pull_secret: str | None = None
    certificate: pulumi.Input[str] | None = None
    """The Secret with the certificate and its key; None: no TLS."""


def declare(
    place: Place,
    cluster: Mapping[str, str],
    resource: str,
    args: RouterArgs,
    parent: pulumi.Resource,
    after: Sequence[pulumi.Resource],
) -> sdk.RouterEndpoint:
    """Declares the router's objects; returns what is there once the new configuration is served. `cluster`: how the
    provider finds the cluster.

    A configuration is made after `after`: traffic moves to what is there by then."""
    name = f"{args.service}-router"
    addresses = pulumi.Output.all(**{key: backend.address for key, backend in args.backends.items()})
    text, refusals = addresses.apply(lambda known: _configuration(args, known)), refusal.script()
    configuration = place.declare(
        f"{resource}-configuration",
        ("v1", "ConfigMap"),
        text.apply(lambda known: f"{name}-{hashlib.sha256((known + refusals).encode()).hexdigest()[:8]}"),
        {"data": {router.FILE: text, refusal.FILE: refusals}, "immutable": True},
        parent,
        labels=args.labels,
        after=after,
    )
    template = _template(args, configuration.name)
    revision = pulumi.Output.from_input(template).apply(_revision)
    marked = _marked(template, revision)
    spec = {"replicas": REPLICAS, **rolling_update(args.labels, marked, PROGRESS_SECONDS)}
    disruption_budget(place, f"{resource}-disruption", name, args.labels, parent)
    made = place.declare(
        f"{resource}-deployment",
        ("apps/v1", "Deployment"),
        name,
        {"spec": spec},
        parent,
        labels=args.labels,
        # Its pods end what they have begun before the deployments behind it go.
        annotations=AWAITED_IN_THE_END,
        after=after,
    )
    # That it serves is what moves the traffic.
    return sdk.RouterEndpoint(
        f"{resource}-endpoint",
        {
            "target": {
                "kind": "kubernetes",
                "cluster": cluster,
                "namespace": place.namespace,
                "service": args.service,
                "deployment": made.name,
                "port": router.METRICS_PORT,
            },
            "revision": revision,
            "timeout_seconds": _PATIENCE_SECONDS,
        },
        pulumi.ResourceOptions(parent=parent),
    )


def _revision(template: Mapping[str, Any]) -> str:
    """Names what a router's pods are made from: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(template["spec"], sort_keys=True).encode()).hexdigest()[:16]


def _marked(template: Mapping[str, Any], revision: pulumi.Input[str]) -> dict[str, Any]:
    """The template of pods that tell what they are made from: so the old ones are known from the new."""
    return {**template, "metadata": {**template["metadata"], "annotations": {pods.REVISION: revision}}}


def _configuration(args: RouterArgs, addresses: Mapping[str, str]) -> str:
    return router.configuration(
        args.service,
        {key: backend.weight for key, backend in args.backends.items()},
        addresses,
        tls=args.certificate is not None,
        scoring_timeout_ms=args.scoring_timeout_ms,
    )


def _template(args: RouterArgs, configuration: pulumi.Input[str]) -> dict[str, Any]:
    seconds = -(-args.scoring_timeout_ms // 1000)
    grace = pods.STOP_SECONDS + max(_IDLE_SECONDS, seconds) + 5
    volumes: list[dict[str, Any]] = [
        {"name": "configuration", "configMap": {"name": configuration, "defaultMode": 0o440}},
        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
    ]
    mounts: list[dict[str, Any]] = [
        {"name": "configuration", "mountPath": router.FOLDER, "readOnly": True},
        {"name": "run", "mountPath": RUNTIME},
    ]
    if args.certificate is not None:
        # HAProxy looks for the key beside the certificate, under this name.
        file = certificate_file(args.service).rpartition("/")
        items = [{"key": "tls.crt", "path": file[2]}, {"key": "tls.key", "path": f"{file[2]}.key"}]
        shown = {"secretName": args.certificate, "defaultMode": 0o440, "items": items}
        volumes.append({"name": "tls", "secret": shown})
        mounts.append({"name": "tls", "mountPath": file[0], "readOnly": True})
    probe = {"httpGet": {"path": "/ready", "port": "metrics"}, "timeoutSeconds": 5}
    container = {
        "name": "router",
        "image": args.image,
        "imagePullPolicy": "IfNotPresent",
        "command": router.command(),
        "ports": [
            {"name": "http", "containerPort": router.PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": router.METRICS_PORT, "protocol": "TCP"},
        ],
        "resources": _RESOURCES.manifest(),
        "securityContext": pods.CONTAINER_RIGHTS,
        "readinessProbe": {**probe, "periodSeconds": 2},
        "livenessProbe": {**probe, "periodSeconds": 30},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(pods.STOP_SECONDS)]}}},
        "volumeMounts": mounts,
    }
    shared = pods.pod_members(args.placement, args.labels, grace, args.pull_secret)
    rights = {**shared["securityContext"], "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}
    return {
        "metadata": {"labels": dict(args.labels)},
        "spec": {**shared, "securityContext": rights, "volumes": volumes, "containers": [container]},
    }
