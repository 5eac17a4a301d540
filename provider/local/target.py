"""A service on this machine, as `provider.endpoint` sees it: through its supervisor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from provider.condition import Cause, Condition
from provider.local import client
from provider.local.layout import ServicePaths
from provider.local.probe import Answer, ask
from provider.resource import Failure, ResourceError
from provider.target import Observation
from provider.values import Properties


class LocalTarget:
    """The service named in `target: {kind: local, workspace: ..., service: ...}`, reached at `scoringUri`."""

    poll_seconds = 0.05

    def __init__(self, news: Properties) -> None:
        target = news["target"]
        self._paths = ServicePaths(Path(target["workspace"]), target["service"])
        parts = urlsplit(news["scoringUri"])
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)

    @staticmethod
    def check(news: Properties) -> list[Failure]:
        """What is wrong with the inputs of an `Endpoint` of this kind."""
        needed = {f"target.{name}": news["target"].get(name) for name in ("workspace", "service")}
        needed["scoringUri"] = news.get("scoringUri")
        return [
            Failure(name, "is required for a target of the kind local")
            for name, value in needed.items()
            if value is None
        ]

    @property
    def name(self) -> str:
        """The service's name."""
        return self._paths.name

    async def observe(self, *, waiting: bool = False) -> Observation | None:
        """How the service is, in its supervisor's words; None where no supervisor lives."""
        try:
            status = await client.status(self._paths)
        except client.UnreachableError as error:
            raise ResourceError(f"{error}. Run `pulumi up --refresh`: it starts another one.") from error
        if status is None:
            return None
        cause = _cause(status)
        return Observation(
            condition=Condition(status["state"], status["reason"], status["message"], cause),
            desired=status["desired"],
            serving=_serving(status["serving"], status["desired"]),
            earlier=status["run"] != client.RUN,
        )

    async def retry(self) -> None:
        """Has the supervisor start the failed revision once more."""
        await client.command(self._paths, {"command": "retry", "run": client.RUN})

    async def ask(
        self,
        path: str,
        *,
        timeout: float,  # noqa: ASYNC109 - as in `provider.local.probe.ask`
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> Mapping[str, Answer]:
        """The answer at the service's port, which is the clients' own way. Raises `NoAnswerError`."""
        answer = await ask(self._address, path, timeout=timeout, body=body, content_type=content_type)
        return {f"{self._address[0]}:{self._address[1]}": answer}


def _serving(serving: str | None, desired: str | None) -> str:
    if serving is None:
        return "No revision answers requests now."
    if serving == desired:
        return "The revision is serving."
    return f"Revision {serving}, the one before, goes on serving."


def _cause(status: dict[str, Any]) -> Cause | None:
    return Cause.from_json(status["cause"]) if status["cause"] is not None else None
