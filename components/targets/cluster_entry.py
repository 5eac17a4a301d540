"""How requests reach a service on Kubernetes: its Services, and what stands before them, a router, an Ingress or a
route of a gateway, with the certificate that clients are shown.

All of it comes after the endpoints of what it leads to: traffic moves only to what was verified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import pulumi

from components.targets import cluster_router
from components.targets.base import Service
from components.targets.cluster_settings import Gateway, Ingress, KubernetesSettings
from components.targets.objects import SKIP_AWAIT, ClusterObject, Place
from components.targets.pods import Placement
from components.targets.secrets import tls_pair, tls_secret
from provider import sdk
from provider.router.refusal import HEADER

Exposure = Literal["clusterIp", "nodePort", "loadBalancer"]
_TYPES: Final[Mapping[Exposure, str]] = {
    "clusterIp": "ClusterIP",
    "nodePort": "NodePort",
    "loadBalancer": "LoadBalancer",
}
_BACKEND_PORT = 80
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Front:
    """What a target has before its services."""

    cluster: Mapping[str, str]
    """How the provider finds the cluster."""
    expose: Exposure = "clusterIp"
    ingress: Ingress | None = None
    gateway: Gateway | None = None
    router_image: pulumi.Input[str] | None = None
    """Where a service may need a router."""
    pull_secret: str | None = None

    @property
    def is_inside(self) -> bool:
        """Whether clients outside the cluster have no way in by it."""
        return self.expose == "clusterIp" and self.ingress is None and self.gateway is None


@dataclass(frozen=True)
class Behind:
    """A deployment that requests are to reach."""

    labels: Mapping[str, str]
    """Of its pods."""
    weight: int
    """Percent of the requests."""


@dataclass(frozen=True)
class Reached:
    """How a service is reached."""

    uri: pulumi.Output[str]
    """Without a path."""
    last: ClusterObject
    """What was declared last: once it is there, requests find their way."""
    more: Mapping[str, Any]
    """What else clients need to know."""


@dataclass(frozen=True)
class Entry:
    """The way in to one service, to be declared."""

    place: Place
    front: Front
    name: str
    """What its resources are named from."""
    service: Service
    settings: KubernetesSettings
    placement: Placement
    """Of a router's pods."""
    behind: Mapping[str, Behind]
    """By deployment."""
    parent: pulumi.Resource
    after: Sequence[pulumi.Resource]
    """What has to be there before requests come."""

    def declare(self) -> Reached:
        """Declares it."""
        if self.front.gateway is not None:
            route = self._route(self.front.gateway)
            return Reached(self._outside(None), route, {})
        secret, more = self._certificate()
        front = self._routed(secret) if self._has_router() else self._direct()
        if self.front.ingress is None:
            return Reached(self._inside(front), front, {**more, **self._node_port(front)})
        ingress = self._ingress(self.front.ingress, secret, front)
        return Reached(self._outside(ingress), ingress, more)

    def _has_router(self) -> bool:
        return len(self.behind) > 1 or (self.settings.tls and self.front.ingress is None)

    def _object(
        self,
        what: str,
        kind: tuple[str, str],
        name: pulumi.Input[str],
        body: Mapping[str, Any],
        *,
        annotations: Mapping[str, str] | None = None,
        after: Sequence[pulumi.Resource] = (),
    ) -> ClusterObject:
        labels = self.place.labels_of(self.service.name)
        return self.place.declare(
            f"{self.name}-{what}", kind, name, body, self.parent, labels=labels, annotations=annotations, after=after
        )

    # -- Services

    def _service(
        self, what: str, name: str, labels: Mapping[str, str], port: int, kind: str, after: Sequence[pulumi.Resource]
    ) -> ClusterObject:
        """Leads to the pods with `labels`."""
        spec = {
            "type": kind,
            "selector": dict(labels),
            # A preview has the API server merge them by their numbers, former ones among them: no name is there twice.
            "ports": [{"name": f"http-{port}", "port": port, "targetPort": "http", "protocol": "TCP"}],
        }
        return self._object(what, ("v1", "Service"), name, {"spec": spec}, annotations=SKIP_AWAIT, after=after)

    def _own(self, labels: Mapping[str, str], after: Sequence[pulumi.Resource]) -> ClusterObject:
        """The service's own, which clients come to."""
        kind = _TYPES[self.front.expose]
        return self._service("service", self.service.name, labels, self.service.port, kind, [*self.after, *after])

    def _direct(self) -> ClusterObject:
        (only,) = self.behind.values()
        return self._own(only.labels, ())

    def _backends(self) -> dict[str, ClusterObject]:
        """One for each deployment, inside the cluster."""
        return {
            key: self._service(
                f"{key}-service", f"{self.service.name}-{key}", item.labels, _BACKEND_PORT, "ClusterIP", ()
            )
            for key, item in self.behind.items()
        }

    def _routed(self, secret: ClusterObject | None) -> ClusterObject:
        """The Service of a router, and the router."""
        image = self.front.router_image
        if image is None:
            raise ValueError(f"the service {self.service.name} needs a router, and its target has no image for one")
        labels = self.place.labels_of(self.service.name, "router")
        args = cluster_router.RouterArgs(
            service=self.service.name,
            labels=labels,
            image=image,
            backends={
                key: cluster_router.Backend(self.behind[key].weight, backend.assigned.apply(_address))
                for key, backend in self._backends().items()
            },
            scoring_timeout_ms=self.settings.scoring_timeout_ms,
            placement=self.placement,
            pull_secret=self.front.pull_secret,
            # Behind an ingress, that has it.
            certificate=None if secret is None or self.front.ingress is not None else secret.name,
        )
        router = cluster_router.declare(
            self.place, self.front.cluster, f"{self.name}-router", args, self.parent, self.after
        )
        return self._own(labels, [router])

    # -- what stands before them

    def _ingress(self, ingress: Ingress, secret: ClusterObject | None, front: ClusterObject) -> ClusterObject:
        annotations = {**SKIP_AWAIT, **ingress.annotations}
        secret_name: pulumi.Input[str] = f"{self.service.name}-tls"
        if secret is not None:
            secret_name = secret.name
        elif self.settings.tls and ingress.issuer is not None:
            kind, issuer = ingress.issuer
            annotations[f"cert-manager.io/{'cluster-issuer' if kind == 'ClusterIssuer' else 'issuer'}"] = issuer
        host = self.settings.host
        backend = {"service": {"name": front.name, "port": {"number": self.service.port}}}
        paths = {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}
        spec: dict[str, Any] = {"rules": [{**({} if host is None else {"host": host}), "http": paths}]}
        if ingress.class_name is not None:
            spec["ingressClassName"] = ingress.class_name
        if self.settings.tls:
            spec["tls"] = [{**({} if host is None else {"hosts": [host]}), "secretName": secret_name}]
        kind_of = ("networking.k8s.io/v1", "Ingress")
        return self._object("ingress", kind_of, self.service.name, {"spec": spec}, annotations=annotations)

    def _route(self, gateway: Gateway) -> ClusterObject:
        several = len(self.behind) > 1
        backends = self._backends() if several else dict.fromkeys(self.behind, self._direct())
        port = _BACKEND_PORT if several else self.service.port
        reference = {"name": gateway.name, "namespace": gateway.namespace, "sectionName": gateway.section_name}
        everything = {"type": "PathPrefix", "value": "/"}
        picked = [
            {
                "matches": [{"path": everything, "headers": [{"type": "Exact", "name": HEADER, "value": key}]}],
                "backendRefs": [{"name": backend.name, "port": port}],
            }
            for key, backend in backends.items()
        ]
        shared = [
            {"name": backend.name, "port": port, "weight": self.behind[key].weight} for key, backend in backends.items()
        ]
        spec = {
            "parentRefs": [{key: value for key, value in reference.items() if value is not None}],
            **({} if self.settings.host is None else {"hostnames": [self.settings.host]}),
            "rules": [*(picked if several else ()), {"matches": [{"path": everything}], "backendRefs": shared}],
        }
        kind = ("gateway.networking.k8s.io/v1", "HTTPRoute")
        return self._object("route", kind, self.service.name, {"spec": spec}, annotations=SKIP_AWAIT, after=self.after)

    # -- the certificate

    def _certificate(self) -> tuple[ClusterObject | None, dict[str, Any]]:
        """The Secret with the certificate and its key, and what clients are to trust. None where there is no TLS, and
        where cert-manager makes it."""
        settings = self.settings
        if not settings.tls:
            return None, {}
        if settings.certificate is not None and settings.private_key is not None:
            pair = tls_pair(self.service.name, settings.certificate, settings.private_key, settings.host)
            return self._tls_secret(*pair), {}
        if self.front.ingress is not None and self.front.ingress.issuer is not None:
            return None, {}
        if settings.authority is None:
            raise ValueError(f"the service {self.service.name} needs a certificate, or an authority that makes one")
        made = sdk.Certificate(
            f"{self.name}-certificate",
            {
                "ca_certificate": settings.authority.certificate,
                "ca_private_key": settings.authority.private_key,
                "common_name": settings.host or self.service.name,
                "names": self._names(),
            },
            pulumi.ResourceOptions(parent=self.parent),
        )
        secret = self._tls_secret(made.certificate, made.private_key)
        return secret, {"caCertificate": settings.authority.certificate}

    def _tls_secret(self, certificate: pulumi.Input[str], private_key: pulumi.Input[str]) -> ClusterObject:
        name, body = tls_secret(self.service.name, certificate, private_key)
        return self._object("tls", ("v1", "Secret"), name, body)

    def _names(self) -> list[str]:
        """The names that clients may connect to."""
        name, inner = self.service.name, f"{self.service.name}.{self.place.namespace}"
        inside = [name, inner, f"{inner}.svc", f"{inner}.svc.cluster.local", "localhost", "127.0.0.1"]
        return inside if self.settings.host is None else [self.settings.host, *inside]

    # -- the URI

    def _inside(self, front: ClusterObject) -> pulumi.Output[str]:
        """Where a balancer has an address, that; else the name inside the cluster."""
        if self.front.expose == "loadBalancer":
            return front.status.apply(lambda status: self._uri(self.settings.host or _balancer(status)))
        return pulumi.Output.from_input(self._uri(self.settings.host))

    def _outside(self, ingress: ClusterObject | None) -> pulumi.Output[str]:
        if self.settings.host is not None or ingress is None:
            return pulumi.Output.from_input(self._uri(self.settings.host))
        return ingress.status.apply(lambda status: self._uri(_balancer(status)))

    def _uri(self, host: str | None) -> str:
        scheme, port = "https" if self.settings.tls else "http", self.service.port
        host = host or f"{self.service.name}.{self.place.namespace}.svc"
        return f"{scheme}://{host}" if port == _DEFAULT_PORTS[scheme] else f"{scheme}://{host}:{port}"

    def _node_port(self, front: ClusterObject) -> dict[str, Any]:
        if self.front.expose != "nodePort":
            return {}
        return {"nodePort": front.assigned.apply(lambda spec: spec["ports"][0].get("nodePort"))}


def _address(spec: Mapping[str, Any]) -> str:
    # A preview may not know it.
    address = str(spec.get("clusterIP") or "unassigned")
    return f"[{address}]:{_BACKEND_PORT}" if ":" in address else f"{address}:{_BACKEND_PORT}"


def _balancer(status: Mapping[str, Any] | None) -> str | None:
    """The address of a load balancer, where it has one by now."""
    found = ((status or {}).get("loadBalancer") or {}).get("ingress") or [{}]
    address = found[0].get("hostname") or found[0].get("ip")
    return None if address is None else str(address)
