"""The machine's packet filter, which a Docker engine changes when it starts and leaves changed: put back as it was."""

from __future__ import annotations

import subprocess
from pathlib import Path

from airgap.host.packages import found

PROGRAMS = ("iptables", "ip6tables")


def save(folder: Path) -> None:
    """Writes down what is set, for `restore`."""
    for program in PROGRAMS:
        command = found(f"{program}-save")
        if command is None:
            continue
        done = subprocess.run([command], capture_output=True, check=False)
        if done.returncode == 0:
            (folder / f"{program}.rules").write_bytes(done.stdout)


def restore(folder: Path) -> None:
    """Takes out the chains of Docker's that were not there before, and what leads to them; sets the policy of what is
    forwarded back. What others have added since stays."""
    for program in PROGRAMS:
        rules, saving, restoring = folder / f"{program}.rules", found(f"{program}-save"), found(f"{program}-restore")
        if saving is None or restoring is None or not rules.is_file():
            continue
        now = subprocess.run([saving], capture_output=True, text=True, check=False).stdout
        wanted = without_docker(now, rules.read_text())
        subprocess.run([restoring], input=wanted, text=True, capture_output=True, check=False)


def without_docker(now: str, before: str) -> str:
    """The rules `now`, without what Docker added to those of `before`; both as iptables-save prints them."""
    known, policies = set(before.splitlines()), _policies(before)
    table, kept = "", []
    for line in now.splitlines():
        if line.startswith("*"):
            table = line
        if line not in known and ("DOCKER" in line or "docker0" in line):
            continue
        chain = line.split(" ", 1)[0]
        if line.startswith(":") and (table, chain) in policies:
            line = policies[table, chain]
        kept.append(line)
    return "\n".join(kept) + "\n"


def _policies(rules: str) -> dict[tuple[str, str], str]:
    """The lines of FORWARD, by table: `:FORWARD ACCEPT [0:0]`. Where none is written down, nothing was forbidden."""
    table, found_there = "", {("*filter", ":FORWARD"): ":FORWARD ACCEPT [0:0]"}
    for line in rules.splitlines():
        if line.startswith("*"):
            table = line
        elif line.startswith(":FORWARD"):
            found_there[table, ":FORWARD"] = line
    return found_there
