"""Which resources the components declare: types, names, inputs, outputs. Pulumi's mocks stand for the engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pulumi
import pytest

from components.environment import server_requirements
from infra.config import (
    ExternalRegistry,
    LayoutRegistry,
    LocalDeployment,
    LocalTarget,
    Model,
    SecretReference,
    ServiceRegistry,
    Webhook,
    Workspace,
)
from infra.plan import DeploymentPlan, EnvironmentPlan, ImagePlan, ModelReference, PackagePlan, ServicePlan, StackPlan
from tests.components.support import Recorder, declared


def a_plan(*references: ModelReference) -> StackPlan:
    return StackPlan(
        workspace=Workspace(name="demo", tags={"team": "vision"}),
        registry=LayoutRegistry(tier="Standard"),
        compute_targets={"laptop": LocalTarget(kind="local")},
        environments={
            "minimal": EnvironmentPlan((), None, {}),
            "sklearn": EnvironmentPlan(("scikit-learn",), None, {"LEVEL": "3"}),
        },
        models={"digits": Model(path="model.pkl", framework="ScikitLearn", tags={"area": "mnist"})},
        services={
            "mnist": ServicePlan(
                compute_target="laptop",
                deployment=LocalDeployment(port=8890),
                deployments={
                    "default": DeploymentPlan(
                        models=references or (ModelReference("digits", None),),
                        entry_script="score.py",
                        source_directory=Path("/project/src"),
                        environment="sklearn",
                        sample_request=Path("/project/sample.json"),
                        startup_timeout_seconds=60,
                    )
                },
            )
        },
    )


def test_the_resources_of_a_stack(recorder: Recorder) -> None:
    declared(recorder, a_plan())

    assert sorted(recorder.registered) == [
        "slipway:components:Environment::sklearn",
        "slipway:components:Model::digits",
        "slipway:components:Registry::registry",
        "slipway:components:Webservice::mnist",
        "slipway:components:Workspace::demo",
        "slipway:index:Endpoint::mnist-endpoint",
        "slipway:index:ImageLayout::registry-store",
        "slipway:index:LocalService::mnist-service",
        "slipway:index:ModelVersion::digits-version",
        "slipway:index:PythonEnvironment::sklearn-packages",
        "slipway:index:WorkspaceFolder::demo-folder",
    ], "an environment that no service uses is not made"


def test_the_model_is_registered_in_the_registry_s_store(recorder: Recorder) -> None:
    declared(recorder, a_plan())

    assert recorder.registered["slipway:index:ModelVersion::digits-version"].inputs == {
        "store": "/home/store",
        "quotaBytes": 100 * 2**30,
        "name": "digits",
        "path": "/project/model.pkl",
        "framework": "ScikitLearn",
        "tags": {"area": "mnist"},
        "properties": {},
        "pinned": [],
    }


def test_the_service_gets_what_the_other_resources_made(recorder: Recorder) -> None:
    declared(recorder, a_plan())

    service = recorder.registered["slipway:index:LocalService::mnist-service"].inputs
    assert service["models"] == [{"name": "digits", "version": 2, "digest": "sha256:two"}]
    assert service["python"] == "/home/env/bin/python"
    assert service["environmentDigest"] == "sha256:lock"
    assert service["environmentVariables"] == {"LEVEL": "3"}
    assert service["sampleRequest"] == "/project/sample.json"
    endpoint = recorder.registered["slipway:index:Endpoint::mnist-endpoint"].inputs
    assert endpoint["revision"] == "abc"
    assert endpoint["target"] == {"kind": "local", "workspace": "/home", "service": "mnist"}


def test_the_environment_is_resolved_with_the_scoring_server_s_requirements(recorder: Recorder) -> None:
    declared(recorder, a_plan())

    environment = recorder.registered["slipway:index:PythonEnvironment::sklearn-packages"].inputs
    assert environment["requirements"] == [*server_requirements(), "scikit-learn"]
    assert len(environment["requirements"]) > 1
    assert environment["lockFile"] == "/project/stacks/locks/test.sklearn.txt"


def test_a_fixed_version_stays_registered_and_is_the_one_served(recorder: Recorder) -> None:
    declared(recorder, a_plan(ModelReference("digits", 1)))

    assert recorder.registered["slipway:index:ModelVersion::digits-version"].inputs["pinned"] == [1]
    service = recorder.registered["slipway:index:LocalService::mnist-service"].inputs
    assert service["models"] == [{"name": "digits", "version": 1, "digest": "sha256:one"}]


def test_aliases_and_samples_go_to_the_registry(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "sample.json").write_text("[1]")
    model = Model(path="model.pkl", aliases={"champion": 1}, sample_input=str(tmp_path / "sample.json"))
    declared(recorder, dataclasses.replace(a_plan(), models={"digits": model}))

    inputs = recorder.registered["slipway:index:ModelVersion::digits-version"].inputs
    assert inputs["aliases"] == {"champion": 1}
    assert inputs["sampleInput"] == "[1]"
    assert "sampleOutput" not in inputs


def with_a_package(plan: StackPlan, *platforms: str) -> StackPlan:
    package = PackagePlan((ModelReference("digits", None),), "score.py", Path("/project/src"), "minimal", platforms)
    image = ImagePlan("/images/layout", "base/python", "sha256:base", "3.11", None)
    return dataclasses.replace(plan, packages={"app": package}, python_image=image)


def test_a_package_is_an_image_in_the_registry(recorder: Recorder) -> None:
    outputs = declared(recorder, with_a_package(a_plan(), "linux/amd64"))

    copy = recorder.registered["slipway:index:MirroredImage::python-image-copy"].inputs
    assert copy["source"] == "/images/layout"
    assert (copy["registry"], copy["repository"]) == ("/home/store", "base/python")
    image = recorder.registered["slipway:index:ServiceImage::app-package-amd64-image"].inputs
    assert image["base"] == "base/python@sha256:base"
    assert image["repository"] == "packages/app"
    assert image["models"] == [{"name": "digits", "version": 2, "digest": "sha256:two", "size": 7}]
    assert image["modelLayout"] == "/home/store"
    assert "modelRepositories" not in image
    assert image["lockFile"] == "/project/stacks/locks/test.minimal.txt"
    assert image["environmentDigest"] == "sha256:lock"
    assert outputs["packages"] == {
        "app": {"image": "registry/app@sha256:i", "revision": "def", "digest": "sha256:i"},
    }


def test_the_mirror_s_credentials_go_to_the_mirror(recorder: Recorder) -> None:
    pulumi.runtime.set_all_config({"slipway:mirror": "word"}, ["slipway:mirror"])
    secret = SecretReference(secret="mirror")
    image = ImagePlan("mirror.example/hub", "library/python", "sha256:base", "3.11", None, "ci", secret)
    declared(recorder, dataclasses.replace(with_a_package(a_plan(), "linux/amd64"), python_image=image))

    copy = recorder.registered["slipway:index:MirroredImage::python-image-copy"].inputs
    assert (copy["source"], copy["sourceUsername"]) == ("mirror.example/hub", "ci")
    assert copy["sourcePassword"]["value"] == "word"
    assert "password" not in copy


def test_what_only_images_use_is_locked_and_not_installed(recorder: Recorder) -> None:
    declared(recorder, with_a_package(a_plan(), "linux/amd64"))

    assert recorder.registered["slipway:index:PythonEnvironment::minimal-packages"].inputs["installed"] is False
    assert "installed" not in recorder.registered["slipway:index:PythonEnvironment::sklearn-packages"].inputs


def test_a_package_pins_its_version_and_carries_the_variables_of_its_environment(recorder: Recorder) -> None:
    plan = with_a_package(a_plan(), "linux/amd64")
    package = dataclasses.replace(plan.packages["app"], models=(ModelReference("digits", 1),), environment="sklearn")
    declared(recorder, dataclasses.replace(plan, packages={"app": package}))

    assert recorder.registered["slipway:index:ModelVersion::digits-version"].inputs["pinned"] == [1]
    image = recorder.registered["slipway:index:ServiceImage::app-package-amd64-image"].inputs
    assert image["models"] == [{"name": "digits", "version": 1, "digest": "sha256:one", "size": 5}]
    assert image["environmentVariables"] == {"LEVEL": "3"}


def test_a_package_for_several_platforms(recorder: Recorder) -> None:
    outputs = declared(recorder, with_a_package(a_plan(), "linux/amd64", "linux/arm64"))

    assert (
        recorder.registered["slipway:index:ServiceImage::app-package-arm64-image"].inputs["platform"] == "linux/arm64"
    )
    assert recorder.registered["slipway:index:ImageIndex::app-package-index"].inputs["images"] == [
        {"platform": "linux/amd64", "digest": "sha256:i", "revision": "def"},
        {"platform": "linux/arm64", "digest": "sha256:i", "revision": "def"},
    ]
    assert outputs["packages"] == {"app": {"image": "registry/app@sha256:x", "revision": "all", "digest": "sha256:x"}}


def test_a_registry_that_runs_here(recorder: Recorder) -> None:
    registry = ServiceRegistry(kind="service", tier="Premium", port=5000, retention_days=7)
    outputs = declared(recorder, dataclasses.replace(a_plan(), registry=registry))

    service = recorder.registered["slipway:index:RegistryService::registry-service"].inputs
    assert service["path"] == "/home/registry"
    assert (service["replicas"], service["webhookLimit"]) == (2, 100)
    assert (service["port"], service["retentionDays"]) == (5000, 7)
    assert (service["quotaBytes"], service["cpus"], service["memoryBytes"]) == (500 * 2**30, 2, 2**30)
    model = recorder.registered["slipway:index:ModelVersion::digits-version"].inputs
    assert (model["store"], model["username"], model["parallel"]) == ("127.0.0.1:5000", "slipway", 16)
    assert "quotaBytes" not in model
    local = recorder.registered["slipway:index:LocalService::mnist-service"].inputs
    assert local["modelRegistry"] == "127.0.0.1:5000"
    assert local["modelRepositories"] == {"digits": "models/digits"}
    assert outputs["registry"] == {
        "kind": "service",
        "tier": "Premium",
        "location": "127.0.0.1:5000",
        "username": "slipway",
        "password": "generated",
    }


def test_a_registry_that_others_reach_has_a_certificate_and_tells_of_events(recorder: Recorder) -> None:
    pulumi.runtime.set_all_config({"slipway:token": "word"}, ["slipway:token"])
    hook = Webhook(url="https://hooks.example", actions=("push",), headers={"X-Token": SecretReference(secret="token")})
    registry = ServiceRegistry(
        kind="service", port=5000, bind="0.0.0.0", host="registry.example", webhooks={"ci": hook}
    )
    declared(recorder, dataclasses.replace(a_plan(), registry=registry))

    assert recorder.registered["slipway:index:Certificate::registry-certificate"].inputs["names"] == [
        "registry.example"
    ]
    service = recorder.registered["slipway:index:RegistryService::registry-service"].inputs
    assert (service["bind"], service["host"], service["certificate"]) == ("0.0.0.0", "registry.example", "leaf")
    assert pulumi.runtime.rpc.is_rpc_secret(service["webhooks"])
    assert service["webhooks"]["value"] == [
        {"name": "ci", "url": "https://hooks.example", "actions": ["push"], "headers": {"X-Token": "word"}}
    ]
    assert service["webhookLimit"] == 2
    model = recorder.registered["slipway:index:ModelVersion::digits-version"].inputs
    assert model["caCertificate"] == "authority"


def test_a_registry_that_is_there_already(recorder: Recorder) -> None:
    pulumi.runtime.set_all_config({"slipway:registryPassword": "word"}, ["slipway:registryPassword"])
    registry = ExternalRegistry(
        kind="external",
        tier="Standard",
        address="registry.example/team",
        username="ci",
        password=SecretReference(secret="registryPassword"),
    )
    declared(recorder, dataclasses.replace(with_a_package(a_plan(), "linux/amd64"), registry=registry))

    assert not [name for name in recorder.registered if "RegistryService" in name or "ImageLayout" in name]
    model = recorder.registered["slipway:index:ModelVersion::digits-version"].inputs
    assert (model["store"], model["username"], model["parallel"]) == ("registry.example/team", "ci", 6)
    image = recorder.registered["slipway:index:ServiceImage::app-package-amd64-image"].inputs
    assert image["repository"] == "test/demo/packages/app", "other stacks store in the same registry"
    assert image["base"] == "test/demo/base/python@sha256:base"
    assert image["modelRepositories"] == {"digits": "models/digits"}


def test_names_of_tags_and_variables_stay_as_they_are(recorder: Recorder) -> None:
    plan = a_plan()
    environments = {"sklearn": EnvironmentPlan((), None, {"OMP_NUM_THREADS": "1", "omp_dynamic": "0"})}
    models = {"digits": Model(path="model.pkl", tags={"data_set": "mnist_small"})}
    declared(recorder, dataclasses.replace(plan, environments=environments, models=models))

    service = recorder.registered["slipway:index:LocalService::mnist-service"].inputs
    assert service["environmentVariables"] == {"OMP_NUM_THREADS": "1", "omp_dynamic": "0"}
    tags = recorder.registered["slipway:index:ModelVersion::digits-version"].inputs["tags"]
    assert tags == {"data_set": "mnist_small"}


def test_a_version_that_is_not_registered_is_refused(recorder: Recorder) -> None:
    with pytest.raises(pulumi.RunError, match="the model 'digits' has no version 7; registered are 1, 2"):
        declared(recorder, a_plan(ModelReference("digits", 7)))


def test_the_stack_s_outputs(recorder: Recorder) -> None:
    outputs = declared(recorder, a_plan())

    assert outputs["workspace"] == {"name": "demo", "home": "/home"}
    assert outputs["registry"] == {"kind": "layout", "tier": "Standard", "location": "/home/store"}
    assert outputs["models"] == {"digits": {"id": "digits:2", "version": 2, "digest": "sha256:m2"}}
    assert outputs["services"] == {
        "mnist": {
            "state": "Healthy",
            "scoringUri": "http://127.0.0.1:8890/score",
            "swaggerUri": "http://127.0.0.1:8890/swagger.json",
            "revision": "abc",
            "sampleRequest": "sample.json",
        }
    }
