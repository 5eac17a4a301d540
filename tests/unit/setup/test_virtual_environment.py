"""Making the project's virtual environment, and what is said where a step fails. Nothing is downloaded here."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.setup import virtual_environment
from infra.setup.problem import SetupError

ROOT = Path(__file__).resolve().parents[3]

LOCK = """\
attrs==26.1.0 \\
    --hash=sha256:aa
    # via jsonschema
uv==0.13.9 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
    # via -r requirements.in
uvicorn==1.0 \\
    --hash=sha256:dd
"""


class Environment:
    """A virtual environment whose programs note how they are called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "a venv"
        self.lock = directory / "requirements.lock"
        self.log = directory / "calls"
        (self.directory / "bin").mkdir(parents=True)
        self.lock.write_text(LOCK)
        self.program("python")
        self.program("uv", 'if [ "$1" = --version ]; then echo "uv 0.13.9 (linux)"; fi')

    def program(self, name: str, script: str = "") -> None:
        """Replace one of its programs."""
        path = self.directory / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> "{self.log}"\n{script}\n')
        path.chmod(0o755)

    def install(self) -> int:
        return virtual_environment.main(["install", str(self.directory), str(self.lock)])

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path)


def test_pin_of_a_package_with_its_hashes() -> None:
    assert virtual_environment.requirement(LOCK, "uv") == (
        "uv==0.13.9 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
    )


def test_package_that_is_not_pinned() -> None:
    with pytest.raises(SetupError, match="pip is not pinned in the lock"):
        virtual_environment.requirement(LOCK, "pip")


def test_lock_is_installed_with_its_hashes(environment: Environment) -> None:
    assert environment.install() == 0
    python = environment.directory / "bin" / "python"
    assert environment.calls[-1] == f"uv pip install --python {python} --require-hashes -r {environment.lock}"
    assert not any("-m pip install" in call for call in environment.calls)


def test_uv_of_another_version_is_replaced_first(environment: Environment) -> None:
    environment.program("uv", 'if [ "$1" = --version ]; then echo "uv 0.12.0"; fi')

    assert environment.install() == 0
    assert any(call.startswith("python -m pip install --quiet --ignore-installed ") for call in environment.calls)


def test_pip_is_put_in_where_it_is_missing(environment: Environment) -> None:
    environment.program("python", '[ "$*" != "-m pip --version" ]')

    assert environment.install() == 0
    assert "python -m ensurepip" in environment.calls


def test_packages_of_an_installation_that_was_cut_short_are_installed_again(environment: Environment) -> None:
    works = (environment.directory / "bin" / "uv").read_text()
    environment.program("uv", '[ "$1" != --version ] || { echo uv 0.13.9; exit 0; }; exit 1')
    assert environment.install() == 1
    (environment.directory / "bin" / "uv").write_text(works)

    assert environment.install() == 0
    assert "uv pip install --reinstall" in environment.calls[-1]

    assert environment.install() == 0
    assert "--reinstall" not in environment.calls[-1]


def test_two_at_once_take_turns(environment: Environment, tmp_path: Path) -> None:
    going, steps = tmp_path / "go", tmp_path / "steps"
    environment.program(
        "uv",
        f"""if [ "$1" = --version ]; then echo uv 0.13.9; exit; fi
echo begin >> "{steps}"; while [ ! -e "{going}" ]; do sleep 0.02; done; echo end >> "{steps}" """,
    )
    command = [sys.executable, "-m", "infra.setup.virtual_environment", "install", environment.directory]
    running = []

    def begin() -> str:
        """Starts one, and returns the first line that it says."""
        running.append(
            subprocess.Popen([*command, environment.lock], cwd=ROOT, stderr=subprocess.PIPE, text=True, bufsize=1)
        )
        assert running[-1].stderr is not None
        return running[-1].stderr.readline()

    try:
        assert begin().startswith("==> installing the packages of")
        assert begin() == f"==> waiting for another set-up in {tmp_path}\n"
    finally:
        going.touch()
        said = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert steps.read_text().split() == ["begin", "end"] * 2
    assert "--reinstall" not in " ".join(environment.calls)


@pytest.mark.parametrize("words", ["error: No space left on device", "failed to write (os error 28)"])
def test_full_disk(environment: Environment, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    environment.program("uv", f'[ "$1" != --version ] || {{ echo uv 0.13.9; exit 0; }}; echo "{words}" >&2; exit 2')

    assert environment.install() == 1
    said = capsys.readouterr().err
    assert "error: No space left on the disk." in said
    assert str(environment.directory) in said


def test_no_permission(environment: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    environment.program(
        "uv", '[ "$1" != --version ] || { echo uv 0.13.9; exit 0; }; echo "error: Permission denied" >&2; exit 2'
    )

    assert environment.install() == 1
    assert "error: No permission to write" in capsys.readouterr().err


def test_other_failure_is_shown_in_its_own_words(environment: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    environment.program(
        "uv", '[ "$1" != --version ] || { echo uv 0.13.9; exit 0; }; echo "hash mismatch for attrs" >&2; exit 2'
    )

    assert environment.install() == 1
    said = capsys.readouterr().err
    assert "failed with exit code 2. It said:\n    hash mismatch for attrs" in said
    assert "uv pip install" in said


def test_directory_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")

    assert virtual_environment.main(["create", str(tmp_path / "file" / "venv")]) == 1
    assert "A file is in the way of a directory." in capsys.readouterr().err


def test_broken_environment_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(tmp_path / "gone")
    made: list[list[str]] = []
    monkeypatch.setattr(virtual_environment, "run", lambda command, directory: made.append(command))

    virtual_environment.create(venv)

    assert not venv.exists()
    assert made == [[sys.executable, "-m", "venv", str(venv)]]


def test_environment_that_was_cut_short_is_made_anew(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    environment.program("python", '[ "$*" != "-m pip --version" ]')
    (environment.directory / "bin" / "uv").unlink()
    made: list[list[str]] = []
    monkeypatch.setattr(virtual_environment, "run", lambda command, directory: made.append(command))

    virtual_environment.create(environment.directory)

    assert not environment.directory.exists()
    assert len(made) == 1


def test_environment_that_works_is_kept(environment: Environment) -> None:
    assert virtual_environment.main(["create", str(environment.directory)]) == 0
    assert (environment.directory / "bin" / "uv").exists()


def test_other_environment_that_is_active_stays_out_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    printenv = shutil.which("env")
    assert printenv is not None

    virtual_environment.run(["/bin/sh", "-c", f'{printenv} > "{tmp_path}/seen"'], tmp_path)

    assert "/elsewhere" not in (tmp_path / "seen").read_text()


def test_modules_need_no_package() -> None:
    # -S: without the packages of the environment; -I would leave out the checkout as well.
    for module in ("virtual_environment", "shell_environment", "stack"):
        root = Path(__file__).resolve().parents[3]
        done = subprocess.run(
            [sys.executable, "-S", "-E", "-m", f"infra.setup.{module}", "--help"],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
