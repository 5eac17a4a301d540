"""A Docker host as a compute target: a container for each replica of each revision, and one router before them all.

A revision's containers carry its name: they are made beside those that serve, and these are deleted last, when the
`Endpoint` was satisfied and the `Route` has moved the traffic. Containers and router meet at Unix sockets in a volume;
the ports that clients connect to are the router's, so that no update closes one.

What the containers are made from is an `ImageSource`'s matter; what a change of each setting does to a container is
that of Pulumi's docker provider, which comes from outside, by the component's options.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict
from urllib.parse import urlsplit

import pulumi
import pulumi_docker as docker

from components.targets.base import STATES, Deployed, Deployment, ImageSource, Service
from components.targets.container_options import (
    GRACE_SECONDS,
    SECRETS,
    SERVICE_PORT,
    TMP,
    ContainerSettings,
    devices_of,
    hardened,
    health_check,
    labels_of,
    limits_of,
    user_of,
)
from components.targets.secrets import access_keys, mark
from provider import sdk
from provider.router import container as router


class ContainerTargetArgs(TypedDict):
    """Arguments of `ContainerTarget`."""

    workspace: str
    """Name of the workspace: what is made on the host is named after it."""
    host: str
    """The Docker engine: `unix:///PATH`, `ssh://[USER@]HOST[:PORT]` or `tcp://HOST:PORT`."""
    cert_path: NotRequired[str | None]
    """Folder with `ca.pem`, `cert.pem` and `key.pem` for an engine at `tcp://`."""
    bind: NotRequired[str]
    """Address of the host to listen on; by default all of IPv4."""
    router_image: pulumi.Input[str]
    """The router's image, `HOST/REPOSITORY@DIGEST`."""
    images: ImageSource
    """Makes the services' images."""


class _Access(TypedDict, total=False):
    """What a route lets in, and how."""

    certificate: pulumi.Input[str]
    private_key: pulumi.Input[str]
    primary_key: pulumi.Input[str]
    secondary_key: pulumi.Input[str]


@dataclass(frozen=True)
class _Wanted:
    """One deployment of a service that is to run here."""

    name: str
    """What its resources are named from."""
    key: str
    service: str
    deployment: Deployment
    settings: ContainerSettings
    parent: pulumi.Resource

    def environment(self) -> dict[str, str]:
        """The environment variables that say what it does."""
        deployment = self.deployment
        return {
            **deployment.environment.environment_variables,
            **deployment.environment_variables,
            **self.settings.environment(),
        }


@dataclass(frozen=True)
class _Running:
    """The containers of one deployment."""

    names: pulumi.Output[Sequence[str]]
    ids: pulumi.Output[Sequence[str]]
    sockets: Sequence[str]
    revision: str


@dataclass(frozen=True)
class _Secrets:
    """A volume with files, and how to wait until they are there."""

    volume: docker.Volume
    filled: pulumi.ResourceOptions


