"""The rollout of a revision, seen through its target (`provider.target`): waiting for its end, and how it is now.

What is verified beyond that is the matter of each resource that waits.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from provider.condition import Condition
from provider.resource import Context, ResourceError
from provider.target import Observation, Target
from provider.values import Properties

DEFAULT_TIMEOUT_SECONDS = 600


async def until_final(context: Context, target: Target, news: Properties, what: str) -> Observation:
    """Waits until the target's state is final, or the time is up; has it start what is idle, and retry what failed
    before this run. `what` is it that is waited for. Raises `ResourceError` where that is gone, or is to be another
    revision."""
    revision = news["revision"]
    seconds = news.get("timeoutSeconds", DEFAULT_TIMEOUT_SECONDS)
    deadline = asyncio.get_running_loop().time() + seconds
    said = ""
    while True:
        if context.cancelled.is_set():
            raise ResourceError(f"cancelled while waiting for {what}; it goes on deploying by itself")
        observation = await target.observe(waiting=True)
        if observation is None:
            raise ResourceError(f"{what} is not running. Run `pulumi up --refresh`: it is started again.")
        condition = observation.condition
        if observation.desired != revision:
            raise ResourceError(
                f"{what} was asked for revision {observation.desired or 'none'}, not {revision}: "
                "somebody else deploys it, or an `up` was killed. Run `pulumi up --refresh`."
            )
        if observation.idle:
            context.log.status("starting it")
            await target.retry()
        elif observation.earlier and (condition.state == "Failed" or observation.hopeless):
            context.log.status("it had failed before: trying once more")
            await target.retry()
        elif condition.final or observation.hopeless:
            return observation
        if asyncio.get_running_loop().time() > deadline:
            return _out_of_time(observation, seconds)
        if condition.message != said:
            said = condition.message
            context.log.status(f"{condition.state}: {said}")
        await asyncio.sleep(target.poll_seconds)


def _out_of_time(observation: Observation, seconds: float) -> Observation:
    condition = observation.condition
    message = f"{condition.message} (not healthy within {seconds:g} s)"
    return replace(observation, condition=replace(condition, message=message))


async def as_observed(target: Target, state: Properties, what: str) -> Condition:
    """How what was deployed is now, for a refresh: whatever is wrong is a state, not an error. `what` is it."""
    try:
        observation = await target.observe()
    except ResourceError as error:
        return Condition("Unhealthy", "TargetUnreachable", str(error))
    if observation is None:
        return Condition("Failed", "NotRunning", f"{what} is not running")
    if observation.desired != state["revision"]:
        return Condition("Unhealthy", "WrongRevision", _another(observation, state["revision"]))
    return observation.condition


def _another(observation: Observation, revision: str) -> str:
    """What is so where a target was asked for another revision than the one that came to serve last."""
    # After an `up` that failed, the sentence on who serves names that one.
    if observation.condition.state != "Healthy" and revision in observation.serving:
        return (
            f"the last update, revision {observation.desired}, did not become ready: {observation.condition.message}. "
            f"{observation.serving}"
        )
    return f"revision {observation.desired or 'none'} is deployed, not {revision}"


def told(condition: Condition) -> Properties:
    """A condition as the outputs that tell it."""
    hint = condition.cause.hint if condition.cause is not None else ""
    known = {"state": condition.state, "reason": condition.reason, "message": condition.message}
    return {**known, "hint": hint or None}
