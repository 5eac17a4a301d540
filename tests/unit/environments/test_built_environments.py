"""Environments that Docker builds: what the configuration may say, and that no secret ends in an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.builds import BuildPlan, arguments_of_the_image
from infra.config import SecretReference
from infra.load import load
from infra.plan import StackPlan
from infra.problems import ConfigurationError

PYTHON = f"docker.io/library/python:3.11-slim@sha256:{'a' * 64}"
SERVICE_REGISTRY = {"kind": "service", "tier": "Basic", "port": 5000}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "score.py").write_text("def init():\n    pass\n\n\ndef run(data):\n    return data\n")
    (tmp_path / "Dockerfile").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN true\n")
    return tmp_path


def loaded(project: Path, environments: dict[str, Any], **sections: Any) -> StackPlan:
    inference = {"entryScript": "score.py", "sourceDirectory": ".", "environment": "mine"}
    given = {
        "workspace": {"name": "demo"},
        "registry": SERVICE_REGISTRY,
        "environments": environments,
        "packages": {"app": {"inference": inference}},
        "images": {"python": PYTHON},
        **sections,
    }
    raw = {f"slipway:{key}": json.dumps(value) for key, value in given.items()}
    return load({**raw, "slipway:token": '"x"'}, ["slipway:token"], project, "dev")


def mistakes(project: Path, environments: dict[str, Any], **sections: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded(project, environments, **sections)
    return "\n".join(map(str, caught.value.problems))


def test_what_is_added_is_planned(project: Path) -> None:
    mine = {"clone": "sklearn", "aptPackages": ["libgomp1"], "dockerSteps": ["echo 1 > /one"]}
    plan = loaded(project, {"mine": {**mine, "dockerSecrets": {"token": {"secret": "token"}}}})

    assert plan.environments["mine"].build == BuildPlan(
        None, ("libgomp1",), ("echo 1 > /one",), {"token": SecretReference(secret="token")}
    )
    assert plan.environments["sklearn"].build is None


def test_clone_takes_over_what_is_built(project: Path) -> None:
    base = {"aptPackages": ["a1", "b1"], "dockerSteps": ["one"]}
    build = (
        loaded(project, {"base": base, "mine": {"clone": "base", "aptPackages": ["b1", "c1"]}})
        .environments["mine"]
        .build
    )

    assert build == BuildPlan(None, ("a1", "b1", "c1"), ("one",), {})


def test_dockerfile_is_found_from_the_project_s_folder(project: Path) -> None:
    build = loaded(project, {"mine": {"dockerfile": "Dockerfile"}}).environments["mine"].build

    assert build == BuildPlan(dockerfile=project / "Dockerfile")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"dockerfile": "missing"}, "environments.mine.dockerfile"),
        ({"dockerfile": "Dockerfile", "aptPackages": ["a1"]}, "aptPackages: stands beside a Dockerfile"),
        ({"dockerfile": "Dockerfile", "dockerSteps": ["a"]}, "dockerSteps: stands beside a Dockerfile"),
        ({"aptPackages": ["Not One"]}, "'Not One' is no Debian package"),
        ({"aptPackages": ["$(reboot)"]}, "is no Debian package"),
        ({"dockerSecrets": {"token": {"secret": "token"}}}, "are for a build, and nothing is built"),
        ({"dockerSteps": ["a"], "dockerSecrets": {"token": "plain"}}, "is a secret, which does not stand here"),
        ({"dockerSteps": ["a"], "dockerSecrets": {"x/y": {"secret": "token"}}}, "'x/y' is no name"),
        ({"dockerSteps": ["a"], "dockerSecrets": {"t": {"secret": "tokem"}}}, "no secret is named 'tokem'"),
    ],
)
def test_mistakes_are_named(project: Path, environment: dict[str, Any], expected: str) -> None:
    assert expected in mistakes(project, {"mine": environment})


def test_secret_that_the_image_would_keep_is_refused(project: Path) -> None:
    (project / "Dockerfile").write_text("FROM a AS one\nFROM b\nARG token\nRUN use $token\n")
    environment = {"dockerfile": "Dockerfile", "dockerSecrets": {"token": {"secret": "token"}}}

    assert "environments.mine.dockerSecrets.token: would be kept in the image's history" in mistakes(
        project, {"mine": environment}
    )
    (project / "Dockerfile").write_text("FROM a AS one\nARG token\nRUN use $token\nFROM b\nCOPY --from=one /a /a\n")
    assert loaded(project, {"mine": environment}).environments["mine"].build is not None


@pytest.mark.parametrize(
    ("dockerfile", "expected"),
    [
        ("FROM a\nARG one\narg two=2 three\n", {"one", "two", "three"}),
        ("ARG zero\nFROM a\n", set()),
        ("FROM a\nARG one\nFROM b AS last\n  ARG two\n", {"two"}),
        ("FROM a\nARG one \\\n  two\n", {"one", "two"}),
    ],
)
def test_arguments_of_the_last_stage(dockerfile: str, expected: set[str]) -> None:
    assert arguments_of_the_image(dockerfile) == expected


def test_processes_cannot_have_it(project: Path) -> None:
    service = {
        "inference": {"entryScript": "score.py", "sourceDirectory": ".", "environment": "mine"},
        "computeTarget": "laptop",
        "deployment": {"port": 8890},
    }
    found = mistakes(
        project,
        {"mine": {"aptPackages": ["libgomp1"]}},
        computeTargets={"laptop": {"kind": "local"}},
        services={"mnist": service},
    )

    assert "services.mnist: runs without a container, where Debian packages" in found


def test_image_layout_cannot_have_it(project: Path) -> None:
    found = mistakes(project, {"mine": {"aptPackages": ["libgomp1"]}}, registry={"tier": "Basic"})

    assert "packages.app: has the environment 'mine', which Docker builds and pushes to a registry" in found


def azure_package(project: Path, docker: dict[str, Any]) -> dict[str, Any]:
    """A package whose environment is written out in a file of Azure's, in a folder of its own."""
    (project / "azure").mkdir()
    (project / "azure/Dockerfile").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n")
    inference = {
        "entryScript": "score.py",
        "sourceDirectory": "..",
        "environment": {"name": "azure-env", "docker": docker},
    }
    (project / "azure/inferenceconfig.json").write_text(json.dumps(inference))
    return {"packages": {"app": {"inference": "azure/inferenceconfig.json"}}}


def test_azure_s_dockerfile_is_built(project: Path) -> None:
    docker = {
        "baseDockerfile": "Dockerfile",
        "enabled": False,
        "arguments": [],
        "sharedVolumes": True,
        "baseImage": None,
    }
    plan = loaded(project, {}, **azure_package(project, docker))

    assert plan.environments["azure-env"].build == BuildPlan(dockerfile=project / "azure/Dockerfile")


def test_azure_s_base_image_is_refused(project: Path) -> None:
    found = mistakes(project, {}, **azure_package(project, {"baseImage": "mcr.example/azureml/openmpi"}))

    assert "environment.docker.baseImage: is not what services begin with here" in found


def test_azure_s_dockerfile_that_is_missing_is_named(project: Path) -> None:
    found = mistakes(project, {}, **azure_package(project, {"baseDockerfile": "missing"}))

    assert "environment.docker.baseDockerfile" in found
