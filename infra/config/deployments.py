"""What a service gets on its target: the fields of Azure's `deploymentconfig.json`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from infra.config.base import Section


class DeploymentConfig(Section):
    """What the service gets on its target: the fields of Azure's `deploymentconfig.json` that a local target knows."""

    compute_type: Literal["local"] | None = None
    """Azure's word for the kind of target; must fit the service's compute target."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """TCP port on 127.0.0.1."""


AZURE_DEPLOYMENT_FIELDS = frozenset(
    {
        "containerResourceRequirements",
        "location",
        "authEnabled",
        "sslEnabled",
        "appInsightsEnabled",
        "sslCertificate",
        "sslKey",
        "sslCert",
        "cname",
        "dnsNameLabel",
        "autoScaler",
        "dataCollection",
        "maxConcurrentRequestsPerContainer",
        "maxQueueWaitMs",
        "namespace",
        "numReplicas",
        "scoringTimeoutMs",
        "tokenAuthEnabled",
        "primaryKey",
        "secondaryKey",
        "livenessProbeRequirements",
        "gpuCores",
        "isDefault",
        "trafficPercentile",
    }
)
"""Fields of Azure's `deploymentconfig.json` that only other targets can honour (Azure ML CLI v1)."""
