"""What `make up` ends with: every service of the stack, its state, its addresses and a request to try.

Reads the stack's outputs through `pulumi stack output`, so it works on every backend.
"""

import argparse
import json
import shlex
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit, urlunsplit


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code, which is Pulumi's where Pulumi fails."""
    parser = argparse.ArgumentParser(prog="python -m infra.summary")
    parser.add_argument("stack", help="name of the stack")
    stack = parser.parse_args(arguments).stack
    done = subprocess.run(
        ["pulumi", "stack", "output", "--json", "--stack", stack],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return done.returncode
    print(summary(stack, json.loads(done.stdout)))
    return 0


def summary(stack: str, outputs: dict[str, Any]) -> str:
    """The stack's services in words, in the order of their names."""
    services: dict[str, dict[str, Any]] = outputs.get("services") or {}
    if not services:
        return f"Stack {stack} has no services."
    return "\n\n".join(describe(name, services[name]) for name in sorted(services))


def describe(name: str, service: dict[str, Any]) -> str:
    """One service: a heading with its state, then a line for each thing to know."""
    uri = service["scoringUri"]
    lines = {
        "scoring URI": uri,
        "revision": service["revision"],
        "message": service.get("message"),
        "try it": f"curl -sS {request(uri, service.get('sampleRequest'))}",
    }
    shown = [f"  {what + ':':<13}{value}" for what, value in lines.items() if value]
    return "\n".join([f"{name}: {service['state']}", *shown])


def request(uri: str, sample: str | None) -> str:
    """The arguments of curl that send the sample request, or, where there is none, ask whether the service lives."""
    if sample is None:
        parts = urlsplit(uri)
        return shlex.quote(urlunsplit((parts.scheme, parts.netloc, "/", "", "")))
    return f"-H 'Content-Type: application/json' -d {shlex.quote('@' + sample)} {shlex.quote(uri)}"


if __name__ == "__main__":
    sys.exit(main())
