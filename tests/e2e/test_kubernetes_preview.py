"""A preview of a stack on Kubernetes, where no cluster answers: nothing of it needs one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from infra.setup import plugins
from tests.e2e.project import Project
from tests.ports import free_port


def clustered(tmp_path: Path) -> Project:
    """A project whose cluster has not been made yet."""
    project = Project(tmp_path)
    stand_in = plugins.stand_in("kubernetes")
    if stand_in is not None and not plugins.installed("kubernetes", os.environ):
        project.stack.workspace.env_vars["PATH"] += f"{os.pathsep}{stand_in}"
    image = {"digest": f"sha256:{'1' * 64}", "platforms": ["linux/amd64"]}
    made = {"python": {**image, "repository": "base/python", "pythonVersion": "3.11"}}
    (project.home / "images").mkdir(parents=True)
    (project.home / "images" / "images.json").write_text(
        json.dumps({**made, "router": {**image, "repository": "router"}})
    )
    (project.root / "sample.json").write_text("1")
    project.sections["registry"] = {"kind": "service", "port": free_port()}
    project.sections["computeTargets"] = {
        "aks": {"kind": "kubernetes", "kubeconfig": "none/yet", "namespace": "models"}
    }
    project.service.update(
        computeTarget="aks",
        sampleRequest="sample.json",
        deployment={"sslEnabled": True, "authEnabled": True, "autoScaler": {"minReplicas": 2}},
        deployments={"blue": {}, "green": {}},
        traffic={"blue": 90, "green": 10},
    )
    project.write()
    return project


def kinds_in(shown: str) -> set[str]:
    """The kinds of what a preview says will be made."""
    return set(re.findall(r"^ *\+ (?:kubernetes:\S+/\S+:|slipway:index:)(\w+)", shown, re.MULTILINE))


def test_a_preview_needs_no_cluster(tmp_path: Path) -> None:
    project = clustered(tmp_path)

    shown = project.preview()

    assert kinds_in(shown) >= {
        *("Namespace", "ServiceAccount", "NetworkPolicy", "Secret", "ConfigMap", "Deployment", "Service"),
        *("PodDisruptionBudget", "HorizontalPodAutoscaler", "Certificate", "AccessKey", "Endpoint", "ServiceImage"),
    }
    assert not (project.root / "none").exists()


def test_a_preview_of_a_registry_in_a_cluster_needs_none(tmp_path: Path) -> None:
    project = clustered(tmp_path)
    project.sections["registry"] = {"kind": "cluster", "computeTarget": "aks"}
    project.write()

    shown = project.preview()

    assert kinds_in(shown) >= {
        "StatefulSet",
        "ClusterVolume",
        "RegistryEndpoint",
        "ModelVersion",
        "ServiceImage",
        "Endpoint",
    }
    assert 'location   : "127.0.0.1:30500"' in shown
    assert not (project.root / "none").exists()
