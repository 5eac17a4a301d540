"""What pods find on the cluster that is built here and not on every one: volumes, and a way in from outside."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from airgap.cluster.images import Image, import_missing
from airgap.cluster.place import Place
from airgap.cluster.programs import KUBERNETES
from airgap.cluster.settings import PAUSE_IMAGE
from tests.kubernetes.conftest import airgap_cluster

KUBECTL = Image("slipway.local/kubectl:1", KUBERNETES, "kubectl")
"""It writes files, and serves some: all that these pods have to do."""
SERVE = [
    *("--server=http://127.0.0.1:1", "proxy", "--address=0.0.0.0", "--port=8080", "--accept-hosts=.*"),
    *("--www=/content", "--www-prefix=/", "--api-prefix=/unused/"),
]
"""Arguments with which it serves the files in /content."""
ROUTES = ("gateway.networking.k8s.io", "v1")
INSIDE = "http://127.0.0.1:30080"
"""Where Traefik is reached."""
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


@pytest.fixture(scope="session")
def with_ingress(kubeconfig: Path) -> None:
    """The session's cluster, with Traefik."""
    made = airgap_cluster("up", kubeconfig.resolve().parent, "--ingress")
    assert made.returncode == 0, made.stderr


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


# --- volumes ---


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


# --- the way in ---


def serve(core: client.CoreV1Api, apps: client.AppsV1Api, namespace: str, image: str, name: str) -> None:
    """A Service with one pod behind it that answers its name."""
    labels: dict[str, Any] = {"app": name}
    core.create_namespaced_config_map(namespace, {"metadata": {"name": name}, "data": {"name": name}})
    port: dict[str, Any] = {"port": 80, "targetPort": 8080}
    core.create_namespaced_service(
        namespace, {"metadata": {"name": name}, "spec": {"selector": labels, "ports": [port]}}
    )
    container: dict[str, Any] = {
        "name": "main",
        "image": image,
        "args": SERVE,
        "readinessProbe": {"httpGet": {"path": "/name", "port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "content", "mountPath": "/content"}],
        "securityContext": RESTRICTED,
    }
    pod: dict[str, Any] = {"containers": [container], "volumes": [{"name": "content", "configMap": {"name": name}}]}
    spec: dict[str, Any] = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    apps.create_namespaced_deployment(namespace, {"metadata": {"name": name}, "spec": spec})


def asked(host: str) -> str | None:
    """Who answers a request to `host`; None where nobody does."""
    request = urllib.request.Request(f"{INSIDE}/name", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        error.close()
        return None
    except OSError:
        return None


@pytest.mark.usefixtures("with_ingress")
def test_an_ingress_leads_to_its_service(
    kubectl_image: str, core: client.CoreV1Api, apps: client.AppsV1Api, api: client.ApiClient, namespace: str
) -> None:
    serve(core, apps, namespace, kubectl_image, "blue")
    backend: dict[str, Any] = {"service": {"name": "blue", "port": {"number": 80}}}
    path: dict[str, Any] = {"path": "/", "pathType": "Prefix", "backend": backend}
    host = f"{namespace}.test"
    networking = client.NetworkingV1Api(api)
    networking.create_namespaced_ingress(
        namespace, {"metadata": {"name": "it"}, "spec": {"rules": [{"host": host, "http": {"paths": [path]}}]}}
    )

    until(lambda: asked(host) == "blue", "the service is not reached")
    assert asked(f"other-{host}") is None
    status = networking.read_namespaced_ingress("it", namespace).status.to_dict()
    (node,) = core.list_node().items
    assert [entry["ip"] for entry in status["load_balancer"]["ingress"]] == [
        address.address for address in node.status.addresses if address.type == "InternalIP"
    ]


@pytest.mark.usefixtures("with_ingress")
def test_a_route_of_the_gateway_api_splits_traffic(
    kubectl_image: str, core: client.CoreV1Api, apps: client.AppsV1Api, api: client.ApiClient, namespace: str
) -> None:
    for name in ("blue", "green"):
        serve(core, apps, namespace, kubectl_image, name)
    backends: list[dict[str, Any]] = [
        {"name": "blue", "port": 80, "weight": 75},
        {"name": "green", "port": 80, "weight": 25},
    ]
    host = f"{namespace}.test"
    custom = client.CustomObjectsApi(api)
    custom.create_namespaced_custom_object(
        *ROUTES,
        namespace,
        "httproutes",
        {
            "apiVersion": "/".join(ROUTES),
            "kind": "HTTPRoute",
            "metadata": {"name": "it"},
            "spec": {
                "parentRefs": [{"name": "traefik", "namespace": "traefik"}],
                "hostnames": [host],
                "rules": [{"backendRefs": backends}],
            },
        },
    )
    until(lambda: {asked(host) for _ in range(20)} == {"blue", "green"}, "not both services are reached")

    answers = Counter(asked(host) for _ in range(200))

    assert set(answers) == {"blue", "green"}
    assert 130 <= answers["blue"] <= 170, answers
    route = custom.get_namespaced_custom_object(*ROUTES, namespace, "httproutes", "it")
    (parent,) = route["status"]["parents"]
    assert {c["type"]: c["status"] for c in parent["conditions"]} == {"Accepted": "True", "ResolvedRefs": "True"}, (
        json.dumps(parent)
    )
