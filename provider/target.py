"""What `Endpoint` needs to know of a deployed service, whatever kind of compute target it runs on.

Each kind has one module that gives a `Target`; `provider.endpoint` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from provider.condition import Condition
from provider.local.probe import Answer
from provider.resource import Failure
from provider.values import Properties


@dataclass(frozen=True)
class Observation:
    """A service as its target sees it at one moment."""

    condition: Condition
    """The state of the revision that is asked for."""
    desired: str | None
    """The revision that the target was asked for."""
    serving: str
    """Who answers requests now, as a sentence."""
    earlier: bool = False
    """Whether the condition comes from an earlier run of the provider, so that trying again may help."""
    hopeless: bool = False
    """Whether waiting is known to bring nothing better, although the state is none of the final ones."""
    idle: bool = False
    """Whether it has yet to be started, which `retry` does."""
    answers: Mapping[str, Answer] | None = None
    """What the look heard from GET /ready, as `Target.ask` would have; None where it did not ask that way."""


class Target(Protocol):
    """A service on some compute target, made from the inputs of its `Endpoint`."""

    poll_seconds: float
    """How often it is worth looking."""

    @staticmethod
    def check(news: Properties) -> list[Failure]:
        """What is wrong with the inputs (some may be unknown) for this kind of target."""

    @property
    def name(self) -> str:
        """The service's name."""

    async def observe(self, *, waiting: bool = False) -> Observation | None:
        """How the service is; None where it is gone. Raises `ResourceError` where that cannot be told.

        `waiting`: the look may take a moment longer for a service that is about to be ready."""

    async def retry(self) -> None:
        """Has the target try again what failed, or start what is idle. Raises `ResourceError`."""

    async def ask(
        self,
        path: str,
        *,
        timeout: float,  # noqa: ASYNC109 - as in `provider.local.probe.ask`
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> Mapping[str, Answer]:
        """Asks the service as close to what its clients do as can be: the answers to GET `path`, or to POST of `body`,
        by where they come from. Raises `NoAnswerError`."""
