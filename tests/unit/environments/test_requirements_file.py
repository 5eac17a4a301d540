"""Requirements files: what is taken from them, and the words for what is not."""

from pathlib import Path

import pytest

from infra.problems import Problem
from infra.requirements import INDEX_SETTINGS, Requirement, read_requirements_file, requirement_mistake

HASH = "--hash=sha256:" + "0" * 64


def read(folder: Path, text: str) -> tuple[list[Requirement], list[str]]:
    (folder / "requirements.txt").write_text(text)
    problems: list[Problem] = []
    found = list(read_requirements_file(folder / "requirements.txt", "env/requirements.txt", problems))
    return found, [str(problem) for problem in problems]


def test_comments_continuations_markers_and_hashes(tmp_path: Path) -> None:
    text = f"""# what the model needs
numpy >= 2, <3   # arrays

scikit-learn[alldeps]==1.8.0 ; python_version >= "3.11"
joblib==1.4.2 \\
    {HASH}
wheel @ https://host/wheel-1.0-py3-none-any.whl
"""
    found, problems = read(tmp_path, text)

    assert problems == []
    assert found == [
        Requirement("numpy >= 2, <3", "env/requirements.txt: line 2"),
        Requirement('scikit-learn[alldeps]==1.8.0 ; python_version >= "3.11"', "env/requirements.txt: line 4"),
        Requirement(f"joblib==1.4.2 {HASH}", "env/requirements.txt: line 5"),
        Requirement("wheel @ https://host/wheel-1.0-py3-none-any.whl", "env/requirements.txt: line 7"),
    ]


def test_a_file_includes_another_and_mistakes_name_the_one_they_are_in(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("pandas\nno such thing\n")

    found, problems = read(tmp_path, "-r more.txt\n--requirement=missing.txt\n-r requirements.txt\n")

    assert found == [Requirement("pandas", "env/more.txt: line 1")]
    assert problems == [
        "env/more.txt: line 2: 'no such thing' is no requirement of pip's; write it like 'numpy>=2,<3' or "
        "'name @ https://...whl'",
        "env/requirements.txt: line 2: --requirement=missing.txt: the file cannot be read: No such file or directory; "
        "mend the path",
        "env/requirements.txt: line 3: -r requirements.txt: the files include each other; remove one of the lines",
    ]


def test_azure_s_own_server_is_left_out(tmp_path: Path) -> None:
    found, problems = read(tmp_path, "azureml-defaults>=1.0.45\nazureml-inference-server-http\n--require-hashes\n")
    assert (found, problems) == ([], [])


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("--index-url https://host/simple", f"--index-url does not belong here: {INDEX_SETTINGS}"),
        ("-f ./wheels", f"-f does not belong here: {INDEX_SETTINGS}"),
        (
            "--extra-index-url=https://me:word@host/simple",
            "'--extra-index-url=https://****@host/simple' holds credentials, which the lock and the state would show; "
            + INDEX_SETTINGS,
        ),
        (
            "mine @ https://token@host/mine-1.0-py3-none-any.whl",
            "'mine @ https://****@host/mine-1.0-py3-none-any.whl' holds credentials, which the lock and the state "
            "would show; " + INDEX_SETTINGS,
        ),
        ("-e ./mine", "-e: a folder cannot be locked; build a wheel and let uv find it (UV_FIND_LINKS)"),
        ("--pre", "the option --pre is not known here; remove it"),
        ("-c limits.txt", "the option -c is not known here; remove it"),
        ("numpy=1.26", "'numpy=1.26' is conda's way; pip's is 'numpy==1.26'"),
        (
            "./wheels/mine.whl",
            "'./wheels/mine.whl' is no requirement of pip's; write it like 'numpy>=2,<3' or 'name @ https://...whl'",
        ),
    ],
)
def test_what_cannot_be_honoured_names_its_line(tmp_path: Path, line: str, mistake: str) -> None:
    assert read(tmp_path, f"numpy\n\n{line}\n")[1] == [f"env/requirements.txt: line 3: {mistake}"]


@pytest.mark.parametrize(
    "text", ["numpy", "numpy==2.*", "a.b_c-d[x,y]~=1.0,!=1.1", "numpy (>=2)", "mine @ git+https://host/mine.git@main"]
)
def test_requirements_as_pip_has_them(text: str) -> None:
    assert requirement_mistake(text) is None
