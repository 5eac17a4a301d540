"""Small Pulumi programs with resources of pulumi_docker, run through the engine with the plugin that is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pulumi import automation

from infra.setup import plugins
from infra.setup.shell_environment import backend_url
from tests.quick_up import up


def plugin_in_use() -> str:
    """Which plugin the tests run with: the official one where Pulumi has it, the stand-in otherwise."""
    return "the stand-in of airgap/docker" if _stand_in() else "the official one"


def _stand_in() -> Path | None:
    return None if plugins.installed("docker", os.environ) else plugins.stand_in("docker")


def path_with_plugin(path: str) -> str:
    """`path`, with the stand-in at its end where that is used."""
    stand_in = _stand_in()
    return f"{path}{os.pathsep}{stand_in}" if stand_in else path


class Program:
    """A stack of its own below `folder`, for an engine at `host`. `declare` makes the resources."""

    def __init__(self, folder: Path, host: str | None) -> None:
        self.declare: Callable[[], Any] = lambda: None
        state = folder / "state"
        state.mkdir(parents=True)
        stand_in = _stand_in()
        path = path_with_plugin(os.environ["PATH"])
        environment = {
            "PATH": path,
            "PULUMI_BACKEND_URL": backend_url(state),
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true" if stand_in else "false",
            **({"DOCKER_HOST": host} if host else {}),
        }
        options = automation.LocalWorkspaceOptions(work_dir=str(folder), env_vars=environment)
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
        """What a deployment would do with each resource of pulumi_docker, by name."""
        self.declare = declare or self.declare
        steps: dict[str, str] = {}

        def note(event: automation.EngineEvent) -> None:
            if event.resource_pre_event is not None:
                step = event.resource_pre_event.metadata
                if step.type.startswith("docker:"):
                    # Of a replacement the engine tells each part; what it is called as a whole is enough.
                    operation = str(getattr(step.op, "value", step.op))
                    steps.setdefault(step.urn.rpartition("::")[2], "replace" if "replace" in operation else operation)

        self.stack.preview(on_event=note)
        return steps

    def refresh(self) -> None:
        self.stack.refresh()

    def destroy(self) -> None:
        self.stack.destroy()

    def resource(self, name: str) -> dict[str, Any]:
        """A resource of the state: `id`, `inputs`, `outputs`."""
        deployment = self.stack.export_stack().deployment or {}
        return next(item for item in deployment["resources"] if item["urn"].endswith(f"::{name}"))

    def outputs(self, name: str) -> dict[str, Any]:
        outputs: dict[str, Any] = self.resource(name)["outputs"]
        return outputs
