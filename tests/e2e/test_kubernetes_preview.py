"""A preview of a stack on Kubernetes, where no cluster answers: nothing of it needs one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from infra.setup import plugins
from tests.e2e.project import Project
from tests.ports import free_port
from tests.unit.kubernetes.api_server import write_kubeconfig


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


def test_a_context_that_the_kubeconfig_lacks_ends_a_preview_and_an_up_at_once(tmp_path: Path) -> None:
    project = clustered(tmp_path)
    # Nothing listens there, and nobody is asked.
    file = write_kubeconfig(project.root / "config", f"https://127.0.0.1:{free_port()}")
    project.sections["computeTargets"]["aks"] |= {"kubeconfig": "config", "context": "nope"}
    project.write()

    told = (
        f"computeTargets.aks.context: there is no context 'nope' in {file}; known: one, two. Mend it, or name another "
        "file in computeTargets.aks.kubeconfig"
    )
    for shown in (project.failing_preview(), project.failing_up()):
        assert "the stack's configuration has 1 mistake; nothing was changed:" in shown
        assert told in shown
        assert "not previewed on the cluster" not in shown
        assert kinds_in(shown) == set()
    assert [path for path in project.files() if path.is_file()] == [project.home / "images" / "images.json"]


def test_an_up_without_a_kubeconfig_ends_before_anything_is_made(tmp_path: Path) -> None:
    project = clustered(tmp_path)

    shown = project.failing_up()

    assert "a cluster is not known; nothing was changed:" in shown
    assert (
        f"computeTargets.aks.kubeconfig: the kubeconfig {project.root}/none/yet does not exist; mend the compute "
        "target's kubeconfig, or make the file"
    ) in shown
    assert "not previewed on the cluster" not in shown
    assert [path for path in project.files() if path.is_file()] == [project.home / "images" / "images.json"]
