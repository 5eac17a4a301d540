"""An adapter of the stack's own for a cluster without one: serves the requests in flight of pods to autoscalers.

It is a part of the cluster's API (`custom.metrics.k8s.io`), of which there is one: what is made here serves the
services of other stacks in the cluster as well. What runs is `components.targets.metrics_adapter`, by the Python of the
image that services begin with. A part of the API that is there and does not answer keeps namespaces of the whole
cluster from being deleted, so it is declared when the adapter answers, and deleted before that.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pulumi

from components.targets import pods
from components.targets.cluster_settings import CUSTOM_METRICS
from components.targets.objects import (
    AWAITED,
    PROGRESS_SECONDS,
    SKIP_AWAIT,
    ClusterObject,
    Place,
    disruption_budget,
    rolling_update,
)
from components.targets.pods import Placement, Resources
from components.targets.secrets import tls_secret
from provider import sdk

NAME: Final = "slipway-metrics"
"""Of all its objects; what belongs to the whole cluster has the namespace after it."""
_PORT: Final = 8443
_REPLICAS: Final = 2
_FOLDER, _CERTIFICATE = "/run/slipway-metrics", "/run/slipway-metrics-tls"
_PROGRAM: Final = (Path(__file__).parent / "metrics_adapter.py").read_text(encoding="utf-8")
_RESOURCES: Final = Resources(cpus=0.05, memory_bytes=64 * 2**20, memory_limit_bytes=256 * 2**20)
_GRACE_SECONDS: Final = 30
_VALID_DAYS: Final = 825
"""As long as a certificate here can be: where it ended unnoticed, the part of the API would be away."""
_RIGHTS: Final = "rbac.authorization.k8s.io"
_VERSIONS: Final = {"v1beta1": 100, "v1beta2": 200}
"""Versions of the API and their priorities, in the order in which they are declared.

