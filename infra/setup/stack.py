"""Gets a stack ready for `pulumi up` and the like: created on first use, freed of what a killed `pulumi` has left.

Locks are looked at on a file backend alone, where they name a process of a machine; on any other backend Pulumi's own
message stands.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from infra.setup import docker_leftovers
from infra.setup.problem import SetupError, report, say

ROOT = Path(__file__).resolve().parent.parent.parent


class Lock(NamedTuple):
    """A lock of Pulumi's file backend: which process holds the stack, since when (UTC)."""

    pid: int
    host: str
    user: str
    taken: datetime | None


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.setup.stack")
    parser.add_argument("command", choices=["ready", "look", "select", "missing", "tidy"])
    parser.add_argument("stack", help="name of the stack")
    options = parser.parse_args(arguments)
    stack: str = options.stack
    try:
        match options.command:
            case "ready":
                create(stack)
                free(stack)
            case "look":  # as a preview does, which leaves what runs to itself
                create(stack)
                free(stack, clearing=False)
            case "select":
                create(stack, select=True)
            case "missing":
                if file_backend() is None or state_file(stack) is not None:
                    return 1
                say(f"stack {stack} does not exist: nothing to delete")
            case "tidy":
                folder = Path(os.environ["SLIPWAY_HOME"]) / short(stack)
                # Keys and certificates of services that are gone: infra.summary put them there.
                shutil.rmtree(folder / "access", ignore_errors=True)
                remove_empty(folder)
    except SetupError as problem:
        return report(problem)
    return 0


def short(stack: str) -> str:
    """The stack's own name: `dev` of `organization/slipway/dev`."""
    return stack.rsplit("/", 1)[-1]


def project() -> str:
    """The project's name in Pulumi.yaml."""
    match = re.search(r"^name:\s*[\"']?([\w.-]+)", (ROOT / "Pulumi.yaml").read_text(), re.MULTILINE)
    if match is None:
        raise SetupError("Pulumi.yaml names no project.", str(ROOT / "Pulumi.yaml"), "give it a line `name: ...`.")
    return match[1]


def file_backend(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The directory of a file backend, None for any other kind."""
    url = environment.get("PULUMI_BACKEND_URL", "")
    if not url.startswith("file://"):
        return None
    return Path(unquote(url.removeprefix("file://").split("?")[0])).expanduser() / ".pulumi"


def state_file(stack: str, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The file of a file backend that holds the stack's state, where there is one."""
    backend = file_backend(environment)
    if backend is None:
        return None
    stored = backend / "stacks" / project() / f"{short(stack)}.json"
    return next((path for path in (stored, stored.with_name(f"{stored.name}.gz")) if path.is_file()), None)


def create(stack: str, *, select: bool = False) -> None:
    """Create the stack where it does not exist; `select` it in any case. Raises SetupError."""
    new = file_backend() is not None and state_file(stack) is None
    if not new and not select and file_backend() is not None:
        return
    command = ["pulumi", "stack", "select", "--create", "--non-interactive", "--stack", stack]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, cwd=ROOT)
    if done.returncode != 0 and "incorrect passphrase" in done.stderr and drop_salt(stack):
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise SetupError(
            f"Pulumi cannot create or select the stack {stack}. It said:\n    {done.stderr.strip()}",
            os.environ.get("PULUMI_BACKEND_URL", "the backend of `pulumi login`"),
            "mend what it names, then run the same command again.",
        )
    if new:
        say(f"created stack {stack}")


def drop_salt(stack: str) -> bool:
    """Remove the salt of another passphrase from the stack's configuration, where nothing was encrypted with it.

    Pulumi writes `encryptionsalt` there when it creates a stack; it stays when the local state is thrown away. A stack
    that is being created has no state that needs it, so only a secret in the configuration itself could be lost.
    Returns whether it was removed.
    """
    path = ROOT / "stacks" / f"Pulumi.{short(stack)}.yaml"
    if state_file(stack) is not None or not path.is_file():
        return False
    text = path.read_text()
    if re.search(r"\bsecure:", text):
        raise SetupError(
            f"The secrets of stack {stack} were encrypted with another passphrase.",
            str(path),
            "set PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE to theirs; where it is lost, remove the "
            "`secure:` values and the line `encryptionsalt`, and set them anew with `pulumi config set --secret`.",
        )
    kept, removed = re.subn(r"^encryptionsalt:.*\n?", "", text, flags=re.MULTILINE)
    if removed:
        say(f"removing the salt of an earlier passphrase from {path.relative_to(ROOT)}")
        path.write_text(kept)
    return bool(removed)


