"""Environments that Docker builds: what is declared, in which order. Pulumi's mocks stand for the engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import rpc

from infra.builds import BuildPlan
from infra.config import SecretReference, ServiceRegistry, Workspace
from infra.plan import EnvironmentPlan, ImagePlan, PackagePlan, StackPlan
from tests.components.support import OUTPUTS, Recorder, declared

DIGEST = f"sha256:{'b' * 64}"


@pytest.fixture(autouse=True)
def built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        OUTPUTS, "docker:index/image:Image", {"repoDigest": f"127.0.0.1:5000/environments/my-one@{DIGEST}"}
    )


def a_plan(build: BuildPlan, *platforms: str) -> StackPlan:
    return StackPlan(
        workspace=Workspace(name="demo"),
        registry=ServiceRegistry(kind="service", port=5000),
        compute_targets={},
        environments={"my.One": EnvironmentPlan((), None, {}, build=build)},
        models={},
        services={},
        packages={"app": PackagePlan((), "score.py", Path("/project/src"), "my.One", platforms or ("linux/amd64",))},
        python_image=ImagePlan("/images", "base/python", f"sha256:{'1' * 64}", "3.11", None),
    )


def hidden_build(recorder: Recorder) -> dict[str, Any]:
    """What is asked for where some of it is secret: then all of it is, in Pulumi's wrapping."""
    (image,) = images(recorder)
    assert rpc._special_sig_key in image["build"]
    value: dict[str, Any] = image["build"]["value"]
    return value


def images(recorder: Recorder) -> list[dict[str, Any]]:
    return [args.inputs for args in recorder.registered.values() if args.typ == "docker:index/image:Image"]


def test_image_is_built_on_the_base_and_services_on_it(recorder: Recorder) -> None:
    declared(recorder, a_plan(BuildPlan(apt_packages=("libgomp1", "curl"), steps=("one", "two"))))

    (image,) = images(recorder)
    assert image["imageName"] == "127.0.0.1:5000/environments/my-one:amd64"
    assert image["build"]["args"] == {
        "BASE_IMAGE": "registry/base@sha256:base",
        "APT_PACKAGES": "libgomp1 curl",
        "STEPS": "one\ntwo",
    }
    assert image["build"]["platform"] == "linux/amd64"
    assert image["registry"] == {"server": "127.0.0.1:5000", "username": "slipway", "password": "generated"}
    service = recorder.registered["slipway:index:ServiceImage::app-package-amd64-image"].inputs
    assert service["base"] == f"environments/my-one@{DIGEST}"


def test_paths_of_a_build_are_the_same_in_every_checkout(recorder: Recorder) -> None:
    declared(recorder, a_plan(BuildPlan(steps=("one",))))

    (image,) = images(recorder)
    assert not Path(image["build"]["context"]).is_absolute()
    assert Path(image["build"]["dockerfile"]).is_file()
    assert [path.name for path in Path(image["build"]["context"]).iterdir()] == ["Dockerfile"]


def test_each_platform_has_an_image_of_its_own(recorder: Recorder) -> None:
    declared(recorder, a_plan(BuildPlan(steps=("one",)), "linux/amd64", "linux/arm64"))

    assert sorted(image["imageName"].rpartition(":")[2] for image in images(recorder)) == ["amd64", "arm64"]


def test_secrets_are_arguments_of_a_stage_that_is_left_behind(recorder: Recorder) -> None:
    pulumi.runtime.set_config("slipway:token", "hidden")
    plan = a_plan(BuildPlan(steps=("one",), secrets={"pip.conf": SecretReference(secret="token")}))
    declared(recorder, plan)

    assert hidden_build(recorder)["args"]["SECRETS"] == "pip.conf aGlkZGVu\n"


def test_dockerfile_of_the_user_gets_secrets_by_their_names(recorder: Recorder, tmp_path: Path) -> None:
    pulumi.runtime.set_config("slipway:token", "hidden")
    build = BuildPlan(dockerfile=tmp_path / "Dockerfile", secrets={"TOKEN": SecretReference(secret="token")})
    declared(recorder, a_plan(build))

    asked = hidden_build(recorder)
    assert asked["args"] == {"BASE_IMAGE": "registry/base@sha256:base", "TOKEN": "hidden"}
    assert Path(asked["context"]).resolve() == tmp_path


def test_nothing_is_built_for_what_needs_nothing(recorder: Recorder) -> None:
    plan = a_plan(BuildPlan())
    declared(recorder, dataclasses.replace(plan, environments={"my.One": EnvironmentPlan((), None, {})}))

    assert images(recorder) == []
    service = recorder.registered["slipway:index:ServiceImage::app-package-amd64-image"].inputs
    assert service["base"] == f"base/python@sha256:{'1' * 64}"
