"""A service's containers on a Docker host, as `provider.endpoint` sees them: through the engine alone.

Questions to the server are asked inside its container, so that it makes no difference whether the host is this machine,
nor whether any traffic reaches the revision yet.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from provider.condition import Condition
from provider.container.engine import Engine, EngineError, check_engine, engine_of
from provider.container.facts import Limits, Seen, condition, worst
from provider.local.probe import Answer, NoAnswerError
from provider.resource import Failure
from provider.target import Observation
from provider.values import Properties

_PROBE = (Path(__file__).parent / "probe.py").read_text()
_READY_SECONDS = 5.0
_PATIENCE_SECONDS = 1.0
"""How long one look waits, inside the container, for the server to be ready: to look again from here costs more than
the server's last steps. A container that ends meanwhile ends the look."""
_LOG_LINES = 40
_STARTED = datetime.now(UTC)
"""When this process began: a container that ended before then failed in an earlier run."""
_ENOUGH_SECONDS = 10.0
"""What the engine has beyond a request's own time to start a command and to tell its end."""


class ContainerTarget:
    """The service named in `target: {kind: container, engine, service, containers, image, cpus?, memoryBytes?}`."""

    poll_seconds = 0.05

    def __init__(self, news: Properties) -> None:
        self._target = news["target"]
        self._revision = news["revision"]
        self._containers: list[str] = self._target["containers"]
        self._limits = Limits(self._target.get("cpus"), self._target.get("memoryBytes"))
        self._tried = False

    @staticmethod
    def check(news: Properties) -> list[Failure]:
        """What is wrong with the inputs of an `Endpoint` of this kind."""
        target = news["target"]
        failures = [
            Failure(f"target.{name}", "is required for a target of the kind container")
            for name in ("engine", "service", "containers", "image")
            if target.get(name) is None
        ]
        if not failures and target["containers"] == []:
            failures.append(Failure("target.containers", "must name at least one container"))
        if isinstance(target.get("engine"), dict):
            failures += [
                Failure(f"target.{failure.property}", failure.reason) for failure in check_engine(target["engine"])
            ]
        return failures

    @property
    def name(self) -> str:
        """The service's name."""
        return str(self._target["service"])

    async def observe(self, *, waiting: bool = False) -> Observation | None:
        """How the containers are; None where all of them are gone."""
        patience = _PATIENCE_SECONDS if waiting else 0
        engine = await asyncio.to_thread(self._engine)
        looks = (asyncio.to_thread(self._seen, engine, name, patience) for name in self._containers)
        return await asyncio.to_thread(self._observed, engine, await asyncio.gather(*looks))

    def _engine(self) -> Engine:
        return engine_of(self._target["engine"])

    def _observed(self, engine: Engine, seen: Sequence[Seen]) -> Observation | None:
        conditions = [self._condition(engine, item) for item in seen]
        found, hopeless = worst(conditions)
        revisions = {item.revision for item in seen if item.inspected is not None}
        ends = [item.ended for item in seen if item.status == "exited" and item.ended is not None]
        unstarted = any(item.status == "created" for item in seen)
        if not revisions and found.reason == "ContainerMissing":
            return None
        return Observation(
            condition=found,
            # Of a container that is gone, what it was made for is not known, and says nothing against it.
            desired=next(iter(revisions - {self._revision}), self._revision),
            serving="No request was sent to it: what served before goes on serving.",
            earlier=bool(ends) and min(ends) < _STARTED and not self._tried,
            hopeless=hopeless,
            idle=unstarted and not self._tried,
            answers={item.name: item.answer for item in seen if item.answer is not None},
        )

    def _seen(self, engine: Engine, name: str, patience: float) -> Seen:
        inspected = engine.inspect(name)
        if inspected is None:
            return Seen(name, None)
        answer, silence, log = None, "", []
        if inspected["State"]["Status"] == "running":
            try:
                answer = _asked(engine, name, "/ready", _READY_SECONDS, patience=patience)
            except (NoAnswerError, EngineError) as error:
                # It may end just then: the next look tells.
                silence = str(error)
        if answer is None or not answer.ok:
            log = engine.log(name, _LOG_LINES)
        return Seen(name, inspected, answer, silence, log)

    def _condition(self, engine: Engine, seen: Seen) -> tuple[Condition, bool]:
        image = str(self._target["image"])
        has_image = seen.status != "missing" or engine.has_image(image)
        return condition(seen, image, has_image, self._host, self._limits)

    @functools.cached_property
    def _host(self) -> Mapping[str, Any]:
        """The engine's description of its host, where that matters."""
        return {} if self._limits == Limits() else self._engine().information()

    async def retry(self) -> None:
        """Starts the containers that ended, or were never started."""
        await asyncio.to_thread(self._retry)

    def _retry(self) -> None:
        engine, self._tried = self._engine(), True
        for name in self._containers:
            found = engine.inspect(name)
            if found is not None and found["State"]["Status"] in ("created", "exited"):
                _start(engine, name)

    async def ask(
        self,
        path: str,
        *,
        timeout: float,  # noqa: ASYNC109 - as in `provider.local.probe.ask`
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> Mapping[str, Answer]:
        """The answer of each container to GET `path`, or to POST of `body`. Raises `NoAnswerError`."""
        engine = await asyncio.to_thread(self._engine)
        one = functools.partial(_asked, engine, path=path, seconds=timeout, body=body, content_type=content_type)
        answers = await asyncio.gather(*(asyncio.to_thread(one, name) for name in self._containers))
        return dict(zip(self._containers, answers, strict=True))


def _start(engine: Engine, name: str) -> None:
    """Starts a container. Why it cannot be, the engine tells with the container's state, in its place among the others;
    raises `EngineError` where it does not."""
    try:
        engine.start(name)
    except EngineError:
        found = engine.inspect(name)
        if found is None or not found["State"].get("Error"):
            raise


def _asked(
    engine: Engine,
    name: str,
    path: str,
    seconds: float,
    body: bytes | None = None,
    content_type: str = "application/json",
    patience: float = 0,
) -> Answer:
    """What the server in a container answers; within `patience` seconds, a good answer. Raises `NoAnswerError`,
    `EngineError`."""
    length = -1 if body is None else len(body)
    numbers = (str(length), f"{seconds:g}", f"{patience:g}")
    command = ["python3", "-I", "-S", "-c", _PROBE, path, content_type, *numbers]
    try:
        done = engine.execute(name, command, body, patience + seconds + _ENOUGH_SECONDS)
    except EngineError as error:
        raise NoAnswerError(f"no answer to {path}: {error}") from error
    if done.exit_code != 0:
        raise NoAnswerError(f"no answer to {path}: {done.complaint.splitlines()[-1] if done.complaint else 'it ended'}")
    head, _, content = done.output.partition(b"\n")
    try:
        told: dict[str, Any] = json.loads(head)
    except ValueError:
        raise NoAnswerError(f"no answer to {path}: what was printed in {name} is no answer") from None
    return Answer(told["status"], told["headers"], content)
