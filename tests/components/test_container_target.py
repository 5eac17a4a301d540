"""What a Docker host is asked for: its containers, their limits and rights, the order in which they come and go."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime.mocks import MockResourceArgs

from components.targets.container_options import duration
from infra.config import (
    ContainerDeployment,
    ContainerResources,
    ContainerTarget,
    LivenessProbe,
    Model,
    SecretReference,
    ServiceRegistry,
    Workspace,
)
from infra.plan import DeploymentPlan, EnvironmentPlan, ImagePlan, ModelReference, ServicePlan, StackPlan
from provider.router.container import USER
from tests.components.support import Recorder, declared, previewing, unknown_inputs

CONTAINER = "docker:index/container:Container"


def a_deployment(**more: Any) -> DeploymentPlan:
    plan = DeploymentPlan(
        models=(ModelReference("digits", None),),
        entry_script="score.py",
        source_directory=Path("/project/src"),
        environment="minimal",
        sample_request=Path("/project/sample.json"),
        startup_timeout_seconds=60,
    )
    return dataclasses.replace(plan, **more)


def a_plan(
    deployment: ContainerDeployment | None = None,
    variables: dict[str, str] | None = None,
    target: dict[str, Any] | None = None,
    **deployments: DeploymentPlan,
) -> StackPlan:
    return StackPlan(
        workspace=Workspace(name="demo"),
        registry=ServiceRegistry(kind="service", port=5000),
        compute_targets={"box": ContainerTarget(kind="container", **(target or {}))},
        environments={"minimal": EnvironmentPlan((), None, variables or {})},
        models={"digits": Model(path="model.pkl")},
        services={
            "mnist": ServicePlan(
                "box", deployment or ContainerDeployment(port=8080), deployments or {"default": a_deployment()}
            )
        },
        python_image=ImagePlan("/images", "base/python", f"sha256:{'1' * 64}", "3.11", ("linux/amd64",)),
        router_image=ImagePlan("/images", "router", f"sha256:{'2' * 64}", None, ("linux/amd64",)),
    )


def inputs(recorder: Recorder, kind: str) -> dict[str, dict[str, Any]]:
    """The inputs of the resources of a type, by name."""
    marker = f"{kind}::"
    return {
        key.removeprefix(marker): args.inputs for key, args in recorder.registered.items() if key.startswith(marker)
    }


def services(recorder: Recorder) -> dict[str, dict[str, Any]]:
    """The containers of services."""
    return {name: item for name, item in inputs(recorder, CONTAINER).items() if not name.endswith("-router")}


def service_container(recorder: Recorder) -> dict[str, Any]:
    (container,) = services(recorder).values()
    return container


def revision(recorder: Recorder) -> str:
    (endpoint,) = inputs(recorder, "slipway:index:Endpoint").values()
    return str(endpoint["revision"])


def test_the_resources_of_a_host(recorder: Recorder) -> None:
    declared(recorder, a_plan())

    short = revision(recorder)[:8]
    assert {name for name in recorder.registered if "Model" not in name and "Registry" not in name} >= {
        "slipway:components:ContainerTarget::box",
        "docker:index/network:Network::box-network",
        "docker:index/volume:Volume::box-run",
        "docker:index/volume:Volume::box-router-settings",
        "docker:index/remoteImage:RemoteImage::box-router-image",
        f"{CONTAINER}::box-router",
        f"{CONTAINER}::mnist-default-{short}-0",
        "slipway:index:Endpoint::mnist-default-endpoint",
        "slipway:index:Route::mnist-route",
    }
    assert service_container(recorder)["name"] == f"slipway-demo-mnist-default-{short}-0"


def test_containers_have_no_rights(recorder: Recorder) -> None:
    declared(recorder, a_plan())

    for name, container in inputs(recorder, CONTAINER).items():
        assert container["readOnly"] is True, name
        assert container["capabilities"] == {"drops": ["ALL"]}, name
        assert container["securityOpts"] == ["no-new-privileges"], name
        assert re.fullmatch(rf"[1-9]\d{{4}}:{USER}", container["user"]), name
        assert container["logOpts"] == {"max-size": "10m", "max-file": "3"}, name
        assert container["restart"] == "unless-stopped", name
        assert "privileged" not in container, name
        assert "ports" not in container, "the router alone has ports"


def test_what_a_service_is_told(recorder: Recorder) -> None:
    settings = ContainerDeployment(port=8080, scoring_timeout_ms=500, max_concurrent_requests_per_container=4)
    declared(recorder, a_plan(settings, {"LEVEL": "3"}))

    container = service_container(recorder)
    told = dict(item.split("=", 1) for item in container["envs"])
    socket = f"/run/slipway/{container['name']}.sock"
    assert told == {
        "LEVEL": "3",
        "SCORING_TIMEOUT_MS": "500",
        "SLIPWAY_MAX_CONCURRENT_REQUESTS": "4",
        "SLIPWAY_REVISION": revision(recorder),
        "SLIPWAY_UNIX_SOCKET": socket,
        "SLIPWAY_GRACE_SECONDS": "30",
    }
    (route,) = inputs(recorder, "slipway:index:Route").values()
    assert route["deployments"] == [
        {"name": "default", "revision": revision(recorder), "weight": 100, "sockets": [socket]}
    ]
    assert route["port"] == 8080
    assert route["scoringTimeoutMs"] == 500


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m0s"), (300, "5m0s"), (3661, "1h1m1s")])
def test_durations_are_written_as_the_engine_does(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_limits(recorder: Recorder) -> None:
    resources = ContainerResources(cpu=0.5, memory_in_gb=1.5)
    declared(recorder, a_plan(default=a_deployment(resources=resources)))

    container = service_container(recorder)
    assert (container["cpuPeriod"], container["cpuQuota"]) == (100_000, 50_000)
    assert (container["memory"], container["memorySwap"]) == (1536, 1536), "MiB, and no swap"
    (endpoint,) = inputs(recorder, "slipway:index:Endpoint").values()
    assert endpoint["target"]["cpus"] == 0.5
    assert endpoint["target"]["memoryBytes"] == 1536 * 2**20


def test_replicas_have_a_socket_each(recorder: Recorder) -> None:
    declared(recorder, a_plan(default=a_deployment(replicas=2)))

    names = sorted(container["name"] for container in services(recorder).values())
    assert [name[-2:] for name in names] == ["-0", "-1"]
    (route,) = inputs(recorder, "slipway:index:Route").values()
    assert route["deployments"][0]["sockets"] == [f"/run/slipway/{name}.sock" for name in names]
    (endpoint,) = inputs(recorder, "slipway:index:Endpoint").values()
    assert endpoint["target"]["containers"] == names


def test_a_container_with_devices_is_started_by_its_endpoint(recorder: Recorder) -> None:
    plan = a_plan(ContainerDeployment(port=8080, devices=("fpga",)), target={"devices": {"fpga": "/dev/xdma0"}})
    declared(recorder, plan)

    (container,) = services(recorder).values()
    assert (container["start"], container["mustRun"]) == (False, False)
    assert container["restart"] == "unless-stopped"


def revision_of(plan: StackPlan) -> str:
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, project="slipway", stack="test")
    declared(recorder, plan)
    return revision(recorder)


@pytest.mark.parametrize(
    "plan",
    [
        a_plan(variables={"LEVEL": "3"}),
        a_plan(ContainerDeployment(port=8080, max_queue_wait_ms=1)),
        a_plan(ContainerDeployment(port=8080, devices=("fpga",)), target={"devices": {"fpga": "/dev/xdma0"}}),
    ],
)
def test_what_a_container_is_made_with_is_in_its_name(plan: StackPlan) -> None:
    assert revision_of(plan) != revision_of(a_plan())


@pytest.mark.parametrize(
    "plan",
    [
        a_plan(ContainerDeployment(port=9090)),
        a_plan(default=a_deployment(replicas=3)),
        a_plan(ContainerDeployment(port=8080, liveness_probe_requirements=LivenessProbe(period_seconds=7))),
        a_plan(target={"bind": "127.0.0.1"}),
    ],
)
def test_what_changes_in_place_is_not(plan: StackPlan) -> None:
    assert revision_of(plan) == revision_of(a_plan())


def test_a_limit_changes_in_place_and_does_not_go() -> None:
    def limited(**limits: float) -> str:
        return revision_of(a_plan(default=a_deployment(resources=ContainerResources(**limits))))

    assert limited(cpu=1, memory_in_gb=1) == limited(cpu=2, memory_in_gb=3)
    assert len({limited(), limited(cpu=1), limited(memory_in_gb=1)}) == 3


def test_a_preview_knows_the_containers_of_a_new_image_but_not_its_place(recorder: Recorder) -> None:
    pulumi.runtime.set_config("slipway:token", "canary")
    plan = a_plan(ContainerDeployment(port=8080, secrets={"token": SecretReference(secret="token")}))
    declared(recorder, plan)
    foreseen = previewing({"slipway:index:ServiceImage": ["reference", "digest"]})
    declared(foreseen, plan)

    short = revision(recorder)[:8]
    assert unknown_inputs(foreseen) == {
        f"mnist-default-{short}-0": {"image"},
        f"mnist-default-{short}-secrets-filler": {"image"},
        "mnist-default-endpoint": {"target.image"},
    }
    pulled = {name for name in recorder.registered if "mnist-default-pulled" in name}
    assert set(recorder.registered) - set(foreseen.registered) == pulled, "which is named by its digest"


def test_of_an_image_that_is_built_it_knows_no_revision() -> None:
    recorder = previewing({"slipway:index:ServiceImage": ["reference", "digest", "revision"]})
    declared(recorder, a_plan())

    assert services(recorder) == {}, "they are named by it"
    assert unknown_inputs(recorder) == {
        "mnist-default-endpoint": {"target.containers", "target.image", "revision"},
        "mnist-route": {"containers", "deployments[0].revision", "deployments[0].sockets"},
    }


def test_a_route_follows_the_containers_behind_it(recorder: Recorder) -> None:
    split = {"blue": a_deployment(weight=90, replicas=2), "green": a_deployment(weight=10)}
    declared(recorder, a_plan(**split))
    containers = recorder.registered["slipway:index:Route::mnist-route"].inputs["containers"]
    assert len(containers) == 3
    assert set(containers) == set(services(recorder)), "in the mocks, an id is the resource's name"


def test_traffic_is_split_between_deployments(recorder: Recorder) -> None:
    split = {"blue": a_deployment(weight=90), "green": a_deployment(weight=10)}
    outputs = declared(recorder, a_plan(**split))

    (route,) = inputs(recorder, "slipway:index:Route").values()
    assert [(item["name"], item["weight"]) for item in route["deployments"]] == [("blue", 90), ("green", 10)]
    assert sorted(inputs(recorder, "slipway:index:Endpoint")) == ["mnist-blue-endpoint", "mnist-green-endpoint"]
    repositories = [item["repository"] for item in inputs(recorder, "slipway:index:ServiceImage").values()]
    assert sorted(repositories) == ["services/mnist/blue", "services/mnist/green"]
    told = outputs["services"]["mnist"]["deployments"]
    assert {name: (item["state"], item["traffic"]) for name, item in told.items()} == {
        "blue": ("Healthy", 90),
        "green": ("Healthy", 10),
    }


def test_deployments_of_the_same_content_have_an_image_each(
    recorder: Recorder, requests: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Recorder.new_resource

    def with_its_place(recorder: Recorder, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        name, state = answer(recorder, args)
        if args.typ == "slipway:index:ServiceImage":
            state["reference"] = f"registry/{args.inputs['repository']}@sha256:123456789"
        return name, state

    monkeypatch.setattr(Recorder, "new_resource", with_its_place)
    declared(recorder, a_plan(blue=a_deployment(weight=90), green=a_deployment(weight=10)))

    pulled = {
        f"mnist-{key}-pulled-12345678": f"registry/services/mnist/{key}@sha256:123456789" for key in ("blue", "green")
    }
    images = inputs(recorder, "docker:index/remoteImage:RemoteImage")
    assert {name: item["name"] for name, item in images.items() if "pulled" in name} == pulled
    assert {item["image"] for item in services(recorder).values()} == set(pulled.values())
    before = [alias.spec.name for name in pulled for alias in requests[name].aliases]
    assert before == ["mnist-pulled-12345678"], "one of them has the place of an image that was there before"


def test_a_certificate_of_the_workspace_s_own(recorder: Recorder) -> None:
    settings = ContainerDeployment(port=8443, ssl_enabled=True, cname="digits.example.org")
    outputs = declared(recorder, a_plan(settings))

    (certificate,) = inputs(recorder, "slipway:index:Certificate").values()
    assert certificate["names"] == ["digits.example.org", "localhost", "127.0.0.1"]
    (route,) = inputs(recorder, "slipway:index:Route").values()
    assert route["certificate"] == "leaf"
    assert route["host"] == "digits.example.org"
    assert outputs["services"]["mnist"]["caCertificate"] == "authority"


def test_keys_are_made_where_none_are_given(recorder: Recorder) -> None:
    outputs = declared(recorder, a_plan(ContainerDeployment(port=8080, auth_enabled=True)))

    assert sorted(inputs(recorder, "slipway:index:AccessKey")) == ["mnist-primary-key", "mnist-secondary-key"]
    assert outputs["services"]["mnist"]["primaryKey"] == "generated"


def test_secrets_are_files_in_a_volume_that_is_read(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    pulumi.runtime.set_config("slipway:token", "canary")
    monkeypatch.setattr(pulumi.runtime.config, "is_secret", lambda key: True, raising=False)
    secrets = {"token": SecretReference(secret="token")}
    declared(recorder, a_plan(ContainerDeployment(port=8080, secrets=secrets)))

    containers = services(recorder)
    (filler,) = [item for name, item in containers.items() if name.endswith("-filler")]
    (service,) = [item for name, item in containers.items() if not name.endswith("-filler")]
    assert filler["start"] is False
    assert filler["uploads"]["value"][0]["file"] == "/run/secrets/token", "a secret as a whole"
    assert "canary" not in str(service)
    (mount,) = [volume for volume in service["volumes"] if volume["containerPath"] == "/run/secrets"]
    assert mount == {"volumeName": filler["name"], "containerPath": "/run/secrets", "readOnly": True}


def test_without_them_there_are_none(recorder: Recorder) -> None:
    outputs = declared(recorder, a_plan())

    assert inputs(recorder, "slipway:index:AccessKey") == {}
    assert inputs(recorder, "slipway:index:Certificate") == {}
    (route,) = inputs(recorder, "slipway:index:Route").values()
    assert not {"certificate", "privateKey", "primaryKey"} & route.keys()
    assert outputs["services"]["mnist"] == {
        "state": "Healthy",
        "scoringUri": "http://127.0.0.1:80/score",
        "swaggerUri": "http://127.0.0.1:80/swagger.json",
        "revision": "routed",
        "sampleRequest": "sample.json",
    }
