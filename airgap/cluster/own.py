"""The cluster that is built here: its daemons in their order, and back."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from airgap.cluster import addons, host_network, images, ingress, leftovers, pki, programs, registry, settings
from airgap.cluster import place as at
from airgap.cluster.kubectl import run, succeeds
from airgap.cluster.place import Place
from airgap.cluster.processes import Daemon, resident_bytes
from airgap.cluster.programs import KUBERNETES, built
from infra.setup.problem import SetupError, say

DAEMONS = (
    *("etcd", "containerd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("kubelet", "kube-proxy"),
)
"""In the order in which they start."""
STOP_ORDER = ("kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")
"""The kubelet first, so that it starts no pod again; containerd last, after the pods."""


def up(place: Place, plain_http: Sequence[str], *, with_ingress: bool = False) -> None:
    """Makes the cluster, or completes one that a killed `up` left half-way. Raises SetupError."""
    if os.geteuid() != 0:
        raise SetupError(
            "The test cluster needs root.", f"user {os.geteuid()}", "run it as root, or name a cluster in KUBECONFIG."
        )
    programs.check_debian()
    programs.build_missing()
    if with_ingress:
        ingress.build()
    node, address = at.node_name(), at.node_address()
    _claim(place)
    _check_ports(place)
    pki.make(place, node, address)
    settings.write(place, node)
    _link_kubectl(place)
    for unencrypted in plain_http:
        settings.allow_plain_http(place, unencrypted)
    leftovers.note_made(place)
    host_network.prepare(place)
    _start_control_plane(place, address, with_ingress=with_ingress)
    _mount_kubelet(place)
    _start_node(place, node, address)
    addons.start(place, with_ingress=with_ingress)


def _claim(place: Place) -> None:
    """Makes the folders, and notes whose cluster this machine's is."""
    for folder in (place.configuration, place.logs, place.processes, place.notes, at.RUN):
        folder.mkdir(parents=True, exist_ok=True)
    place.folder.chmod(0o700)
    at.OWNER.write_text(f"{place.folder}\n")


def _link_kubectl(place: Place) -> None:
    """For work by hand, where nobody has installed one."""
    place.programs.mkdir(exist_ok=True)
    fresh = place.programs / ".new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(built(KUBERNETES, "kubectl"))
    fresh.replace(place.programs / "kubectl")


def check_free(place: Place) -> None:
    """Raises SetupError where another folder's cluster runs on this machine."""
    other = _another(place)
    if other is not None:
        raise SetupError(
            "A test cluster runs on this machine already, and there can be one.",
            str(other),
            f"use that one, or end it: python -m airgap.cluster down {other}",
        )


def _another(place: Place) -> Path | None:
    """The folder of this machine's running cluster, where that is not `place`."""
    owner = Path(at.OWNER.read_text().strip()) if at.OWNER.exists() else place.folder
    runs = owner != place.folder and any(Daemon(Place(owner), name).pid() for name in DAEMONS)
    return owner if runs else None


def _check_ports(place: Place) -> None:
    """Raises SetupError where another program listens where one of ours, which is not running yet, has to."""
    for name, port in at.PORTS.items():
        if Daemon(place, name).pid() is None and _listens(port):
            raise SetupError(
                f"Port {port}, which {name} needs, is taken by another program.",
                f"127.0.0.1:{port}",
                f"end that program (ss -ltnp sport = :{port}), or name its cluster in KUBECONFIG.",
            )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _start_control_plane(place: Place, address: str, *, with_ingress: bool) -> None:
    etcd, runtime, api = (Daemon(place, name) for name in ("etcd", "containerd", "kube-apiserver"))
    etcd.start(settings.etcd(place))
    runtime.start(settings.containerd(place))
    etcd.wait(lambda: _answers(f"http://127.0.0.1:{at.ETCD_PORT}/health"), 60)
    api.start(settings.apiserver(place, address))
    runtime.wait(_containerd_answers, 60)
    images.import_missing()
    registry.import_image()
    if with_ingress:
        images.import_missing([ingress.IMAGE])
    api.wait(lambda: _answers(f"{at.API}/readyz", place), 180)
    say("the API server is ready")
    Daemon(place, "kube-controller-manager").start(settings.controller_manager(place))
    Daemon(place, "kube-scheduler").start(settings.scheduler(place))


