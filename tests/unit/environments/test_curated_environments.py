"""Curated environments, and those of the same name in a stack's configuration."""

from pathlib import Path
from typing import Any

import pytest

from components.curated import curated_environments
from infra.config import Environment
from infra.environments import EnvironmentReader
from infra.plan import EnvironmentPlan
from infra.problems import Problem
from infra.requirements import requirement_mistake


def resolved(root: Path, declared: dict[str, Any]) -> tuple[dict[str, EnvironmentPlan], list[str], list[str]]:
    problems: list[Problem] = []
    reader = EnvironmentReader(root, "stacks/Pulumi.dev.yaml", problems)
    plans = reader.resolve({name: Environment.model_validate(value) for name, value in declared.items()})
    return plans, [str(problem) for problem in problems], reader.notices


def test_the_curated_environments() -> None:
    assert sorted(curated_environments()) == ["AzureML-Minimal", "minimal", "onnx", "pytorch", "sklearn", "tensorflow"]
    assert curated_environments()["AzureML-Minimal"] == curated_environments()["minimal"]
    assert curated_environments()["minimal"].pip == ()
    assert curated_environments()["pytorch"].torch_backend == "cpu"


@pytest.mark.parametrize("name", sorted(curated_environments()))
def test_each_says_what_it_is_and_asks_for_packages_within_ranges(name: str) -> None:
    environment = curated_environments()[name]

    assert environment.description.endswith(".")
    assert [requirement_mistake(item) for item in environment.pip] == [None] * len(environment.pip)
    assert all(">=" in item and ",<" in item for item in environment.pip)


def test_one_is_used_by_its_name_alone(tmp_path: Path) -> None:
    plans, problems, _ = resolved(tmp_path, {})

    assert problems == []
    assert plans["sklearn"].pip == curated_environments()["sklearn"].pip


def test_a_clone_adds_to_a_curated_one(tmp_path: Path) -> None:
    plans, _, _ = resolved(tmp_path, {"mine": {"clone": "pytorch", "pip": ["pillow"]}})

    assert plans["mine"].pip == (*curated_environments()["pytorch"].pip, "pillow")
    assert plans["mine"].torch_backend == "cpu"


def test_an_environment_named_like_a_curated_one_takes_its_place_and_may_add_to_it(tmp_path: Path) -> None:
    plans, problems, _ = resolved(tmp_path, {"onnx": {"pip": ["numpy"]}, "sklearn": {"clone": "sklearn", "pip": ["x"]}})

    assert problems == []
    assert plans["onnx"].pip == ("numpy",)
    assert plans["sklearn"].pip == (*curated_environments()["sklearn"].pip, "x")


def test_the_default_one_cannot_be_replaced(tmp_path: Path) -> None:
    assert resolved(tmp_path, {"AzureML-Minimal": {}})[1] == [
        "stacks/Pulumi.dev.yaml: environments.AzureML-Minimal: 'AzureML-Minimal' is a curated environment; "
        "choose another name"
    ]


def test_files_and_packages_add_up_and_the_section_s_own_word_counts(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("pandas\n")
    (tmp_path / "conda.yml").write_text(
        "dependencies:\n- python=3.12\n- numpy=2\n- pip:\n  - joblib\nvariables: {A: 1, B: 1}\n"
    )
    declared = {
        "mine": {
            "pip": ["pillow"],
            "pipRequirementsFile": "requirements.txt",
            "condaDependenciesFile": "conda.yml",
            "pythonVersion": "3.13",
            "environmentVariables": {"B": 2},
        },
        "more": {"clone": "mine"},
    }
    plans, problems, notices = resolved(tmp_path, declared)

    assert problems == []
    assert plans["mine"] == EnvironmentPlan(
        pip=("pandas", "numpy==2.*", "joblib", "pillow"),
        python_version="3.13",
        environment_variables={"A": "1", "B": "2"},
        sources={
            "pandas": "requirements.txt: line 1",
            "numpy==2.*": "conda.yml: line 3",
            "joblib": "conda.yml: line 5",
        },
    )
    assert plans["more"] == plans["mine"]
    assert notices == ["environment mine: conda packages of conda.yml are taken from PyPI: numpy==2.* (line 3)"]
