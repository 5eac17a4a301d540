"""A Kubernetes cluster as a compute target: a Deployment for each deployment of a service, in a namespace of its own.

An update is the Deployment's own rolling update. A pod takes requests once it has answered the sample request, and old
pods go only when new ones do, so that a revision that fails takes none; `Endpoint` waits, and says why. What moves
traffic between deployments comes after it (`components.targets.cluster_entry`). The objects are those of Pulumi's
kubernetes plugin, whose provider comes from outside, by the component's options, and lets Secrets change in place.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NotRequired, TypedDict

import pulumi

from components.targets import pods
from components.targets.base import STATES, Deployed, Deployment, Image, ImageSource, Service
from components.targets.cluster_entry import Behind, Entry, Exposure, Front
from components.targets.cluster_metrics import Adapter, AdapterArgs
from components.targets.cluster_settings import AutoScaling, Gateway, Ingress, KubernetesSettings, PullAccess
from components.targets.objects import SKIP_AWAIT, ClusterObject, Place, disruption_budget, namespace, rolling_update
from components.targets.pods import Placement, Pod, Resources, Sample
from components.targets.secrets import access_keys, mark
from provider import sdk
from provider.router import cluster as router
from provider.sample_request import content_type

PULL_SECRET: Final = "slipway-registry"
_BEFORE_START_SECONDS = 300
"""What a pod may take before its server starts: to find a node, and to pull its image."""
_STARTUP_SECONDS = 300
"""How long a server may take to start, where nobody says."""
_LONGEST_WAIT_SECONDS = 172_800
_PRIVILEGED = 1023
"""The last port that is not everybody's to listen on."""


class MetricsAdapter(TypedDict):
    """What an adapter for the cluster's autoscalers needs."""

    image: pulumi.Input[str]
    """An image with Python, `HOST/REPOSITORY@DIGEST`."""
    authority: sdk.CertificateAuthority
    """Signs the certificate that the API server is shown."""


class KubernetesTargetArgs(TypedDict):
    """Arguments of `KubernetesTarget`."""

    workspace: str
    """Name of the workspace: what is made in the cluster is labelled with it."""
    cluster: Mapping[str, str]
    """How the cluster is reached, for whoever waits for services: `kubeconfig` and `context`, where they are given."""
    namespace: str
    """Namespace of the services."""
    pod_security: NotRequired[str | None]
    """The level that the namespace enforces; None: the namespace is there, and is not made."""
    expose: NotRequired[Exposure]
    """The kind of Service; clusterIp where it is not given."""
    ingress: NotRequired[Ingress | None]
    gateway: NotRequired[Gateway | None]
    """Beside `clusterIp`, and one of the two at most."""
    pull_access: NotRequired[PullAccess | None]
    """Where the registry asks for credentials."""
    placement: NotRequired[Placement]
    """Which nodes pods run on; any where it is not given."""
    quota: NotRequired[Mapping[str, str]]
    """A ResourceQuota of the namespace."""
    limits: NotRequired[Mapping[str, Mapping[str, str]]]
    """A LimitRange for containers: `default`, `defaultRequest`, `min` and `max`."""
    network_policy: NotRequired[bool]
    """Whether nothing but requests to services is let in; it is where this is not given."""
    router_image: NotRequired[pulumi.Input[str] | None]
    """The router's image, `HOST/REPOSITORY@DIGEST`, where a service needs one."""
    metrics_adapter: NotRequired[MetricsAdapter | None]
    """Where the stack brings what serves the requests in flight to the cluster's autoscalers."""
    images: ImageSource
    """Makes the services' images."""


@dataclass(frozen=True)
class _Wanted:
    """One deployment of a service that is to run here."""

    name: str
    """What its resources are named from."""
    object: str
    """The name of its objects."""
    key: str
    service: str
    deployment: Deployment
    settings: KubernetesSettings
    keys: ClusterObject | None
    """The Secret with the keys."""
    parent: pulumi.Resource
    labels: Mapping[str, str]

    @property
    def replicas(self) -> tuple[int, int]:
        """The fewest pods, and the most."""
        scaling = self.settings.scaling
        if scaling is not None:
            return scaling.least, scaling.most
        return self.deployment.replicas, self.deployment.replicas

    @property
    def startup_seconds(self) -> int:
        seconds = self.deployment.startup_timeout_seconds
        return _STARTUP_SECONDS if seconds is None else seconds


