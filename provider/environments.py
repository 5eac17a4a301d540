"""The virtual environments of a workspace on this machine: content-addressed folders, shared, removed when unused.

An environment's folder is named by its key: the digest of the locked packages, the interpreter and the platform. It
is made under another name and renamed when complete, so a folder with the right name is whole. Who needs it is written
down: each `PythonEnvironment` keeps a reference, and each revision of a service names its interpreter in its spec.
`collect` removes what neither names.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uv

_REFERENCES = ".references"
_PARTIAL = ".partial-"


class EnvironmentError(Exception):  # noqa: A001 - the built-in of this name is a forgotten alias of OSError
    """An environment could not be made. The message is for the user."""


def key_of(lock_digest: str, python_version: str) -> str:
    """The key of the environment of these packages on this machine."""
    identity = json.dumps([lock_digest, python_version, sysconfig.get_platform(), platform.libc_ver()])
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def interpreter(home: Path, key: str) -> Path:
    """Path of the interpreter of the environment `key`."""
    return home / "environments" / key / "bin" / "python"


def is_whole(home: Path, key: str) -> bool:
    """Whether the environment is there and its interpreter still is (a system's upgrade may have taken it away)."""
    return interpreter(home, key).exists()


def make(home: Path, name: str, key: str, lock: str, python: str, say: Callable[[str], None]) -> None:
    """Makes the folder `key` from the text of a lock with hashes, unless it is there, and refers to it as `name`.

    `python` is an interpreter's path or version. Raises `EnvironmentError` in the words of the installer, and then
    leaves nothing behind."""
    try:
        with _locked(home):
            _make(home / "environments", key, lock, python, say)
            _refer(home, name, key)
    except BaseException:
        collect(home)
        raise


def _make(root: Path, key: str, lock: str, python: str, say: Callable[[str], None]) -> None:
    for left_behind in root.glob(f"*{_PARTIAL}*"):  # by a run that was killed: nobody else holds the lock
        shutil.rmtree(left_behind)
    if not (root / key / "bin" / "python").exists():
        shutil.rmtree(root / key, ignore_errors=True)
        partial = root / f"{key}{_PARTIAL}{os.getpid()}"
        try:
            say("making the virtual environment")
            run_uv("venv", "--no-project", "--relocatable", "--no-python-downloads", "--python", python, str(partial))
            (partial / "lock.txt").write_text(lock)
            say("installing packages")
            run_uv(
                *("pip", "sync", "--require-hashes", "--compile-bytecode"),
                *("--python", str(partial / "bin" / "python"), "--allow-empty-requirements", str(partial / "lock.txt")),
            )
            partial.rename(root / key)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _refer(home: Path, name: str, key: str) -> None:
    references = home / "environments" / _REFERENCES
    references.mkdir(parents=True, exist_ok=True)
    partial = references / f".{name}{_PARTIAL}"
    partial.write_text(key)
    partial.rename(references / name)


def forget(home: Path, name: str) -> None:
    """Takes the reference of `name` back."""
    (home / "environments" / _REFERENCES / name).unlink(missing_ok=True)


def collect(home: Path) -> None:
    """Removes the environments that nothing refers to, and the empty folders above them up to the workspace's."""
    root = home / "environments"
    if not root.is_dir():
        return
    with _locked(home):
        used = set(_referenced(home))
        for folder in root.iterdir():
            if not folder.name.startswith(".") and folder.name not in used:
                shutil.rmtree(folder)
        references = root / _REFERENCES
        if not any(child for child in root.iterdir() if not child.name.startswith(".")):
            if references.is_dir() and any(references.iterdir()):
                return
            shutil.rmtree(root)
    remove_empty(home)


def remove_empty(home: Path) -> None:
    """Removes the workspace's folder and the one above it (the stack's) where they are empty."""
    for folder in (home, home.parent):
        try:
            folder.rmdir()
        except OSError:
            return


def run_uv(*arguments: str, text: str | None = None) -> str:
    """Runs uv and returns what it prints; raises `EnvironmentError` in uv's own words."""
    environment = {**os.environ, "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    environment.pop("VIRTUAL_ENV", None)
    done = subprocess.run(
        [uv.find_uv_bin(), *arguments], input=text, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode != 0:
        raise EnvironmentError(done.stderr.strip() or f"uv ended with exit code {done.returncode}")
    return done.stdout


def _referenced(home: Path) -> Iterator[str]:
    references = home / "environments" / _REFERENCES
    for reference in references.glob("[!.]*"):
        yield reference.read_text()
    for spec in home.glob("services/*/revisions/*/spec.json"):
        try:
            python = Path(json.loads(spec.read_text())["python"])
        except FileNotFoundError:  # the revision is being removed
            continue
        yield python.parent.parent.name


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    root = home / "environments"
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
