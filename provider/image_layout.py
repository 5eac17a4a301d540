"""`ImageLayout`: the store of a workspace on this machine, an OCI image layout with the quota of a registry's tier.

It makes the store, changes what it may hold, and removes it. What is in it is `ModelVersion`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, ParamSpec, TypeVar

from provider.content.errors import ContentError
from provider.content.store import QuotaError, Store
from provider.content.watch import Watch
from provider.resource import Context, Failure, Input, Resource, ResourceError
from provider.values import UNKNOWN, Properties, is_known

P = ParamSpec("P")
T = TypeVar("T")


def owner_of(urn: str) -> str:
    """`<stack>/<project>`: who uses a store, told from the URN of a resource of that stack."""
    stack, _, rest = urn.removeprefix("urn:pulumi:").partition("::")
    return f"{stack}/{rest.partition('::')[0]}"


def watch_of(context: Context) -> Watch:
    """Sends an operation's progress to the engine, and the engine's wish to cancel to the operation."""
    return Watch(context.log.status, context.log.warning, context.cancelled)


class ImageLayout(Resource):
    """See the module. Its id is its path."""

    token: ClassVar[str] = "slipway:index:ImageLayout"
    inputs: ClassVar[Mapping[str, Input]] = {
        "path": Input("string", replaces=True),
        "tier": Input("string"),
        "quotaBytes": Input("integer"),
    }

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        return news, await asyncio.to_thread(_failures, news)

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        if not context.preview:
            await _run(_configure, context, news)
        path = news["path"]
        return ("" if path is UNKNOWN else path), news

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        return await _run(_read, context, resource_id, state)

    async def update(self, context: Context, resource_id: str, state: Properties, news: Properties) -> Properties:
        if not context.preview:
            await _run(_configure, context, news)
        return news

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        await _run(_delete, context, Path(state["path"]))


async def _run(operation: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    try:
        return await asyncio.to_thread(operation, *arguments, **named)
    except ContentError as error:
        raise ResourceError(str(error)) from None


def _failures(news: Properties) -> list[Failure]:
    failures = []
    path, quota = news["path"], news["quotaBytes"]
    if path is not UNKNOWN:
        failures += _path_failures(path)
    if quota is not UNKNOWN and quota < 1:
        failures.append(Failure("quotaBytes", f"must be at least 1 byte, not {quota}"))
    if not failures and is_known([path, quota]):
        try:
            Store(Path(path)).check_quota(quota)
        except QuotaError as error:
            failures.append(Failure("quotaBytes", str(error)))
        except ContentError as error:
            failures.append(Failure("path", str(error)))
    return failures


def _path_failures(path: str) -> list[Failure]:
    if not path.startswith("/"):
        return [Failure("path", f"must be an absolute path, not {path!r}")]
    root = Path(path)
    if root.exists() and not root.is_dir():
        return [Failure("path", f"{path} is there already and is no folder; choose another path")]
    if root.is_dir() and any(root.iterdir()) and not Store(root).layout.exists:
        return [Failure("path", f"{path} holds other files and is no image layout; choose an empty or a new folder")]
    return []


def _configure(context: Context, news: Properties) -> None:
    store = Store(Path(news["path"]))
    store.configure(owner_of(context.urn), news["tier"], news["quotaBytes"], watch_of(context))


def _read(context: Context, resource_id: str, state: Properties) -> Properties | None:
    store = Store(Path(resource_id))
    record = store.record()
    if record.quota_bytes is None or owner_of(context.urn) not in record.owners:
        context.log.warning(f"the store {resource_id} is gone or no longer this stack's: it will be made again")
        return None
    return {**state, "path": resource_id, "tier": record.tier, "quotaBytes": record.quota_bytes}


def _delete(context: Context, path: Path) -> None:
    strangers = Store(path).abandon(owner_of(context.urn), watch_of(context))
    if strangers:
        context.log.warning(f"{path} stays: it holds what is not the store's: {', '.join(strangers)}")
    with contextlib.suppress(OSError):  # the workspace's folder, where nothing else is in it
        path.parent.rmdir()
