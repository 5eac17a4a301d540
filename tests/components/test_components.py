"""Which resources the components declare: types, names, inputs, outputs. Pulumi's mocks stand for the engine."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks as pulumi_mocks

from components.environment import server_requirements
from infra.config import LayoutRegistry, LocalDeployment, LocalTarget, Model, Workspace
from infra.plan import DeploymentPlan, EnvironmentPlan, ModelReference, ServicePlan, StackPlan
from infra.stack import deploy

OUTPUTS: dict[str, dict[str, Any]] = {
    "slipway:index:ModelVersion": {
        "version": 2,
        "digest": "sha256:m2",
        "versions": {"1": "sha256:one", "2": "sha256:two"},
    },
    "slipway:index:PythonEnvironment": {"python": "/home/env/bin/python", "lockDigest": "sha256:lock"},
    "slipway:index:LocalService": {"revision": "abc"},
    "slipway:index:Endpoint": {"state": "Healthy", "message": ""},
}


class Recorder(pulumi_mocks.Mocks):
    """Keeps what was registered, and answers as the provider would."""

    def __init__(self) -> None:
        self.registered: dict[str, pulumi_mocks.MockResourceArgs] = {}

    def new_resource(self, args: pulumi_mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.registered[f"{args.typ}::{args.name}"] = args
        return args.name, {**args.inputs, **OUTPUTS.get(args.typ, {})}

    def call(self, args: pulumi_mocks.MockCallArgs) -> dict[str, Any]:
        raise AssertionError(f"no function is called here: {args.token}")


@pytest.fixture(scope="module", autouse=True)
def leftovers() -> Iterator[None]:
    """The mocks leave an event loop behind in each thread of theirs: cleared here, where that is no failure."""
    asyncio.set_event_loop(asyncio.new_event_loop())
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.set_event_loop(None)
        gc.collect()


@pytest.fixture
def recorder() -> Recorder:
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, project="slipway", stack="test")
    return recorder


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


def declared(recorder: Recorder, plan: StackPlan) -> dict[str, Any]:
    """Runs the program against the mocks; returns the stack's outputs, resolved."""
    outputs: dict[str, Any] = {}

    @pulumi.runtime.test
    def program() -> pulumi.Output[None]:
        return pulumi.Output.from_input(deploy(plan, Path("/project"), Path("/home"), "test")).apply(outputs.update)

    program()
    return outputs


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
