"""The pods of a service on Kubernetes: what runs in them, with which rights, and how the cluster looks after them.

Plain values in the words of a manifest; what is declared with them is `components.targets.kubernetes`' matter. What a
preview may not know yet stands in them as single values: of everything around those it still tells whether it changes.
All of it keeps to the `restricted` level of the pod security standards.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pulumi

from components.targets.server_settings import Liveness

SERVICE_PORT: Final = 5001
"""TCP port of a service in its pod."""
USER: Final = 65532
"""User and group of every container."""
SECRETS: Final = "/run/secrets"
"""Where a service finds its secrets, as files."""
KEYS: Final = "/run/slipway-keys"
KEYS_FILE: Final = f"{KEYS}/keys.json"
"""Where the scoring server finds the keys; it reads them again when they change."""
REVISION: Final = "slipway/revision"
"""The annotation of pods that names what they are made from."""
_SCRAPED: Final = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(SERVICE_PORT),
    "prometheus.io/path": "/metrics",
}
"""Where a Prometheus that looks for pods finds their metrics."""
ACCOUNT: Final = "slipway"
"""The service account of all pods: without a token, and without rights."""
STOP_SECONDS: Final = 5
"""How long a pod that is to go still takes requests: until then everybody has heard that it goes."""

_SAMPLE = "/run/slipway-sample"
_PROBE = (Path(__file__).parent / "startup_probe.py").read_text(encoding="utf-8")
_SAMPLE_FILE = "sample"
_PATIENCE_SECONDS = 10
"""How long one startup probe waits."""
_LEAST_GRACE, _BEYOND_SCORING = 30, 5
_HUNG_GRACE = 10
"""How long a server that no longer answers may take to end, in seconds: what it has begun, it does not finish."""
_PROMISED_CPUS, _PROMISED_MEMORY = 0.1, 2**29
"""What Azure promises a container that asks for nothing."""
_TMP_SIZE = "256Mi"


@dataclass(frozen=True)
class Resources:
    """What a container is promised, its limits, and the devices that it gets."""

    cpus: float | None = None
    """Promised; None: 0.1, or the limit where that is less."""
    cpu_limit: float | None = None
    memory_bytes: int | None = None
    """Promised; None: half a GiB, or the limit where that is less."""
    memory_limit_bytes: int | None = None
    extended: Mapping[str, int] = field(default_factory=dict)
    """How many of each extended resource."""

    def manifest(self) -> dict[str, dict[str, str]]:
        """As a manifest has it."""
        cpus, memory = self.cpus, self.memory_bytes
        if cpus is None:
            cpus = _PROMISED_CPUS if self.cpu_limit is None else min(_PROMISED_CPUS, self.cpu_limit)
        if memory is None:
            memory = (
                _PROMISED_MEMORY if self.memory_limit_bytes is None else min(_PROMISED_MEMORY, self.memory_limit_bytes)
            )
        limits = {name: str(count) for name, count in sorted(self.extended.items()) if count}
        if self.cpu_limit is not None:
            limits["cpu"] = cpu_quantity(self.cpu_limit)
        if self.memory_limit_bytes is not None:
            limits["memory"] = memory_quantity(self.memory_limit_bytes)
        requests = {"cpu": cpu_quantity(cpus), "memory": memory_quantity(memory)}
        return {"requests": requests, **({"limits": limits} if limits else {})}


@dataclass(frozen=True)
class Placement:
    """Which nodes pods run on."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    """As a manifest has them."""
    priority_class: str | None = None

    def manifest(self) -> dict[str, Any]:
        """The members of a pod that say so."""
        given = {
            "nodeSelector": dict(self.node_selector),
            "tolerations": [dict(item) for item in self.tolerations],
            "priorityClassName": self.priority_class,
        }
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True)
class Sample:
    """A request that a pod must answer before it takes any other."""

    body: bytes
    content_type: str

    def files(self) -> dict[str, bytes]:
        """What the pod finds, by name."""
        return {_SAMPLE_FILE: self.body}

    @property
    def digest(self) -> str:
        """Names the files."""
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True)
class Pod:
    """One pod of a service, but for what is known only when its image is."""

    labels: Mapping[str, str]
    environment: Mapping[str, str]
    resources: Resources
    placement: Placement
    liveness: Liveness
    startup_seconds: int
    scoring_timeout_ms: int
    pull_secret: str | None = None
    keys: str | None = None
    """The Secret with the keys."""
    sample: Sample | None = None
    sample_files: str | None = None
    """The ConfigMap with the sample."""

    def revision(self, made_from: str, secrets: str | None) -> str:
        """Names what a pod runs and how: 16 hexadecimal digits. `made_from` names what is in its image; where that
        comes from is no part of what it is."""
        spec = self._spec(self._container(secrets), secrets)
        identity = json.dumps([made_from, dict(self.labels), _SCRAPED, spec], sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()[:16]

    def template(
        self, image: pulumi.Input[str], revision: pulumi.Input[str], secrets: pulumi.Input[str] | None
    ) -> dict[str, Any]:
        """The pod template. `image` is `HOST/REPOSITORY@DIGEST`, `secrets` the Secret with the files of the service."""
        container = self._container(secrets)
        container["image"] = image
        container["env"].append({"name": "SLIPWAY_REVISION", "value": revision})
        annotations = {**_SCRAPED, REVISION: revision}
        metadata = {"labels": dict(self.labels), "annotations": annotations}
        return {"metadata": metadata, "spec": self._spec(container, secrets)}

    def _spec(self, container: dict[str, Any], secrets: pulumi.Input[str] | None) -> dict[str, Any]:
        return {
            **pod_members(self.placement, self.labels, self._grace() + STOP_SECONDS, self.pull_secret),
            "volumes": [
                {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": _TMP_SIZE}},
                *self._volumes(secrets),
            ],
            "containers": [container],
        }

    def _grace(self) -> int:
        """How long a server that ends may still answer what it has begun, in seconds."""
        return max(_LEAST_GRACE, math.ceil(self.scoring_timeout_ms / 1000) + _BEYOND_SCORING)

    def _container(self, secrets: pulumi.Input[str] | None) -> dict[str, Any]:
        """The container, but for its image and for the revision that it is told: both follow from all the rest."""
        told = {**self.environment, "SLIPWAY_GRACE_SECONDS": str(self._grace())}
        if self.keys is not None:
            told["SLIPWAY_KEYS_FILE"] = KEYS_FILE
        return {
            "name": "service",
            "imagePullPolicy": "IfNotPresent",
            "env": [{"name": name, "value": value} for name, value in sorted(told.items())],
            "ports": [{"name": "http", "containerPort": SERVICE_PORT, "protocol": "TCP"}],
            "resources": self.resources.manifest(),
            "securityContext": CONTAINER_RIGHTS,
            "startupProbe": self._startup_probe(),
            "readinessProbe": {
                "httpGet": {"path": "/ready", "port": "http"},
                "periodSeconds": 5,
                "timeoutSeconds": 5,
                "failureThreshold": 2,
            },
            "livenessProbe": {
                "httpGet": {"path": "/", "port": "http"},
                "initialDelaySeconds": self.liveness.initial_delay or 0,  # the startup probe has come first
                "periodSeconds": self.liveness.period,
                "timeoutSeconds": self.liveness.timeout,
                "failureThreshold": self.liveness.failures,
                "terminationGracePeriodSeconds": _HUNG_GRACE,
            },
            "lifecycle": {"preStop": PAUSE},
            "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a file system of the pod's own
                *(
                    {"name": volume["name"], "mountPath": path, "readOnly": True}
                    for volume, path in self._mounts(secrets)
                ),
            ],
        }

    def _startup_probe(self) -> dict[str, Any]:
        sample = self.sample
        arguments = (
            *(str(SERVICE_PORT), str(_PATIENCE_SECONDS), "" if sample is None else sample.content_type),
            *("" if sample is None else f"{_SAMPLE}/{_SAMPLE_FILE}", "" if self.keys is None else KEYS_FILE),
        )
        return {
            **in_python("-c", _PROBE, *arguments),
            "periodSeconds": 1,
            "timeoutSeconds": 60 + _PATIENCE_SECONDS,
            "failureThreshold": math.ceil(self.startup_seconds / _PATIENCE_SECONDS),
        }

    def _volumes(self, secrets: pulumi.Input[str] | None) -> list[dict[str, Any]]:
        return [volume for volume, _ in self._mounts(secrets)]

    def _mounts(self, secrets: pulumi.Input[str] | None) -> list[tuple[dict[str, Any], str]]:
        """The volumes with files, and where each is."""
        mounts: list[tuple[dict[str, Any], str]] = []
        if secrets is not None:
            mounts.append(({"name": "secrets", "secret": _files("secretName", secrets)}, SECRETS))
        if self.keys is not None:
            mounts.append(({"name": "keys", "secret": _files("secretName", self.keys)}, KEYS))
        if self.sample_files is not None:
            mounts.append(({"name": "sample", "configMap": _files("name", self.sample_files)}, _SAMPLE))
        return mounts


CONTAINER_RIGHTS: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
"""None: the root file system is not even written to."""


def pod_members(
    placement: Placement, labels: Mapping[str, str], grace_seconds: int, pull_secret: str | None
) -> dict[str, Any]:
    """What every pod here shares."""
    return {
        **placement.manifest(),
        **({} if pull_secret is None else {"imagePullSecrets": [{"name": pull_secret}]}),
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        # Names of other services, which would come as variables, are nobody's business.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": dict(labels)},
            }
        ],
    }


def _files(member: str, name: pulumi.Input[str]) -> dict[str, Any]:
    return {member: name, "defaultMode": 0o440}


def in_python(*arguments: str) -> dict[str, Any]:
    """A command of a probe or a hook, by the Python of the image."""
    return {"exec": {"command": ["python3", "-I", "-S", *arguments]}}


PAUSE: Final = in_python("-c", f"import time; time.sleep({STOP_SECONDS})")
"""Before a pod is told to end: until then everybody has heard that it goes."""


def cpu_quantity(cpus: float) -> str:
    """As Kubernetes writes it: anything else would be a change at every look."""
    return thousandths(round(cpus * 1000))


def thousandths(count: int) -> str:
    """An amount of so many thousandths, as Kubernetes writes it."""
    return f"{count}m" if count % 1000 else str(count // 1000)


def memory_quantity(count: int) -> str:
    """As Kubernetes writes it, in whole MiB."""
    mebibytes = max(1, count // 2**20)
    return f"{mebibytes}Mi" if mebibytes % 1024 else f"{mebibytes // 1024}Gi"
