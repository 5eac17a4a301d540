"""The README's commands for the stack `prod`, typed as printed, on a machine that knows of no cluster.

The machine is this one with a network and a /run of its own: no port is taken, and nothing can be downloaded.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from airgap.cluster.place import RUN
from tests.e2e.project import ROOT

README = (ROOT / "README.md").read_text()
UNSHIPPED = shutil.ignore_patterns(".git", ".venv", ".slipway", "__pycache__", ".*_cache", ".hypothesis", "tests")
UNSET = (
    "KUBECONFIG",
    "PULUMI_BACKEND_URL",
    "PULUMI_CONFIG_PASSPHRASE",
    "PULUMI_CONFIG_PASSPHRASE_FILE",
    "SLIPWAY_HOME",
)
OF_ITS_OWN = """
mount -t tmpfs tmpfs /run
mkdir /run/groups
mount --rbind /sys/fs/cgroup /run/groups
mount -t sysfs sysfs /sys
mount --rbind /run/groups /sys/fs/cgroup
umount --recursive --lazy /run/groups
ip link set lo up
ip link add slipway0 type veth peer name slipway1
ip link set slipway1 up
ip address add 192.168.85.1/24 dev slipway0
ip link set slipway0 up
ip route add default dev slipway0
"""
"""Devices are listed below /sys, in one mounted for that network."""
FORWARDED = """
    for try in $(seq 3000); do (: < /dev/tcp/127.0.0.1/8443) 2> /dev/null && break; sleep 0.1; done
"""
"""Waits until the forwarder listens."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout, with its set-up done: that needs a package index."""
    root = tmp_path / "slipway"
    shutil.copytree(ROOT, root, ignore=UNSHIPPED)
    (root / ".venv").symlink_to(ROOT / ".venv")
    stack = root / "stacks" / "Pulumi.prod.yaml"
    stack.write_text(re.sub(r"^encryptionsalt.*\n", "", stack.read_text(), flags=re.MULTILINE))
    return root


def environment(home: Path) -> dict[str, str]:
    """The variables of somebody at `home` who has no kubeconfig there, and what was downloaded and built before."""
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return {"XDG_CACHE_HOME": str(Path.home() / ".cache"), **kept, "HOME": str(home)}


def commands() -> list[str]:
    """What the README prints in its section."""
    section = README.partition("## On Kubernetes")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def test_the_commands_for_a_cluster(checkout: Path) -> None:
    assert not RUN.exists(), "a test cluster runs on this machine; end it: python -m airgap.cluster down"
    up, tools, forward, request = commands()
    script = "\n".join(
        [
            "set -euo pipefail",
            OF_ITS_OWN,
            up,
            "(",
            tools,
            f"{forward.strip()} > /dev/null & forwarder=$!",
            FORWARDED,
            "echo; echo ANSWER",
            request,
            "echo; echo SECOND",
            "kubectl --namespace prod get deployment mnist -o jsonpath='{.status.availableReplicas}'",
            "kill $forwarder",
            ")",
            "echo; echo AGAIN",
            up,
            "echo DOWN",
            "make down STACK=prod",
            "echo LEFT",
            "ls -d .slipway/cluster .slipway/prod || true",
            "iptables-save | grep -E 'KUBE|SLIPWAY' || true",
        ]
    )
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--propagation", "private", "bash", "-c", script],
        cwd=checkout,
        env=environment(checkout.parent),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    first, answer, replicas, again, down, left = re.split(
        r"^(?:ANSWER|SECOND|AGAIN|DOWN|LEFT)$", done.stdout, flags=re.MULTILINE
    )
    assert "this stack needs a Kubernetes cluster, and none is named here: making one" in done.stderr
    assert "mnist: Healthy" in first
    (printed,) = re.findall(r"try it: +(curl .*)", first)
    assert printed == request.strip()
    assert answer.strip() == "[0,1]"
    assert replicas.strip() == "2"
    assert re.search(r"Resources:\s+\d+ unchanged", again)
    assert "deleted" in down
    assert f"removing the cluster in {checkout}/.slipway/cluster" in done.stderr
    assert left.strip() == "", "no cluster, no rules of its network, and no folder of the stack"
