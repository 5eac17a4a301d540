"""Where the cluster of this machine keeps what it needs, and the addresses that its parts agree on."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from infra.setup.problem import SetupError

RUN = Path("/run/slipway-cluster")
"""Sockets and mounts: their paths must be short, and there is one cluster on a machine."""
OWNER = RUN / "folder"
"""Names the folder of the cluster that is running."""
CONTAINERD_SOCKET = RUN / "containerd.sock"
KUBELET = RUN / "kubelet"
"""Where the kubelet sees its folder, in which it makes sockets: a checkout may lie deep."""

POD_NETWORK = "10.85.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
DOMAIN = "cluster.local"
BRIDGE = "slipway-cni0"
NETWORK = "slipway-cluster"
"""The name of the pods' network; begins the names of the files that CNI keeps."""

API_PORT = 6443
ETCD_PORT = 12379
"""Not 2379: Debian's package runs an etcd of the machine's own there as soon as it is installed."""
ETCD_PEER_PORT = 12380
KUBELET_PORT = 10250
PROXY_HEALTH_PORT = 10256
PORTS = {"kube-apiserver": API_PORT, "etcd": ETCD_PORT, "kubelet": KUBELET_PORT, "kube-proxy": PROXY_HEALTH_PORT}
API = f"https://127.0.0.1:{API_PORT}"


@dataclass(frozen=True)
class Place:
    """The folder of a cluster: everything that is not in `RUN` is below it."""

    folder: Path

    @property
    def kubeconfig(self) -> Path:
        """Of the administrator; what `up` prints."""
        return self.folder / "kubeconfig"

    @property
    def programs(self) -> Path:
        """Holds `kubectl`, to be put on a PATH."""
        return self.folder / "bin"

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def configuration(self) -> Path:
        return self.folder / "configuration"

    @property
    def registries(self) -> Path:
        """containerd's settings for registries, a folder for each address; read at every pull."""
        return self.configuration / "registries"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def processes(self) -> Path:
        """A file for each process that was started."""
        return self.folder / "processes"

    @property
    def notes(self) -> Path:
        """What the machine was like before: made by `up`, undone and removed by `down`."""
        return self.folder / "notes"

    @property
    def etcd(self) -> Path:
        return self.folder / "etcd"

    @property
    def containerd(self) -> Path:
        return self.folder / "containerd"

    @property
    def kubelet(self) -> Path:
        return self.folder / "kubelet"

    @property
    def volumes(self) -> Path:
        """A folder for each volume that a claim was given."""
        return self.folder / "volumes"

    @property
    def pod_logs(self) -> Path:
        return self.folder / "pod-logs"

    @property
    def addresses(self) -> Path:
        """Which pod has which address: the CNI plugin's."""
        return self.folder / "addresses"


def node_name() -> str:
    """The node is called after the machine, in the letters that Kubernetes allows."""
    name = "".join(c if c.isalnum() or c == "-" else "-" for c in socket.gethostname().lower()).strip("-")
    return name or "node"


def node_address() -> str:
    """The address of this machine that pods can reach. Raises SetupError where it has none but the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address of documentation: nothing is sent
        except OSError as error:
            raise SetupError(
                "This machine has no network address that a pod could reach it by.",
                f"ip route: {os.strerror(error.errno or 0)}",
                "give it one: ip link add slipway0 type veth peer name slipway1; ip link set slipway1 up; "
                "ip address add 192.168.85.1/24 dev slipway0; ip link set slipway0 up; "
                "ip route add default dev slipway0",
            ) from None
        address: str = probe.getsockname()[0]
    return address


def network_mtu() -> int:
    """The largest packet that leaves this machine whole, in bytes: the pods' network must not have a larger one."""
    sizes = [
        int((device / "mtu").read_text())
        for device in Path("/sys/class/net").iterdir()
        if device.name not in ("lo", BRIDGE) and not device.name.startswith("veth")
    ]
    return min([1500, *(size for size in sizes if size >= 1280)])
