"""`RegistryService`: the registry of a workspace as a process on this machine, with generated credentials.

It makes, changes and removes the service; what is in the registry is of others. A tier changes in place: the quota at
once, CPUs and memory by a new process on the same data, which clients bridge by trying again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, ParamSpec, TypeVar

from provider.content.errors import ContentError
from provider.image_layout import watch_of
from provider.registry_host import host
from provider.registry_host.spec import HOST, Spec
from provider.resource import Change, Context, Failure, Input, Resource, ResourceError
from provider.values import UNKNOWN, Properties

P = ParamSpec("P")
T = TypeVar("T")
_SECONDS_A_DAY = 86400


class RegistryService(Resource):
    """See the module. Its id is its folder."""

    token: ClassVar[str] = "slipway:index:RegistryService"
    inputs: ClassVar[Mapping[str, Input]] = {
        # Absolute; what is stored lies in it and goes with it.
        "path": Input("string", replaces=True),
        "port": Input("integer"),
        "tier": Input("string"),
        "quotaBytes": Input("integer"),
        "cpus": Input("number"),
        "memoryBytes": Input("integer"),
        # After how many days a manifest without a tag goes; without it they stay.
        "retentionDays": Input("integer", required=False),
    }

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        return news, await asyncio.to_thread(_failures, news)

    def diff(self, state: Properties, news: Properties) -> list[Change]:
        changes = super().diff(state, news)
        if state.get("state") != "Serving" and not changes:
            return [Change("state", "update", of_input=False)]
        return changes

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        if context.preview:
            path = news["path"]
            return ("" if path is UNKNOWN else path), _outputs(news, UNKNOWN, UNKNOWN)
        return news["path"], await _run(_apply, context, news)

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        return await _run(_read, context, Path(resource_id), state)

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        if context.preview:
            return _outputs(news, state.get("username"), state.get("password"))
        return await _run(_apply, context, news)

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        await _run(host.remove, Path(resource_id), watch_of(context))


async def _run(operation: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    try:
        return await asyncio.to_thread(operation, *arguments, **named)
    except ContentError as error:
        raise ResourceError(str(error)) from None


def _failures(news: Properties) -> list[Failure]:
    failures = [
        Failure(name, f"must be more than 0, not {news[name]}")
        for name in ("quotaBytes", "cpus", "memoryBytes", "retentionDays")
        if news.get(name) not in (None, UNKNOWN) and news[name] <= 0
    ]
    path, port, quota = news["path"], news["port"], news["quotaBytes"]
    if path is UNKNOWN:
        return failures
    if not path.startswith("/"):
        return [*failures, Failure("path", f"must be an absolute path, not {path!r}")]
    if port is not UNKNOWN and (conflict := host.port_conflict(Path(path), port)) is not None:
        failures.append(Failure("port", conflict))
    if quota is not UNKNOWN and quota > 0 and (conflict := host.quota_conflict(Path(path), quota)) is not None:
        failures.append(Failure("quotaBytes", conflict))
    try:
        host.program()
    except ContentError as error:
        failures.append(Failure("", str(error)))
    return failures


def _apply(context: Context, news: Properties) -> Properties:
    spec = Spec(
        program=host.program(),
        port=news["port"],
        quota_bytes=news["quotaBytes"],
        cpus=news["cpus"],
        memory_bytes=news["memoryBytes"],
        collect_seconds=_SECONDS_A_DAY,
        retention_days=news.get("retentionDays"),
    )
    credentials = host.apply(Path(news["path"]), spec, watch_of(context))
    return _outputs(news, credentials.username, credentials.password)


def _outputs(news: Properties, username: object, password: object) -> Properties:
    port = news["port"]
    address = UNKNOWN if port is UNKNOWN else f"{HOST}:{port}"
    return {**news, "address": address, "username": username, "password": password, "state": "Serving"}


def _read(context: Context, folder: Path, state: Properties) -> Properties | None:
    spec, credentials = host.asked_for(folder), host.credentials_of(folder)
    if spec is None or credentials is None:
        context.log.warning(f"the registry in {folder} is gone: it will be made again")
        return None
    found = host.state(folder)
    if found in ("Stopped", "Failing"):
        context.log.warning(f"the registry in {folder} does not run ({found}): it will be started")
    else:
        found = "Serving"  # what else it may be doing passes by itself
    return {
        **state,
        "path": str(folder),
        "port": spec.port,
        "quotaBytes": spec.quota_bytes,
        "cpus": spec.cpus,
        "memoryBytes": spec.memory_bytes,
        "retentionDays": spec.retention_days,
        "address": f"{HOST}:{spec.port}",
        "username": credentials.username,
        "password": credentials.password,
        "state": found,
    }
