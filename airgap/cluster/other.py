"""Clusters that are there without us: the one that KUBECONFIG names, or one that kind, k3d or minikube makes.

Only a cluster that was named is used: the current context of ~/.kube/config may be one that people work with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.setup.problem import SetupError, say

NAME = "slipway"


@dataclass(frozen=True)
class Tool:
    """A program that makes clusters in containers: how it makes ours, and how it removes it."""

    program: str
    create: tuple[str, ...]
    """`{kubeconfig}` stands for the file to write."""
    delete: tuple[str, ...]
    writes_kubeconfig: bool = True
    """False: it writes to the file that KUBECONFIG names, and to none of its own."""


TOOLS = (
    Tool(
        "kind",
        ("create", "cluster", "--name", NAME, "--kubeconfig", "{kubeconfig}", "--wait", "180s"),
        ("delete", "cluster", "--name", NAME, "--kubeconfig", "{kubeconfig}"),
    ),
    Tool(
        "k3d",
        ("cluster", "create", NAME, "--kubeconfig-update-default=false", "--wait"),
        ("cluster", "delete", NAME),
        writes_kubeconfig=False,
    ),
    Tool("minikube", ("start", "--profile", NAME), ("delete", "--profile", NAME), writes_kubeconfig=False),
)


def named(environment: Mapping[str, str]) -> Path | None:
    """The kubeconfig that the environment names; None where it names none. Raises SetupError where it is missing."""
    value = environment.get("KUBECONFIG", "")
    if not value:
        return None
    first = Path(value.split(os.pathsep)[0])
    if not first.is_file():
        raise SetupError("KUBECONFIG names a file that is not there.", str(first), "correct KUBECONFIG, or unset it.")
    return first


def tool(path: str | None = None) -> Tool | None:
    """The first of the tools that is on PATH and has a container engine to work with."""
    for candidate in TOOLS:
        if shutil.which(candidate.program, path=path) and _engine_answers(path):
            return candidate
    return None


def _engine_answers(path: str | None) -> bool:
    for engine in ("docker", "podman"):
        program = shutil.which(engine, path=path)
        if program and subprocess.run([program, "info"], capture_output=True, check=False).returncode == 0:
            return True
    return False


def create(using: Tool, kubeconfig: Path) -> None:
    """Makes the cluster, unless it is there, and writes its kubeconfig. Raises SetupError."""
    say(f"making a cluster with {using.program}")
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    if not kubeconfig.exists():
        _run(using, using.delete, kubeconfig, may_fail=True)
    else:
        return
    fresh = kubeconfig.with_suffix(".new")
    _run(using, using.create, fresh)
    if using.program == "k3d":
        fresh.write_text(_run(using, ("kubeconfig", "get", NAME), fresh))
    fresh.chmod(0o600)
    fresh.replace(kubeconfig)


def delete(using: Tool, kubeconfig: Path) -> None:
    """Removes the cluster and its kubeconfig. Raises SetupError."""
    _run(using, using.delete, kubeconfig)
    kubeconfig.unlink(missing_ok=True)


def by_name(program: str) -> Tool:
    """The tool that a record names."""
    return next(candidate for candidate in TOOLS if candidate.program == program)


def _run(using: Tool, arguments: tuple[str, ...], kubeconfig: Path, *, may_fail: bool = False) -> str:
    command = [using.program, *(word.format(kubeconfig=kubeconfig) for word in arguments)]
    environment = os.environ if using.writes_kubeconfig else {**os.environ, "KUBECONFIG": str(kubeconfig)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0 and not may_fail:
        raise SetupError(
            f"{' '.join(command[:3])} failed: {done.stderr.strip()[-800:]}",
            shutil.which(using.program) or using.program,
            f"try the command by hand, or take {using.program} from PATH to have a cluster built here.",
        )
    return done.stdout
