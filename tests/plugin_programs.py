"""Small Pulumi programs with resources of one plugin, run through the engine with the plugin that is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pulumi import automation

from infra.setup import plugins
from infra.setup.shell_environment import backend_url
from tests.quick_up import up


def stand_in(plugin: str) -> Path | None:
    """The directory of the stand-in that the tests run with; None where Pulumi has the official plugin."""
    return None if plugins.installed(plugin, os.environ) else plugins.stand_in(plugin)


def plugin_in_use(plugin: str) -> str:
    """Which plugin the tests run with, in words."""
    return f"the stand-in of airgap/{plugin}" if stand_in(plugin) else "the official one"


class Program:
    """A stack of its own below `folder`. `declare` makes the resources."""

    def __init__(self, folder: Path, plugin: str, environment: Mapping[str, str]) -> None:
        self.plugin = plugin
        self.declare: Callable[[], Any] = lambda: None
        self.state = state = folder / "state"
        state.mkdir(parents=True)
        directory = stand_in(plugin)
        self.environment = {
            "PATH": os.environ["PATH"] + (f"{os.pathsep}{directory}" if directory else ""),
            "PULUMI_BACKEND_URL": backend_url(state),
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true" if directory else "false",
            **environment,
        }
        options = automation.LocalWorkspaceOptions(work_dir=str(folder), env_vars=self.environment)
        self.stack = automation.create_or_select_stack("test", "conformance", lambda: self.declare(), opts=options)

    def up(self, declare: Callable[[], Any] | None = None) -> dict[str, int]:
        """Deploys; returns how many resources had which operation."""
        self.declare = declare or self.declare
        return up(self.stack)

    def preview(self, declare: Callable[[], Any] | None = None) -> dict[str, int]:
        """What a deployment would do, in the same form."""
        self.declare = declare or self.declare
        return {str(getattr(kind, "value", kind)): count for kind, count in self.stack.preview().change_summary.items()}

    def steps(self, declare: Callable[[], Any] | None = None) -> dict[str, str]:
        """What a deployment would do with each resource of the plugin, by name."""
        return {name: step for name, (step, _) in self.details(declare).items()}

    def details(self, declare: Callable[[], Any] | None = None) -> dict[str, tuple[str, list[str]]]:
        """The same, with the paths of what changes."""
        self.declare = declare or self.declare
        found: dict[str, tuple[str, list[str]]] = {}

        def note(event: automation.EngineEvent) -> None:
            if event.resource_pre_event is not None:
                step = event.resource_pre_event.metadata
                if step.type.startswith(f"{self.plugin}:"):
                    # Of a replacement the engine tells each part; what it is called as a whole is enough.
                    operation = str(getattr(step.op, "value", step.op))
                    operation = "replace" if "replace" in operation else operation
                    paths = sorted(step.detailed_diff or {})
                    known = found.get(step.urn.rpartition("::")[2], ("", []))
                    found[step.urn.rpartition("::")[2]] = known[0] or operation, known[1] or paths

        self.stack.preview(on_event=note)
        return found

    def refresh(self) -> None:
        self.stack.refresh()

    def destroy(self) -> None:
        self.stack.destroy()

    def resource(self, name: str) -> dict[str, Any]:
        """A resource of the state: `id`, `inputs`, `outputs`."""
        deployment = self.stack.export_stack().deployment or {}
        return next(item for item in deployment["resources"] if item["urn"].endswith(f"::{name}"))

    def written(self) -> str:
        """Everything that Pulumi wrote about the stack, its history included."""
        return "\n".join(file.read_text() for file in self.state.rglob("*.json*"))

    def outputs(self, name: str) -> dict[str, Any]:
        outputs: dict[str, Any] = self.resource(name)["outputs"]
        return outputs
