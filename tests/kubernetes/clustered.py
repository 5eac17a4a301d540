"""A copy of the project whose service runs on the cluster, with a registry of its own; driven as in `tests.e2e`."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes import client

from infra.setup import plugins
from tests.e2e.project import Project, eventually
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
SECONDS = 300
"""Far more than any command here takes."""
IN_A_ROW = 20
"""With one of two pods gone, as many connections all find the other one once in a million times."""


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

    @property
    def address(self) -> tuple[str, int]:
        """Where the service is reached: a node, and its port."""
        return self.node, self.node_port

    def serving(self) -> Counter[str]:
        """How many pods are ready, by their revision."""
        ready = [
            pod
            for pod in self.pods()
            if any(one.type == "Ready" and one.status == "True" for one in pod.status.conditions or ())
        ]
        return Counter(pod.metadata.annotations["slipway/revision"] for pod in ready)

    def change(self) -> None:
        """Changes the script, and so the revision."""
        script, _, version = self.script.read_text().rpartition("VERSION = ")
        self.script.write_text(f"{script}VERSION = {int(version) + 1}\n")

    def route_with(self, image: str) -> None:
        """Has routers run one of the images that were made on this machine: `router`, or one that is none."""
        folder = self.home / "images"
        layout = (folder / "layout").resolve()
        known = json.loads((layout.parent / "images.json").read_text())
        if folder.is_symlink():
            folder.unlink()
            folder.mkdir()
            (folder / "layout").symlink_to(layout)
        (folder / "images.json").write_text(json.dumps({**known, "router": known[image]}))

    def command(self, *words: str) -> Command:
        """A command of the engine in the background, such as `up --refresh`."""
        return Command(self.start(*words))

    def pods(self, component: str = "default") -> list[Any]:
        """The pods of a deployment that are there and stay."""
        selector = f"app.kubernetes.io/component={component}"
        found = self.core.list_namespaced_pod(self.namespace, label_selector=selector).items
        return [pod for pod in found if pod.metadata.deletion_timestamp is None]

    def wait_for(self, *revisions: str, key: str | None = None, authority: str | None = None) -> None:
        """Waits until requests to the service's address are answered by these revisions alone.

        The rules by which nodes pass connections on follow the cluster a moment later, on a busy machine some seconds;
        one whose API server was away takes longer. Until then they spread them over the pods of before and of now, so
        that one answer tells nothing."""
        address = self.address  # which takes a command of the engine's

        def answered() -> bool:
            try:
                return all(send(address, 1, key, authority)[2] in revisions for _ in range(IN_A_ROW))
            except (OSError, http.client.HTTPException):
                return False

        eventually(answered, f"only {' and '.join(revisions)} answer")

    def is_gone(self) -> bool:
        """Whether the cluster has nothing of the stack any more."""
        return not any(item.metadata.name.startswith(self.namespace) for item in self.core.list_namespace().items)


class Command:
    """A command of the engine in the background, and what it has said so far. Killed where its block ends before it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as said:
            for line in said:
                self._lines.append(line)

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def says(self, *words: str) -> bool:
        """Whether a line with all these words was printed."""
        return any(all(word in line for word in words) for line in [*self._lines])

    def until(self, moment: Callable[[], bool], what: str) -> None:
        """Waits for a moment, which has to come before the command's end."""
        eventually(lambda: moment() or self._process.poll() is not None, what)
        if self._process.poll() is not None:
            self._reader.join(SECONDS)
        assert moment(), f"it ended before: {what}\n{self.output}"

    def until_it_says(self, *words: str) -> None:
        """Waits until a line with all these words was printed."""
        self.until(lambda: self.says(*words), " ".join(words))

    def kill(self) -> None:
        """Ends the engine as nobody should."""
        self._process.send_signal(signal.SIGKILL)
        self.end()

    def end(self) -> int:
        """Waits for its end; its exit code."""
        code = self._process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code


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
