"""The layer of an environment, from wheels that are made here."""

from __future__ import annotations

import base64
import fcntl
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from provider import environments
from provider.content.errors import CancelledError, ContentError
from provider.content.watch import Watch
from provider.images.environment import EnvironmentLayer, environment_layer, forget_damaged, key_of, lock_digest
from tests.unit.images.support import contents, unpacked, write_wheel

DEADLINE = 180.0
SITE = "opt/slipway/environment/lib/python3.11/site-packages"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is the only index, with an installer's cache of its own."""
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return tmp_path / "wheels"


def make(lock: str, directory: Path, platform: str = "linux/amd64", python_version: str = "3.11") -> EnvironmentLayer:
    return environment_layer(lock, platform, python_version, directory=directory)


def test_packages_are_where_python_finds_them(wheels: Path, tmp_path: Path) -> None:
    found = contents(make(write_wheel(wheels, "one"), tmp_path / "layers").open())
    assert found[f"{SITE}/one.py"] == b"def main():\n    print('hello')\n"
    assert f"{SITE}/one-1.0.dist-info/METADATA" in found


def test_the_same_lock_is_the_same_layer(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = write_wheel(wheels, "one") + write_wheel(wheels, "two")
    first = make(lock, tmp_path / "here")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "other" / "uv"))
    # Another machine has its caches, its interpreter's path and so its scripts elsewhere; a long path at that.
    second = make(lock, tmp_path / "elsewhere" / ("long" * 40))
    assert first.blob == second.blob


def test_scripts_name_no_path_of_this_machine(wheels: Path, tmp_path: Path) -> None:
    layer = make(write_wheel(wheels, "one"), tmp_path / "layers")
    found = contents(layer.open())
    script = found[f"{SITE}/bin/one-run"]
    assert script.startswith(b"#!/usr/bin/env python3\n")
    assert unpacked(layer.open())[f"{SITE}/bin/one-run"].mode == 0o755
    digest = base64.urlsafe_b64encode(hashlib.sha256(script).digest()).rstrip(b"=").decode()
    record = found[f"{SITE}/one-1.0.dist-info/RECORD"].decode().splitlines()
    assert f"bin/one-run,sha256={digest},{len(script)}" in record
    assert record == sorted(record)
    assert not [path for path, content in found.items() if str(tmp_path).encode() in content]


def test_no_bytecode_is_in_it(wheels: Path, tmp_path: Path) -> None:
    lock = write_wheel(wheels, "one", files={"pack/__init__.py": "", "pack/__pycache__/old.cpython-311.pyc": "x"})
    found = unpacked(make(lock, tmp_path / "layers").open())
    assert f"{SITE}/pack/__init__.py" in found
    assert not [path for path in found if path.endswith(".pyc") or "__pycache__" in path]


def test_a_platform_has_its_own_wheels(wheels: Path, tmp_path: Path) -> None:
    tag = "cp311-cp311-manylinux_2_17_aarch64"
    lock = write_wheel(wheels, "one", tag)
    assert f"{SITE}/one.py" in contents(make(lock, tmp_path / "layers", "linux/arm64").open())
    with pytest.raises(ContentError, match=r"cannot be had as wheels for linux/amd64, Python 3\.11"):
        make(lock, tmp_path / "layers", "linux/amd64")


def test_a_wrong_hash_is_refused_and_nothing_left(wheels: Path, tmp_path: Path) -> None:
    write_wheel(wheels, "one")
    with pytest.raises(ContentError, match=r"(?s)The installer says:.*[Hh]ash"):
        make(f"one==1.0 --hash=sha256:{'0' * 64}\n", tmp_path / "layers")
    assert [path.suffix for path in (tmp_path / "layers").iterdir()] == [".lock"]


