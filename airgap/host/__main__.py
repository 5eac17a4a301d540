"""`python -m airgap.host up|down STACK`: what `make` does about this machine before `pulumi up` and after `destroy`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from airgap.host import engine, packages
from airgap.host.needs import Needs, needs_of
from infra.setup.problem import SetupError, report, say
from infra.setup.stack import ROOT, short


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m airgap.host")
    parser.add_argument("command", choices=["up", "again", "down"])
    parser.add_argument("stack", help="name of the stack")
    options = parser.parse_args(arguments)
    home = Path(os.environ.get("SLIPWAY_HOME") or ROOT / ".slipway").resolve()
    needs = needs_of(ROOT / "stacks" / f"Pulumi.{short(options.stack)}.yaml")
    if not needs:
        return 0
    try:
        if options.command == "down":
            engine.stop(home / "engine")
            return 0
        if options.command == "again":
            # What is to be deleted is on an engine that a restart of the machine may have ended.
            if engine.is_ours(home / "engine") and not engine.answers():
                engine.start(home / "engine")
            return 0
        make_ready(needs, home)
    except SetupError as problem:
        return report(problem)
    return make_images() if needs.images else 0


def make_ready(needs: Needs, home: Path) -> None:
    """Installs and starts what is missing, having said so. Raises `SetupError`."""
    start = needs.engine and not engine.answers()
    wanted = {
        **(packages.ENGINE if start else {}),
        **(packages.REGISTRY if needs.registry else {}),
        **(packages.IMAGES if needs.images and not (home / "images" / "images.json").exists() else {}),
    }
    lacking = packages.missing(wanted)
    if start:
        say("this stack runs containers on this machine, and no Docker engine answers here")
    if lacking:
        say(f"it needs Debian's {', '.join(lacking)}, which {'is' if len(lacking) == 1 else 'are'} missing")
        packages.install(lacking)
    if start and not engine.answers():
        engine.start(home / "engine")


def make_images() -> int:
    """Makes the images that a stack needs, where they were not made before."""
    from airgap.images.__main__ import made

    return 1 if made() is None else 0


if __name__ == "__main__":
    sys.exit(main())
