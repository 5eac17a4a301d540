"""A minimal Debian with Python as a folder, made by debootstrap: needs root, no Docker.

Everything that differs from run to run is taken out afterwards (logs, caches, dates, what names this machine), so that
the same versions of the packages are the same files. Their versions are the mirror's: an image that must not change is
kept by its digest.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

SUITE = "bookworm"
PACKAGES = ("python3-minimal", "libpython3-stdlib", "ca-certificates", "libgomp1")
"""Beside the essential ones. libgomp1: wheels of LightGBM and the like expect it from the system."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Debian's, and OCI's, name of what `uname -m` says."""

_EMPTIED = ("dev", "proc", "run", "sys", "tmp", "var/cache", "var/log", "var/lib/apt/lists", "var/tmp")
_REMOVED = (
    *("etc/hostname", "etc/resolv.conf", "etc/machine-id", "etc/apt/sources.list", "etc/.pwd.lock"),
    *("etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-"),
    *("var/lib/dpkg/status-old", "var/lib/dpkg/diversions-old", "var/lib/dpkg/statoverride-old"),
    *("usr/share/locale", "usr/share/man", "usr/share/info", "debootstrap"),
)


class BaseImageError(Exception):
    """The base image cannot be made. The message says why, and how to mend it."""


def architecture() -> str:
    """This machine's, as OCI names it; the only one an image can be made for here."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise BaseImageError(f"no base image is made on {machine}; use one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[machine]


def make_root(folder: Path, mirror: str | None = None, packages: Sequence[str] = PACKAGES) -> None:
    """Makes the root file system in `folder`, which must not exist. `mirror`: of Debian's packages; debootstrap's own
    where it is None. `packages`: beside the essential ones. Raises `BaseImageError`."""
    if os.geteuid() != 0:
        raise BaseImageError("debootstrap needs root; run it as root, or name a base image that a registry has")
    # /usr/sbin is not on everybody's path.
    program = shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise BaseImageError("debootstrap is missing; install it: apt-get install debootstrap")
    command = [program, "--variant=minbase", f"--include={','.join(packages)}", f"--arch={architecture()}"]
    command += [SUITE, str(folder), *([] if mirror is None else [mirror])]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        said = [line.rstrip() for line in process.stdout]
    if process.returncode != 0:
        last = "\n  ".join(said[-10:])
        raise BaseImageError(f"debootstrap ended with exit code {process.returncode}:\n  {last}")
    _strip(folder)


def python_version(folder: Path) -> str:
    """The version of Python in the root file system: `3.11`."""
    return (folder / "usr" / "bin" / "python3").readlink().name.removeprefix("python")


def _strip(folder: Path) -> None:
    for name in _EMPTIED:
        for path in _children(folder / name):
            _remove(path)
    for name in _REMOVED:
        _remove(folder / name)
    for path in [*folder.rglob("__pycache__")]:
        _remove(path)
    for path in [*folder.joinpath("usr/share/doc").rglob("*")]:
        if not path.is_dir() and path.name != "copyright":
            path.unlink()
    shadow = folder / "etc" / "shadow"
    shadow.write_text("".join(_undated(line) for line in shadow.read_text().splitlines(keepends=True)))


def _undated(line: str) -> str:
    """A line of /etc/shadow without the day of the last change."""
    fields = line.split(":")
    fields[2] = ""
    return ":".join(fields)


def _children(folder: Path) -> Iterator[Path]:
    return iter([*folder.iterdir()]) if folder.is_dir() else iter(())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
