"""The states that a stack had after its earlier updates, on the backends that give them.

Pulumi Cloud does, through `pulumi stack export --version`. A backend of one's own keeps them too, but Pulumi's commands
do not hand them out; from a `file://` backend they are read as the files that they are. What is in object stores and
databases is left to those.
"""

import gzip
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from infra.setup.stack import file_backend, project, short

Resources = list[dict[str, Any]]
StateAfter = Callable[[int], Resources | None]
"""The resources after the update of that index (0 is the first); None where they are not to be had."""


def earlier_states(stack: str, told: Sequence[dict[str, Any]]) -> StateAfter:
    """How to look at earlier states; `told` is the JSON of `pulumi stack history`, the newest update first."""
    backend = file_backend()
    if backend is not None:
        return from_files(backend / "history" / project() / short(stack))
    return from_the_cloud(stack, [update.get("version") or 0 for update in reversed(told)])


def from_the_cloud(stack: str, versions: Sequence[int]) -> StateAfter:
    """By number; backends of other kinds number no update (0)."""

    def after(index: int) -> Resources | None:
        if not versions[index]:
            return None
        command = ["pulumi", "stack", "export", "--version", str(versions[index]), "--stack", stack]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        return None if done.returncode else resources(json.loads(done.stdout)["deployment"])

    return after


def from_files(folder: Path) -> StateAfter:
    """Each update has a `<stack>-<nanoseconds>.history.json`, with a `.checkpoint.json` of the state beside it.

    Either may be compressed (`.gz`), as PULUMI_SELF_MANAGED_STATE_GZIP asks for.
    """
    names = sorted(path.name.partition(".history.json")[0] for path in folder.glob("*.history.json*"))

    def after(index: int) -> Resources | None:
        plain = folder / f"{names[index]}.checkpoint.json" if index < len(names) else None
        if plain is None:
            return None
        packed = plain.with_name(f"{plain.name}.gz")
        if plain.is_file():
            content = plain.read_bytes()
        elif packed.is_file():
            content = gzip.decompress(packed.read_bytes())
        else:
            return None
        return resources(json.loads(content)["checkpoint"].get("latest"))

    return after


def resources(deployment: dict[str, Any] | None) -> Resources:
    """The resources of a deployment; a stack that was destroyed has none."""
    found: Resources = (deployment or {}).get("resources") or []
    return found
