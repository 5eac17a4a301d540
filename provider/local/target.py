"""A service on this machine, as `provider.endpoint` sees it: through its supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from provider.condition import Cause, Condition
from provider.local import client
from provider.local.layout import ServicePaths
from provider.resource import ResourceError
from provider.target import Observation
from provider.values import Properties


class LocalTarget:
    """The service named in `target: {kind: local, workspace: ..., service: ...}`."""

    def __init__(self, target: Properties) -> None:
        try:
            self._paths = ServicePaths(Path(target["workspace"]), target["service"])
        except KeyError as error:
            raise ResourceError(
                f"the target of kind local needs {error}: workspace and service say which it is"
            ) from None

    @property
    def name(self) -> str:
        """The service's name."""
        return self._paths.name

    async def observe(self) -> Observation | None:
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
            serving=status["serving"],
            earlier=status["run"] != client.RUN,
        )

    async def retry(self) -> None:
        """Has the supervisor start the failed revision once more."""
        await client.command(self._paths, {"command": "retry", "run": client.RUN})


def _cause(status: dict[str, Any]) -> Cause | None:
    return Cause.from_json(status["cause"]) if status["cause"] is not None else None
