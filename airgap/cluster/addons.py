"""The pods that make a cluster of a node: names, metrics, volumes, and an ingress controller where one is asked for."""

from __future__ import annotations

from pathlib import Path

from airgap.cluster import ingress, settings
from airgap.cluster import place as at
from airgap.cluster.kubectl import apply, kubectl, succeeds
from airgap.cluster.place import Place
from airgap.cluster.processes import wait_until
from infra.setup.problem import say

MANIFESTS = Path(__file__).resolve().parent / "manifests"
DEPLOYMENTS = ("coredns", "metrics-server", "volume-provisioner")


def start(place: Place, *, with_ingress: bool) -> None:
    """Makes them, and waits until they are ready. Raises SetupError."""
    wait_until(lambda: succeeds(place, "get", "serviceaccount", "default"), 60, "No service account", at.API)
    for manifest in (_names(), _manifest("metrics-server"), _manifest("volumes").replace("FOLDER", str(place.volumes))):
        apply(place, manifest)
    if with_ingress:
        apply(place, ingress.definitions())
        for kind in ingress.KINDS:
            kubectl(place, "wait", "--for=condition=Established", f"crd/{kind}", "--timeout=60s")
        apply(place, _manifest("traefik"))
    for name in DEPLOYMENTS:
        _wait_for(place, "kube-system", name)
    apply(place, _manifest("metrics-api"))
    # No namespace can be deleted while a part of the API does not answer.
    kubectl(place, "wait", "--for=condition=Available", "apiservice/v1beta1.metrics.k8s.io", "--timeout=60s")
    say("CoreDNS, metrics-server and volumes are ready")
    if with_ingress:
        _wait_for(place, "traefik", "traefik")
        kubectl(place, "-n", "traefik", "wait", "--for=condition=Programmed", "gateway/traefik", "--timeout=60s")
        say("Traefik is ready: http://127.0.0.1:30080, https://127.0.0.1:30443")


def _names() -> str:
    manifest = _manifest("coredns")
    # CoreDNS does not start with nobody to pass a question on to.
    return manifest if settings.resolvers() else manifest.replace("      forward . /etc/resolv.conf\n", "")


def _manifest(name: str) -> str:
    return (MANIFESTS / f"{name}.yaml").read_text()


def _wait_for(place: Place, namespace: str, deployment: str) -> None:
    kubectl(place, "-n", namespace, "rollout", "status", f"deployment/{deployment}", "--timeout=180s")
