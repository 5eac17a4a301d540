"""Finds an engine that is there already: on PATH, or in the cache of an earlier set-up. Changes nothing."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from airgap.go_modules import dotted
from infra.setup.problem import say

VERSION = (3, 259, 0)
"""The engine that is set up, and the oldest one that is used. The same as the SDK's in requirements.in."""

ORIGIN = "ORIGIN"
"""A file beside `bin` that says how the engine came to be: FROM_INSTALLER or FROM_MODULES. Written last."""
FROM_INSTALLER = "official installer\n"
FROM_MODULES = "go modules\n"

PROGRAMS = ("pulumi", "pulumi-language-python", "pulumi-language-python-exec", "pulumi-resource-pulumi-python")


@dataclass(frozen=True)
class Version:
    """What `pulumi version` answers. A pre-release of a version is older than the version."""

    numbers: tuple[int, int, int]
    prerelease: bool

    @property
    def new_enough(self) -> bool:
        return self.numbers > VERSION or (self.numbers == VERSION and not self.prerelease)

    def __str__(self) -> str:
        return dotted(self.numbers)


def cache_root() -> Path:
    """Where engines are kept, one directory a version: `$XDG_CACHE_HOME/slipway/engine`.

    A relative XDG_CACHE_HOME is ignored, as the XDG base directory specification asks.
    """
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = configured if configured.is_absolute() else Path.home() / ".cache"
    return base / "slipway" / "engine"


def version_of(pulumi: Path) -> Version | None:
    """The version of a `pulumi` program, or None where it does not run or answers something else."""
    try:
        answer = subprocess.run(
            [str(pulumi), "version"],
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)([-+].*)?", answer.strip())
    if match is None:
        return None
    major, minor, patch, rest = match.groups()
    return Version((int(major), int(minor), int(patch)), prerelease=bool(rest) and rest.startswith("-"))


def on_path() -> Path | None:
    """The directory on PATH of a `pulumi` that can be used, Python language host included."""
    found = shutil.which("pulumi")
    if found is None:
        return None
    pulumi = Path(found)
    version = version_of(pulumi)
    if version is None:
        say(f"{pulumi} does not answer `pulumi version`: not used")
        return None
    if not version.new_enough:
        say(f"{pulumi} is {version}, older than {dotted(VERSION)}: not used")
        return None
    # The engine looks for its language hosts beside itself, and on PATH.
    beside = pulumi.resolve().with_name("pulumi-language-python")
    if not beside.is_file() and shutil.which("pulumi-language-python") is None:
        say(f"{pulumi} comes without pulumi-language-python: not used")
        return None
    return pulumi.parent


def complete(engine: Path) -> bool:
    """Whether a directory `engine` holds a whole engine of VERSION in its `bin`."""
    programs = [engine / "bin" / name for name in PROGRAMS]
    if not all(os.access(program, os.X_OK) for program in programs):
        return False
    version = version_of(programs[0])
    return version is not None and version.numbers == VERSION


def in_cache() -> Path | None:
    """The `bin` of the engine that an earlier set-up left in the cache."""
    engine = cache_root() / dotted(VERSION)
    return engine / "bin" if complete(engine) else None
