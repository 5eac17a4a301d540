"""`WorkspaceFolder`: the folder of a workspace on this machine. It is made first and removed last.

What an `up` that was killed had begun, and Pulumi's state does not know of, is in it too: its deletion stops the
services that are left there and removes everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from provider.image_layout import owner_of
from provider.local import client
from provider.local.layout import ServicePaths, remove_if_empty, remove_tree
from provider.resource import Context, Failure, Input, Resource, ResourceError
from provider.values import UNKNOWN, Properties

_OWNER = ".owner"
_DRAIN_SECONDS = 5


class WorkspaceFolder(Resource):
    """See the module. Its id is its path."""

    token: ClassVar[str] = "slipway:index:WorkspaceFolder"
    inputs: ClassVar[Mapping[str, Input]] = {"path": Input("string", replaces=True)}

    async def check(self, context: Context, news: Properties) -> tuple[Properties, list[Failure]]:
        path = news["path"]
        if path is UNKNOWN:
            return news, []
        if not path.startswith("/"):
            return news, [Failure("path", f"must be an absolute path, not {path!r}")]
        stranger = _stranger(context, Path(path))
        return news, [] if stranger is None else [Failure("path", stranger)]

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        if not context.preview:
            _make(context, Path(news["path"]))
        return news["path"], news

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        if (Path(resource_id) / _OWNER).is_file():
            return state
        context.log.warning(f"the workspace's folder {resource_id} is gone: it will be made again")
        return None

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        home = Path(resource_id)
        for folder in home.glob("services/[!.]*"):
            context.log.warning(f"the service {folder.name} was left by an `up` that was cut short: it is stopped")
            await client.stop(ServicePaths.at(folder), _DRAIN_SECONDS)
        await asyncio.to_thread(remove_tree, home)
        remove_if_empty(home.parent)


def _stranger(context: Context, home: Path) -> str | None:
    """What speaks against taking `home`: it belongs to another stack."""
    try:
        owner = (home / _OWNER).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{home} cannot be used: {error.strerror}"
    if owner == owner_of(context.urn):
        return None
    return f"{home} belongs to the stack {owner}: choose another name for the workspace, or another SLIPWAY_HOME"


def _make(context: Context, home: Path) -> None:
    stranger = _stranger(context, home)
    if stranger is not None:
        raise ResourceError(stranger)
    try:
        home.mkdir(parents=True, exist_ok=True)
        (home / _OWNER).write_text(owner_of(context.urn), encoding="utf-8")
    except OSError as error:
        raise ResourceError(
            f"the workspace's folder {home} cannot be made: {error.strerror}; set SLIPWAY_HOME to another place"
        ) from None
