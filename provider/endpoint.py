"""`Endpoint`: waits until a deployed revision serves, verifies it from outside, and names its state.

What is waited for is told by the kind of target (`provider.target`); the verification goes the way that clients go,
through the scoring URI. A failure becomes an error for people: which service and revision, its state, why, with the
last lines of the traceback or the log, whether another revision still serves, and what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from provider import rollout
from provider.condition import Cause, Condition
from provider.container.target import ContainerTarget
from provider.deployment_log import remembered
from provider.kubernetes.target import KubernetesTarget, foreseen
from provider.local.probe import Answer, NoAnswerError
from provider.local.target import LocalTarget
from provider.resource import Context, Failure, Input, Resource, ResourceError
from provider.sample_request import content_type
from provider.story import story
from provider.target import Observation, Target
from provider.values import UNKNOWN, Properties

KINDS: Mapping[str, type[LocalTarget] | type[ContainerTarget] | type[KubernetesTarget]] = {
    "local": LocalTarget,
    "container": ContainerTarget,
    "kubernetes": KubernetesTarget,
}
"""The kinds of compute targets whose services can be waited for."""

_SETTLE_SECONDS = 10.0
"""How long the old revision may still answer some requests after traffic has moved."""
_ANSWER_SECONDS = 60.0
_READ_SECONDS = 5.0


class Endpoint(Resource):
    """The place where a service answers; its id is the service's name."""

    token: ClassVar[str] = "slipway:index:Endpoint"
    inputs: ClassVar[Mapping[str, Input]] = {
        "target": Input("map"),
        "revision": Input("string"),
        # For targets whose services clients reach before the endpoint is satisfied.
        "scoringUri": Input("string", required=False),
        "sampleRequest": Input("string", required=False, silent=True),
        "sampleDigest": Input("string", required=False),
        "timeoutSeconds": Input("integer", required=False, silent=True),
        "models": Input("list", required=False, silent=True),
    }
    sound: ClassVar[tuple[str, str | bool] | None] = ("state", "Healthy")

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        kind = news["target"].get("kind", UNKNOWN) if news["target"] is not UNKNOWN else UNKNOWN
        if kind is not UNKNOWN and kind not in KINDS:
            return news, [Failure("target.kind", f"{kind!r} is no kind of target; known are {', '.join(KINDS)}")]
        seconds = news.get("timeoutSeconds")
        if seconds is not None and seconds is not UNKNOWN and seconds < 1:
            return news, [Failure("timeoutSeconds", f"must be at least 1, not {seconds}")]
        return news, [] if kind is UNKNOWN else KINDS[kind].check(news)

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        if context.preview:
            return "", await _previewed(context, news)
        return _target(news).name, await _logged(context, None, news)

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        condition = await _as_it_is(_target(state), state)
        if condition.state != "Healthy":
            context.log.warning(
                f"the service {resource_id} is {condition.state} ({condition.reason}): {condition.message}"
            )
        else:
            _warn_of_lack(context, resource_id, condition.cause)
        return {**state, **rollout.told(condition)}

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        return await (_previewed(context, news) if context.preview else _logged(context, state, news))

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        """Nothing: the service itself is another resource."""


def _target(properties: Properties) -> Target:
    return KINDS[properties["target"]["kind"]](properties)


async def _previewed(context: Context, news: Properties) -> Properties:
    target = news["target"]
    if target is not UNKNOWN and target.get("kind") == "kubernetes":
        _warn_of_lack(context, str(target.get("service")), await foreseen(target))
    return {**news, "state": UNKNOWN, "reason": UNKNOWN, "message": UNKNOWN, "history": UNKNOWN}


def _warn_of_lack(context: Context, service: str, cause: Cause | None) -> None:
    """Says what a service lacks that serves all the same."""
    if cause is not None:
        context.log.warning(f"service {service}: {cause.message}. What to do: {cause.hint}.")


# -- verifying ---------------------------------------------------------------------------------------------------------


