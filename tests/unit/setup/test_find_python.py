"""Which Python the virtual environment is made with, and what is said where none will do."""

import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "infra" / "setup" / "find_python.sh"


def fake_python(path: Path, *, version: str, venv: bool = True) -> None:
    """A program that answers find_python.sh's questions as a Python of `version` (`3.11`) would."""
    minor = int(version.split(".")[1])
    path.write_text(
        "#!/bin/sh\n"
        'case "$2" in\n'
        '*executable*) echo "$0" ;;\n'
        f"*'< (3, 11)'*) exit {int(minor < 11)} ;;\n"
        f"*version_info*) echo {version} ;;\n"
        f"*ensurepip*) exit {int(not venv)} ;;\n"
        "esac\n"
    )
    path.chmod(0o755)


def find(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(SCRIPT)],
        env={"PATH": str(path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_python3_comes_first(tmp_path: Path) -> None:
    fake_python(tmp_path / "python3", version="3.11")
    fake_python(tmp_path / "python3.13", version="3.13")

    assert find(tmp_path).stdout == f"{tmp_path}/python3\n"


def test_newer_one_is_found_beside_an_old_python3(tmp_path: Path) -> None:
    fake_python(tmp_path / "python3", version="3.9")
    fake_python(tmp_path / "python3.12", version="3.12")

    assert find(tmp_path).stdout == f"{tmp_path}/python3.12\n"


def test_name_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    shim = tmp_path / "python3.13"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    fake_python(tmp_path / "python3.11", version="3.11")

    assert find(tmp_path).stdout == f"{tmp_path}/python3.11\n"


def test_named_one_is_the_only_one_that_is_tried(tmp_path: Path) -> None:
    fake_python(tmp_path / "python3", version="3.12")
    mine = tmp_path / "a python"
    fake_python(mine, version="3.8")

    done = find(tmp_path, PYTHON=str(mine))

    assert done.returncode == 1
    assert f"where: {mine}; found: {mine} (3.8)" in done.stderr


def test_named_one_may_have_a_space_in_its_path(tmp_path: Path) -> None:
    mine = tmp_path / "a python"
    fake_python(mine, version="3.11")

    assert find(tmp_path, PYTHON=str(mine)).stdout == f"{mine}\n"


def test_only_old_ones(tmp_path: Path) -> None:
    fake_python(tmp_path / "python3", version="3.8")

    done = find(tmp_path)

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: No Python 3.11 or newer.",
        f"  where: PATH; found: {tmp_path}/python3 (3.8)",
        "  mend:  install one (Debian: apt-get install python3 python3-venv), "
        "or name it: make PYTHON=/path/to/python3.11",
    ]


def test_none_at_all(tmp_path: Path) -> None:
    done = find(tmp_path)

    assert done.returncode == 1
    assert "where: PATH; found: none" in done.stderr


def test_venv_module_is_missing(tmp_path: Path) -> None:
    fake_python(tmp_path / "python3", version="3.11", venv=False)

    done = find(tmp_path)

    assert done.returncode == 1
    assert "its venv module is missing" in done.stderr
    assert f"where: {tmp_path}/python3" in done.stderr
    assert "apt-get install python3-venv" in done.stderr


def test_another_one_with_the_venv_module_is_preferred(tmp_path: Path) -> None:
    fake_python(tmp_path / "python3", version="3.12", venv=False)
    fake_python(tmp_path / "python3.11", version="3.11")

    assert find(tmp_path).stdout == f"{tmp_path}/python3.11\n"