class ContainerTarget(pulumi.ComponentResource):
    """A Docker host: its network, its volumes, its router. Services are deployed to it."""

    def __init__(self, name: str, args: ContainerTargetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """`opts.providers` has the docker provider of that host."""
        super().__init__("slipway:components:ContainerTarget", name, {}, opts)
        self._prefix = f"slipway-{args['workspace']}"
        self._workspace = args["workspace"]
        self._bind = args.get("bind")
        self._images = args["images"]
        self._renamed: set[str] = set()
        engine = {"host": args["host"], "certPath": args.get("cert_path")}
        self._engine = {key: value for key, value in engine.items() if value is not None}
        self._provider = self.get_provider("docker:index/container:Container")
        below = pulumi.ResourceOptions(parent=self)
        labels = [docker.NetworkLabelArgs(label="slipway.workspace", value=self._workspace)]
        volume_labels = [docker.VolumeLabelArgs(label="slipway.workspace", value=self._workspace)]
        self._network = docker.Network(f"{name}-network", name=self._prefix, driver="bridge", labels=labels, opts=below)
        # In memory, for the group of the router, where no service can take away what another one put there.
        self._run = docker.Volume(
            f"{name}-run",
            name=f"{self._prefix}-run",
            driver="local",
            driver_opts={
                "type": "tmpfs",
                "device": "tmpfs",
                "o": f"size=1m,mode=3770,uid={router.USER},gid={router.USER}",
            },
            labels=volume_labels,
            opts=below,
        )
        settings = docker.Volume(
            f"{name}-router-settings", name=f"{self._prefix}-router", labels=volume_labels, opts=below
        )
        self._router = self._make_router(name, args["router_image"], settings, below)
        self.register_outputs({"router": self._router.name})

    def _make_router(
        self, name: str, reference: pulumi.Input[str], settings: docker.Volume, opts: pulumi.ResourceOptions
    ) -> docker.Container:
        image = docker.RemoteImage(f"{name}-router-image", name=reference, opts=opts)
        return docker.Container(
            f"{name}-router",
            name=f"{self._prefix}-router",
            image=image.name,
            entrypoints=router.command(),
            # The host's own network: a service with a new port needs no new router.
            network_mode="host",
            volumes=[
                docker.ContainerVolumeArgs(volume_name=self._run.name, container_path=router.SOCKETS),
                docker.ContainerVolumeArgs(volume_name=settings.name, container_path=router.CONFIGURATION),
            ],
            tmpfs={router.RUNTIME: f"rw,noexec,nosuid,nodev,size=16m,mode=0770,uid={router.USER},gid={router.USER}"},
            healthcheck=docker.ContainerHealthcheckArgs(
                tests=["CMD", *router.health_command()], interval="30s", timeout="5s", retries=3
            ),
            stop_signal=router.STOP_SIGNAL,
            labels=labels_of({"slipway.workspace": self._workspace, "slipway.router": "true"}),
            **hardened(router.USER),
            opts=opts,
        )

    def deploy(self, name: str, service: Service, parent: pulumi.Resource) -> Deployed:
        """Containers and an `Endpoint` for each deployment, and the service's `Route`."""
        settings: ContainerSettings = service.settings or ContainerSettings()
        running = {
            key: self._deployment(_Wanted(f"{name}-{key}", key, service.name, deployment, settings, parent))
            for key, deployment in service.deployments.items()
        }
        more: dict[str, Any] = {}
        access = self._tls(name, service.name, settings, parent, more)
        access |= self._keys(name, service.name, settings, parent, more)
        route = self._route(name, service, settings, running, access, parent)
        states = pulumi.Output.all(*(endpoint.state for _, endpoint in running.values()))
        if len(service.deployments) > 1:
            more["deployments"] = {
                key: {
                    "state": endpoint.state,
                    "revision": containers.apply(lambda known: known.revision),
                    "traffic": service.deployments[key].weight,
                }
                for key, (containers, endpoint) in running.items()
            }
        return Deployed(
            state=pulumi.Output.all(states, route.scoring_uri).apply(lambda known: max(known[0], key=STATES.index)),
            revision=route.revision,
            scoring_uri=route.scoring_uri,
            swagger_uri=route.swagger_uri,
            more=more,
        )

    def _deployment(self, wanted: _Wanted) -> tuple[pulumi.Output[_Running], sdk.Endpoint]:
        deployment = wanted.deployment
        image = self._images(wanted.name, wanted.service, wanted.key, SERVICE_PORT, deployment, wanted.parent)
        secrets = mark(wanted.settings.secrets)
        # Not by the image's reference: in a preview of another image that is not known, and what runs it is.
        running = pulumi.Output.all(image.revision, secrets).apply(
            lambda known: self._containers(wanted, _revision(wanted, *known), image.reference)
        )
        endpoint = sdk.Endpoint(
            f"{wanted.name}-endpoint",
            {
                "target": {
                    "kind": "container",
                    "engine": self._engine,
                    "service": wanted.service,
                    "containers": running.apply(lambda known: known.names),
                    "image": image.reference,
                    **({} if deployment.cpus is None else {"cpus": deployment.cpus}),
                    **({} if deployment.memory_bytes is None else {"memoryBytes": deployment.memory_bytes}),
                },
                "revision": running.apply(lambda known: known.revision),
                "sample_request": deployment.sample_request,
                "timeout_seconds": deployment.startup_timeout_seconds,
                "models": [model.reference for model in deployment.models],
            },
            pulumi.ResourceOptions(parent=wanted.parent),
        )
        return running, endpoint

    def _containers(self, wanted: _Wanted, revision: str, reference: pulumi.Output[str]) -> _Running:
        below = pulumi.ResourceOptions(parent=wanted.parent, provider=self._provider)
        image: pulumi.Output[str] = reference.apply(lambda known: self._pulled(wanted, known, below).name)
        short = revision[:8]
        names = [
            f"{self._prefix}-{wanted.service}-{wanted.key}-{short}-{replica}"
            for replica in range(wanted.deployment.replicas)
        ]
        secrets = None
        if wanted.settings.secrets:
            place = f"{self._prefix}-{wanted.service}-{wanted.key}-{short}-secrets"
            secrets = self._secrets(f"{wanted.name}-{short}-secrets", place, wanted, image, below)
        containers = [
            self._container(f"{wanted.name}-{short}-{replica}", name, wanted, revision, image, secrets, below)
            for replica, name in enumerate(names)
        ]
        made = pulumi.Output.all(*(container.name for container in containers))
        ids = pulumi.Output.all(*(container.id for container in containers))
        return _Running(made, ids, [_socket(name) for name in names], revision)

    def _container(
        self,
        resource: str,
        name: str,
        wanted: _Wanted,
        revision: str,
        image: pulumi.Output[str],
        secrets: _Secrets | None,
        opts: pulumi.ResourceOptions,
    ) -> docker.Container:
        settings = wanted.settings
        environment = {
            **wanted.environment(),
            "SLIPWAY_REVISION": revision,
            "SLIPWAY_UNIX_SOCKET": _socket(name),
            "SLIPWAY_GRACE_SECONDS": str(GRACE_SECONDS),
        }
        volumes = [docker.ContainerVolumeArgs(volume_name=self._run.name, container_path=router.SOCKETS)]
        if secrets is not None:
            volumes.append(
                docker.ContainerVolumeArgs(volume_name=secrets.volume.name, container_path=SECRETS, read_only=True)
            )
        labels = {
            "slipway.workspace": self._workspace,
            "slipway.service": wanted.service,
            "slipway.deployment": wanted.key,
            "slipway.revision": revision,
        }
        return docker.Container(
            resource,
            name=name,
            image=image,
            envs=[f"{variable}={value}" for variable, value in sorted(environment.items())],
            networks_advanced=[docker.ContainerNetworksAdvancedArgs(name=self._network.name)],
            volumes=volumes,
            tmpfs=TMP,
            healthcheck=health_check(settings.liveness, wanted.deployment.startup_timeout_seconds),
            labels=labels_of(labels),
            **limits_of(wanted.deployment),
            **devices_of(settings),
            **hardened(user_of(wanted.service)),
            opts=opts if secrets is None else pulumi.ResourceOptions.merge(opts, secrets.filled),
        )

    def _secrets(
        self, name: str, place: str, wanted: _Wanted, image: pulumi.Output[str], opts: pulumi.ResourceOptions
    ) -> _Secrets:
        """A volume with a revision's secrets as files. A container that never runs has them put there: those that run
        have a read-only file system, to which nothing is uploaded."""
        labels = {"slipway.workspace": self._workspace}
        volume = docker.Volume(
            name,
            name=place,
            labels=[docker.VolumeLabelArgs(label=label, value=value) for label, value in labels.items()],
            opts=opts,
        )
        filler = docker.Container(
            f"{name}-filler",
            name=place,
            image=image,
            start=False,
            must_run=False,
            network_mode="none",
            volumes=[docker.ContainerVolumeArgs(volume_name=volume.name, container_path=SECRETS)],
            uploads=[
                docker.ContainerUploadArgs(
                    file=f"{SECRETS}/{secret}", content=pulumi.Output.secret(content), permissions="0444"
                )
                for secret, content in sorted(wanted.settings.secrets.items())
            ],
            labels=labels_of(labels),
            opts=opts,
        )
        return _Secrets(volume, pulumi.ResourceOptions(depends_on=[filler]))

    def _tls(
        self, name: str, service: str, settings: ContainerSettings, parent: pulumi.Resource, more: dict[str, Any]
    ) -> _Access:
        """The certificate that the router shows, and its key; `more` gets what clients are to trust."""
        if not settings.tls:
            return {}
        if settings.certificate is not None and settings.private_key is not None:
            return {"certificate": settings.certificate, "private_key": settings.private_key}
        if settings.authority is None:
            raise ValueError(f"the service {service} needs a certificate, or an authority that makes one")
        certificate = sdk.Certificate(
            f"{name}-certificate",
            {
                "ca_certificate": settings.authority.certificate,
                "ca_private_key": settings.authority.private_key,
                "common_name": settings.host or service,
                "names": self._names(settings),
            },
            pulumi.ResourceOptions(parent=parent),
        )
        more["caCertificate"] = settings.authority.certificate
        return {"certificate": certificate.certificate, "private_key": certificate.private_key}

    @staticmethod
    def _keys(
        name: str, service: str, settings: ContainerSettings, parent: pulumi.Resource, more: dict[str, Any]
    ) -> _Access:
        """The keys that clients may send; `more` gets them too, for whoever is to hand them out."""
        if not settings.auth:
            return {}
        keys = access_keys(name, service, settings.primary_key, settings.secondary_key, parent)
        more |= {f"{which}Key": key for which, key in keys.items()}
        return {"primary_key": keys["primary"], "secondary_key": keys["secondary"]}

    def _names(self, settings: ContainerSettings) -> list[str]:
        """The names that clients may connect to."""
        host = urlsplit(self._engine["host"]).hostname
        names = [settings.host, host, "localhost", "127.0.0.1"]
        if self._bind is not None and not ipaddress.ip_address(self._bind).is_unspecified:
            names.append(self._bind)
        return list(dict.fromkeys(name for name in names if name))

    def _pulled(self, wanted: _Wanted, reference: str, opts: pulumi.ResourceOptions) -> docker.RemoteImage:
        """A deployment's image on the host, one for all its containers: where the resource goes, the image goes too."""
        short = reference.rpartition(":")[2][:8]
        # Its name before deployments had one each: deployments of the same content have images of the same digest.
        before = f"{wanted.service}-pulled-{short}"
        aliases = [] if before in self._renamed else [pulumi.Alias(name=before)]
        self._renamed.add(before)
        return docker.RemoteImage(
            f"{wanted.name}-pulled-{short}",
            name=reference,
            opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(aliases=aliases)),
        )

    def _route(
        self,
        name: str,
        service: Service,
        settings: ContainerSettings,
        running: Mapping[str, tuple[pulumi.Output[_Running], sdk.Endpoint]],
        access: _Access,
        parent: pulumi.Resource,
    ) -> sdk.Route:
        return sdk.Route(
            f"{name}-route",
            {
                "engine": self._engine,
                "router": self._router.name,
                "service": service.name,
                "port": service.port,
                "bind": self._bind,
                "host": settings.host,
                "scoring_timeout_ms": settings.scoring_timeout_ms,
                **access,
                "deployments": [
                    {
                        "name": key,
                        "revision": containers.apply(lambda known: known.revision),
                        "weight": service.deployments[key].weight,
                        "sockets": containers.apply(lambda known: known.sockets),
                    }
                    for key, (containers, _) in running.items()
                ],
                "containers": pulumi.Output.all(*(_ids(containers) for containers, _ in running.values())).apply(
                    lambda each: [one for ids in each for one in ids]
                ),
            },
            # Traffic moves to what was verified.
            pulumi.ResourceOptions(parent=parent, depends_on=[endpoint for _, endpoint in running.values()]),
        )


def _ids(containers: pulumi.Output[_Running]) -> pulumi.Output[Sequence[str]]:
    return containers.apply(lambda known: known.ids)


def _socket(container: str) -> str:
    return f"{router.SOCKETS}/{container}.sock"


def _revision(wanted: _Wanted, image: str, secrets: str) -> str:
    """Names what a container runs and how: 16 hexadecimal digits. What changes in place is no part of it."""
    settings, deployment = wanted.settings, wanted.deployment
    # A limit changes in place, but an engine cannot take one away again.
    limited = [deployment.cpus is not None, deployment.memory_bytes is not None]
    identity = [wanted.environment(), settings.gpus, list(settings.devices), user_of(wanted.service), limited, secrets]
    return hashlib.sha256(json.dumps([image, identity], sort_keys=True).encode()).hexdigest()[:16]