async def _logged(context: Context, state: Properties | None, news: Properties) -> Properties:
    return {**await _deployed(context, news), "history": remembered(state, news)}


async def _deployed(context: Context, news: Properties) -> Properties:
    target = _target(news)
    observation = await rollout.until_final(context, target, news, f"the service {target.name}")
    if observation.condition.state != "Healthy":
        raise ResourceError(_story(target.name, news["revision"], observation))
    cause = await _verified(context, target, news, observation.answers)
    if cause is not None:
        failed = replace(observation, condition=Condition("Failed", cause.reason, cause.message, cause))
        raise ResourceError(_story(target.name, news["revision"], failed))
    _warn_of_lack(context, target.name, observation.condition.cause)
    return {**news, **rollout.told(observation.condition)}


async def _verified(
    context: Context, target: Target, news: Properties, heard: Mapping[str, Answer] | None
) -> Cause | None:
    """What is wrong with the service as clients see it; None when nothing is. What was `heard` is not asked again."""
    context.log.status("verifying")
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SETTLE_SECONDS
    cause = _first_misfit(heard, news) if heard else await _identity(target, news, _ANSWER_SECONDS)
    while cause is not None:
        if loop.time() > deadline:
            return cause
        await asyncio.sleep(target.poll_seconds)
        cause = await _identity(target, news, _ANSWER_SECONDS)
    return await _sample(target, news)


async def _identity(target: Target, news: Properties, seconds: float) -> Cause | None:
    """Whether the right revision answers, everywhere."""
    try:
        answers = await target.ask("/ready", timeout=seconds)
    except NoAnswerError as error:
        return Cause("Unreachable", f"the service does not answer: {error}", hint="see the service's log")
    return _first_misfit(answers, news)


def _first_misfit(answers: Mapping[str, Answer], news: Properties) -> Cause | None:
    causes = (_misfit(where, answer, news["revision"]) for where, answer in answers.items())
    return next((cause for cause in causes if cause is not None), None)


def _misfit(where: str, answer: Answer, revision: str) -> Cause | None:
    if answer.revision == revision and answer.ok:
        return None
    if answer.revision is None:
        return Cause(
            "AnsweredByAnother",
            f"what answers on {where} is not this service",
            hint="another program listens there: end it, or choose another port",
        )
    if answer.revision != revision:
        return Cause(
            "WrongRevision",
            f"revision {answer.revision} answers on {where}, not {revision}",
            hint="run `pulumi up --refresh`",
        )
    return Cause("NotReady", f"GET /ready on {where} was answered with {answer.status}: {answer.excerpt()}")


async def _sample(target: Target, news: Properties) -> Cause | None:
    path = news.get("sampleRequest")
    if not path:
        return None
    hint = "mend run() in the entry script, or the file of the sample request"
    try:
        body = await asyncio.to_thread(Path(path).read_bytes)
        place = urlsplit(news.get("scoringUri") or "").path or "/score"
        answers = await target.ask(place, timeout=_ANSWER_SECONDS, body=body, content_type=content_type(Path(path)))
    except (NoAnswerError, OSError) as error:
        return Cause("SampleRequestFailed", f"the sample request {path} failed: {error}", hint=hint)
    for answer in answers.values():
        if not answer.ok:
            message = f"the sample request {path} was answered with {answer.status}: {answer.excerpt()}"
            return Cause("SampleRequestFailed", message, hint=hint)
    return None


async def _as_it_is(target: Target, state: Properties) -> Condition:
    """The state of the service now, for a refresh: whatever is wrong is a state, not an error."""
    condition = await rollout.as_observed(target, state, "the service")
    if condition.state != "Healthy":
        return condition
    cause = await _identity(target, state, _READ_SECONDS)
    if cause is not None:
        return Condition("Unhealthy", cause.reason, cause.message, cause)
    return condition


def _story(service: str, revision: str, observation: Observation) -> str:
    """The error that a failed deployment ends with."""
    return story(f"service {service}, revision {revision}", observation.condition, observation.serving)
