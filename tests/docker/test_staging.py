"""The README's commands for a Docker host, typed as printed, on a machine where nobody runs an engine.

The machine is this one with a network and a /run of its own: no engine answers at the usual socket, no port is taken,
and nothing can be downloaded.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.project import ROOT

README = (ROOT / "README.md").read_text()
UNSHIPPED = shutil.ignore_patterns(".git", ".venv", ".slipway", "__pycache__", ".*_cache", ".hypothesis", "tests")
UNSET = (
    "PULUMI_BACKEND_URL",
    "PULUMI_CONFIG_PASSPHRASE",
    "PULUMI_CONFIG_PASSPHRASE_FILE",
    "SLIPWAY_HOME",
    "DOCKER_HOST",
)
OF_ITS_OWN = "mount -t tmpfs tmpfs /run && ip link set lo up && iptables-save > before"
LEFT = (
    "! docker version > /dev/null 2>&1 && iptables-save > after && ls -d .slipway/engine .slipway/staging || true; "
    "grep slipway-engine /proc/self/mounts || true"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout, with its set-up done: that needs a package index."""
    root = tmp_path / "slipway"
    shutil.copytree(ROOT, root, ignore=UNSHIPPED)
    (root / ".venv").symlink_to(ROOT / ".venv")
    stack = root / "stacks" / "Pulumi.staging.yaml"
    stack.write_text(re.sub(r"^encryptionsalt.*\n", "", stack.read_text(), flags=re.MULTILINE))
    return root


def commands() -> list[str]:
    """What the README prints in its section."""
    section = README.partition("## On a Docker host")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def rules(file: Path) -> list[str]:
    """What the packet filter does beyond letting everything through, in a file of iptables-save's."""
    lines = [re.sub(r" \[\d+:\d+\]", "", line) for line in file.read_text().splitlines()]
    return [line for line in lines if line[:1] in "-:" and line and not line.endswith(" ACCEPT")]


def test_the_commands_for_a_docker_host(checkout: Path) -> None:
    up, request = commands()
    script = "\n".join(
        [
            "set -euo pipefail",
            OF_ITS_OWN,
            up,
            "echo; echo ANSWER",
            request,
            "echo; echo AGAIN",
            up,
            "echo DOWN",
            "make down STACK=staging",
            "echo LEFT",
            LEFT,
        ]
    )
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--propagation", "private", "bash", "-c", script],
        cwd=checkout,
        env={name: value for name, value in os.environ.items() if name not in UNSET},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    first, answer, again, down, left = re.split(r"^(?:ANSWER|AGAIN|DOWN|LEFT)$", done.stdout, flags=re.MULTILINE)
    assert "no Docker engine answers here" in done.stderr
    assert "starting a Docker engine" in done.stderr
    assert "mnist: Healthy" in first
    (printed,) = re.findall(r"try it: +(curl .*)", first)
    assert printed == request.strip()
    assert answer.strip() == "[0,1]"
    assert re.search(r"Resources:\s+\d+ unchanged", again)
    assert "deleted" in down
    assert "stopping the Docker engine" in done.stderr
    assert left.strip() == "", "no engine, no folder of the stack, no mount"
    assert rules(checkout / "after") == rules(checkout / "before") == []