def _mount_kubelet(place: Place) -> None:
    """Has the kubelet's folder at a short path as well. `down` unmounts it with what the kubelet mounts in it."""
    place.kubelet.mkdir(exist_ok=True)
    at.KUBELET.mkdir(exist_ok=True)
    if not leftovers.is_mounted(at.KUBELET):
        mount = [programs.debian("mount"), "--bind", str(place.kubelet), str(at.KUBELET)]
        subprocess.run(mount, check=True, capture_output=True)


def _start_node(place: Place, node: str, address: str) -> None:
    kubelet, proxy = Daemon(place, "kubelet"), Daemon(place, "kube-proxy")
    kubelet.start(settings.kubelet(place, node, address))
    proxy.start(settings.proxy(place))
    kubelet.wait(lambda: succeeds(place, "get", "node", node), 120)
    kubelet.wait(lambda: _is_ready(place, node), 120)
    proxy.wait(lambda: _answers(f"http://127.0.0.1:{at.PROXY_HEALTH_PORT}/healthz"), 60)
    say(f"the node {node} is ready")


def down(place: Place) -> None:
    """Ends the cluster and removes everything that it made, also what a killed `up` or `down` left.

    The folder itself is left to the caller. What every cluster shares stays where another one runs."""
    for name in STOP_ORDER:
        Daemon(place, name).stop(5 if name == "kube-apiserver" else 20)
    Daemon(place, "containerd").stop()
    if _another(place) is not None:
        return
    leftovers.remove(place)
    host_network.restore(place)
    left = leftovers.found(place) + host_network.leftovers()
    if left:
        raise SetupError(
            f"Parts of the test cluster could not be removed: {', '.join(left[:8])}.",
            str(place.folder),
            "end what holds them and run `python -m airgap.cluster down` again.",
        )
    shutil.rmtree(at.RUN, ignore_errors=True)


def status(place: Place) -> tuple[bool, list[str]]:
    """Whether every daemon runs, and a line for each, with its memory; then the nodes and the pods."""
    lines, all_run, total = [], True, 0
    for name in DAEMONS:
        pid = Daemon(place, name).pid()
        all_run = all_run and pid is not None
        resident = resident_bytes(pid) if pid else 0
        total += resident
        lines.append(f"{name:<24} {f'pid {pid:<8} {resident >> 20:>5} MiB' if pid else 'down'}")
    lines.append(f"{'together':<37} {total >> 20:>5} MiB")
    if Daemon(place, "kube-apiserver").pid() is not None:
        for arguments in (["get", "nodes", "-o", "wide"], ["get", "pods", "--all-namespaces", "-o", "wide"]):
            done = run(place, arguments)
            lines += (done.stdout or done.stderr).splitlines()
    return all_run, lines


def _is_ready(place: Place, node: str) -> bool:
    path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    return run(place, ["get", "node", node, "-o", path]).stdout == "True"


def _containerd_answers() -> bool:
    with contextlib.suppress(SetupError):
        images.ctr("version")
        return True
    return False


def _answers(url: str, place: Place | None = None) -> bool:
    """Whether `url` answers 200; with the certificates of `place` where it is given."""
    context = None
    if place is not None:
        context = ssl.create_default_context(cafile=str(place.pki / "ca.crt"))
        context.load_cert_chain(place.pki / "admin.crt", place.pki / "admin.key")
    opener: Callable[..., object] = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    ).open
    try:
        answer = opener(url, timeout=2)
    except (OSError, urllib.error.URLError):
        return False
    return getattr(answer, "status", 0) == 200
