"""`RegistryEndpoint`: waits until a registry in a cluster serves, and says why it does not.

It looks at the one pod of a StatefulSet, and is content once the registry lets the password in, by the way that
everything else takes. What failed in an earlier run is tried once more. What is in the registry depends on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import ClassVar

from provider.condition import Condition
from provider.content.errors import ContentError
from provider.content.watch import Watch
from provider.image_layout import watch_of
from provider.kubernetes import looking, pods
from provider.kubernetes.cluster import Cluster, cluster_of, path_in
from provider.kubernetes.objects import Object, Verdict, number, part
from provider.kubernetes.refusals import refused_one
from provider.location import Location, way_problems
from provider.resource import Context, Failure, Input, Resource, ResourceError
from provider.story import story
from provider.values import Properties

DEFAULT_TIMEOUT_SECONDS = 600
_POLL_SECONDS = 0.5
_VOLUME_SECONDS = 180
"""How long a volume may be made, which some storage classes do only once there is a pod."""
_SERVING = "Serving"


class RegistryEndpoint(Resource):
    """See the module. Its id is the registry's address."""

    token: ClassVar[str] = "slipway:index:RegistryEndpoint"
    inputs: ClassVar[Mapping[str, Input]] = {
        # As what is stored in it is given them.
        "registry": Input("string"),
        "username": Input("string"),
        "password": Input("string"),
        "portForward": Input("map", silent=True),
        # Names what its pod is made from: another one is another pod to wait for.
        "revision": Input("string"),
        "timeoutSeconds": Input("integer", required=False, silent=True),
    }
    secrets: ClassVar[Collection[str]] = ("password",)
    sound: ClassVar[tuple[str, str | bool] | None] = ("state", _SERVING)

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        return news, way_problems(news)

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        if not context.preview:
            await asyncio.to_thread(_wait, context, news)
        return str(news["registry"]), {**news, "state": _SERVING}

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        why = await asyncio.to_thread(_away, state, watch_of(context))
        if why is None:
            return {**state, "state": _SERVING}
        context.log.warning(f"the registry does not serve: {why}")
        return {**state, "state": "Away"}

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        return (await self.create(context, news))[1]

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        """Nothing: the registry itself is made of other resources."""


def _away(state: Properties, watch: Watch) -> str | None:
    """Why the registry does not serve now; None where it does."""
    try:
        cluster = cluster_of(state["portForward"]["cluster"])
        found = _look(cluster, state["portForward"])
        if found.condition.state != "Healthy":
            return found.condition.message
        _location(state).registry(watch).check()
    except (ResourceError, ContentError) as error:
        return str(error)
    return None


def _wait(context: Context, news: Properties) -> None:
    way, watch = news["portForward"], watch_of(context)
    cluster = cluster_of(way["cluster"])
    seconds = news.get("timeoutSeconds", DEFAULT_TIMEOUT_SECONDS)
    deadline, retried, said = time.monotonic() + seconds, False, ""
    while True:
        found = _look(cluster, way)
        if found.condition.state == "Healthy":
            break
        if found.hopeless and not retried and looking.is_of_an_earlier_run(cluster, found):
            context.log.status("it had failed before: trying once more")
            cluster.delete(_path(way, "pods", f"{way['statefulSet']}-0"))
            retried = True
        elif found.hopeless or time.monotonic() > deadline:
            raise ResourceError(_story(way, found, "" if found.hopeless else f" (not serving within {seconds:g} s)"))
        if found.condition.message != said:
            said = found.condition.message
            context.log.status(said)
        watch.check("waiting for the registry")
        time.sleep(_POLL_SECONDS)
    context.log.status("verifying")
    try:
        _location(news).registry(watch).check()
    except ContentError as error:
        raise ResourceError(str(error)) from None


def _location(properties: Properties) -> Location:
    return Location.of(properties["registry"], properties)


def _look(cluster: Cluster, way: Properties) -> Verdict:
    """The condition of the registry's pod."""
    made = cluster.find(_path(way, "statefulsets", way["statefulSet"], group="apps/v1"))
    if made is None:
        raise ResourceError(
            f"the cluster has no registry {way['statefulSet']} in the namespace {way['namespace']}: it was deleted "
            f"outside this stack. Run `pulumi up --refresh`: it is made again"
        )
    if _is_complete(made):
        return Verdict(Condition("Healthy", "Ready", "the registry's pod is ready"))
    pod = cluster.find(_path(way, "pods", f"{way['statefulSet']}-0"))
    if pod is None or pods.leaving(pod) or not _is_newest(made, pod):
        refusal = refused_one(looking.events(cluster, way["namespace"], made), looking.began(cluster), cluster.now())
        pending = Verdict(Condition("Transitioning", "Replacing", "the registry's pod is being made"))
        return refusal if refusal is not None and pod is None else pending
    seen = looking.look(cluster, way["namespace"], pod, lambda _: "")
    nodes = None if part(pod, "spec", "nodeName") else looking.nodes(cluster)
    found = pods.verdict(pod, seen, nodes, cluster.now())
    if found.condition.state == "Healthy":  # and the StatefulSet has not heard of it yet
        return replace(found, condition=replace(found.condition, state="Transitioning"))
    return _with_time_for_the_volume(found, cluster.now())


def _is_complete(made: Object) -> bool:
    seen = number(made, "status", "observedGeneration") >= number(made, "metadata", "generation")
    newest = part(made, "status", "updateRevision")
    updated = newest is not None and part(made, "status", "currentRevision") == newest
    return seen and updated and number(made, "status", "readyReplicas") >= 1


def _is_newest(made: Object, pod: Object) -> bool:
    labels = part(pod, "metadata", "labels") or {}
    return bool(labels.get("controller-revision-hash") == part(made, "status", "updateRevision"))


def _with_time_for_the_volume(found: Verdict, now: datetime) -> Verdict:
    """A pod that waits for its volume alone is no sign that there is none."""
    soon = found.at is not None and now - found.at <= timedelta(seconds=_VOLUME_SECONDS)
    waits = found.condition.state == "Unschedulable" and "PersistentVolumeClaim" in found.condition.message
    return replace(found, hopeless=False) if waits and soon else found


def _path(way: Properties, *steps: str, group: str = "") -> str:
    return path_in(way["namespace"], *steps, group=group)


def _story(way: Properties, found: Verdict, late: str) -> str:
    """The error that waiting ends with."""
    condition = replace(found.condition, message=found.condition.message + late)
    return story(f"the registry in the namespace {way['namespace']}", condition)
