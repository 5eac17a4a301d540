"""A copy of the project with a backend of its own, for benchmarks of whole `pulumi` commands."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.project import Project

_TRIVIAL_PROVIDER = '''#!/usr/bin/env python3
"""A provider whose resources do nothing."""
import sys
from pulumi.provider.experimental import provider as api
from pulumi.provider.experimental.server import main


class Trivial(api.Provider):
    async def diff(self, request):
        return api.DiffResponse(changes=False)

    async def create(self, request):
        return api.CreateResponse(resource_id="x", properties=request.properties)

    async def delete(self, request):
        return None


main(sys.argv[1:], "0.1.0", Trivial())
'''

_TRIVIAL_PROGRAM = """
import pulumi


class Component(pulumi.ComponentResource):
    def __init__(self, name):
        super().__init__("bare:index:Component", name, {})
        self.register_outputs({})


class Bare(pulumi.CustomResource):
    def __init__(self, name, opts=None):
        super().__init__("bare:index:Bare", name, {"value": "x"}, opts)


for index in range(COMPONENTS):
    Component(f"component-{index}")
for index in range(CUSTOM):
    Bare(f"bare-{index}")
"""


def bare_project(folder: Path, environment: dict[str, str], components: int, custom: int) -> None:
    """Writes a bare Pulumi program with that many resources into `folder`, and deploys it."""
    plugin = folder / "provider"
    plugin.mkdir(parents=True)
    executable = plugin / "pulumi-resource-bare"
    executable.write_text(_TRIVIAL_PROVIDER)
    executable.chmod(0o755)
    (folder / "Pulumi.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "bare",
                "runtime": "python",
                "plugins": {"providers": [{"name": "bare", "path": "provider"}]},
            }
        )
    )
    program = _TRIVIAL_PROGRAM.replace("COMPONENTS", str(components)).replace("CUSTOM", str(custom))
    (folder / "__main__.py").write_text(program)
    pulumi(folder, environment, "stack", "init", "test")
    _set_up(folder, environment)


def _set_up(folder: Path, environment: dict[str, str], *flags: str) -> None:
    # Without a checkpoint after each step: written whole each time, they take minutes for thousands of resources.
    once = {**environment, "PULUMI_EXPERIMENTAL": "true", "PULUMI_SKIP_CHECKPOINTS": "true"}
    pulumi(folder, once, "up", "--yes", "--skip-preview", "--stack", "test", *flags)


def pulumi(folder: Path, environment: dict[str, str], *arguments: str, text: str | None = None) -> str:
    """Runs pulumi in `folder`; returns what it prints, raises with it where it fails."""
    done = subprocess.run(
        ["pulumi", *arguments, "--non-interactive"],
        cwd=folder,
        env={**os.environ, **environment},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"pulumi {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def timed(folder: Path, environment: dict[str, str], *arguments: str) -> float:
    """Wall-clock seconds of one pulumi command."""
    begun = time.perf_counter()
    pulumi(folder, environment, *arguments)
    return time.perf_counter() - begun


def multiply(project: Project, count: int) -> None:
    """Makes `count` services of the one deployed: in the configuration and in Pulumi's state, not in reality."""
    service = project.service
    first = service["deployment"]["port"]
    ports = [first] + [port for port in range(20000, 20000 + count) if port != first]
    more = {}
    for index in range(1, count):
        more[f"echo{index}"] = copy.deepcopy(service)
        more[f"echo{index}"]["deployment"]["port"] = ports[index]
    (project.root / "stacks" / "more.yaml").write_text(yaml.safe_dump({"services": more}))
    project.sections["include"] = ["stacks/more.yaml"]
    project.write()
    exported = json.loads(pulumi(project.root, project.environment, "stack", "export", "--stack", "test"))
    resources = exported["deployment"]["resources"]
    own = [resource for resource in resources if resource["urn"].rpartition("::")[2].split("-")[0] == "echo"]
    for index in range(1, count):
        resources += [_renamed(resource, f"echo{index}", first, ports[index]) for resource in own]
    pulumi(project.root, project.environment, "stack", "import", "--stack", "test", text=json.dumps(exported))
    # Nothing of it is changed; the stack's outputs come to name all services.
    _set_up(project.root, project.environment, "--expect-no-changes")


def _renamed(resource: dict[str, Any], name: str, old_port: int, port: int) -> dict[str, Any]:
    text = json.dumps(resource)
    for before, after in (
        ("::echo", f"::{name}"),
        ("demo/echo", f"demo/{name}"),
        ('"echo"', f'"{name}"'),
        (str(old_port), str(port)),
    ):
        text = text.replace(before, after)
    renamed: dict[str, Any] = json.loads(text)
    return renamed
