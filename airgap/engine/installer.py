"""The vendor's installer, through the Pulumi SDK. Where the internet is out of reach it says so within seconds."""

import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path

from airgap.engine.locate import VERSION
from airgap.go_modules import dotted
from infra.setup.problem import say

SITE = "https://get.pulumi.com/install.sh"
PATIENCE = 4.0
"""Seconds after which the site counts as out of reach, names included: a resolver may take longer than any timeout."""

PROGRAM = """
import sys
from semver import VersionInfo
from pulumi.automation import PulumiCommand
PulumiCommand.install(root=sys.argv[1], version=VersionInfo.parse(sys.argv[2]))
"""


def reachable(site: str = SITE, patience: float = PATIENCE) -> bool:
    """Whether `site` answers a HEAD request within `patience` seconds, through the proxy that the environment names."""
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(site, method="HEAD")  # noqa: S310 - a constant https address
            with urllib.request.urlopen(request, timeout=patience):  # noqa: S310
                answered.set()
        except (OSError, urllib.error.URLError, ValueError):
            return

    # A daemon: one that still waits for a name server does not keep the set-up from going on.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(patience)
    return answered.is_set()


def install(root: Path, sdk_python: Path) -> bool:
    """Install the engine under `root`/bin with the SDK of `sdk_python`. False, with a line why, where it did not."""
    if not reachable():
        say("the official installer (get.pulumi.com) is out of reach")
        return False
    say(f"downloading Pulumi {dotted(VERSION)} with the official installer, a few minutes at most")
    done = subprocess.run(
        [str(sdk_python), "-c", PROGRAM, str(root), dotted(VERSION)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        say(f"the official installer failed: {lines[-1]}")
        return False
    return True
