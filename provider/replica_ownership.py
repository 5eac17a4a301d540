"""`ReplicaOwnership`: sees to it that the number of a Deployment's pods is the stack's to say, and no autoscaler's.

A service that goes back from an autoscaler to a number meets two things in its way. The autoscaler is a resource that
the program no longer names, and those go last, once everything else is as it should be: until then it would set its
own number again. And what it has set is its controller's by the rules of server-side apply, even when it is gone. So
the autoscaler that the stack made goes here, before the Deployment changes, and with it the claim that its controller
has left. What somebody else claims, by `kubectl scale` or an autoscaler of their own, stays theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from provider.kubernetes.cluster import ApiError, Cluster, ForbiddenError, check_cluster, cluster_of, path_in
from provider.kubernetes.objects import MANAGED_BY, Object, part
from provider.resource import Context, Failure, Input, Resource, ResourceError
from provider.values import UNKNOWN, Properties, is_known

_APPS, _AUTOSCALING = "apps/v1", "autoscaling/v2"
_CONTROLLER = "kube-controller-manager"
"""Who sets the number that an autoscaler has found."""
_ATTEMPTS = 5
_CONFLICT = 409


@dataclass(frozen=True)
class _Found:
    """A Deployment, and what keeps the stack from saying how many pods it has."""

    deployment: Object
    autoscaler: str | None
    """The name of an autoscaler that the stack made."""
    claims: list[Object]
    """Members of the Deployment's managed fields: what an autoscaler that is gone, or goes, has left."""

    @property
    def in_the_way(self) -> bool:
        return bool(self.autoscaler or self.claims)


class ReplicaOwnership(Resource):
    """See the module. Its id is `<namespace>/<deployment>`."""

    token: ClassVar[str] = "slipway:index:ReplicaOwnership"
    inputs: ClassVar[Mapping[str, Input]] = {
        # `kubeconfig` and `context`, where they are given.
        "cluster": Input("map"),
        "namespace": Input("string"),
        "deployment": Input("string"),
    }
    sound: ClassVar[tuple[str, str | bool] | None] = ("owned", True)

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        return news, check_cluster(news["cluster"])

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        """`owned` is not known in a preview that finds something in the way: what is made of it, such as a number of
        replicas, is then not tried on the cluster, which would find a conflict that an `up` will not meet."""
        if context.preview:
            return "", {**news, "owned": await _foreseen(news)}
        await asyncio.to_thread(_take_over, context, news)
        return f"{news['namespace']}/{news['deployment']}", {**news, "owned": True}

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        try:
            found = await asyncio.to_thread(lambda: _look(cluster_of(state["cluster"]), state))
        except ResourceError:
            return state  # a cluster that is gone is for others to tell
        return {**state, "owned": found is None or not found.in_the_way}

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        return (await self.create(context, news))[1]

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        """Nothing: that an autoscaler may have the number is its own affair."""


async def _foreseen(news: Properties) -> Any:
    if not is_known(news):
        return UNKNOWN
    try:
        found = await asyncio.to_thread(lambda: _look(cluster_of(news["cluster"]), news))
    except ResourceError:
        return True  # whoever is to make something there says it
    return UNKNOWN if found is not None and found.in_the_way else True


def _take_over(context: Context, news: Properties) -> None:
    cluster = cluster_of(news["cluster"])
    for _ in range(_ATTEMPTS):
        found = _look(cluster, news)
        if found is None or not found.in_the_way:
            return
        if found.autoscaler is not None:
            context.log.info(f"the autoscaler {found.autoscaler} goes: the stack says how many pods there are")
            cluster.delete(_path(news, "horizontalpodautoscalers", found.autoscaler, group=_AUTOSCALING))
        elif _dropped(cluster, news, found):
            return
    raise ResourceError(
        f"the Deployment {news['deployment']} in the namespace {news['namespace']} is being changed all the time: an "
        "autoscaler, or somebody, keeps setting how many pods it has. See `kubectl get horizontalpodautoscalers`, then "
        "run `pulumi up --refresh`."
    )


def _dropped(cluster: Cluster, news: Properties, found: _Found) -> bool:
    """Drops the claims; False where the Deployment has changed meanwhile."""
    known = part(found.deployment, "metadata")
    kept = [entry for entry in known["managedFields"] if entry not in found.claims]
    # The number itself stays as it is: nobody's, until the stack says it.
    body = {"metadata": {"resourceVersion": known["resourceVersion"], "managedFields": kept}}
    try:
        cluster.merge(_path(news, "deployments", str(news["deployment"]), group=_APPS), body)
    except ApiError as error:
        if error.code != _CONFLICT:
            raise
        return False
    return True


def _look(cluster: Cluster, news: Properties) -> _Found | None:
    """What is in the way; None where there is no Deployment yet."""
    name = str(news["deployment"])
    deployment = cluster.find(_path(news, "deployments", name, group=_APPS))
    if deployment is None:
        return None
    try:
        scaler = cluster.find(_path(news, "horizontalpodautoscalers", name, group=_AUTOSCALING))
        ours = scaler is not None and _is_ours(scaler)
        claims = [entry for entry in part(deployment, "metadata", "managedFields") or () if _is_of_an_autoscaler(entry)]
        if claims and not ours and _is_scaled(cluster, news):
            claims = []
    except ForbiddenError:
        # Whoever may not see autoscalers has made none; a conflict will name who has the number.
        return _Found(deployment, None, [])
    return _Found(deployment, name if ours else None, claims)


def _is_ours(scaler: Object) -> bool:
    labels: Object = part(scaler, "metadata", "labels") or {}
    return labels.items() >= MANAGED_BY.items()


def _is_of_an_autoscaler(entry: Object) -> bool:
    return entry.get("manager") == _CONTROLLER and entry.get("subresource") == "scale"


def _is_scaled(cluster: Cluster, news: Properties) -> bool:
    """Whether any autoscaler, such as one that somebody has made by hand, says how many pods the Deployment has."""
    scaled = [
        part(scaler, "spec", "scaleTargetRef") or {}
        for scaler in cluster.items(_path(news, "horizontalpodautoscalers", group=_AUTOSCALING))
    ]
    return any(one.get("kind") == "Deployment" and one.get("name") == news["deployment"] for one in scaled)


def _path(news: Properties, *steps: str, group: str) -> str:
    return path_in(str(news["namespace"]), *steps, group=group)
