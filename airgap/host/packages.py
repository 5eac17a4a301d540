"""Debian's packages: which are missing, and their installation."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from infra.setup.problem import SetupError, say

SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Not on everybody's PATH."""
ENGINE: Mapping[str, str] = {"dockerd": "docker.io", "iptables": "iptables"}
REGISTRY: Mapping[str, str] = {"docker-registry": "docker-registry"}
IMAGES: Mapping[str, str] = {"debootstrap": "debootstrap"}


def found(program: str) -> str | None:
    """Where a program is, for an administrator."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}")


def missing(programs: Mapping[str, str]) -> list[str]:
    """The packages of the `programs` (program -> package) that are not there."""
    return [package for program, package in programs.items() if found(program) is None]


def install(packages: Sequence[str]) -> None:
    """Installs packages. Raises `SetupError`."""
    command = "apt-get install --no-install-recommends " + " ".join(packages)
    if found("apt-get") is None:
        raise SetupError(
            f"{', '.join(packages)} {'is' if len(packages) == 1 else 'are'} missing, and this is no Debian.",
            "this machine",
            "install what gives the same programs, or deploy to a host that has an engine (computeTargets.NAME.host).",
        )
    if os.geteuid() != 0:
        raise SetupError(
            "Packages are missing, and to install them needs root.", ", ".join(packages), f"as root: {command}"
        )
    say(f"installing with apt-get: {', '.join(packages)}")
    # Their services are started here, and not by the packages' own scripts on machines without an init system.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0 and arguments != ["update"]:
            said = "\n".join(f"    {line}" for line in done.stdout.strip().splitlines()[-8:])
            raise SetupError(f"apt-get failed. It said:\n{said}", command, "mend what it names, then run it again.")
