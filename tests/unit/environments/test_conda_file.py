"""Conda files: what is used of them, what is taken from PyPI, and the words for the rest."""

import sys
from pathlib import Path

import pytest

from infra.conda import CondaEnvironment, read_conda_file
from infra.problems import Problem
from infra.requirements import Requirement


def read(folder: Path, text: str) -> tuple[CondaEnvironment, list[str]]:
    (folder / "conda.yml").write_text(text)
    problems: list[Problem] = []
    return read_conda_file(folder / "conda.yml", "env/conda.yml", problems), [str(problem) for problem in problems]


def test_azure_s_usual_file(tmp_path: Path) -> None:
    environment, problems = read(
        tmp_path,
        """name: project_environment
channels: [conda-forge]
dependencies:
  - python=3.12.4
  - pip=24.0
  - pip:
      - azureml-defaults
      - scikit-learn==1.8.0
      - joblib
  - numpy=2.1
variables: {LEVEL: 3}
prefix: /opt/conda
""",
    )

    assert problems == []
    assert environment.python_version == "3.12"
    assert environment.variables == {"LEVEL": "3"}
    assert environment.requirements == [
        Requirement("scikit-learn==1.8.0", "env/conda.yml: line 8"),
        Requirement("joblib", "env/conda.yml: line 9"),
        Requirement("numpy==2.1.*", "env/conda.yml: line 10"),
    ]
    assert environment.from_pypi == ["numpy==2.1.* (line 10)"]


@pytest.mark.parametrize(
    ("conda", "pip"),
    [
        ("numpy", "numpy"),
        ("numpy=2.1", "numpy==2.1.*"),
        ("numpy=2.1.*", "numpy==2.1.*"),
        ("numpy==2.1", "numpy==2.1"),
        ("numpy 2.1.3", "numpy==2.1.3"),
        ("numpy=2.1.3=py312h1_0", "numpy==2.1.3"),
        ("numpy>=2,<3", "numpy>=2,<3"),
        ("numpy >=2, !=2.1.*", "numpy>=2,!=2.1.*"),
        ("conda-forge::numpy=2", "numpy==2.*"),
        ("pytorch::pytorch=2.6", "torch==2.6.*"),
        ("py-opencv", "opencv-python-headless"),
        ("librosa", "librosa"),
    ],
)
def test_a_conda_package_in_pip_s_words(tmp_path: Path, conda: str, pip: str) -> None:
    environment, problems = read(tmp_path, f"dependencies:\n  - {conda}\n")

    assert problems == []
    assert [item.text for item in environment.requirements] == [pip]


@pytest.mark.parametrize("conda", ["numpy=1.26|=2.1", "numpy[version='>=2']", "numpy=abc"])
def test_what_pip_has_no_words_for(tmp_path: Path, conda: str) -> None:
    assert read(tmp_path, f'dependencies:\n  - "{conda}"\n')[1] == [
        f"env/conda.yml: line 2: {conda!r} cannot be put in pip's words; write the package below `pip` instead"
    ]


@pytest.mark.parametrize("name", ["cudatoolkit=11.3", "libgcc-ng", "_libgcc_mutex=0.1=main", "r-base", "nomkl"])
def test_what_pypi_does_not_have_names_its_line(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, f"name: x\ndependencies:\n  - numpy\n  - {name}\n")[1] == [
        f"env/conda.yml: line 4: {name!r} is a conda package that PyPI does not have; remove it (wheels bring the "
        f"libraries they need), or name what it is on PyPI below `pip`"
    ]


def test_pytorch_without_cuda(tmp_path: Path) -> None:
    environment, problems = read(tmp_path, "dependencies: [pytorch, cpuonly]\n")
    assert (environment.torch_backend, problems) == ("cpu", [])


def test_the_pip_part_may_name_a_requirements_file(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("pandas\n--pre\n")

    environment, problems = read(tmp_path, "dependencies:\n- pip:\n  - -r more.txt\n  - -r missing.txt\n")

    assert environment.requirements == [Requirement("pandas", "env/more.txt: line 1")]
    assert problems == [
        "env/more.txt: line 2: the option --pre is not known here; remove it",
        "env/conda.yml: line 4: -r missing.txt: the file cannot be read: No such file or directory; mend the path",
    ]


def test_an_old_python(tmp_path: Path) -> None:
    assert read(tmp_path, "dependencies: [python=3.6.2]\n")[1] == [
        "env/conda.yml: line 1: python=3.6.2: the scoring server needs Python 3.11"
    ]


def test_a_range_of_pythons_that_leaves_out_the_one_here(tmp_path: Path) -> None:
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert read(tmp_path, "dependencies: ['python>=3.6,<3.9']\n")[1] == [
        f"env/conda.yml: line 1: python>=3.6,<3.9 leaves out Python {here}, which runs Slipway; name one version that "
        "the scoring server runs on, such as python=3.12"
    ]


@pytest.mark.parametrize("text", [">=3.9", ">=3.9,<4", f"<={sys.version_info[0]}.{sys.version_info[1]}", "~=3.9", ""])
def test_a_range_of_pythons_with_the_one_here(tmp_path: Path, text: str) -> None:
    environment, problems = read(tmp_path, f"dependencies: ['python{text}']\n")
    assert (environment.python_version, problems) == (None, [])


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("dependencies: [a\nb: c\n", "line 2: is no YAML document: expected ',' or ']', but got ':'"),
        ("", "line 1: is no conda file: it has no section `dependencies`"),
        ("- numpy\n", "line 1: is no conda file: it has no section `dependencies`"),
        ("dependencies: numpy\n", "line 1: dependencies must be a list"),
        (
            "dependencies:\n- numpy: 3\n",
            "line 2: must be the name of a package, or `pip:` with a list of packages",
        ),
        ("dependencies:\n- pip: numpy\n", "line 2: pip must be a list of packages"),
        ("variables: [A]\n", "line 1: variables must be `name: value` pairs"),
        ("name: x\ndependancies: []\n", "line 2: 'dependancies' is no section of a conda file; remove it"),
    ],
)
def test_a_file_of_another_form(tmp_path: Path, text: str, mistake: str) -> None:
    assert read(tmp_path, text)[1] == [f"env/conda.yml: {mistake}"]
