"""Objects of Kubernetes as plain dicts: what kind they are, what they are called, and their normal form."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from provider.resource import ResourceError
from provider.values import UNKNOWN, is_known

Object = dict[str, Any]

_READ_ONLY = (
    *("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation"),
    *("managedFields", "resourceVersion", "uid"),
)
"""Members of an object's metadata that the API server alone sets."""

_CLUSTER_WIDE = frozenset(
    {
        *("APIService", "CertificateSigningRequest", "ClusterRole", "ClusterRoleBinding", "ClusterTrustBundle"),
        *("ComponentStatus", "CSIDriver", "CSINode", "CustomResourceDefinition", "DeviceClass", "FlowSchema"),
        *("IngressClass", "IPAddress", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"),
        *("MutatingWebhookConfiguration", "Namespace", "Node", "PersistentVolume", "PriorityClass"),
        *("PriorityLevelConfiguration", "ResourceSlice", "RuntimeClass", "SelfSubjectAccessReview"),
        *("SelfSubjectReview", "SelfSubjectRulesReview", "ServiceCIDR", "StorageClass", "StorageVersion"),
        *("StorageVersionMigration", "SubjectAccessReview", "TokenReview", "ValidatingAdmissionPolicy"),
        *("ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration", "VolumeAttachment"),
        "VolumeAttributesClass",
    }
)
"""Kubernetes' own kinds that are in no namespace."""

_DASHED = {
    f"x_kubernetes_{name}": f"x-kubernetes-{name.replace('_', '-')}"
    for name in (
        *("embedded_resource", "int_or_string", "list_map_keys", "list_type"),
        *("map_type", "preserve_unknown_fields", "validations"),
    )
}
"""Members whose names the SDK cannot write: with underscores in the state, with dashes in the API."""
_UNDERSCORED = {dashed: underscored for underscored, dashed in _DASHED.items()}


@dataclass(frozen=True)
class Kind:
    """A kind of object: `apps/v1`, `Deployment`."""

    api_version: str
    name: str

    @property
    def group(self) -> str:
        """The group; empty for the core one."""
        return self.api_version.rpartition("/")[0]

    @property
    def built_in(self) -> bool:
        """Whether Kubernetes itself has it: the groups of custom resources have a domain of their own."""
        return "." not in self.group or self.group.endswith(".k8s.io")

    @property
    def cluster_wide(self) -> bool | None:
        """Whether it is in no namespace; None where only the cluster knows."""
        return self.name in _CLUSTER_WIDE if self.built_in else None

    def __str__(self) -> str:
        return f"{self.api_version}/{self.name}"


def type_of(urn_type: str) -> tuple[str, Kind]:
    """The token and the kind of a URN's type, `parent$kubernetes:apps/v1:Deployment`. Raises `ResourceError`."""
    token = urn_type.rpartition("$")[2]
    match = re.fullmatch(r"kubernetes:([^/:]+)/([^/:]+):(\w+)", token)
    if match is None or match[1] in ("helm.sh", "yaml", "kustomize"):
        raise ResourceError(
            f"{token} is not among the types of this stand-in for Pulumi's kubernetes plugin, which makes single "
            "objects. Install the official plugin where it is needed: pulumi plugin install resource kubernetes"
        )
    group, version, name = match.groups()
    return token, Kind(version if group in ("core", "") else f"{group}/{version}", name)


def kind_of(inputs: Mapping[str, Any], urn_type: str) -> Kind:
    """The kind that `inputs` name, else that of the type."""
    _, kind = type_of(urn_type)
    version, name = inputs.get("apiVersion"), inputs.get("kind")
    return Kind(version if isinstance(version, str) else kind.api_version, name if isinstance(name, str) else kind.name)


def is_patch(inputs: Mapping[str, Any], urn_type: str) -> bool:
    """Whether the resource is not the object but some fields of one that others made: `ConfigMapPatch`."""
    _, kind = type_of(urn_type)
    return kind.built_in and kind.name.endswith("Patch") and kind.name.removesuffix("Patch") == inputs.get("kind")


def metadata(obj: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of an object; empty where it has none, or one that is not known yet."""
    found = obj.get("metadata")
    return found if isinstance(found, dict) else {}


def name_of(obj: Mapping[str, Any]) -> str:
    return _text(metadata(obj).get("name"))


def namespace_of(obj: Mapping[str, Any]) -> str:
    return _text(metadata(obj).get("namespace"))


def annotation(obj: Mapping[str, Any], name: str) -> str:
    """The value of an annotation; empty where there is none."""
    annotations = metadata(obj).get("annotations")
    return _text(annotations.get(f"pulumi.com/{name}")) if isinstance(annotations, dict) else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def id_of(obj: Mapping[str, Any]) -> str:
    """The id of a resource: `namespace/name`, or the name alone."""
    namespace = namespace_of(obj)
    return f"{namespace}/{name_of(obj)}" if namespace else name_of(obj)


def split_id(resource_id: str) -> tuple[str, str]:
    """The namespace, which may be empty, and the name of an id."""
    namespace, _, name = resource_id.rpartition("/")
    return namespace, name


_OFF = frozenset(
    {
        *("hostIPC", "hostNetwork", "hostPID", "paused", "publishNotReadyAddresses", "readOnly"),
        *("stdin", "stdinOnce", "tty", "unschedulable"),
    }
)
"""Members of Kubernetes' own kinds for which `false` is the same as nothing. For others it may be a choice."""
_MAPS = frozenset(
    {
        *("annotations", "binaryData", "data", "labels", "limits", "matchLabels", "nodeSelector", "parameters"),
        *("requests", "stringData"),
    }
)
"""Members that are maps: empty, they are the same as nothing; what is in them is the user's."""


def normal(inputs: Object) -> Object:
    """Inputs as they are compared and sent: without what the server alone sets, secrets' text as base64 data.

    Of Kubernetes' own kinds also without what says nothing, which the server does not keep."""
    built_in = Kind(_text(inputs.get("apiVersion")), "").built_in
    result: Object = _without_empty(inputs) if built_in else {**inputs}
    if isinstance(result.get("metadata"), dict):
        result["metadata"] = {k: v for k, v in result["metadata"].items() if k not in _READ_ONLY}
    if inputs.get("kind") == "Secret" and inputs.get("apiVersion") == "v1":
        text = inputs.get("stringData")
        if isinstance(text, dict) and is_known(text) and is_known(inputs.get("data")):
            del result["stringData"]
            encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in text.items()}
            result["data"] = {**(inputs.get("data") or {}), **encoded}
    return result


def _without_empty(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: item if key in _MAPS else _without_empty(item)
        for key, item in value.items()
        if not (item == [] or (key in _MAPS and item == {}) or (key in _OFF and item is False))
    }


def prune(live: Any, shape: Any) -> Any:
    """What of `live` stands where `shape` has something: the server adds much that nobody asked for.

    What is empty in `shape` and missing in `live` stays: the server drops what says nothing (`hostNetwork: false`)."""
    if isinstance(live, dict) and isinstance(shape, dict):
        pruned = {}
        for key, value in shape.items():
            if key in live:
                pruned[key] = prune(live[key], value)
            elif _says_nothing(value):
                pruned[key] = value
        return pruned
    if isinstance(live, list) and isinstance(shape, list):
        # zip(): what a webhook added at the end is not the program's.
        return [prune(item, wanted) for item, wanted in zip(live, shape, strict=False)]
    return live


def _says_nothing(value: Any) -> bool:
    return value is not UNKNOWN and not value and value is not None


def without_nulls(value: Any) -> Any:
    """`value` without members that are null, which the state does not keep."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def to_api(value: Any) -> Any:
    """`value` with the names that the API has."""
    return _renamed(value, _DASHED)


def to_state(value: Any) -> Any:
    """`value` with the names that the state has."""
    return _renamed(value, _UNDERSCORED)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {names.get(key, key): _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return value


_QUANTITIES = frozenset(
    {"limits", "requests", "hard", "capacity", "min", "max", "default", "defaultRequest", "podFixed"}
)
"""Members whose own members are quantities."""
_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)(|[numkMGTPE]|[KMGTPE]i)")
_FACTORS = {
    "": Decimal(1),
    **{suffix: Decimal(10) ** (3 * power) for power, suffix in enumerate("num", start=-3)},
    **{suffix: Decimal(10) ** (3 * power) for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}


def same(path: tuple[str | int, ...], old: Any, new: Any) -> bool:
    """Whether two values of a field mean the same: quantities may be written in several ways (`1000m`, `1`)."""
    if isinstance(old, bool) != isinstance(new, bool):  # True == 1
        return False
    if old == new:
        return True
    if (len(path) > 1 and path[-2] in _QUANTITIES) or path[-1:] == ("sizeLimit",):
        amounts = quantity(old), quantity(new)
        return None not in amounts and amounts[0] == amounts[1]
    return False


def quantity(value: Any) -> Decimal | None:
    """The amount that a quantity stands for; None where it is none.

    See https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/."""
    match = _QUANTITY.fullmatch(str(value)) if isinstance(value, str | int | float) else None
    if match is None:
        return None
    try:
        return Decimal(match[1]) * _FACTORS[match[2]]
    except InvalidOperation:
        return None
