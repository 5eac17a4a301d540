"""`ClusterVolume`: the claim of a volume in a Kubernetes cluster, which grows in place and never shrinks.

A preview says where the volume cannot become what is asked for, which an API server says only when it is changed. A
claim that somebody has enlarged by hand stays as large. What is on the volume goes with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from provider.content.watch import human_size
from provider.kubernetes.cluster import Cluster, ClusterError, check_cluster, cluster_of, path_in
from provider.kubernetes.kubeconfig import KubeconfigError
from provider.kubernetes.objects import quantity
from provider.resource import Context, Failure, Input, Resource, ResourceError
from provider.values import UNKNOWN, Properties, is_known

T = TypeVar("T")

ASKED = "slipway/size-bytes"
"""The annotation with the size that was asked for last, in bytes."""
_GIB = 2**30
_GONE_SECONDS = 120
"""How long a claim may take to go: until the pods that use it have ended."""
_PAUSE_SECONDS = 0.2


class ClusterVolume(Resource):
    """See the module. Its id is `<namespace>/<name>`."""

    token: ClassVar[str] = "slipway:index:ClusterVolume"
    inputs: ClassVar[Mapping[str, Input]] = {
        # `kubeconfig` and `context`, where they are given.
        "cluster": Input("map", silent=True),
        "namespace": Input("string", replaces=True),
        "name": Input("string", replaces=True),
        "sizeBytes": Input("integer"),
        # By default the cluster's own default.
        "storageClass": Input("string", required=False),
        "labels": Input("map", required=False),
    }

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        failures = check_cluster(news["cluster"])
        size = news["sizeBytes"]
        if size is not UNKNOWN and (size < _GIB or size % _GIB):
            failures.append(Failure("sizeBytes", f"must be whole GiB, at least one, not {size}"))
        if failures or not is_known(news):
            return news, failures
        return news, await asyncio.to_thread(_conflicts, news)

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        if not context.preview:
            await asyncio.to_thread(_apply, news)
        namespace, name = news["namespace"], news["name"]
        return (f"{namespace}/{name}" if is_known([namespace, name]) else ""), news

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        found = await asyncio.to_thread(lambda: cluster_of(state["cluster"]).find(_path(state)))
        if found is None:
            context.log.warning(f"the volume {resource_id} is gone: another one will be made, with nothing on it")
            return None
        if _size(found) < state["sizeBytes"]:  # another one of the same name
            return {**state, "sizeBytes": _size(found)}
        return state

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        if not context.preview:
            await asyncio.to_thread(_apply, news)
        return news

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        await asyncio.to_thread(_remove, cluster_of(state["cluster"]), state)


# -- what cannot be ----------------------------------------------------------------------------------------------------


def _conflicts(news: Properties) -> list[Failure]:
    """What the volume that is there cannot become. Where the cluster does not tell, an `up` will."""
    try:
        cluster = cluster_of(news["cluster"])
        found = cluster.find(_path(news))
        if found is None or not _is_bound(found):
            return []
        return [*_class_conflicts(news, found), *_size_conflicts(news, found, cluster)]
    except (ClusterError, KubeconfigError):
        return []


def _class_conflicts(news: Properties, found: Mapping[str, Any]) -> list[Failure]:
    wanted, has = news.get("storageClass"), found["spec"].get("storageClassName")
    if wanted in (None, has):
        return []
    return [
        Failure(
            "storageClass",
            f"the volume {_named(news)} is of the storage class {has!r}, and stays so: keep that one; or have another "
            f"volume made: move what is on it elsewhere, and back",
        )
    ]


def _size_conflicts(news: Properties, found: Mapping[str, Any], cluster: Cluster) -> list[Failure]:
    wanted, has, asked = news["sizeBytes"], _size(found), _asked(found)
    if wanted < asked:
        return [
            Failure(
                "sizeBytes",
                f"the volume {_named(news)} has {human_size(has)}, and {human_size(wanted)} is asked for: no volume "
                f"shrinks. Keep its size (a registry's: its tier); or have another volume made: move what is on it "
                f"elsewhere, and back",
            )
        ]
    if wanted <= has:
        return []
    storage_class = found["spec"].get("storageClassName")
    if storage_class and _grows(cluster, storage_class):
        return []
    return [
        Failure(
            "sizeBytes",
            f"the volume {_named(news)} has {human_size(has)}, and {human_size(wanted)} is asked for: its storage "
            f"class {storage_class!r} lets no volume grow (allowVolumeExpansion). Keep its size (a registry's: its "
            f"tier); or, where the class's driver can do it, have that set: kubectl patch storageclass {storage_class} "
            f"--patch '{{\"allowVolumeExpansion\": true}}'; or have another volume made, of another class: move what "
            f"is on it elsewhere, and back",
        )
    ]


def _grows(cluster: Cluster, storage_class: str) -> bool:
    found = cluster.find(f"/apis/storage.k8s.io/v1/storageclasses/{storage_class}")
    return found is None or bool(found.get("allowVolumeExpansion"))


# -- operations --------------------------------------------------------------------------------------------------------


def _apply(news: Properties) -> None:
    cluster = cluster_of(news["cluster"])
    found = cluster.find(_path(news))
    if found is not None and _is_another(news, found):
        _remove(cluster, news)
        found = None
    size = news["sizeBytes"] if found is None else max(_size(found), news["sizeBytes"])
    cluster.apply(_path(news), _manifest(news, size))


def _is_another(news: Properties, found: Mapping[str, Any]) -> bool:
    """Whether a claim is no volume yet, or any more, and not what is asked for: no such claim can be changed."""
    if found["metadata"].get("deletionTimestamp"):
        return True
    wanted, has = news.get("storageClass"), found["spec"].get("storageClassName")
    return not _is_bound(found) and (_size(found) != news["sizeBytes"] or wanted not in (None, has))


def _remove(cluster: Cluster, inputs: Properties) -> None:
    cluster.delete(_path(inputs))
    deadline = time.monotonic() + _GONE_SECONDS
    while cluster.find(_path(inputs)) is not None:
        if time.monotonic() > deadline:
            raise ResourceError(
                f"the volume {_named(inputs)} does not go: pods still use it. End them (kubectl --namespace "
                f"{inputs['namespace']} describe persistentvolumeclaim {inputs['name']} names them), and try again"
            )
        time.sleep(_PAUSE_SECONDS)


def _manifest(news: Properties, size: int) -> dict[str, Any]:
    storage_class = news.get("storageClass")
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": news["name"],
            "namespace": news["namespace"],
            "labels": dict(news.get("labels") or {}),
            "annotations": {ASKED: str(news["sizeBytes"])},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": f"{size // _GIB}Gi" if size % _GIB == 0 else str(size)}},
            **({} if storage_class is None else {"storageClassName": storage_class}),
        },
    }


def _path(inputs: Properties) -> str:
    return path_in(inputs["namespace"], "persistentvolumeclaims", inputs["name"])


def _named(inputs: Properties) -> str:
    return f"{inputs['namespace']}/{inputs['name']}"


def _is_bound(claim: Mapping[str, Any]) -> bool:
    return (claim.get("status") or {}).get("phase") == "Bound"


def _size(claim: Mapping[str, Any]) -> int:
    """What a claim asks for, in bytes."""
    return int(quantity(claim["spec"]["resources"]["requests"]["storage"]))


def _asked(claim: Mapping[str, Any]) -> int:
    """What was asked for here, in bytes."""
    text = (claim["metadata"].get("annotations") or {}).get(ASKED, "")
    return int(text) if text.isdigit() else _size(claim)
