"""The virtual environments of a workspace on this machine: content-addressed folders, shared, removed when unused.

An environment's folder is named by its key: the digest of the locked packages, the interpreter and the platform. It
is made under another name and renamed when complete, so a folder with the right name is whole. Which ones are in use,
and the removal of the others, is `provider.local.environment_folders`'.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import uv

from provider.credentials import index_secrets, redacted
from provider.local import environment_folders

_PARTIAL = ".partial-"

TORCH_BACKEND = "# PyTorch's packages: "
"""Begins the line of a lock that says which builds of PyTorch's packages it holds, in uv's words."""


class EnvironmentError(Exception):  # noqa: A001 - the built-in of this name is a forgotten alias of OSError
    """An environment could not be made. The message is for the user."""


def key_of(lock_digest: str, python_version: str) -> str:
    """The key of the environment of these packages on this machine."""
    identity = json.dumps([lock_digest, python_version, sysconfig.get_platform(), platform.libc_ver()])
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def interpreter(home: Path, key: str) -> Path:
    """Path of the interpreter of the environment `key`."""
    return environment_folders.root_of(home) / key / "bin" / "python"


def is_whole(home: Path, key: str) -> bool:
    """Whether the environment is there and its interpreter still is (a system's upgrade may have taken it away)."""
    return interpreter(home, key).exists()


def make(home: Path, name: str, key: str, lock: str, python: str, say: Callable[[str], None]) -> None:
    """Makes the folder `key` from the text of a lock with hashes, unless it is there, and refers to it as `name`.

    `python` is an interpreter's path or version. Raises `EnvironmentError` in the words of the installer, and then
    leaves nothing behind."""
    try:
        with environment_folders.lock(home) as held:
            _make(environment_folders.root_of(home), key, lock, python, say, held)
            environment_folders.refer(home, name, key)
    except BaseException:
        environment_folders.collect(home)
        raise


def _make(root: Path, key: str, lock: str, python: str, say: Callable[[str], None], held: int) -> None:
    for left_behind in root.glob(f"*{_PARTIAL}*"):  # by a run that was killed: nobody else holds the lock
        shutil.rmtree(left_behind)
    if not (root / key / "bin" / "python").exists():
        shutil.rmtree(root / key, ignore_errors=True)
        partial = root / f"{key}{_PARTIAL}{os.getpid()}"
        try:
            say("making the virtual environment")
            options = ("--no-project", "--relocatable", "--no-python-downloads", "--python", python)
            run_uv("venv", *options, str(partial), held=held)
            (partial / "lock.txt").write_text(lock)
            say("installing packages")
            run_uv(
                *("pip", "sync", "--require-hashes", "--compile-bytecode", *installer_options(lock)),
                *("--python", str(partial / "bin" / "python"), "--allow-empty-requirements", str(partial / "lock.txt")),
                held=held,
            )
            partial.rename(root / key)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def installer_options(lock: str) -> tuple[str, ...]:
    """What uv must be told to find the packages of a lock: a lock says itself which builds of PyTorch it means."""
    found = re.match(rf"(?:#.*\n)*?{TORCH_BACKEND}(\S+)\n", lock)
    return () if found is None else ("--torch-backend", found[1])


def run_uv(*arguments: str, text: str | None = None, held: int | None = None) -> str:
    """Runs uv and returns what it prints; raises `EnvironmentError` in uv's own words, without credentials.

    `held` is the descriptor of a lock. uv holds it too: where this process is killed, uv goes on, and whoever clears
    up after that has to wait until it is done."""
    environment = {**os.environ, "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    environment.pop("VIRTUAL_ENV", None)
    done = subprocess.run(
        [uv.find_uv_bin(), *arguments],
        input=text,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        pass_fds=() if held is None else (held,),
    )
    if done.returncode != 0:
        said = redacted(done.stderr.strip(), index_secrets(environment))
        raise EnvironmentError(said or f"uv ended with exit code {done.returncode}")
    return done.stdout
