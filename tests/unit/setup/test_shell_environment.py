"""The environment that `make env` prints and the Makefile's commands run in."""

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.setup import shell_environment
from infra.setup.problem import SetupError


@pytest.fixture
def open_umask() -> Iterator[None]:
    """The umask that hides the least."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_default_backend_is_in_the_checkout(tmp_path: Path) -> None:
    home = tmp_path / ".slipway"

    assert shell_environment.backend({}, tmp_path) == {
        "SLIPWAY_HOME": str(home),
        "PULUMI_BACKEND_URL": f"file://{home}/state?metadata=skip",
        "PULUMI_CONFIG_PASSPHRASE_FILE": f"{home}/passphrase",
    }
    assert (home / "state").is_dir()


@pytest.mark.usefixtures("open_umask")
def test_passphrase_and_state_are_for_the_owner_alone(tmp_path: Path) -> None:
    shell_environment.backend({}, tmp_path)

    assert stat.S_IMODE((tmp_path / ".slipway/passphrase").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / ".slipway/state").stat().st_mode) == 0o700


def test_passphrase_is_generated_once(tmp_path: Path) -> None:
    shell_environment.backend({}, tmp_path)
    first = (tmp_path / ".slipway/passphrase").read_text()
    shell_environment.backend({}, tmp_path)

    assert len(first) >= 32
    assert (tmp_path / ".slipway/passphrase").read_text() == first
    assert sorted(p.name for p in (tmp_path / ".slipway").iterdir()) == ["passphrase", "state"]


def test_what_a_killed_set_up_of_the_same_number_left_is_in_nobodys_way(tmp_path: Path) -> None:
    # In a container each run may have the same process id.
    (tmp_path / ".slipway").mkdir()
    (tmp_path / f".slipway/passphrase.{os.getpid()}").write_text("")

    shell_environment.backend({}, tmp_path)

    assert (tmp_path / ".slipway/passphrase").read_text() != ""
    assert sorted(p.name for p in (tmp_path / ".slipway").iterdir()) == ["passphrase", "state"]


def test_a_passphrase_that_the_disk_has_no_room_for_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "urandom", full)

    with pytest.raises(SetupError, match="No space left on the disk"):
        shell_environment.backend({}, tmp_path)
    assert [p.name for p in (tmp_path / ".slipway").iterdir()] == ["state"]


def test_two_checkouts_have_two_passphrases(tmp_path: Path) -> None:
    for name in ("a", "b"):
        shell_environment.backend({}, tmp_path / name)

    assert (tmp_path / "a/.slipway/passphrase").read_text() != (tmp_path / "b/.slipway/passphrase").read_text()


def test_lost_passphrase_is_not_replaced_while_there_is_state(tmp_path: Path) -> None:
    shell_environment.backend({}, tmp_path)
    (tmp_path / ".slipway/passphrase").unlink()
    stored = tmp_path / ".slipway/state/.pulumi/stacks/slipway/dev.json"
    stored.parent.mkdir(parents=True)
    stored.write_text("{}")

    with pytest.raises(SetupError, match="The passphrase of the stored state is gone"):
        shell_environment.backend({}, tmp_path)
    assert not (tmp_path / ".slipway/passphrase").exists()


@pytest.mark.parametrize("name", ["PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"])
def test_passphrase_of_the_caller_stands(tmp_path: Path, name: str) -> None:
    # Set and empty is a passphrase too.
    variables = shell_environment.backend({name: ""}, tmp_path)

    assert not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & variables.keys()
    assert not (tmp_path / ".slipway/passphrase").exists()


def test_backend_of_the_caller_stands_and_gets_no_passphrase(tmp_path: Path) -> None:
    variables = shell_environment.backend({"PULUMI_BACKEND_URL": "s3://states"}, tmp_path)

    assert variables == {"SLIPWAY_HOME": f"{tmp_path}/.slipway"}
    assert list(tmp_path.iterdir()) == []


def test_home_of_the_caller_holds_everything(tmp_path: Path) -> None:
    variables = shell_environment.backend({"SLIPWAY_HOME": f"{tmp_path}/else where"}, tmp_path)

    assert variables["PULUMI_BACKEND_URL"] == f"file://{tmp_path}/else where/state?metadata=skip"
    assert not (tmp_path / ".slipway").exists()


def test_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SetupError, match="A file is in the way") as raised:
        shell_environment.backend({"SLIPWAY_HOME": f"{tmp_path}/file/home"}, tmp_path)
    assert "set SLIPWAY_HOME" in raised.value.mend


def test_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)

    with pytest.raises(SetupError, match="No permission to write") as raised:
        shell_environment.backend({}, tmp_path)
    assert raised.value.where == f"{tmp_path}/.slipway"


def test_path_starts_with_the_environment_and_the_engine_each_once() -> None:
    path = shell_environment.path_with([Path("/venv/bin"), Path("/engine")], "/usr/bin:/engine:/bin")

    assert path == "/venv/bin:/engine:/usr/bin:/bin"


def test_path_stays_the_same_when_it_is_set_twice() -> None:
    once = shell_environment.path_with([Path("/venv/bin"), Path("/engine")], "/usr/bin")

    assert shell_environment.path_with([Path("/venv/bin"), Path("/engine")], once) == once


@pytest.mark.parametrize(
    ("origin", "downloads"), [("go modules\n", False), ("official installer\n", True), (None, True)]
)
def test_plugins_are_not_downloaded_for_an_engine_built_here(
    tmp_path: Path, origin: str | None, downloads: bool
) -> None:
    (tmp_path / "bin").mkdir()
    if origin is not None:
        (tmp_path / "ORIGIN").write_text(origin)

    variables = shell_environment.tools(tmp_path / "bin", {"PATH": "/usr/bin"}, tmp_path)

    assert ("PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION" not in variables) is downloads
    assert variables["PULUMI_SKIP_UPDATE_CHECK"] == "true"


def test_a_shell_reads_back_what_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / 'it\'s a "home" $(of) `mine`'
    monkeypatch.setenv("SLIPWAY_HOME", str(home))
    for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)

    assert shell_environment.main([str(tmp_path)]) == 0

    script = capsys.readouterr().out + '/usr/bin/printf "%s\\n" "$SLIPWAY_HOME" "$PULUMI_CONFIG_PASSPHRASE_FILE"'
    read = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert read.splitlines() == [str(home), f"{home}/passphrase"]


def test_tools_alone_touch_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))

    assert shell_environment.main(["--tools-only", str(tmp_path)]) == 0
    assert "PULUMI_BACKEND_URL" not in capsys.readouterr().out
    assert not (tmp_path / "home").exists()
