"""`python -m airgap.cluster up|down|status [FOLDER]`: progress on stderr, the kubeconfig as `up`'s one line of stdout.

FOLDER holds everything of the cluster (default: `.slipway/cluster` of this checkout). `up` notes there how the
cluster was made, which is how `down` removes it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from airgap.cluster import other, own
from airgap.cluster.place import Place
from infra.setup.problem import SetupError, explained, report, say

DEFAULT = Path(__file__).resolve().parents[2] / ".slipway" / "cluster"
OWN = "built here"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m airgap.cluster", description="A Kubernetes cluster for tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("up", "make the cluster, or complete it; prints its kubeconfig"),
        ("down", "remove it"),
        ("status", "show its processes, nodes and pods"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("folder", nargs="?", type=Path, default=DEFAULT, help="(default: %(default)s)")
        if name == "up":
            command.add_argument(
                "--plain-http",
                action="append",
                default=[],
                metavar="HOST:PORT",
                help="a registry without TLS that images are pulled from; may be given several times",
            )
            command.add_argument(
                "--ingress",
                action="store_true",
                help="with Traefik, for Ingresses and the Gateway API (built once, some minutes more)",
            )
    options = parser.parse_args(arguments)
    place = Place(options.folder.resolve())
    try:
        if options.command == "up":
            print(up(place, options.plain_http, with_ingress=options.ingress))
        elif options.command == "down":
            down(place)
        else:
            return status(place)
    except SetupError as problem:
        return report(problem)
    except KeyboardInterrupt:
        return 130
    return 0


def up(place: Place, plain_http: Sequence[str] = (), *, with_ingress: bool = False) -> Path:
    """Makes a cluster available and returns its kubeconfig. Raises SetupError."""
    named = other.named(os.environ)
    if named is not None:
        say("KUBECONFIG names a cluster: that one is used, as it is")
        return named
    with locked(place):
        maker = made_by(place) or choice()
        if maker == OWN:
            own.check_free(place)
        (place.folder / "made-by").write_text(maker)
        if maker == OWN:
            own.up(place, plain_http, with_ingress=with_ingress)
        else:
            if with_ingress:
                say(f"{maker} makes the cluster: what lets requests into it is left to you")
            other.create(other.by_name(maker), place.kubeconfig)
    return place.kubeconfig


def down(place: Place) -> None:
    """Removes what `up` made in this place. Raises SetupError."""
    if not place.folder.is_dir():
        return
    with locked(place):
        maker = made_by(place) or OWN
        if maker == OWN:
            own.down(place)
        else:
            other.delete(other.by_name(maker), place.kubeconfig)
        shutil.rmtree(place.folder)


def status(place: Place) -> int:
    """Shows the cluster of this place; 0 where all of it runs."""
    maker = made_by(place)
    if maker is None:
        print(f"no cluster in {place.folder}")
        return 1
    if maker != OWN:
        print(f"made by {maker}; KUBECONFIG={place.kubeconfig}")
        return 0
    runs, lines = own.status(place)
    print("\n".join(lines))
    return 0 if runs else 1


def choice() -> str:
    """Who makes the cluster: a tool that is there, else we."""
    tool = other.tool()
    return OWN if tool is None else tool.program


def made_by(place: Place) -> str | None:
    """Who made the cluster of this place; None where there is none."""
    note = place.folder / "made-by"
    return note.read_text() if note.exists() else None


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Lets one command work on the folder at a time; the next one waits. The lock goes with the folder."""
    with explained(place.folder, needed="a cluster takes about 1 GiB", move="or name another folder"):
        place.folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside the folder: the folder itself goes.
        file = place.folder.with_name(f".{place.folder.name}.lock")
        with _held(file):
            place.folder.mkdir(exist_ok=True)
            yield
            if not place.folder.exists():
                file.unlink()


@contextmanager
def _held(file: Path) -> Iterator[None]:
    """Holds the lock of `file`. One that was removed while this waited for it is nobody's: it is opened anew."""
    while True:
        with file.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if file.exists() and file.stat().st_ino == os.fstat(lock.fileno()).st_ino:
                yield
                return


if __name__ == "__main__":
    sys.exit(main())
