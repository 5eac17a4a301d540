"""What the cluster changes in this machine's network, and how that is undone.

Pods need their packets forwarded and, on the way out, sent under the machine's own address. Both rules are in chains
of our own, before those of a Docker engine, which drops what it does not know. kube-proxy, the kubelet and the CNI
plugins make chains of theirs, whose names begin with KUBE- and CNI-; they are ours as well, because a machine has one
cluster.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from airgap.cluster.place import BRIDGE, POD_NETWORK, SERVICE_NETWORK, Place
from airgap.cluster.programs import debian

FORWARD = "SLIPWAY-FORWARD"
OUTPUT = "SLIPWAY-OUTPUT"
MASQUERADE = "SLIPWAY-MASQ"
_TABLES = ("filter", "nat", "mangle")
_OURS = re.compile(r"^(SLIPWAY|KUBE|CNI)-")

SETTINGS = (
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.route_localnet",
    "net.bridge.bridge-nf-call-iptables",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
)
"""The kernel's settings that the cluster or its programs change."""


def prepare(place: Place) -> None:
    """Lets pods reach each other and the world. What was set before is noted first, once."""
    _note_settings(place)
    for name in ("net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"):
        if _setting(name).exists():
            _setting(name).write_text("1")
    # What is still addressed to a service here has no pod, or kube-proxy does not know it yet. It must not leave this
    # machine: somebody out there may answer, and whoever asked would keep that connection.
    nobody = ["-d", SERVICE_NETWORK, "-j", "REJECT"]
    pods = [["-s", POD_NETWORK, "-j", "ACCEPT"], ["-d", POD_NETWORK, "-j", "ACCEPT"]]
    _chain("filter", FORWARD, "FORWARD", [nobody, *pods])
    _chain("filter", OUTPUT, "OUTPUT", [nobody])
    _chain("nat", MASQUERADE, "POSTROUTING", [["-s", POD_NETWORK, "!", "-d", POD_NETWORK, "-j", "MASQUERADE"]])


def restore(place: Place) -> None:
    """Takes back everything that the cluster and its programs changed; goes on where something is gone already."""
    for family in ("iptables", "ip6tables"):
        for table in _TABLES:
            _remove_chains(family, table)
    for device in _devices():
        subprocess.run([debian("ip"), "link", "delete", device], check=False, capture_output=True)
    noted = place.notes / "sysctl"
    if noted.exists():
        for line in noted.read_text().splitlines():
            name, _, value = line.partition("=")
            if _setting(name).exists():
                _setting(name).write_text(value)
        noted.unlink()


def leftovers() -> list[str]:
    """What is left of the cluster in this machine's network: chains and devices."""
    chains = {
        chain for family in ("iptables", "ip6tables") for table in _TABLES for chain in _chains(_rules(family, table))
    }
    return sorted(chains) + _devices()


def _note_settings(place: Place) -> None:
    noted = place.notes / "sysctl"
    if noted.exists():
        return
    lines = [f"{name}={_setting(name).read_text().strip()}" for name in SETTINGS if _setting(name).exists()]
    fresh = noted.with_suffix(".new")
    fresh.write_text("\n".join(lines) + "\n")
    fresh.replace(noted)


def _setting(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def _chain(table: str, chain: str, parent: str, rules: list[list[str]]) -> None:
    """Makes `chain` with these rules and no others, as the first stop of `parent`."""
    base = [debian("iptables"), "--wait", "--table", table]
    if subprocess.run([*base, "--new-chain", chain], check=False, capture_output=True).returncode != 0:
        subprocess.run([*base, "--flush", chain], check=True, capture_output=True)
    for rule in rules:
        subprocess.run([*base, "--append", chain, *rule], check=True, capture_output=True)
    jump = [parent, "--jump", chain]
    subprocess.run([*base, "--delete", *jump], check=False, capture_output=True)
    subprocess.run([*base, "--insert", *jump], check=True, capture_output=True)


def _remove_chains(family: str, table: str) -> None:
    """Removes our chains from a table, and the rules elsewhere that lead into them, in one transaction."""
    rules = _rules(family, table)
    chains = list(_chains(rules))
    if not chains:
        return
    lines = [f"*{table}"]
    lines += [f"-D{rule.removeprefix('-A')}" for rule in rules if _leads_to(rule, chains)]
    lines += [f"-F {chain}" for chain in chains]
    lines += [f"-X {chain}" for chain in chains]
    subprocess.run(
        [_beside_iptables(f"{family}-restore"), "--noflush", "--wait"],
        input="\n".join([*lines, "COMMIT", ""]),
        text=True,
        check=True,
        capture_output=True,
    )


def _rules(family: str, table: str) -> list[str]:
    done = subprocess.run(
        [_beside_iptables(f"{family}-save"), "--table", table], capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines() if done.returncode == 0 else []  # a kernel without IPv6 has none


def _beside_iptables(program: str) -> str:
    return str(Path(debian("iptables")).with_name(program))


def _chains(rules: list[str]) -> Iterator[str]:
    """The names of our chains in what iptables-save says."""
    for line in rules:
        if line.startswith(":") and _OURS.match(name := line[1:].split()[0]):
            yield name


def _leads_to(rule: str, chains: list[str]) -> bool:
    """Whether a rule of a chain that is not ours jumps or goes to one that is."""
    words = rule.split()
    if len(words) < 2 or words[0] != "-A" or words[1] in chains:
        return False
    return any(words[i] in ("-j", "-g") and words[i + 1] in chains for i in range(len(words) - 1))


def _devices() -> list[str]:
    """The bridge of the pods and what is plugged into it."""
    bridge = Path("/sys/class/net", BRIDGE)
    if not bridge.exists():
        return []
    ports = bridge / "brif"
    return [*sorted(port.name for port in ports.iterdir()), BRIDGE] if ports.is_dir() else [BRIDGE]