class KubernetesTarget(pulumi.ComponentResource):
    """A namespace of a cluster, and what its services share. Services are deployed to it."""

    def __init__(self, name: str, args: KubernetesTargetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """`opts.providers` has the kubernetes provider of that cluster."""
        super().__init__("slipway:components:KubernetesTarget", name, {}, opts)
        self._images = args["images"]
        self._cluster = dict(args["cluster"])
        self._placement = args.get("placement") or Placement()
        self._pull_secret = None if args.get("pull_access") is None else PULL_SECRET
        self._front = Front(
            cluster=self._cluster,
            expose=args.get("expose", "clusterIp"),
            ingress=args.get("ingress"),
            gateway=args.get("gateway"),
            router_image=args.get("router_image"),
            pull_secret=self._pull_secret,
        )
        provider = self.get_provider("kubernetes:core/v1:Namespace")
        place = Place(args["workspace"], args["namespace"], provider, None)
        level = args.get("pod_security")
        self._place = place if level is None else dataclasses.replace(place, made=namespace(name, place, level, self))
        self._shared = [*self._account(name, args.get("pull_access")), *self._rules(name, args)]
        self._metrics = self._adapter(name, args)
        self.register_outputs({"namespace": args["namespace"]})

    # -- what services share

    def _account(self, name: str, access: PullAccess | None) -> list[ClusterObject]:
        body = {"automountServiceAccountToken": False}
        account = self._place.declare(f"{name}-account", ("v1", "ServiceAccount"), pods.ACCOUNT, body, self)
        if access is None:
            return [account]
        known = pulumi.Output.all(access.registry, access.username, access.password)
        settings: pulumi.Output[str] = pulumi.Output.secret(known.apply(lambda texts: _docker(*texts)))
        secret = {"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": settings}}
        return [account, self._place.declare(f"{name}-registry-access", ("v1", "Secret"), PULL_SECRET, secret, self)]

    def _rules(self, name: str, args: KubernetesTargetArgs) -> list[ClusterObject]:
        """Quota, limits and network policies: there before the pods that they are for."""
        rules: list[tuple[str, tuple[str, str], str, dict[str, Any]]] = []
        if quota := args.get("quota"):
            rules.append(("quota", ("v1", "ResourceQuota"), "slipway", {"hard": dict(quota)}))
        if limits := args.get("limits"):
            limit = {"type": "Container", **{which: dict(values) for which, values in limits.items() if values}}
            rules.append(("limits", ("v1", "LimitRange"), "slipway", {"limits": [limit]}))
        if args.get("network_policy", True):
            # Of what is ours alone: a namespace that was taken may have pods of others.
            ours = {"podSelector": {"matchLabels": self._place.labels}, "policyTypes": ["Ingress"]}
            ports = [
                {"protocol": "TCP", "port": port} for port in (pods.SERVICE_PORT, router.PORT, router.METRICS_PORT)
            ]
            kind = ("networking.k8s.io/v1", "NetworkPolicy")
            rules.append(("deny", kind, "slipway-deny", ours))
            rules.append(("requests", kind, "slipway-requests", {**ours, "ingress": [{"ports": ports}]}))
        return [
            self._place.declare(f"{name}-{what}", kind, object_name, {"spec": spec}, self)
            for what, kind, object_name, spec in rules
        ]

    def _adapter(self, name: str, args: KubernetesTargetArgs) -> list[ClusterObject]:
        """What serves the requests in flight, where the stack brings it: autoscalers come after it."""
        given = args.get("metrics_adapter")
        if given is None:
            return []
        made_of = AdapterArgs(
            given["image"],
            given["authority"],
            self._placement,
            self._pull_secret,
            network_policy=args.get("network_policy", True),
        )
        return Adapter(self._place, f"{name}-metrics", made_of, self, self._shared).declare()

    # -- services

    def deploy(self, name: str, service: Service, parent: pulumi.Resource) -> Deployed:
        """A Deployment and an `Endpoint` for each deployment, and the way of requests to them."""
        settings: KubernetesSettings = service.settings or KubernetesSettings()
        keys, more = self._keys(name, service.name, settings, parent)
        several = len(service.deployments) > 1
        wanted = {
            key: _Wanted(
                name=f"{name}-{key}",
                object=f"{service.name}-{key}" if several else service.name,
                key=key,
                service=service.name,
                deployment=deployment,
                settings=settings,
                keys=keys,
                parent=parent,
                labels=self._place.labels_of(service.name, key),
            )
            for key, deployment in service.deployments.items()
        }
        running = {key: self._deployment(item) for key, item in wanted.items()}
        reached = Entry(
            place=self._place,
            front=self._front,
            name=name,
            service=service,
            settings=settings,
            placement=self._placed(settings),
            behind={key: Behind(item.labels, item.deployment.weight) for key, item in wanted.items()},
            parent=parent,
            after=[endpoint for endpoint, _ in running.values()],
        ).declare()
        if self._front.is_inside:
            more["portForward"] = _port_forward(self._cluster, self._place.namespace, service)
        if several:
            more["deployments"] = {
                key: {"state": endpoint.state, "revision": revision, "traffic": service.deployments[key].weight}
                for key, (endpoint, revision) in running.items()
            }
        largest = max(running, key=lambda key: service.deployments[key].weight)
        states = pulumi.Output.all(*(endpoint.state for endpoint, _ in running.values()))
        return Deployed(
            state=pulumi.Output.all(states, reached.last.id).apply(lambda known: max(known[0], key=STATES.index)),
            revision=running[largest][1],
            scoring_uri=pulumi.Output.concat(reached.uri, "/score"),
            swagger_uri=pulumi.Output.concat(reached.uri, "/swagger.json"),
            more={**more, **reached.more},
        )

    def _placed(self, settings: KubernetesSettings) -> Placement:
        if settings.priority_class is None:
            return self._placement
        return dataclasses.replace(self._placement, priority_class=settings.priority_class)

    def _keys(
        self, name: str, service: str, settings: KubernetesSettings, parent: pulumi.Resource
    ) -> tuple[ClusterObject | None, dict[str, Any]]:
        """The Secret with the keys that clients may send, and the keys themselves, for whoever is to hand them out."""
        if not settings.auth:
            return None, {}
        keys = access_keys(name, service, settings.primary_key, settings.secondary_key, parent)
        text = pulumi.Output.all(**keys).apply(lambda known: json.dumps(known, sort_keys=True))
        content: pulumi.Output[str] = pulumi.Output.secret(text)
        body = {"type": "Opaque", "stringData": {pods.KEYS_FILE.rpartition("/")[2]: content}}
        labels = self._place.labels_of(service)
        secret = self._place.declare(f"{name}-keys", ("v1", "Secret"), _keys_name(service), body, parent, labels=labels)
        return secret, {f"{which}Key": key for which, key in keys.items()}

    def _deployment(self, wanted: _Wanted) -> tuple[sdk.Endpoint, pulumi.Output[str]]:
        """Declares what runs; returns what waits for it, and its revision."""
        deployment = wanted.deployment
        image = self._images(wanted.name, wanted.service, wanted.key, pods.SERVICE_PORT, deployment, wanted.parent)
        sample = _sample(deployment.sample_request)
        secrets = self._secrets(wanted)
        pod = self._pod(wanted, sample)
        secret_name = None if secrets is None else secrets.name
        # Known in a preview where the image's own is; its reference then is not, and may not take the rest along.
        revision = pulumi.Output.all(image.revision, secret_name).apply(lambda known: pod.revision(*known))
        template = pod.template(image.reference, revision, secret_name)
        needed = [item for item in (self._sample_files(wanted, sample), secrets, wanted.keys) if item is not None]
        after = [*self._shared, *needed]
        spec = {
            # Where an autoscaler says how many there are, nobody else does.
            **({} if wanted.settings.scaling is not None else {"replicas": self._replicas(wanted, image, after)}),
            **rolling_update(wanted.labels, template, _BEFORE_START_SECONDS + wanted.startup_seconds),
        }
        made = self._place.declare(
            f"{wanted.name}-deployment",
            ("apps/v1", "Deployment"),
            wanted.object,
            {"spec": spec},
            wanted.parent,
            labels=wanted.labels,
            annotations=SKIP_AWAIT,
            after=after,
            # A number that was declared before stays until the autoscaler sets another: a field that nobody asks for
            # any more goes back to its default, which is one pod.
            others=() if wanted.settings.scaling is None else ("spec.replicas",),
        )
        if wanted.replicas[0] > 1:
            disruption_budget(self._place, f"{wanted.name}-disruption", wanted.object, wanted.labels, wanted.parent)
        autoscaler = (
            None if wanted.settings.scaling is None else self._autoscaler(wanted, wanted.settings.scaling, made)
        )
        return self._endpoint(wanted, made, image.reference, autoscaler, revision), revision

    def _replicas(self, wanted: _Wanted, image: Image, after: Sequence[pulumi.Resource]) -> pulumi.Output[int]:
        """The number of pods, once it is the stack's to say. An autoscaler from before goes when there is all else that
        the Deployment needs: what fails by then has changed nothing."""
        ownership = sdk.ReplicaOwnership(
            f"{wanted.name}-replicas",
            {"cluster": self._cluster, "namespace": self._place.namespace, "deployment": wanted.object},
            pulumi.ResourceOptions(parent=wanted.parent, depends_on=image.reference.apply(lambda _: [*after])),
        )
        return ownership.owned.apply(lambda _: wanted.deployment.replicas)

    def _pod(self, wanted: _Wanted, sample: Sample | None) -> Pod:
        deployment, settings = wanted.deployment, wanted.settings
        return Pod(
            labels=wanted.labels,
            environment={
                **deployment.environment.environment_variables,
                **deployment.environment_variables,
                **settings.environment(),
            },
            resources=Resources(
                cpus=deployment.cpus_promised,
                cpu_limit=deployment.cpus,
                memory_bytes=deployment.memory_bytes_promised,
                memory_limit_bytes=deployment.memory_bytes,
                extended=settings.extended,
            ),
            placement=self._placed(settings),
            liveness=settings.liveness,
            startup_seconds=wanted.startup_seconds,
            scoring_timeout_ms=settings.scoring_timeout_ms,
            pull_secret=self._pull_secret,
            keys=None if wanted.keys is None else _keys_name(wanted.service),
            sample=sample,
            sample_files=None if sample is None else _sample_name(wanted.object, sample),
        )

    def _endpoint(
        self,
        wanted: _Wanted,
        made: ClusterObject,
        image: pulumi.Input[str],
        autoscaler: dict[str, Any] | None,
        revision: pulumi.Output[str],
    ) -> sdk.Endpoint:
        # Pods come one after the other, and each may take its time.
        seconds = _BEFORE_START_SECONDS + wanted.startup_seconds * wanted.replicas[1]
        return sdk.Endpoint(
            f"{wanted.name}-endpoint",
            {
                "target": {
                    "kind": "kubernetes",
                    "cluster": self._cluster,
                    "namespace": self._place.namespace,
                    "service": wanted.service,
                    "deployment": made.name,
                    "port": pods.SERVICE_PORT,
                    # No part of the revision is where an image comes from; new pods pull it from there all the same.
                    "image": image,
                    # Where more are asked for, they are waited for; how many an autoscaler makes is its own affair.
                    **({"replicas": wanted.deployment.replicas} if autoscaler is None else {"autoscaler": autoscaler}),
                    **({} if wanted.keys is None else {"keysFile": pods.KEYS_FILE}),
                },
                "revision": revision,
                "sample_request": wanted.deployment.sample_request,
                "timeout_seconds": min(seconds, _LONGEST_WAIT_SECONDS),
                "models": [model.reference for model in wanted.deployment.models],
            },
            pulumi.ResourceOptions(parent=wanted.parent),
        )

    def _sample_files(self, wanted: _Wanted, sample: Sample | None) -> ClusterObject | None:
        """The ConfigMap with the sample request. Another one for another sample: pods that run, and may start again,
        keep theirs."""
        if sample is None:
            return None
        files = {name: base64.b64encode(content).decode() for name, content in sample.files().items()}
        return self._place.declare(
            f"{wanted.name}-sample",
            ("v1", "ConfigMap"),
            _sample_name(wanted.object, sample),
            {"binaryData": files, "immutable": True},
            wanted.parent,
            labels=wanted.labels,
        )

    def _secrets(self, wanted: _Wanted) -> ClusterObject | None:
        """The Secret with the files of the service. Another one for another content, as with samples."""
        secrets = wanted.settings.secrets
        if not secrets:
            return None
        content = {file: pulumi.Output.secret(text) for file, text in sorted(secrets.items())}
        return self._place.declare(
            f"{wanted.name}-secrets",
            ("v1", "Secret"),
            mark(secrets).apply(lambda known: f"{wanted.object}-secrets-{known[:8]}"),
            {"type": "Opaque", "stringData": content, "immutable": True},
            wanted.parent,
            labels=wanted.labels,
        )

    def _autoscaler(self, wanted: _Wanted, scaling: AutoScaling, made: ClusterObject) -> dict[str, Any]:
        """Declares what says how many pods there are; returns what `Endpoint` needs to see whether it can."""
        provided = [] if scaling.requests is None else self._metrics
        declared = self._place.declare(
            f"{wanted.name}-autoscaler",
            ("autoscaling/v2", "HorizontalPodAutoscaler"),
            wanted.object,
            {"spec": _scaler(wanted.object, scaling)},
            wanted.parent,
            labels=wanted.labels,
            annotations=SKIP_AWAIT,
            after=[made, *provided],
        )
        # A preview is not to miss what the stack itself brings.
        return {"name": declared.name, "api": scaling.api, **({"provided": True} if provided else {})}


