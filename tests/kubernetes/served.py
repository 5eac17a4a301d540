"""Services on a cluster as the target makes them, made without Pulumi, for the tests of `Endpoint`."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from provider.endpoint import Endpoint
from provider.resource import ResourceError
from provider.values import Properties
from tests.operations import Lines, context

SECONDS = 300
"""Far more than anything here takes."""
LIMIT_SECONDS = 600
"""Far more than a known cause may take to be told, and less than the endpoint would wait without one."""
_PROGRAM = (Path(__file__).parent / "stand_in_server.py").read_text()
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Waits until it holds; gives what it is then."""
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(0.05)
    return found


@dataclass
class Place:
    """A namespace with Deployments."""

    core: client.CoreV1Api
    apps: client.AppsV1Api
    kubeconfig: Path
    namespace: str
    image: str
    made: list[str] = field(default_factory=list)

    def deploy(
        self,
        name: str,
        revision: str,
        mode: str = "serve",
        *,
        replicas: int = 1,
        variables: dict[str, str] | None = None,
        spec: Properties | None = None,
        **container: Any,
    ) -> None:
        """Makes a Deployment of the stand-in server, or changes it. `spec` is of the pods."""
        given = {"SLIPWAY_REVISION": revision, "MODE": mode, **(variables or {})}
        server = {
            "name": "server",
            "image": self.image,
            "command": ["python3", "-c", _PROGRAM],
            "env": [{"name": key, "value": value} for key, value in given.items()],
            "ports": [{"containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
            "securityContext": _RESTRICTED,
            **container,
        }
        template = {
            "metadata": {"labels": {"app": name}, "annotations": {"slipway/revision": revision}},
            "spec": {"containers": [server], "terminationGracePeriodSeconds": 0, **(spec or {})},
        }
        body = {
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": template,
            },
        }
        if name in self.made:
            self.apps.replace_namespaced_deployment(name, self.namespace, body)
        else:
            self.apps.create_namespaced_deployment(self.namespace, body)
            self.made.append(name)

    def inputs(self, name: str, revision: str, **more: Any) -> Properties:
        """The inputs of an endpoint."""
        place = {
            "kind": "kubernetes",
            "cluster": {"kubeconfig": str(more.pop("kubeconfig", self.kubeconfig)), **more.pop("cluster", {})},
            "namespace": self.namespace,
            "service": "mnist",
            "deployment": name,
            "port": 8080,
            **more.pop("target", {}),
        }
        return {"target": place, "revision": revision, "timeoutSeconds": LIMIT_SECONDS, **more}

    def pods(self, name: str) -> list[Any]:
        """The pods of a Deployment."""
        found: list[Any] = self.core.list_namespaced_pod(self.namespace, label_selector=f"app={name}").items
        return found

    def clear(self) -> None:
        """Deletes the Deployments."""
        for name in self.made:
            self.apps.delete_namespaced_deployment(name, self.namespace)
        self.made.clear()


def deployed(news: Properties, log: Lines | None = None) -> Properties:
    """Creates an endpoint."""
    endpoint, where = Endpoint(), context("slipway:index:Endpoint", "mnist", log=log, stack="test")
    checked, failures = asyncio.run(endpoint.check(where, news))
    assert failures == []
    return asyncio.run(endpoint.create(where, checked))[1]


def story(news: Properties) -> str:
    """The error that it ends with, long before its time is up."""
    began = time.monotonic()
    with pytest.raises(ResourceError) as raised:
        deployed(news)
    assert time.monotonic() - began < LIMIT_SECONDS / 2
    return str(raised.value)


def refreshed(state: Properties) -> Properties:
    """What a refresh finds."""
    found = asyncio.run(Endpoint().read(context("slipway:index:Endpoint", "mnist"), "mnist", state))
    assert found is not None
    return found


def as_somebody(kubeconfig: Path, folder: Path, *, server: str | None = None, **user: Any) -> Path:
    """A kubeconfig for the same cluster, as another user or by another way."""
    document = yaml.safe_load(kubeconfig.read_text())
    name = document["current-context"]
    chosen = next(entry["context"] for entry in document["contexts"] if entry["name"] == name)
    for entry in document["users"]:
        if entry["name"] == chosen["user"] and user:
            entry["user"] = user
    for entry in document["clusters"]:
        if entry["name"] == chosen["cluster"] and server is not None:
            host = entry["cluster"]["server"].removeprefix("https://").partition(":")[0].partition("/")[0]
            entry["cluster"] |= {"server": server, "tls-server-name": entry["cluster"].get("tls-server-name", host)}
    path = folder / "other-kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


@dataclass(frozen=True)
class Ghost:
    """A node without a machine, and a Deployment of the same name whose pod is said to run there."""

    place: Place
    name: str


@contextmanager
def ghost_node(place: Place) -> Iterator[Ghost]:
    """Says once that such a node is ready, and its pod too."""
    name = f"ghost-{place.namespace}"
    room = {"cpu": "4", "memory": "8Gi", "pods": "10"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": _now()}
    # Nobody else's pods go there.
    taint = {"key": "slipway-test/ghost", "effect": "NoSchedule"}
    place.core.create_node({"metadata": {"name": name, "labels": {"ghost": name}}, "spec": {"taints": [taint]}})
    try:
        status = {"capacity": room, "allocatable": room, "conditions": [{**ready, "lastTransitionTime": _now()}]}
        place.core.patch_node_status(name, {"status": status})
        # Also that the node does not answer: five minutes later the pod would be put off it.
        tolerated = {"operator": "Exists"}
        place.deploy(name, "r1", spec={"nodeSelector": {"ghost": name}, "tolerations": [tolerated]})
        pods = wait_for(lambda: [pod for pod in place.pods(name) if pod.spec.node_name], "a pod on the node")
        place.core.patch_namespaced_pod_status(pods[0].metadata.name, place.namespace, {"status": _running()})
        yield Ghost(place, name)
    finally:
        place.core.delete_node(name)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _running() -> Properties:
    """The status of a pod that runs, as a kubelet would write it."""
    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    server = {
        "name": "server",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "image": "ghost",
        "imageID": "ghost",
        "containerID": "ghost://1",
        "state": {"running": {"startedAt": _now()}},
    }
    return {
        "phase": "Running",
        "startTime": _now(),
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": _now()} for kind in kinds],
        "containerStatuses": [server],
    }


class Detour:
    """A way to the API server that can be closed for a while, as if the server were started again."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self._port = 0
        self.passed = 0
        """How many connections went through."""

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Lets connections through; on the same port each time."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Cuts what goes through, and refuses what comes."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for one in self._open:
            _cut(one)
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            self.passed += 1
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    _cut(source)
    _cut(sink)
    source.close()


def _cut(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is cut already


@contextmanager
def detour(kubeconfig: Path) -> Iterator[Detour]:
    """A way to the API server of a kubeconfig."""
    document = yaml.safe_load(kubeconfig.read_text())
    address = document["clusters"][0]["cluster"]["server"].removeprefix("https://")
    host, _, port = address.rstrip("/").partition(":")
    way = Detour(host, int(port or 443))
    way.open()
    try:
        yield way
    finally:
        way.close()
