"""The programs of a cluster: built from Go modules into the user's cache, or installed from Debian's packages.

A program is built once for each version. It gets its name in the cache when it is whole, so that a set-up that was
killed leaves nothing that looks like a program, and the next one goes on with what is missing.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from airgap.cluster import other
from airgap.engine.locate import cache_root
from airgap.engine.setup import locked
from airgap.go_modules import Build, Program
from infra.setup.problem import SetupError, explained, report, say

HERE = Path(__file__).resolve().parent
KUBERNETES_VERSION = "1.34.4"
COREDNS_VERSION = "1.12.4"
METRICS_SERVER_VERSION = "0.7.2"
PAUSE_VERSION = "1"
VOLUME_PROVISIONER_VERSION = "1"
TRAEFIK_VERSION = "3.5.3"
KWOK_VERSION = "0.7.0"

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Debian keeps some of the programs where a user's PATH may not look."""

CLUSTER = Build(
    what="the test cluster",
    space="the build takes about 4 GiB for Go's caches and 500 MiB for the programs",
    reason="No cluster was named in KUBECONFIG, and neither kind, k3d nor minikube is on PATH",
    otherwise="name a cluster in KUBECONFIG, install kind (https://kind.sigs.k8s.io)",
)


def _version_flags() -> str:
    """What tells Kubernetes' programs their version: without it they call themselves v0.0.0."""
    major, minor, _ = KUBERNETES_VERSION.split(".")
    values = {"gitVersion": f"v{KUBERNETES_VERSION}", "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(
        ["-s -w", *(f"-X {package}.{key}={value}" for package in packages for key, value in values.items())]
    )


@dataclass(frozen=True)
class Module:
    """A Go module of this folder, what is built from it, and the version that it pins."""

    name: str
    version: str
    packages: Sequence[str]
    ldflags: str = "-s -w"

    @property
    def programs(self) -> list[Program]:
        return [Program(p.rpartition("/")[2], HERE / self.name, p, self.ldflags) for p in self.packages]

    @property
    def folder(self) -> Path:
        """Where its programs are kept."""
        return _cache() / f"{self.name}-{self.version}"


KUBERNETES = Module(
    "kubernetes",
    KUBERNETES_VERSION,
    [
        f"k8s.io/kubernetes/cmd/{name}"
        for name in (
            *("kube-apiserver", "kube-controller-manager", "kube-scheduler"),
            *("kubelet", "kube-proxy", "kubectl"),
        )
    ],
    _version_flags(),
)
COREDNS = Module("coredns", COREDNS_VERSION, ["github.com/coredns/coredns"])
METRICS_SERVER = Module("metrics_server", METRICS_SERVER_VERSION, ["sigs.k8s.io/metrics-server/cmd/metrics-server"])
PAUSE = Module("pause", PAUSE_VERSION, ["slipway.local/airgap/cluster/pause"])
VOLUME_PROVISIONER = Module(
    "volume_provisioner", VOLUME_PROVISIONER_VERSION, ["slipway.local/airgap/cluster/volume-provisioner"]
)
MODULES = (KUBERNETES, COREDNS, METRICS_SERVER, VOLUME_PROVISIONER, PAUSE)
"""What every cluster has; the largest first."""
TRAEFIK = Module(
    "traefik",
    TRAEFIK_VERSION,
    ["github.com/traefik/traefik/v3/cmd/traefik"],
    f"-s -w -X github.com/traefik/traefik/v3/pkg/version.Version={TRAEFIK_VERSION}",
)
"""The controller of ingresses and gateways, where one is asked for."""
KWOK = Module("kwok", KWOK_VERSION, ["sigs.k8s.io/kwok/cmd/kwok"])
"""Plays nodes that are not there, for measurements; no cluster has it by itself."""

DEBIAN = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "mount": "mount",
}
"""The other programs, and the package each is in."""
CNI = Path("/usr/lib/cni")
CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")


def _cache() -> Path:
    return cache_root().with_name("cluster")


def debian(name: str) -> str:
    """The path of a program of DEBIAN. Raises SetupError where it is missing."""
    found = shutil.which(name, path=PATH)
    if found is None:
        raise _missing([name], [DEBIAN[name]])
    return found


def missing_from_debian() -> dict[str, str]:
    """The programs that are missing, and the package of each."""
    missing = {name: package for name, package in DEBIAN.items() if shutil.which(name, path=PATH) is None}
    plugins = [f"{CNI}/{name}" for name in CNI_PLUGINS if not (CNI / name).exists()]
    return missing | dict.fromkeys(plugins, "containernetworking-plugins")


def check_debian() -> None:
    """Raises SetupError that names every package that is missing."""
    missing = missing_from_debian()
    if missing:
        raise _missing(list(missing), sorted(set(missing.values())))


def _missing(names: list[str], packages: list[str]) -> SetupError:
    return SetupError(
        f"Programs of the test cluster are missing: {', '.join(names)}.",
        "PATH",
        f"apt-get install --no-install-recommends {' '.join(packages)}",
    )


def built(module: Module, name: str) -> Path:
    """The path of a built program; whether it is there or not."""
    return module.folder / name


def build_missing(modules: Sequence[Module] = MODULES) -> None:
    """Builds the programs of `modules` that the cache does not hold yet. Raises SetupError."""
    if not _missing_programs(modules):
        return
    cache = _cache()
    with explained(cache, needed=CLUSTER.space, move="or set XDG_CACHE_HOME to a directory that you can write to"):
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache):
            for leftover in cache.glob(".new-*"):
                shutil.rmtree(leftover)
            _build(cache, _missing_programs(modules))


def _missing_programs(modules: Sequence[Module]) -> list[tuple[Module, Program]]:
    return [(m, program) for m in modules for program in m.programs if not built(m, program.name).exists()]


def _build(cache: Path, missing: list[tuple[Module, Program]]) -> None:
    if not missing:
        return
    go = CLUSTER.find_go(missing[0][1].module)
    say(f"building from Go modules, once: {', '.join(program.name for _, program in missing)}")
    say("  the whole test cluster takes about 10 minutes on 2 cores")
    # Two modules at a time: while one is downloaded or linked, which keeps no two cores busy, the other is compiled.
    with ThreadPoolExecutor(2) as pool:
        tasks = [
            pool.submit(_build_programs, go, cache, module, [program for _, program in group])
            for module, group in groupby(missing, key=itemgetter(0))
        ]
        for task in tasks:
            task.result()


def _build_programs(go: str, cache: Path, module: Module, programs: list[Program]) -> None:
    module.folder.mkdir(exist_ok=True)
    for program in programs:
        with tempfile.TemporaryDirectory(prefix=".new-", dir=cache) as fresh:
            packages = CLUSTER.fetch(go, program, program.name)
            CLUSTER.compile(go, program, program.name, Path(fresh), packages)
            (Path(fresh) / program.name).replace(built(module, program.name))


def main(arguments: list[str] | None = None) -> int:
    """`python -m airgap.cluster.programs`: what `up` would build is built, so that it need not be waited for later."""
    parser = argparse.ArgumentParser(prog="python -m airgap.cluster.programs")
    parser.add_argument("--ingress", action="store_true", help="and what `up --ingress` would")
    options = parser.parse_args(arguments)
    try:
        if other.named(os.environ) is None and other.tool() is None:
            check_debian()
            build_missing((*MODULES, TRAEFIK) if options.ingress else MODULES)
    except SetupError as problem:
        return report(problem)
    return 0


if __name__ == "__main__":
    sys.exit(main())
