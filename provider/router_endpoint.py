"""`RouterEndpoint`: waits until a service's router on a cluster is rolled out, and says why it is not.

The cause is told as soon as Kubernetes tells it, as `Endpoint` does for services (`provider.kubernetes`). That a router
is ready is all that is asked of it: it answers for no revision of a service, and its configuration is in its pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from provider import rollout
from provider.condition import Condition
from provider.kubernetes.target import KubernetesTarget
from provider.resource import Context, Failure, Input, Resource, ResourceError
from provider.story import story
from provider.values import UNKNOWN, Properties

_HEALTHY = "Healthy"
_OF_MODELS = frozenset({"OutOfMemory", "ProbeFailed", "ProgressDeadlineExceeded"})
"""Causes whose hints are for those who write an entry script."""


class RouterEndpoint(Resource):
    """See the module. Its id is the service's name."""

    token: ClassVar[str] = "slipway:index:RouterEndpoint"
    inputs: ClassVar[Mapping[str, Input]] = {
        # As an `Endpoint` has them.
        "target": Input("map"),
        "revision": Input("string"),
        "timeoutSeconds": Input("integer", required=False, silent=True),
    }
    sound: ClassVar[tuple[str, str | bool] | None] = ("state", _HEALTHY)

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        return news, [] if news["target"] is UNKNOWN else KubernetesTarget.check(news)

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        if context.preview:
            return "", {**news, "state": UNKNOWN, "reason": UNKNOWN, "message": UNKNOWN}
        target = KubernetesTarget(news)
        found = await rollout.until_final(context, target, news, f"the router of the service {target.name}")
        condition = _hinted(found.condition, news)
        if condition.state != _HEALTHY:
            what = f"the router of the service {target.name}, revision {news['revision']}"
            raise ResourceError(story(what, condition, found.serving))
        return target.name, {**news, **rollout.told(condition)}

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        condition = _hinted(await rollout.as_observed(KubernetesTarget(state), state, "the router"), state)
        if condition.state != _HEALTHY:
            context.log.warning(
                f"the router of the service {resource_id} is {condition.state} ({condition.reason}): "
                f"{condition.message}"
            )
        return {**state, **rollout.told(condition)}

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        return (await self.create(context, news))[1]

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        """Nothing: the router itself is another resource."""


def _hinted(condition: Condition, news: Properties) -> Condition:
    """The condition, with a hint for those who run a router and have not written it."""
    cause, place = condition.cause, news["target"]
    if cause is None or cause.reason not in _OF_MODELS:
        return condition
    hint = f"see what it says: kubectl logs --namespace={place['namespace']} deployment/{place['deployment']}"
    return replace(condition, cause=replace(cause, hint=hint))
