"""Objects of Kubernetes as resources of Pulumi's kubernetes plugin: pulumi_kubernetes' types, and not its classes.

To load those takes a second and more, in every preview, and all that they would do here is to give an object its type.
The package is required all the same: by it Pulumi knows which plugin to run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

import pulumi

from provider.kubernetes.objects import MANAGED_BY

SKIP_AWAIT: Final = {"pulumi.com/skipAwait": "true"}
"""An annotation: whether the object works is not the plugin's to wait for."""
AWAITED: Final = {"pulumi.com/timeoutSeconds": "300"}
"""An annotation of a Deployment that the plugin waits for, in seconds: longer than it may go without progress."""
AWAITED_IN_THE_END: Final = {**AWAITED, "pulumi.com/waitFor": "jsonpath={.metadata.uid}"}
"""Annotations of a Deployment whose rollout is not the plugin's to wait for, and whose end is: what its pods need goes
after them. (SKIP_AWAIT is for both.) To the plugin it is ready once it is there."""
PROGRESS_SECONDS: Final = 240
_CORE = "v1"


class ClusterObject(pulumi.CustomResource):
    """An object in a cluster."""

    metadata: pulumi.Output[dict[str, Any]]
    """Its name and what else every kind has."""
    spec: pulumi.Output[Any]
    """What is asked for, with what the cluster filled in; None for kinds without."""
    status: pulumi.Output[Any]
    """What the cluster tells of it."""

    def __init__(
        self,
        resource_name: str,
        api_version: str,
        kind: str,
        body: Mapping[str, Any],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`body` has the members beside these two, named as in a manifest: `metadata`, `spec`, `data`."""
        group = f"core/{_CORE}" if api_version == _CORE else api_version
        outputs = dict.fromkeys(("metadata", "spec", "status"))
        super().__init__(
            f"kubernetes:{group}:{kind}",
            resource_name,
            {**outputs, "apiVersion": api_version, "kind": kind, **body},
            opts,
        )

    @property
    def name(self) -> pulumi.Output[str]:
        """Its name, once it is there."""
        return self.metadata.apply(lambda known: str(known["name"]))

    @property
    def assigned(self) -> pulumi.Output[Any]:
        """`spec`, once the object is there. Before, a preview's dry run fills in what it makes up: an address that
        another object may have by then."""
        return pulumi.Output.all(self.id, self.spec).apply(lambda known: known[1])


class ClusterProvider(pulumi.ProviderResource):
    """A cluster, by a context of a kubeconfig."""

    def __init__(
        self, name: str, kubeconfig: str | None, context: str | None, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """`kubeconfig` is a path, and need not be there before the first `up`; by default as of kubectl."""
        given = {
            "kubeconfig": kubeconfig,
            "context": context,
            # Keys and registry passwords change in place: a Secret that is replaced is away for a moment.
            "enableSecretMutable": "true",
        }
        # The plugin's version comes from the package, as with its own classes.
        version = pulumi.ResourceOptions(version=metadata.version("pulumi_kubernetes"))
        super().__init__(
            "kubernetes",
            name,
            {key: value for key, value in given.items() if value is not None},
            pulumi.ResourceOptions.merge(version, opts),
        )


@dataclass(frozen=True)
class Place:
    """The namespace of a workspace, as what is declared in it needs to know it."""

    workspace: str
    namespace: str
    provider: pulumi.ProviderResource | None
    made: ClusterObject | None
    """The namespace, where it is made here: what is in it goes with it."""

    @property
    def labels(self) -> dict[str, str]:
        """Of everything that is made here."""
        return {"app.kubernetes.io/part-of": self.workspace, **MANAGED_BY}

    def labels_of(self, service: str, component: str | None = None) -> dict[str, str]:
        """Of what belongs to a service, and to one of its deployments or its router."""
        labels = {"app.kubernetes.io/name": service, **self.labels}
        return labels if component is None else {**labels, "app.kubernetes.io/component": component}

    def declare(
        self,
        resource: str,
        kind: tuple[str, str],
        name: pulumi.Input[str],
        body: Mapping[str, Any],
        parent: pulumi.Resource,
        *,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        after: Sequence[pulumi.Resource] = (),
        others: Sequence[str] = (),
    ) -> ClusterObject:
        """Declares an object `name` of `kind` (API version and kind). `others`: the paths of fields that somebody else
        changes, which stay as they are."""
        namespace = self.namespace if self.made is None else self.made.name
        # Pods go before the namespace does: it would not look again for half of the time that they may take to end.
        goes_with = None if kind[1] in ("Deployment", "StatefulSet") else self.made
        described: dict[str, Any] = {"name": name, "namespace": namespace, "labels": dict(labels or self.labels)}
        if annotations:
            described["annotations"] = dict(annotations)
        return ClusterObject(
            resource,
            *kind,
            {"metadata": described, **body},
            pulumi.ResourceOptions(
                parent=parent,
                provider=self.provider,
                depends_on=list(after),
                deleted_with=goes_with,
                ignore_changes=list(others),
            ),
        )


def disruption_budget(
    place: Place, resource: str, name: str, labels: Mapping[str, str], parent: pulumi.Resource
) -> ClusterObject:
    """Lets nodes be emptied while pods with `labels` go on serving: one of them goes at a time."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": dict(labels)}}
    return place.declare(resource, ("policy/v1", "PodDisruptionBudget"), name, {"spec": spec}, parent, labels=labels)


def namespace(name: str, place: Place, level: str, parent: pulumi.Resource) -> ClusterObject:
    """Declares the namespace of a place. `level`: the pod security that it enforces."""
    levels = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "audit", "warn")}
    return ClusterObject(
        f"{name}-namespace",
        "v1",
        "Namespace",
        {"metadata": {"name": place.namespace, "labels": {**place.labels, **levels}}},
        pulumi.ResourceOptions(parent=parent, provider=place.provider),
    )


def rolling_update(labels: Mapping[str, str], template: Mapping[str, Any], progress_seconds: int) -> dict[str, Any]:
    """What every Deployment asks for beside the number of its pods: new ones before old ones go."""
    return {
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": progress_seconds,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "selector": {"matchLabels": dict(labels)},
        "template": template,
    }
