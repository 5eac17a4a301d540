"""What pods find on the cluster that is built here and not on every one: volumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from airgap.cluster.images import Image, import_missing
from airgap.cluster.place import Place
from airgap.cluster.programs import KUBERNETES
from airgap.cluster.settings import PAUSE_IMAGE

KUBECTL = Image("slipway.local/kubectl:1", KUBERNETES, "kubectl")
"""It writes files: all that these pods have to do."""
RESTRICTED: Mapping[str, Any] = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="session")
def kubectl_image(kubeconfig: Path) -> str:
    import_missing([KUBECTL])
    return KUBECTL.name


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def stateful_set(image: str) -> dict[str, Any]:
    """One pod, of nobody in particular, that adds its uid to a file in its volume."""
    note: dict[str, Any] = {
        "name": "note",
        "image": image,
        "args": ["config", "set-context", "$(UID)", "--kubeconfig=/data/noted"],
        "env": [{"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "securityContext": {**RESTRICTED, "runAsUser": 1234},
    }
    claim: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {
        "metadata": {"name": "noting"},
        "spec": {
            "serviceName": "noting",
            "selector": {"matchLabels": {"app": "noting"}},
            "template": {
                "metadata": {"labels": {"app": "noting"}},
                "spec": {
                    "initContainers": [note],
                    "containers": [{"name": "main", "image": PAUSE_IMAGE, "securityContext": RESTRICTED}],
                    "terminationGracePeriodSeconds": 0,
                },
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
        },
    }


def ready_pod(core: client.CoreV1Api, namespace: str) -> str:
    """The uid of the one pod there, once it is ready."""
    found: list[str] = []

    def ready() -> bool:
        pods = core.list_namespaced_pod(namespace).items
        found[:] = [
            pod.metadata.uid
            for pod in pods
            if pod.metadata.deletion_timestamp is None
            and any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])
        ]
        return len(found) == 1

    until(ready, "the pod is not ready")
    return found[0]


def test_a_claim_gets_a_volume_that_outlives_its_pods(
    kubectl_image: str, kubeconfig: Path, core: client.CoreV1Api, apps: client.AppsV1Api, namespace: str
) -> None:
    core.patch_namespace(namespace, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    apps.create_namespaced_stateful_set(namespace, stateful_set(kubectl_image))
    first = ready_pod(core, namespace)
    core.delete_namespaced_pod("noting-0", namespace)
    until(lambda: ready_pod(core, namespace) != first, "the pod is not made again")
    second = ready_pod(core, namespace)

    (claim,) = core.list_namespaced_persistent_volume_claim(namespace).items
    folder = Place(kubeconfig.resolve().parent).volumes / claim.spec.volume_name
    noted = (folder / "noted").read_text()
    assert f"name: {first}" in noted
    assert f"name: {second}" in noted

    apps.delete_namespaced_stateful_set("noting", namespace)
    core.delete_namespaced_persistent_volume_claim(claim.metadata.name, namespace)
    until(lambda: not folder.exists(), "the volume's folder is not removed")
