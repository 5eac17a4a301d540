"""The workspace: what all assets and services of a stack belong to."""

from collections.abc import Mapping
from typing import NotRequired, TypedDict

import pulumi

from provider import sdk


class WorkspaceArgs(TypedDict):
    """Arguments of `Workspace`."""

    name: pulumi.Input[str]
    """Name, a DNS label."""
    home: str
    """Folder of the workspace on this machine. What is in it goes with the workspace."""
    description: NotRequired[pulumi.Input[str]]
    """What the workspace is for."""
    tags: NotRequired[pulumi.Input[Mapping[str, pulumi.Input[str]]]]
    """Tags, `name: value`."""


class Workspace(pulumi.ComponentResource):
    """A workspace: the parent of what belongs to it, and its folder on this machine."""

    name: pulumi.Output[str]
    """Its name."""
    home: pulumi.Output[str]
    """Its folder on this machine. What is made from it is made after the folder, and removed before it."""

    def __init__(self, name: str, args: WorkspaceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:components:Workspace", name, {}, opts)
        self.name = pulumi.Output.from_input(args["name"])
        folder = sdk.WorkspaceFolder(f"{name}-folder", {"path": args["home"]}, pulumi.ResourceOptions(parent=self))
        self.home = folder.path
        self.register_outputs({"name": self.name, "description": args.get("description"), "tags": args.get("tags", {})})
