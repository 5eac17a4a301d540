"""The workspace: what all assets and services of a stack belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

import pulumi


class WorkspaceArgs(TypedDict):
    """Arguments of `Workspace`."""

    name: pulumi.Input[str]
    """Name, a DNS label."""
    home: str
    """Folder of the workspace on this machine. Nobody else's files may be in it."""
    description: NotRequired[pulumi.Input[str]]
    """What the workspace is for."""
    tags: NotRequired[pulumi.Input[Mapping[str, pulumi.Input[str]]]]
    """Tags, `name: value`."""


class Workspace(pulumi.ComponentResource):
    """A workspace. It holds nothing by itself; give it as the parent of what belongs to it."""

    name: pulumi.Output[str]
    """Its name."""
    home: str
    """Its folder on this machine."""

    def __init__(self, name: str, args: WorkspaceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:components:Workspace", name, {}, opts)
        self.name = pulumi.Output.from_input(args["name"])
        self.home = args["home"]
        self.register_outputs({"name": self.name, "description": args.get("description"), "tags": args.get("tags", {})})