def _port_forward(cluster: Mapping[str, str], namespace: str, service: Service) -> dict[str, Any]:
    """How a service that is reached inside the cluster is reached from elsewhere: a command, and the local port."""
    local = service.port if service.port > _PRIVILEGED else service.port + 8000
    options = [f"--{name}={value}" for name, value in cluster.items()]
    command = ["kubectl", *options, f"--namespace={namespace}", "port-forward", f"service/{service.name}"]
    return {"command": shlex.join([*command, f"{local}:{service.port}"]), "port": local}


def _keys_name(service: str) -> str:
    return f"{service}-keys"


def _sample(file: str | None) -> Sample | None:
    if file is None:
        return None
    return Sample(Path(file).read_bytes(), content_type(Path(file)))


def _sample_name(name: str, sample: Sample) -> str:
    return f"{name}-sample-{sample.digest[:8]}"


def _scaler(name: str, scaling: AutoScaling) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": scaling.least,
        "maxReplicas": scaling.most,
        "metrics": [scaling.metric()],
    }
    if scaling.refresh_seconds is not None:
        # The cluster's own policies, at another pace.
        policies: Sequence[tuple[str, int]] = (("Percent", 100), ("Pods", 4))
        spec["behavior"] = {
            "scaleUp": {
                "policies": [
                    {"type": kind, "value": value, "periodSeconds": scaling.refresh_seconds} for kind, value in policies
                ]
            }
        }
    return spec


def _docker(registry: str, username: str, password: str) -> str:
    """What nodes pull with."""
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    access = {"username": username, "password": password, "auth": auth}
    return json.dumps({"auths": {registry: access}}, sort_keys=True)
