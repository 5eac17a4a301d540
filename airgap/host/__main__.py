"""`python -m airgap.host up|down STACK`: what `make` does about this machine before `pulumi up` and after `destroy`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from types import ModuleType

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
            if needs.cluster:
                cluster().remove()
            return 0
        if options.command == "again":
            start_again(needs, home)
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
    named = cluster().named() if needs.cluster else None
    make_cluster = needs.cluster and named is None
    lacking = packages.missing(wanted) + (cluster().missing_packages(needs.registry_image) if make_cluster else [])
    if start:
        say("this stack runs containers on this machine, and no Docker engine answers here")
    if named is not None:
        say(f"this stack runs on the cluster that {named} names")
    if lacking:
        say(f"it needs Debian's {', '.join(lacking)}, which {'is' if len(lacking) == 1 else 'are'} missing")
        packages.install(lacking)
    if start and not engine.answers():
        engine.start(home / "engine")
    if make_cluster:
        cluster().make()


def start_again(needs: Needs, home: Path) -> None:
    """Starts what a restart of the machine may have ended, and what is to be deleted is on. Raises `SetupError`."""
    if engine.is_ours(home / "engine") and not engine.answers():
        engine.start(home / "engine")
    if needs.cluster and cluster().named() is None and cluster().is_ours():
        cluster().make()


def cluster() -> ModuleType:
    """What is done about clusters, loaded for the stacks that need it: that takes a second."""
    from airgap.host import cluster

    return cluster


def make_images() -> int:
    """Makes the images that a stack needs, where they were not made before."""
    from airgap.images.__main__ import made

    return 1 if made() is None else 0


if __name__ == "__main__":
    sys.exit(main())
