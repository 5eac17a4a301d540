"""The section `computeTargets`: where services run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from infra.config.base import AssetName, IpAddress, Path, Section

DEFAULT_HOST = "unix:///var/run/docker.sock"
"""The engine of the machine that runs Slipway."""

_HOST = re.compile(r"unix://(/[^\s]+)|ssh://([^\s@/]+@)?[^\s@/:]+(:\d+)?/?|tcp://[^\s@/:]+:\d+/?")


def _engine_host(address: str) -> str:
    if _HOST.fullmatch(address) is None:
        raise ValueError(
            f"{address!r} is no address of a Docker engine: unix:///PATH, ssh://HOST (USER@HOST for another user) "
            f"or tcp://HOST:PORT"
        )
    return address


def _domain(name: str) -> str:
    if re.fullmatch(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", name):
        return name
    raise ValueError(f"{name!r} is no domain name: labels of a-z, 0-9 and '-', with dots between them")


def _device(path: str) -> str:
    if not path.startswith("/dev/"):
        raise ValueError(f"{path!r} is no device: its path on the host begins with /dev/")
    return path


Domain = Annotated[str, AfterValidator(_domain)]


class LocalTarget(Section):
    """This machine: services run as supervised processes, without a container."""

    kind: Literal["local"]
    """The kind of target."""


class ContainerTarget(Section):
    """A Docker host, in the place of Azure Container Instances: services run as containers behind a router."""

    kind: Literal["container"]
    """The kind of target."""
    host: Annotated[str, AfterValidator(_engine_host)] = DEFAULT_HOST
    """The engine: `unix:///PATH`, `ssh://[USER@]HOST[:PORT]` or `tcp://HOST:PORT`; by default this machine's."""
    cert_path: Path | None = None
    """Folder with `ca.pem`, `cert.pem` and `key.pem` for an engine at `tcp://`, relative to the project's folder."""
    bind: IpAddress = "0.0.0.0"  # noqa: S104 - as Azure's services are public
    """Address of the host that services listen on; by default all of IPv4."""
    domain: Domain | None = None
    """Domain below which a service's `dnsNameLabel` stands; its records are yours to make."""
    platform: Literal["linux/amd64", "linux/arm64"] = "linux/amd64"
    """The host's, which images are made for."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """How many GPUs the host has (NVIDIA's container toolkit has to be set up there)."""
    devices: Mapping[AssetName, Annotated[str, AfterValidator(_device)]] = {}
    """Other devices of the host that deployments may name: `fpga: /dev/xdma0`."""

    @model_validator(mode="after")
    def _certificates_go_with_tcp(self) -> Self:
        tcp = self.host.startswith("tcp://")
        if tcp and self.cert_path is None:
            raise ValueError("has a `host` at tcp://, which needs TLS: give `certPath`, or reach it by ssh://")
        if not tcp and self.cert_path is not None:
            raise ValueError("has a `certPath`, which only a `host` at tcp:// needs; remove it")
        return self


ComputeTarget = Annotated[LocalTarget | ContainerTarget, Field(discriminator="kind")]
"""Every kind of compute target."""
