"""What a shell needs to run `pulumi` on this project: `make env` prints it, the Makefile's own commands use it.

Prints `export` lines for a POSIX shell. What the caller has set (PULUMI_BACKEND_URL, the passphrase, SLIPWAY_HOME)
stays as it is. Without PULUMI_BACKEND_URL the state goes into a directory of the checkout, encrypted with a passphrase
that is generated once. A backend that the caller names gets no generated passphrase: others share that state.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from infra.setup import plugins
from infra.setup.problem import SetupError, explained, report, say

ROOT = Path(__file__).resolve().parent.parent.parent
MOVE = "or set SLIPWAY_HOME to a directory that you can write to"
SPACE = "the state takes a few MiB"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.setup.shell_environment")
    parser.add_argument("engine", type=Path, help="the directory with the pulumi to use")
    parser.add_argument("--tools-only", action="store_true", help="PATH and the engine's settings, no backend")
    parser.add_argument("--stack", default="", help="the stack that the shell is for; one that needs plugins gets them")
    options = parser.parse_args(arguments)
    try:
        variables = tools(options.engine, os.environ)
        if not options.tools_only:
            variables |= backend(os.environ)
        if options.stack:
            variables |= plugin_path(options.stack, {**os.environ, **variables})
    except SetupError as problem:
        return report(problem)
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def tools(engine: Path, environment: Mapping[str, str], root: Path = ROOT) -> dict[str, str]:
    """PATH with the project's virtual environment and the engine first, and what the engine needs to be told."""
    venv = root / ".venv"
    variables = {
        "PATH": path_with([venv / "bin", engine], environment.get("PATH", os.defpath)),
        "VIRTUAL_ENV": str(venv),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
    if built_here(engine):
        # Such an engine is there because nothing can be downloaded; each attempt costs seconds.
        variables["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] = "true"
    return variables


def plugin_path(stack: str, environment: Mapping[str, str], root: Path = ROOT) -> dict[str, str]:
    """PATH with the stand-ins for what `stack` needs at its end, where Pulumi cannot download; else nothing to add."""
    if environment.get("PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION", "").lower() not in {"true", "1"}:
        return {}
    # Only here: most stacks' commands do without it.
    from infra.setup.stack import state_file

    state = state_file(stack, environment)
    found = [str(directory) for directory in plugins.stand_ins(stack, environment, state, root)]
    path = environment.get("PATH", os.defpath).split(os.pathsep)
    return {"PATH": os.pathsep.join([*path, *(directory for directory in found if directory not in path)])}


def built_here(engine: Path) -> bool:
    """Whether `engine` was built from Go modules: its set-up left a note beside the directory."""
    try:
        return (engine.resolve().parent / "ORIGIN").read_text() == "go modules\n"
    except OSError:
        return False


def path_with(first: list[Path], path: str) -> str:
    """`path` with the directories `first` in front, each once.

    A directory that holds much besides pulumi (/usr/bin) moves to the front with it, behind the virtual environment.
    """
    front = [str(directory) for directory in first]
    return os.pathsep.join([*front, *(d for d in path.split(os.pathsep) if d not in front)])


def backend(environment: Mapping[str, str], root: Path = ROOT) -> dict[str, str]:
    """Where state and workspaces are kept; makes the default directories and the passphrase. Raises SetupError."""
    home = Path(environment.get("SLIPWAY_HOME") or root / ".slipway").absolute()
    variables = {"SLIPWAY_HOME": str(home)}
    if environment.get("PULUMI_BACKEND_URL"):
        return variables
    state = home / "state"
    with explained(home, needed=SPACE, move=MOVE):
        home.mkdir(parents=True, exist_ok=True)
        # State names paths, and may hold encrypted secrets: for its owner alone.
        state.mkdir(mode=0o700, exist_ok=True)
        variables["PULUMI_BACKEND_URL"] = backend_url(state)
        if not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & environment.keys():
            variables["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(passphrase_file(home, state))
    return variables


def backend_url(state: Path) -> str:
    """The file backend in the directory `state`.

    Its files are replaced as a whole, but not the attributes that it keeps beside each one (`*.attrs`): a command that
    is killed while it writes those leaves a stack that cannot be loaded (`failed to load checkpoint: EOF`). Pulumi does
    without them. The parameter is that of gocloud.dev/blob/fileblob.
    """
    return f"file://{state}?metadata=skip"


def passphrase_file(home: Path, state: Path) -> Path:
    """The file with the passphrase of the default backend, made with mode 0600 where there is none yet."""
    path = home / "passphrase"
    if path.exists():
        return path
    stacks = sorted(state.glob(".pulumi/stacks/*/*.json"))
    if stacks:
        raise SetupError(
            "The passphrase of the stored state is gone.",
            str(path),
            "put the file back, or set PULUMI_CONFIG_PASSPHRASE_FILE. Where neither is possible, stop what is deployed "
            f"by hand and remove {state} to start over.",
        )
    say(f"generating the passphrase of the local state: {path}")
    # Written in whole under another name first: a set-up that is killed here leaves no empty passphrase.
    fresh = path.with_name(f"passphrase.{os.getpid()}")
    # In a container, the one that was killed may have had this number too.
    fresh.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(os.urandom(32).hex())
        # A link, not a rename: of two set-ups at once, both keep the first one's passphrase.
        with suppress(FileExistsError):
            path.hardlink_to(fresh)
    finally:
        fresh.unlink(missing_ok=True)
    return path


if __name__ == "__main__":
    sys.exit(main())
