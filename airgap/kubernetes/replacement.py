"""Which fields cannot be changed in place: a change of them makes a new object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airgap.kubernetes.objects import Kind

Path = tuple[str | int, ...]


def _below(prefix: str, names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in names.split())


_IDENTITY = ("metadata.name", "metadata.namespace")
_SELECTOR = ("spec.selector",)
_STATEFUL_SET = _below("spec", "podManagementPolicy revisionHistoryLimit selector serviceName volumeClaimTemplates")
_JOB = _below("spec", "completions parallelism selector template")
_CONTAINER = (
    "args command env image imagePullPolicy lifecycle livenessProbe ports readinessProbe resources securityContext "
    "stdin stdinOnce terminationMessagePath terminationMessagePolicy tty volumeDevices volumeMounts workingDir"
)
_POD = (
    *_below(
        "spec",
        "affinity automountServiceAccountToken dnsConfig dnsPolicy enableServiceLinks hostAliases hostIPC hostNetwork "
        "hostPID hostname imagePullSecrets nodeName nodeSelector overhead preemptionPolicy priority "
        "priorityClassName readinessGates restartPolicy runtimeClassName schedulerName securityContext "
        "serviceAccount serviceAccountName shareProcessNamespace subdomain terminationGracePeriodSeconds volumes",
    ),
    *_below("spec.containers.*", _CONTAINER),
    *_below("spec.initContainers.*", _CONTAINER),
)
_VOLUME = _below(
    "spec",
    "awsElasticBlockStore azureDisk azureFile cephfs cinder csi fc flexVolume flocker gcePersistentDisk glusterfs "
    "hostPath iscsi local nfs photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos vsphereVolume",
)

_FIELDS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("apps", "DaemonSet"): _SELECTOR,
    ("apps", "Deployment"): _SELECTOR,
    ("apps", "StatefulSet"): _STATEFUL_SET,
    ("batch", "Job"): _JOB,
    ("", "PersistentVolume"): _VOLUME,
    ("", "PersistentVolumeClaim"): _below("spec", "accessModes selector storageClassName volumeName"),
    ("", "Pod"): _POD,
    ("", "ResourceQuota"): ("spec.scopes",),
    ("", "Secret"): ("type",),
    ("", "Service"): ("spec.clusterIP",),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): ("roleRef",),
    ("rbac.authorization.k8s.io", "RoleBinding"): ("roleRef",),
    ("storage.k8s.io", "StorageClass"): ("parameters", "provisioner"),
}
_DATA = {"ConfigMap": ("data", "binaryData"), "Secret": ("data", "stringData")}


@dataclass(frozen=True)
class Rules:
    """The fields of one kind of object whose change replaces it."""

    fields: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, kind: Kind, *, data_stays: bool = False, is_patch: bool = False) -> Rules:
        """The rules of `kind`; `data_stays`: the data of a ConfigMap or Secret may change in place.

        A patch of an object made by others can only be of another object, or change in place."""
        fields = list(_IDENTITY)
        if not is_patch:
            fields += _FIELDS.get((kind.group, kind.name), ())
            if kind.group == "" and not data_stays:
                fields += _DATA.get(kind.name, ())
        return cls(tuple(tuple(field.split(".")) for field in fields))

    def replace(self, path: Path, value: Any) -> bool:
        """Whether a change at `path`, to `value`, is one of a field of these or holds one."""
        return any(_meets(path, value, field) for field in self.fields)


def _meets(path: Path, value: Any, field: tuple[str, ...]) -> bool:
    common = zip(path, field, strict=False)
    if not all(step == wanted or (wanted == "*" and isinstance(step, int)) for step, wanted in common):
        return False
    return len(path) >= len(field) or _holds(value, field[len(path) :])


def _holds(value: Any, steps: tuple[str, ...]) -> bool:
    """Whether there is something at `steps` inside `value`."""
    if not steps:
        return True
    inner: Iterable[Any] = ()
    if steps[0] == "*":
        inner = value if isinstance(value, list) else ()
    elif isinstance(value, dict) and steps[0] in value:
        inner = (value[steps[0]],)
    return any(_holds(item, steps[1:]) for item in inner)