def free(stack: str, *, clearing: bool = True) -> None:
    """Clear the locks of processes that are gone, and what they had begun to create, unless `clearing` is false;
    raises SetupError where one is still at work."""
    backend = file_backend()
    if backend is None:
        return
    # Before the locks: whoever is at work had its own by the time that it noted what it creates.
    begun = clearing and has_begun(stack)
    directory = backend / "locks" / "organization" / project() / short(stack)
    locks = [lock for path in sorted(directory.glob("*.json")) if (lock := read_lock(path)) is not None]
    for lock in locks:
        if lock.host != os.uname().nodename:
            raise SetupError(
                f"Stack {stack} is locked from another machine, by {lock.user}@{lock.host} (pid {lock.pid}).",
                str(directory),
                f"wait until it is done; where it is sure to be gone: pulumi cancel --stack {stack}",
            )
        if alive(lock):
            raise SetupError(
                f"Stack {stack} is locked: another pulumi is at work on it (pid {lock.pid}, user {lock.user}).",
                str(directory),
                f"wait until it is done, or end it: kill {lock.pid}",
            )
    if locks:
        unlock(stack, directory, locks)
    if clearing and (locks or begun):
        clear_begun(stack)


def unlock(stack: str, directory: Path, locks: list[Lock]) -> None:
    """Clear the locks that killed processes left in `directory`. Raises SetupError."""
    gone = ", ".join(str(lock.pid) for lock in locks)
    say(f"clearing the lock that a killed pulumi left on stack {stack} (pid {gone} is gone)")
    quiet(["pulumi", "cancel", "--yes", "--stack", stack])
    if any(directory.glob("*.json")):
        raise SetupError(
            f"The lock on stack {stack} could not be cleared.", str(directory), "remove its files by hand."
        )


def has_begun(stack: str) -> bool:
    """Whether the stack's state notes something that was begun and not ended."""
    stored = state_file(stack)
    return stored is not None and stored.suffix == ".json" and '"pending_operations"' in stored.read_text()


def clear_begun(stack: str) -> None:
    """Clear the unfinished creations that killed processes left: where `pulumi cancel` took the lock, or a set-up that
    was killed after that, they are all that tells.

    A creation that was cut short is kept as pending in the state, and Pulumi never drops it by itself; our resources
    are created again whatever a cut left of them, so that note is of no use. What Docker may have made is removed.
    """
    stored = state_file(stack)
    if stored is None or not has_begun(stack):
        return
    say(f"clearing what a killed pulumi had begun to create on stack {stack}, and looking at what is really there")
    docker_leftovers.remove(stored)
    quiet(["pulumi", "refresh", "--yes", "--skip-preview", "--clear-pending-creates", "--stack", stack])


def quiet(command: list[str]) -> None:
    """Run a pulumi command whose outcome is looked at afterwards."""
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd=ROOT)


def read_lock(path: Path) -> Lock | None:
    """The lock in `path`; None where it is gone by now. An unreadable one belongs to no process that is alive."""
    try:
        content = json.loads(path.read_text())
        return Lock(int(content["pid"]), str(content["hostname"]), str(content["username"]), when(content))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        # Pulumi was killed while it wrote the file.
        return Lock(0, os.uname().nodename, "unknown", None)


def when(content: dict[str, object]) -> datetime | None:
    """The time of a lock, or None where it does not tell one that can be compared."""
    try:
        taken = datetime.fromisoformat(str(content.get("timestamp")))
    except ValueError:
        return None
    return taken if taken.tzinfo is not None else None


def alive(lock: Lock) -> bool:
    """Whether the process that took the lock still runs on this machine.

    A process with its number may be another one, after a restart above all: one that started after the lock was taken
    did not take it.
    """
    if lock.pid <= 0:
        return False
    try:
        os.kill(lock.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and someone else's
    started, zombie = process_start(lock.pid)
    if zombie:
        return False
    # The kernel counts in hundredths of a second since boot, and the boot time in whole seconds.
    return lock.taken is None or started is None or started <= lock.taken.timestamp() + 2


def process_start(pid: int) -> tuple[float | None, bool]:
    """When a process started, in seconds since 1970 (None where the system does not tell), and if it is a zombie."""
    try:
        # The second field, the program's name in parentheses, may hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = re.search(r"^btime (\d+)", Path("/proc/stat").read_text(), re.MULTILINE)
    except OSError:
        return None, False
    started = int(boot[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK") if boot else None
    return started, fields[0] == "Z"


def remove_empty(directory: Path) -> None:
    """Remove `directory` and those inside it, as far as they are empty."""
    for inner, _, _ in os.walk(directory, topdown=False):
        try:
            Path(inner).rmdir()
        except OSError:
            continue  # something is in there: it stays


if __name__ == "__main__":
    sys.exit(main())
