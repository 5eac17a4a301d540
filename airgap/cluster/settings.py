"""What the cluster's programs are told: their configuration files and command lines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from airgap.cluster import place as at
from airgap.cluster.place import Place
from airgap.cluster.programs import CNI, KUBERNETES, built, debian

PAUSE_IMAGE = "slipway.local/pause:1"
ADDRESS = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?")


def write(place: Place, node: str) -> None:
    """Writes the configuration files; the same ones for the same place and node."""
    place.registries.mkdir(parents=True, exist_ok=True)
    (place.configuration / "cni").mkdir(exist_ok=True)
    (place.configuration / "containerd.toml").write_text(_containerd(place))
    (place.configuration / "cni" / "10-slipway.conflist").write_text(json.dumps(_cni(place), indent=2))
    (place.configuration / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(place)))
    (place.configuration / "proxy.yaml").write_text(yaml.safe_dump(_proxy(place, node)))


def allow_plain_http(place: Place, address: str) -> None:
    """Has images of the registry at `address` (HOST:PORT) pulled without TLS; from the next pull on."""
    if not ADDRESS.fullmatch(address):
        raise ValueError(f"a registry's address is HOST or HOST:PORT, not {address!r}")
    folder = place.registries / address
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts.toml").write_text(
        f'server = "http://{address}"\n[host."http://{address}"]\n  capabilities = ["pull", "resolve"]\n'
    )


def _containerd(place: Place) -> str:
    return f"""version = 2
root = "{place.containerd}"
state = "{at.RUN}/state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
]
[grpc]
  address = "{at.CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{place.containerd}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  netns_mounts_under_state_dir = true
  # Without CAP_SYS_RESOURCE (as in many containers) runc may not lower oom_score_adj, and no pod would start.
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{debian("runc")}"
        SystemdCgroup = false
        Root = "{at.RUN}/runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI}"
    conf_dir = "{place.configuration}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{place.registries}"
"""


def _cni(place: Place) -> dict[str, object]:
    # No ipMasq and no firewall plugin: the rules needed are in chains of our own (host_network), so that `down` can
    # remove them without knowing the pods.
    bridge = {
        "type": "bridge",
        "bridge": at.BRIDGE,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "mtu": at.network_mtu(),
        "ipam": {
            "type": "host-local",
            "dataDir": str(place.addresses),
            "ranges": [[{"subnet": at.POD_NETWORK}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": at.NETWORK, "plugins": [bridge, ports]}


def _kubelet(place: Place) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{place.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{place.pki}/kubelet-serving.crt",
        "tlsPrivateKeyFile": f"{place.pki}/kubelet-serving.key",
        "containerRuntimeEndpoint": f"unix://{at.CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "clusterDNS": [at.DNS_SERVICE],
        "clusterDomain": at.DOMAIN,
        "resolvConf": "/etc/resolv.conf",
        "podLogsDir": str(place.pod_logs),
        "volumePluginDir": f"{at.KUBELET}/volume-plugins",
        "maxPods": 250,
        # The disk and the images are the machine's, and shared with what else it does.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "nodeStatusUpdateFrequency": "5s",
        "registryPullQPS": 0,
        "serializeImagePulls": False,
    }


def _proxy(place: Place, node: str) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": f"{place.configuration}/proxy.kubeconfig"},
        "mode": "iptables",
        "hostnameOverride": node,
        "oomScoreAdj": 0,
        "clusterCIDR": at.POD_NETWORK,
        "detectLocalMode": "ClusterCIDR",
        # The machine's connection tracking stays as it is.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"localhostNodePorts": True, "minSyncPeriod": "0s"},
    }


def etcd(place: Place) -> list[str]:
    """The command of etcd. It does not wait for the disk: a test cluster's state is not worth it."""
    client, peer = f"http://127.0.0.1:{at.ETCD_PORT}", f"http://127.0.0.1:{at.ETCD_PEER_PORT}"
    return [
        *(debian("etcd"), "--name", "slipway", "--data-dir", str(place.etcd), "--unsafe-no-fsync"),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"slipway={peer}"),
    ]


def containerd(place: Place) -> list[str]:
    return [debian("containerd"), "--config", str(place.configuration / "containerd.toml")]


def apiserver(place: Place, address: str) -> list[str]:
    pki = place.pki
    return [
        str(built(KUBERNETES, "kube-apiserver")),
        f"--etcd-servers=http://127.0.0.1:{at.ETCD_PORT}",
        f"--secure-port={at.API_PORT}",
        f"--advertise-address={address}",
        f"--service-cluster-ip-range={at.SERVICE_NETWORK}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet.key",
        "--kubelet-preferred-address-types=InternalIP,Hostname",
        f"--service-account-issuer=https://kubernetes.default.svc.{at.DOMAIN}",
        f"--service-account-key-file={pki}/accounts.pub",
        f"--service-account-signing-key-file={pki}/accounts.key",
        # What lets metrics-server answer as a part of the API.
        f"--requestheader-client-ca-file={pki}/front-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki}/front-client.crt",
        f"--proxy-client-key-file={pki}/front-client.key",
    ]


def controller_manager(place: Place) -> list[str]:
    return [
        str(built(KUBERNETES, "kube-controller-manager")),
        f"--kubeconfig={place.configuration}/controller-manager.kubeconfig",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={place.pki}/accounts.key",
        f"--root-ca-file={place.pki}/ca.crt",
        f"--cluster-signing-cert-file={place.pki}/ca.crt",
        f"--cluster-signing-key-file={place.pki}/ca.key",
        "--allocate-node-cidrs=false",
        # Tests wait for the autoscaler.
        "--horizontal-pod-autoscaler-sync-period=5s",
    ]


def scheduler(place: Place) -> list[str]:
    return [
        str(built(KUBERNETES, "kube-scheduler")),
        f"--kubeconfig={place.configuration}/scheduler.kubeconfig",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]


def kubelet(place: Place, node: str, address: str) -> list[str]:
    return [
        str(built(KUBERNETES, "kubelet")),
        f"--config={place.configuration}/kubelet.yaml",
        f"--kubeconfig={place.configuration}/kubelet.kubeconfig",
        f"--hostname-override={node}",
        f"--node-ip={address}",
        f"--root-dir={at.KUBELET}",
    ]


def proxy(place: Place) -> list[str]:
    return [str(built(KUBERNETES, "kube-proxy")), f"--config={place.configuration}/proxy.yaml"]


def resolvers(file: Path = Path("/etc/resolv.conf")) -> bool:
    """Whether this machine has a name server that pods' questions could be passed on to."""
    try:
        return any(line.split()[:1] == ["nameserver"] for line in file.read_text().splitlines())
    except OSError:
        return False
