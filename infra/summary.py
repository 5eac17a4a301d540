"""What `make up` ends with: every service of the stack, its state, its addresses and a request to try; every package.

Reads the stack's outputs through `pulumi stack output`, so it works on every backend. What a request needs besides, the
certificate to trust and the header with a service's key, is put into files below SLIPWAY_HOME: a key is not for the
screen, and not for the list of processes either.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code, which is Pulumi's where Pulumi fails."""
    parser = argparse.ArgumentParser(prog="python -m infra.summary")
    parser.add_argument("stack", help="name of the stack")
    stack = parser.parse_args(arguments).stack
    done = subprocess.run(
        ["pulumi", "stack", "output", "--json", "--show-secrets", "--stack", stack],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return done.returncode
    print(summary(stack, json.loads(done.stdout), access_folder(stack)))
    return 0


def access_folder(stack: str) -> Path:
    """Where the files are that clients of the stack's services need."""
    home = os.environ.get("SLIPWAY_HOME") or Path(__file__).resolve().parents[1] / ".slipway"
    return Path(home) / stack.rsplit("/", 1)[-1] / "access"


def summary(stack: str, outputs: dict[str, Any], folder: Path) -> str:
    """The stack's services in words, in the order of their names; what their clients need goes to `folder`."""
    services: dict[str, dict[str, Any]] = outputs.get("services") or {}
    packages: dict[str, dict[str, Any]] = outputs.get("packages") or {}
    if not services and not packages:
        return f"Stack {stack} has no services."
    return "\n\n".join(
        [
            *(describe(name, services[name], folder) for name in sorted(services)),
            *(_package(name, packages[name]) for name in sorted(packages)),
        ]
    )


def _package(name: str, package: dict[str, Any]) -> str:
    return f"package {name}\n  image:       {package['image']}\n  revision:    {package['revision']}"


def access(name: str, service: dict[str, Any], folder: Path) -> str:
    """The arguments of curl that let a client in, in front of others; the files that they name are written."""
    arguments = ""
    authority, key = service.get("caCertificate"), service.get("primaryKey")
    if authority is not None:
        arguments += f"--cacert {shlex.quote(_written(folder / 'ca.pem', authority, 0o644))} "
    if key is not None:
        arguments += f"-H {shlex.quote('@' + _written(folder / f'{name}.key', f'Authorization: Bearer {key}', 0o600))} "
    return arguments


def _written(path: Path, text: str, mode: int) -> str:
    """Writes a file that nobody else may read before it has its mode; returns its path, short where it can be."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)  # of one that was killed; in a container, it may have had this number too
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text.rstrip("\n") + "\n")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def describe(name: str, service: dict[str, Any], folder: Path) -> str:
    """One service: a heading with its state, then a line for each thing to know."""
    uri, forward = service["scoringUri"], service.get("portForward")
    # What is reached inside a cluster alone has a way from here while that command runs.
    reached = uri if forward is None else _elsewhere(uri, int(forward["port"]))
    lines = {
        "scoring URI": uri,
        "revision": service["revision"],
        "message": service.get("message"),
        "reach it": None if forward is None else forward["command"],
        "try it": f"curl -sS {access(name, service, folder)}{request(reached, service.get('sampleRequest'))}",
    }
    shown = [f"  {what + ':':<13}{value}" for what, value in lines.items() if value]
    for deployment, told in sorted((service.get("deployments") or {}).items()):
        share = f"{told['traffic']:g} % of the traffic"
        shown.append(f"  {deployment + ':':<13}{told['state']}, {share}, {told['revision']}")
    return "\n".join([f"{name}: {service['state']}", *shown])


def _elsewhere(uri: str, port: int) -> str:
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, f"127.0.0.1:{port}", parts.path, "", ""))


def request(uri: str, sample: str | None) -> str:
    """The arguments of curl that send the sample request, or, where there is none, ask whether the service lives."""
    if sample is None:
        parts = urlsplit(uri)
        return shlex.quote(urlunsplit((parts.scheme, parts.netloc, "/", "", "")))
    return f"-H 'Content-Type: application/json' -d {shlex.quote('@' + sample)} {shlex.quote(uri)}"


if __name__ == "__main__":
    sys.exit(main())