def test_the_lock_says_which_builds_of_pytorch_are_taken(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    real = environments.run_uv

    def run_uv(*arguments: str, **more: Any) -> str:
        asked.append(arguments)
        return real(*arguments, **more)

    monkeypatch.setattr(environments, "run_uv", run_uv)
    lock = write_wheel(wheels, "one")

    make(lock, tmp_path / "plain")
    make(f"# Locked by Slipway for requirements 1\n# PyTorch's packages: cpu\n{lock}", tmp_path / "cpu")

    plain, cpu = asked
    assert "--torch-backend" not in plain
    assert cpu[cpu.index("--torch-backend") + 1] == "cpu"


def test_an_empty_lock_is_an_empty_layer(wheels: Path, tmp_path: Path) -> None:
    wheels.mkdir()
    assert unpacked(make("# nothing\n", tmp_path / "layers").open()) == {}


def test_the_installers_cache_is_not_copied(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, links = write_wheel(wheels, "one"), []
    install = environments.run_uv

    def installed(*arguments: str, **more: Any) -> str:
        said = install(*arguments, **more)
        links.append((Path(arguments[arguments.index("--target") + 1]) / "one.py").stat().st_nlink)
        return said

    monkeypatch.setattr(environments, "run_uv", installed)
    layer = make(lock, tmp_path / "layers")
    assert links == [2]
    monkeypatch.setenv("UV_LINK_MODE", "copy")
    assert make(lock, tmp_path / "elsewhere").blob == layer.blob


def test_what_was_made_once_is_kept(wheels: Path, tmp_path: Path) -> None:
    lock = write_wheel(wheels, "one")
    first = make(lock, tmp_path / "layers")
    (wheels / "one-1.0-py3-none-any.whl").unlink()
    assert make(f"# Locked by Slipway for other requirements\n{lock}", tmp_path / "layers") == first


def test_a_cut_layer_is_made_again(wheels: Path, tmp_path: Path) -> None:
    lock = write_wheel(wheels, "one")
    layer = make(lock, tmp_path / "layers")
    whole = layer.path.read_bytes()
    layer.path.write_bytes(whole[:100])
    assert make(lock, tmp_path / "layers").path.read_bytes() == whole
    assert not forget_damaged(layer.path.stem, tmp_path / "layers")
    layer.path.write_bytes(b"x" * len(whole))
    assert forget_damaged(layer.path.stem, tmp_path / "layers")
    assert make(lock, tmp_path / "layers").path.read_bytes() == whole


def test_waiting_for_another_one_can_be_cancelled(tmp_path: Path) -> None:
    class Waiting(Watch):
        """Asked to stop once it waits."""

        asked = 0

        def check(self, doing: str) -> None:
            self.asked += 1
            if self.asked > 1:
                raise CancelledError(f"cancelled while {doing}")

    key = key_of(lock_digest(""), "linux/amd64", "3.11")
    with (tmp_path / f"{key}.lock").open("wb") as lock, ThreadPoolExecutor() as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        making = pool.submit(environment_layer, "", "linux/amd64", "3.11", Waiting(), tmp_path)
        try:
            with pytest.raises(CancelledError, match="waiting for another operation that makes the same environment"):
                making.result(DEADLINE)
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)


def test_what_a_killed_run_left_goes(wheels: Path, tmp_path: Path) -> None:
    lock = write_wheel(wheels, "one")
    layer = make(lock, tmp_path / "layers")
    layer.path.with_suffix(".json").unlink()
    (tmp_path / "layers" / f"{layer.path.stem}-abc" / "site").mkdir(parents=True)
    make(lock, tmp_path / "layers")
    assert sorted(path.suffix for path in (tmp_path / "layers").iterdir()) == [".json", ".lock", ".tar"]


def test_the_line_about_requirements_is_no_part_of_a_lock() -> None:
    assert lock_digest("# Locked by Slipway for requirements 1\na==1\n") == lock_digest("a==1\n")
    assert lock_digest("a==1\n") != lock_digest("a==2\n")


def test_what_a_killed_run_left_of_another_environment_goes_and_what_is_being_made_stays(
    wheels: Path, tmp_path: Path
) -> None:
    layers = tmp_path / "layers"
    left, made = (layers / f"{digit * 32}-abcdefgh" / "site" for digit in "01")
    for folder in (left, made):
        folder.mkdir(parents=True)
    with (layers / f"{'1' * 32}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make(write_wheel(wheels, "one"), layers)
    assert not left.parent.exists()
    assert made.exists()
