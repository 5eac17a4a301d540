"""What a Kubernetes target and its services are asked for, in words that `infra` and the components share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi

from components.targets.pods import thousandths
from components.targets.server_settings import ServerSettings

IN_FLIGHT: Final = "slipway_requests_in_flight"
"""The scoring server's own name for the requests that it has read and not answered."""
CUSTOM_METRICS: Final = "custom.metrics.k8s.io"
"""The group of the API that tells autoscalers of such."""


@dataclass(frozen=True)
class Ingress:
    """An ingress controller that lets requests in."""

    class_name: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    issuer: tuple[str, str] | None = None
    """Kind and name of cert-manager's issuer, where it makes the certificates."""


@dataclass(frozen=True)
class Gateway:
    """A gateway that lets requests in, and splits them."""

    name: str
    namespace: str | None = None
    section_name: str | None = None


@dataclass(frozen=True)
class PullAccess:
    """How nodes get into the registry."""

    registry: pulumi.Input[str]
    """HOST[:PORT]."""
    username: pulumi.Input[str]
    password: pulumi.Input[str]


@dataclass(frozen=True)
class AutoScaling:
    """How many pods run, by the CPU that they use or by the requests that they have."""

    least: int
    most: int
    percent: int
    """Of the CPU that a pod is promised, or of the requests that it takes at once."""
    refresh_seconds: int | None = None
    """How soon after pods were added more may be; None: the cluster's own."""
    requests: int | None = None
    """How many requests a pod takes at once, where the requests in flight count; None: the CPU does."""

    @property
    def api(self) -> str:
        """The group of the API that tells the autoscaler."""
        return "metrics.k8s.io" if self.requests is None else CUSTOM_METRICS

    def metric(self) -> dict[str, Any]:
        """As a HorizontalPodAutoscaler has it."""
        if self.requests is None:
            target = {"type": "Utilization", "averageUtilization": self.percent}
            return {"type": "Resource", "resource": {"name": "cpu", "target": target}}
        average = {"type": "AverageValue", "averageValue": thousandths(self.percent * self.requests * 10)}
        return {"type": "Pods", "pods": {"metric": {"name": IN_FLIGHT}, "target": average}}


@dataclass(frozen=True)
class KubernetesSettings(ServerSettings):
    """What only this kind of target knows of a service."""

    scaling: AutoScaling | None = None
    """In the place of the deployments' replicas."""
    extended: Mapping[str, int] = field(default_factory=dict)
    """How many of each extended resource a pod gets."""
    priority_class: str | None = None
    """By default the target's."""
