"""Makes the project's virtual environment and installs a lock of pinned, hashed packages into it.

`create` runs with any Python that find_python.sh prints, `install` with the environment's own. pip installs no more
than uv, which then installs the rest: a third of the time that pip alone takes. pip stays in the environment, because
Pulumi's language host asks it which packages there are.
"""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.setup.problem import SetupError, explained, no_permission, no_space, report, say

SPACE = "the virtual environment takes about 400 MiB"
MOVE = "or work in a checkout that you own"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m infra.setup.virtual_environment")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("create", help="make the environment").add_argument("directory", type=Path)
    installing = commands.add_parser("install", help="install the packages of a lock")
    installing.add_argument("directory", type=Path)
    installing.add_argument("lock", type=Path)
    options = parser.parse_args(arguments)
    directory: Path = options.directory
    try:
        with explained(directory.parent, needed=SPACE, move=MOVE):
            directory.parent.mkdir(parents=True, exist_ok=True)
        with alone(directory.parent):
            if options.command == "create":
                create(directory)
            else:
                install(directory, options.lock)
    except SetupError as problem:
        return report(problem)
    return 0


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait for the other set-ups in `folder`, and keep later ones waiting: one would remove what another is making.

    The lock is on the folder itself, so nothing of it is left; it goes with its process, however that ends.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another set-up in {folder.resolve()}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without such locks
        yield
    finally:
        os.close(descriptor)


def create(directory: Path) -> None:
    """Make an empty virtual environment, in place of one that was cut short or whose Python is gone.

    One that works already, made by hand or by another tool, is kept. Raises SetupError.
    """
    if usable(directory):
        return
    say(f"making a virtual environment in {directory} with Python {sys.version.split()[0]}")
    with explained(directory, needed=SPACE, move=MOVE):
        if directory.is_dir():
            shutil.rmtree(directory.resolve())
        directory.parent.mkdir(parents=True, exist_ok=True)
    run([sys.executable, "-m", "venv", str(directory)], directory)


def usable(directory: Path) -> bool:
    """Whether `directory` is an environment of a Python that is new enough, and something in it can install."""
    python = directory / "bin" / "python"
    return works([str(python), "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]) and (
        works([str(python), "-m", "pip", "--version"]) or works([str(directory / "bin" / "uv"), "--version"])
    )


def install(directory: Path, lock: Path) -> None:
    """Install what `lock` pins; packages beyond it stay. Raises SetupError."""
    python = str(directory / "bin" / "python")
    uv = directory / "bin" / "uv"
    # There while an installation runs. One that was killed leaves packages that are recorded but not whole.
    unfinished = directory / ".installing"
    say(f"installing the packages of {lock}")
    with explained(directory, needed=SPACE, move=MOVE):
        again = ["--reinstall"] if unfinished.exists() else []
        unfinished.touch()
        if not works([python, "-m", "pip", "--version"]):
            run([python, "-m", "ensurepip"], directory)
        pinned = requirement(lock.read_text(), "uv")
        if uv_version(uv) != pinned.split()[0].removeprefix("uv=="):
            install_uv(python, pinned, directory)
        run([str(uv), "pip", "install", *again, "--python", python, "--require-hashes", "-r", str(lock)], directory)
        unfinished.unlink()


def install_uv(python: str, pinned: str, directory: Path) -> None:
    """Install uv with pip, over whatever is left of another one. Raises SetupError."""
    options = ["--quiet", "--ignore-installed", "--no-deps", "--require-hashes"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", dir=directory) as requirements:
        requirements.write(pinned)
        requirements.flush()
        run([python, "-m", "pip", "install", *options, "-r", requirements.name], directory)


def requirement(lock: str, name: str) -> str:
    """The lines of a lock that pin the package `name`, with its hashes. Raises SetupError where there are none."""
    lines: list[str] = []
    for line in lock.splitlines():
        if lines or line.startswith(f"{name}=="):
            lines.append(line)
            if not line.endswith("\\"):
                return "\n".join(lines) + "\n"
    raise SetupError(
        f"{name} is not pinned in the lock.", "requirements.lock", f"add {name} to requirements.in, then `make lock`."
    )


def works(command: list[str]) -> bool:
    """Whether `command` runs and ends with exit code 0."""
    try:
        return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        return False


def uv_version(uv: Path) -> str | None:
    """The version of the environment's uv, or None where there is none that runs."""
    try:
        done = subprocess.run(
            [str(uv), "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.split()[1]


def run(command: list[str], directory: Path) -> None:
    """Run a step; what it says is shown only where it fails. Raises SetupError."""
    # Another environment that is active in the caller's shell must not be the one that is changed.
    environment = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH"}}
    if shutil.which(command[0]) is None:
        raise SetupError("A program of the set-up cannot be run.", command[0], f"remove {directory}, and run it again.")
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return
    text = done.stdout.lower()
    if "no space left on device" in text or "os error 28" in text or "disk quota exceeded" in text:
        raise no_space(directory, SPACE)
    if "permission denied" in text or "read-only file system" in text:
        raise no_permission(directory, MOVE)
    said = "\n".join(f"    {line}" for line in done.stdout.strip().splitlines()[-12:])
    raise SetupError(
        f"A step of the set-up failed with exit code {done.returncode}. It said:\n{said}",
        " ".join(command),
        "mend what it names (a package index that can be reached is needed), then run the same command again.",
    )


if __name__ == "__main__":
    sys.exit(main())
