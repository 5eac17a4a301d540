"""What a web service asks for wherever it runs in containers behind a router: who may ask it, how, and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi

from provider import sdk


@dataclass(frozen=True)
class Liveness:
    """How a target looks whether a container lives. Times in seconds."""

    period: int = 30
    timeout: int = 5
    failures: int = 3
    initial_delay: int | None = None
    """From the container's start; by default the time that it may take to start."""


@dataclass(frozen=True)
class ServerSettings:
    """What the targets with containers know of a service, each in its own way."""

    host: str | None = None
    """The host name in the service's URIs and certificate; by default the target's own, if it has one."""
    tls: bool = False
    """Whether clients reach it over TLS."""
    certificate: pulumi.Input[str] | None = None
    """PEM chain; by default one that the target has made, or one of the workspace's authority."""
    private_key: pulumi.Input[str] | None = None
    authority: sdk.CertificateAuthority | None = None
    """Signs the certificate where none is given, and the target has none made."""
    auth: bool = False
    """Whether clients have to send a key."""
    primary_key: pulumi.Input[str] | None = None
    """By default one that is generated."""
    secondary_key: pulumi.Input[str] | None = None
    secrets: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """Files below /run/secrets, by name."""
    scoring_timeout_ms: int = 60_000
    max_concurrent_requests: int | None = None
    max_queue_wait_ms: int | None = None
    liveness: Liveness = field(default_factory=Liveness)

    def environment(self) -> dict[str, str]:
        """What the scoring server is told of it."""
        settings = {
            "SCORING_TIMEOUT_MS": self.scoring_timeout_ms,
            "SLIPWAY_MAX_CONCURRENT_REQUESTS": self.max_concurrent_requests,
            "SLIPWAY_MAX_QUEUE_WAIT_MS": self.max_queue_wait_ms,
        }
        return {name: str(value) for name, value in settings.items() if value is not None}