An adapter that is there already serves one of them, v1beta1 mostly: then nothing is taken over from it."""


@dataclass(frozen=True)
class AdapterArgs:
    """What an adapter is made of."""

    image: pulumi.Input[str]
    """An image with Python, `HOST/REPOSITORY@DIGEST`."""
    authority: sdk.CertificateAuthority
    """Signs the certificate that the API server is shown."""
    placement: Placement
    pull_secret: str | None = None
    network_policy: bool = True


@dataclass(frozen=True)
class Adapter:
    """The adapter of a target, to be declared."""

    place: Place
    resource: str
    """What its resources are named from."""
    args: AdapterArgs
    parent: pulumi.Resource
    after: list[ClusterObject]
    """What its pods need of the namespace."""

    def declare(self) -> list[ClusterObject]:
        """Declares its objects; returns those after which autoscalers can ask."""
        rights = [*self._rights()]
        secret, configuration = self._certificate(), self._program()
        template = self._template(secret.name, configuration.name)
        spec = {"replicas": _REPLICAS, **rolling_update(self._labels, template, PROGRESS_SECONDS)}
        if self.args.network_policy:
            self._own("policy", ("networking.k8s.io/v1", "NetworkPolicy"), {"spec": self._policy()})
        disruption_budget(self.place, f"{self.resource}-disruption", NAME, self._labels, self.parent)
        service = self._own(
            "service",
            ("v1", "Service"),
            {
                "spec": {
                    "type": "ClusterIP",
                    "selector": self._labels,
                    "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": "https"}],
                }
            },
            annotations=SKIP_AWAIT,
        )
        deployment = self._own(
            "deployment",
            ("apps/v1", "Deployment"),
            {"spec": spec},
            # The plugin waits for it: the API server is to find it there.
            annotations=AWAITED,
            after=[*self.after, *rights],
        )
        return self._registered([service, deployment])

    @property
    def _labels(self) -> dict[str, str]:
        return self.place.labels_of(NAME)

    def _own(self, what: str, kind: tuple[str, str], body: dict[str, Any], **more: Any) -> ClusterObject:
        """An object in the namespace."""
        return self.place.declare(f"{self.resource}-{what}", kind, NAME, body, self.parent, labels=self._labels, **more)

    def _beyond(
        self,
        what: str,
        kind: tuple[str, str],
        name: str,
        body: dict[str, Any],
        after: list[ClusterObject],
        *,
        namespace: str | None = None,
        annotations: dict[str, str] | None = None,
    ) -> ClusterObject:
        """An object outside the namespace, which does not go with it."""
        place = {} if namespace is None else {"namespace": namespace}
        told = {} if annotations is None else {"annotations": annotations}
        return ClusterObject(
            f"{self.resource}-{what}",
            *kind,
            {"metadata": {"name": name, **place, "labels": self._labels, **told}, **body},
            pulumi.ResourceOptions(parent=self.parent, provider=self.place.provider, depends_on=after),
        )

    # -- what it may do

    def _rights(self) -> list[ClusterObject]:
        """Its account: may list pods, for their addresses, and read by which authority the API server is known."""
        account = self._own("account", ("v1", "ServiceAccount"), {"automountServiceAccountToken": False})
        name = f"{NAME}-{self.place.namespace}"
        subject = {"kind": "ServiceAccount", "name": NAME, "namespace": self.place.namespace}
        rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
        role = self._beyond("role", (f"{_RIGHTS}/v1", "ClusterRole"), name, {"rules": [rule]}, [])

        def bound(what: str, kind: str, of: dict[str, str], namespace: str | None = None) -> ClusterObject:
            body = {"roleRef": {"apiGroup": _RIGHTS, **of}, "subjects": [subject]}
            return self._beyond(what, (f"{_RIGHTS}/v1", kind), name, body, [account, role], namespace=namespace)

        reader = {"kind": "Role", "name": "extension-apiserver-authentication-reader"}
        return [
            account,
            bound("pods", "ClusterRoleBinding", {"kind": "ClusterRole", "name": name}),
            bound("reader", "RoleBinding", reader, namespace="kube-system"),
        ]

    def _policy(self) -> dict[str, Any]:
        """From anywhere: an API server's requests come from no pod. Whoever else asks is refused by the program."""
        ports = [{"protocol": "TCP", "port": _PORT}]
        return {"podSelector": {"matchLabels": self._labels}, "policyTypes": ["Ingress"], "ingress": [{"ports": ports}]}

    # -- what it runs

    def _certificate(self) -> ClusterObject:
        authority = self.args.authority
        host = f"{NAME}.{self.place.namespace}.svc"
        made = sdk.Certificate(
            f"{self.resource}-certificate",
            {
                "ca_certificate": authority.certificate,
                "ca_private_key": authority.private_key,
                "common_name": NAME,
                "names": [host],
                "valid_days": _VALID_DAYS,
            },
            pulumi.ResourceOptions(parent=self.parent),
        )
        name, body = tls_secret(NAME, made.certificate, made.private_key)
        return self.place.declare(
            f"{self.resource}-tls", ("v1", "Secret"), name, body, self.parent, labels=self._labels
        )

    def _program(self) -> ClusterObject:
        name = f"{NAME}-{hashlib.sha256(_PROGRAM.encode()).hexdigest()[:8]}"
        body = {"data": {"adapter.py": _PROGRAM}, "immutable": True}
        return self.place.declare(
            f"{self.resource}-program", ("v1", "ConfigMap"), name, body, self.parent, labels=self._labels
        )

    def _template(self, secret: pulumi.Input[str], program: pulumi.Input[str]) -> dict[str, Any]:
        probe = {"httpGet": {"path": "/healthz", "port": "https", "scheme": "HTTPS"}, "timeoutSeconds": 5}
        command = ["python3", "-I", "-S", f"{_FOLDER}/adapter.py", str(_PORT), _CERTIFICATE, str(pods.SERVICE_PORT)]
        container = {
            "name": "adapter",
            "image": self.args.image,
            "imagePullPolicy": "IfNotPresent",
            "command": command,
            "ports": [{"name": "https", "containerPort": _PORT, "protocol": "TCP"}],
            "resources": _RESOURCES.manifest(),
            "securityContext": pods.CONTAINER_RIGHTS,
            "readinessProbe": {**probe, "periodSeconds": 2},
            "livenessProbe": {**probe, "periodSeconds": 30},
            "lifecycle": {"preStop": pods.PAUSE},
            "volumeMounts": [
                {"name": "program", "mountPath": _FOLDER, "readOnly": True},
                {"name": "tls", "mountPath": _CERTIFICATE, "readOnly": True},
            ],
        }
        return {
            "metadata": {"labels": self._labels},
            "spec": {
                **pods.pod_members(self.args.placement, self._labels, _GRACE_SECONDS, self.args.pull_secret),
                "serviceAccountName": NAME,
                "automountServiceAccountToken": True,
                "volumes": [
                    {"name": "program", "configMap": {"name": program, "defaultMode": 0o440}},
                    {"name": "tls", "secret": {"secretName": secret, "defaultMode": 0o440}},
                ],
                "containers": [container],
            },
        }

    # -- the part of the API

    def _registered(self, after: list[ClusterObject]) -> list[ClusterObject]:
        bundle = self.args.authority.certificate.apply(lambda pem: base64.b64encode(pem.encode()).decode())
        service = {"name": NAME, "namespace": self.place.namespace, "port": 443}
        made: list[ClusterObject] = []
        for version, priority in _VERSIONS.items():
            spec = {
                "group": CUSTOM_METRICS,
                "version": version,
                "groupPriorityMinimum": 100,
                "versionPriority": priority,
                "service": service,
                "caBundle": bundle,
            }
            made.append(
                self._beyond(
                    f"api-{version}",
                    ("apiregistration.k8s.io/v1", "APIService"),
                    f"{version}.{CUSTOM_METRICS}",
                    {"spec": spec},
                    [*after, *made],
                    annotations={"pulumi.com/waitFor": "condition=Available"},
                )
            )
        return made
