"""A registry that runs in the cluster: models and images go to it through the API server, and nodes pull from it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from tests.e2e.project import eventually
from tests.kubernetes.clustered import ClusterProject, send
from tests.kubernetes.images import give_registry_image

NAME = "slipway-registry"


@pytest.fixture
def project(tmp_path: Path, kubeconfig: Path, api: client.ApiClient, images: Path) -> Iterator[ClusterProject]:
    give_registry_image()
    made = ClusterProject(tmp_path, kubeconfig, api, images)
    made.sections["registry"] = {
        "kind": "cluster",
        "computeTarget": "aks",
        "nodePort": a_node_port(client.CoreV1Api(api)),
    }
    made.write()
    yield made
    made.clear()


def a_node_port(core: client.CoreV1Api) -> int:
    """A port of nodes that no service has."""
    services = core.list_service_for_all_namespaces().items
    taken = {port.node_port for service in services for port in service.spec.ports or ()}
    return secrets.choice(sorted(set(range(31000, 32768)) - taken))


def test_a_stack_with_its_registry_in_the_cluster(project: ClusterProject) -> None:
    core, namespace = project.core, f"{project.namespace}-registry"
    registry = project.sections["registry"]
    project.preview()
    assert project.is_gone(), "a preview touches nothing"

    # A pod that never became ready gives way to one that can.
    registry["image"] = "127.0.0.1:1/missing:1"
    project.write()
    said = project.failing_up()
    assert "the registry in the namespace" in said
    assert "Failed (ImagePullFailed)" in said
    del registry["image"]
    project.write()
    project.up()
    first = project.outputs()
    assert first["state"] == "Healthy"
    project.wait_for(first["revision"])
    assert send(project.address, 1)[:2] == (200, "1")
    (pod,) = project.pods()
    assert pod.spec.containers[0].image.startswith(f"127.0.0.1:{registry['nodePort']}/services/echo/")
    claim = core.read_namespaced_persistent_volume_claim(NAME, namespace)
    assert claim.spec.resources.requests == {"storage": "10Gi"}
    assert project.up(refresh=True) == {}, "nothing changes, also where the cluster and the registry were asked"

    # What was pushed is on the volume, and what is pushed meanwhile waits for the next pod.
    core.delete_namespaced_pod(f"{NAME}-0", namespace, grace_period_seconds=0)
    project.change()
    project.up()
    project.wait_for(project.outputs()["revision"])
    assert project.outputs()["revision"] != first["revision"]
    assert project.up(refresh=True) == {}, "the images and models from before are there"

    registry["tier"] = "Standard"
    project.write()
    said = project.failing_preview()
    assert "has 10.0 GiB, and 100.0 GiB is asked for" in said
    assert "lets no volume grow (allowVolumeExpansion)" in said

    registry["tier"] = "Basic"
    project.stack.destroy()
    assert project.is_gone()
    name = claim.spec.volume_name
    eventually(lambda: name not in [one.metadata.name for one in core.list_persistent_volume().items], "no volume")
