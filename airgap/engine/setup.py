"""Decides where the engine comes from, and puts a new one into the cache in one step.

A set-up works in a directory of its own and renames it when it is whole, so that one that was killed leaves nothing
that looks like an engine. A lock lets one set-up of a user work at a time; the next ones wait and find its result.
"""

import argparse
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airgap.engine import build, installer, locate
from airgap.engine.locate import VERSION
from airgap.go_modules import dotted
from infra.setup.problem import SetupError, explained, report, say

MOVE = "or set XDG_CACHE_HOME to a directory that you can write to"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m airgap.engine", description="Make the Pulumi engine available.")
    parser.add_argument(
        "--sdk-python",
        type=Path,
        default=Path(sys.executable),
        help="a Python that has the Pulumi SDK, which knows the official installer (default: this one)",
    )
    options = parser.parse_args(arguments)
    try:
        directory = locate.on_path() or locate.in_cache() or set_up(locate.cache_root(), options.sdk_python)
    except SetupError as problem:
        return report(problem)
    except KeyboardInterrupt:
        return 130
    print(directory)
    return 0


def set_up(cache: Path, sdk_python: Path) -> Path:
    """Bring an engine into `cache`; returns its `bin`. Raises SetupError."""
    with explained(cache, needed=build.ENGINE.space, move=MOVE):
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache):
            found = locate.in_cache()
            if found is not None:
                return found
            remove_leftovers(cache)
            fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=cache))
            try:
                fill(fresh, sdk_python)
                return publish(fresh, cache / dotted(VERSION)) / "bin"
            finally:
                shutil.rmtree(fresh, ignore_errors=True)


def fill(fresh: Path, sdk_python: Path) -> None:
    """Put an engine into `fresh`: the vendor's where it can be had, else one built here. Raises SetupError."""
    origin = locate.FROM_INSTALLER
    if not installer.install(fresh, sdk_python):
        origin = locate.FROM_MODULES
        build.build(fresh / "bin")
    if not locate.complete(fresh):
        raise SetupError(
            f"The new engine does not answer as Pulumi {dotted(VERSION)}.",
            str(fresh / "bin"),
            "run the same command again, or put a `pulumi` that works on PATH.",
        )
    (fresh / locate.ORIGIN).write_text(origin)


def publish(fresh: Path, engine: Path) -> Path:
    """Rename `fresh` to `engine`; what stood there was found not to be whole, and goes."""
    fresh.chmod(0o755)
    if engine.exists():
        engine.rename(Path(tempfile.mkdtemp(prefix=".old-", dir=engine.parent)) / "engine")
    fresh.rename(engine)
    remove_leftovers(engine.parent)
    return engine


def remove_leftovers(cache: Path) -> None:
    """Remove the directories of set-ups that were killed. The caller holds the lock, so none of them is in use."""
    for pattern in (".new-*", ".old-*"):
        for leftover in cache.glob(pattern):
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Hold the lock of `cache`; the kernel releases it when this process ends, however it ends."""
    # Opened for appending: the waiting process must not empty the holder's line.
    with (cache / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            say(f"another set-up is at work (pid {lock.read().strip() or 'unknown'}): waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
