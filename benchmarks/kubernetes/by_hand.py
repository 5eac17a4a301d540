"""What the stack deployed, deployed by kubectl: the same manifests in another namespace."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from airgap.cluster.programs import KUBERNETES, built

_KINDS = "serviceaccount,networkpolicy,configmap,secret,service,deployment,poddisruptionbudget"
_OURS = "app.kubernetes.io/managed-by=slipway"
_ADDRESSES = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")


class Kubectl:
    """kubectl for one cluster."""

    def __init__(self, kubeconfig: Path) -> None:
        program = built(KUBERNETES, "kubectl")
        found = str(program) if program.exists() else shutil.which("kubectl")
        if found is None:
            sys.exit("kubectl is missing: put it on PATH, or build it: python -m airgap.cluster.programs")
        self._command = [found, f"--kubeconfig={kubeconfig}"]

    def run(self, *arguments: str, given: str = "") -> str:
        """What it prints; ends the benchmark where it fails."""
        done = subprocess.run([*self._command, *arguments], input=given, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"kubectl {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def manifests(self, namespace: str) -> str:
        """What a stack made in `namespace`, as somebody would have written it down."""
        found = json.loads(self.run("get", _KINDS, f"--namespace={namespace}", f"--selector={_OURS}", "--output=json"))
        return json.dumps({**found, "items": [_written(item) for item in found["items"]]})

    def deploy(self, namespace: str, manifests: str, deployment: str) -> None:
        """Applies the manifests and waits for the rollout."""
        where = f"--namespace={namespace}"
        self.run("apply", where, "--filename=-", given=manifests)
        self.run("rollout", "status", where, f"deployment/{deployment}")


def _written(item: dict[str, Any]) -> dict[str, Any]:
    metadata = item["metadata"]
    annotations = {
        key: value
        for key, value in metadata.get("annotations", {}).items()
        if not key.startswith(("pulumi.com/", "deployment.kubernetes.io/"))
    }
    kept = {"name": metadata["name"], "labels": metadata.get("labels", {}), "annotations": annotations}
    body = {key: value for key, value in item.items() if key not in ("metadata", "status")}
    if item["kind"] == "Service":
        body["spec"] = {key: value for key, value in item["spec"].items() if key not in _ADDRESSES}
        for port in body["spec"]["ports"]:
            port.pop("nodePort", None)
    return {**body, "metadata": kept}
