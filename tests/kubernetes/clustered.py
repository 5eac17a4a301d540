"""A copy of the project whose service runs on the cluster, with a registry of its own; driven as in `tests.e2e`."""

from __future__ import annotations

import json
import os
import secrets
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from kubernetes import client

from infra.setup import plugins
from tests.e2e.project import Project
from tests.ports import free_port

ECHO = """
import time

def init():
    pass

def run(data):
    if data.startswith('"sleep'):
        time.sleep(float(data.strip('"')[5:]))
    return data

VERSION = 1
"""
"""Answers with what it is sent, after as many seconds as it is told to sleep."""


class ClusterProject(Project):
    """One stack, its service in a namespace of its own, its images below `images`. Ports of nodes lead to it."""

    def __init__(self, folder: Path, kubeconfig: Path, api: client.ApiClient, images: Path) -> None:
        super().__init__(folder)
        self.api, self.core, self.apps = api, client.CoreV1Api(api), client.AppsV1Api(api)
        self.namespace = f"slipway-{secrets.token_hex(4)}"
        self.home.mkdir()
        (self.home / "images").symlink_to(images)
        stand_in = plugins.stand_in("kubernetes")
        if stand_in is not None and not plugins.installed("kubernetes", os.environ):
            self.environment["PATH"] += f"{os.pathsep}{stand_in}"
            self.stack.workspace.env_vars["PATH"] = self.environment["PATH"]
        self.script.write_text(ECHO)
        self.sample = self.root / "sample.json"
        self.sample.write_text('"sample"')
        self.sections["registry"] = {"kind": "service", "port": free_port()}
        self.target: dict[str, Any] = {
            "kind": "kubernetes",
            "kubeconfig": str(kubeconfig),
            "namespace": self.namespace,
            "expose": "nodePort",
        }
        self.sections["computeTargets"] = {"aks": self.target}
        self.deployment: dict[str, Any] = {}
        self.service.update(
            computeTarget="aks", sampleRequest="sample.json", deployment=self.deployment, startupTimeoutSeconds=60
        )
        self.write()

    @property
    def node(self) -> str:
        """The address of a node."""
        addresses = [address for node in self.core.list_node().items for address in node.status.addresses or ()]
        return next(str(item.address) for item in addresses if item.type == "InternalIP")

    @property
    def node_port(self) -> int:
        return int(self.outputs()["nodePort"])

    def pods(self, component: str = "default") -> list[Any]:
        """The pods of a deployment that are there and stay."""
        selector = f"app.kubernetes.io/component={component}"
        found = self.core.list_namespaced_pod(self.namespace, label_selector=selector).items
        return [pod for pod in found if pod.metadata.deletion_timestamp is None]

    def is_gone(self) -> bool:
        """Whether the cluster has nothing of the stack any more."""
        return self.namespace not in [item.metadata.name for item in self.core.list_namespace().items]


def send(
    address: tuple[str, int],
    body: Any,
    key: str | None = None,
    authority: str | None = None,
    **headers: str,
) -> tuple[int, Any, str | None]:
    """Posts JSON to /score: status, answer, revision. `authority`: the certificate (PEM) to trust."""
    tls = None
    if authority is not None:
        tls = ssl.create_default_context(cadata=authority)
        tls.check_hostname = False
    sent = {"Content-Type": "application/json", **{key.replace("_", "-"): value for key, value in headers.items()}}
    if key is not None:
        sent["Authorization"] = f"Bearer {key}"
    scheme = "http" if tls is None else "https"
    url = f"{scheme}://{address[0]}:{address[1]}/score"
    request = urllib.request.Request(url, json.dumps(body).encode(), sent)
    try:
        with urllib.request.urlopen(request, timeout=30, context=tls) as answer:
            return answer.status, json.load(answer), answer.headers["slipway-revision"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers["slipway-revision"]
