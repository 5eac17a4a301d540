"""`PythonEnvironment` with the real uv on packages made here: resolved, locked, shared, removed when unused."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from provider import environments
from provider.local import environment_folders
from provider.local.layout import BusyError
from provider.python_environment import PythonEnvironment
from provider.resource import Context, ResourceError
from provider.values import UNKNOWN, Properties
from tests import operations


def context(name: str = "env", *, preview: bool = False) -> Context:
    return operations.context("slipway:index:PythonEnvironment", name, stack="test", preview=preview)


def make_wheel(folder: Path, name: str, version: str) -> None:
    """The smallest wheel there is (PyPA's binary distribution format)."""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        info = f"{name}-{version}.dist-info"
        wheel.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place that uv finds packages in: `alpha` 1.0 and 2.0, `beta` 1.0."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for name, version in (("alpha", "1.0"), ("alpha", "2.0"), ("beta", "1.0")):
        make_wheel(folder, name, version)
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    return folder


@pytest.fixture
def inputs(tmp_path: Path, packages: Path) -> Properties:
    return {
        "workspace": str(tmp_path / "stack" / "home"),
        "requirements": ["alpha"],
        "lockFile": str(tmp_path / "stacks" / "locks" / "test.env.txt"),
    }


RESOURCE = PythonEnvironment()


def checked(inputs: Properties) -> Properties:
    news, failures = asyncio.run(RESOURCE.check(context(), inputs))
    assert failures == []
    return news


def created(inputs: Properties, name: str = "env", *, preview: bool = False) -> Properties:
    resource_id, outputs = asyncio.run(RESOURCE.create(context(name, preview=preview), checked(inputs)))
    assert resource_id == name
    return outputs


def updated(state: Properties, inputs: Properties, name: str = "env") -> Properties:
    return asyncio.run(RESOURCE.update(context(name), name, state, checked(inputs)))


def deleted(state: Properties, name: str = "env") -> None:
    asyncio.run(RESOURCE.delete(context(name), name, state))


def version_in(state: Properties, module: str = "alpha") -> str:
    done = subprocess.run(
        [state["python"], "-c", f"import {module}; print({module}.VERSION)"], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_it_resolves_locks_and_installs(inputs: Properties) -> None:
    state = created(inputs)

    assert version_in(state) == "2.0"
    assert state["packages"] == {"alpha": "2.0"}
    lock = Path(inputs["lockFile"]).read_text()
    assert "alpha==2.0" in lock
    assert "--hash=sha256:" in lock
    assert RESOURCE.diff(state, checked(inputs)) == []


def test_a_preview_of_what_is_not_locked_yet_touches_nothing(inputs: Properties) -> None:
    outputs = created(inputs, preview=True)

    assert outputs["python"] is UNKNOWN
    assert not Path(inputs["workspace"]).exists()
    assert not Path(inputs["lockFile"]).exists()


def test_a_preview_of_what_is_locked_knows_everything(inputs: Properties) -> None:
    state = created(inputs)
    deleted(state)

    assert created(inputs, preview=True) == state
    assert not Path(inputs["workspace"]).exists()


def test_where_only_images_use_it_nothing_is_installed(inputs: Properties) -> None:
    alone = {**inputs, "installed": False, "pythonVersion": "3.13"}

    foreseen, state = created(alone, preview=True), created(alone)

    assert foreseen["lockDigest"] is UNKNOWN
    assert "python" not in foreseen
    assert state["packages"] == {"alpha": "2.0"}
    assert "alpha==2.0" in Path(inputs["lockFile"]).read_text()
    assert not Path(inputs["workspace"]).exists()
    assert created(alone, preview=True) == state
    assert RESOURCE.diff(state, checked(alone)) == []
    assert asyncio.run(RESOURCE.read(context(), "env", state)) == state
    deleted(state)


def test_it_is_installed_once_a_service_runs_in_it_and_goes_with_the_last(inputs: Properties) -> None:
    alone = {**inputs, "installed": False}
    state = created(alone)

    assert [change.path for change in RESOURCE.diff(state, checked(inputs))] == ["installed"]
    installed = updated(state, inputs)
    assert version_in(installed) == "2.0"
    assert installed["lockDigest"] == state["lockDigest"]
    assert updated(installed, alone) == state
    assert not Path(inputs["workspace"]).exists()


def test_the_lock_decides_not_what_is_newest(inputs: Properties, packages: Path) -> None:
    state = created(inputs)
    deleted(state)
    make_wheel(packages, "alpha", "3.0")

    assert version_in(created(inputs)) == "2.0"


def test_changed_requirements_are_shown_and_resolved_anew(inputs: Properties) -> None:
    state = created(inputs)
    changed = {**inputs, "requirements": ["alpha<2", "beta"]}

    changes = RESOURCE.diff(state, checked(changed))
    assert [(change.path, change.kind) for change in changes] == [
        ("requirements[0]", "update"),
        ("requirements[1]", "add"),
    ]
    news = updated(state, changed)
    assert version_in(news) == "1.0"
    assert news["packages"] == {"alpha": "1.0", "beta": "1.0"}
    assert not Path(state["python"]).exists(), "nothing ran in the old one"


def test_an_edited_lock_is_shown_package_by_package(inputs: Properties, packages: Path) -> None:
    state = created({**inputs, "requirements": ["alpha", "beta"]})
    lock = Path(inputs["lockFile"])
    lock.write_text(lock.read_text().replace("beta==1.0", "beta==1.1"))

    changes = RESOURCE.diff(state, checked({**inputs, "requirements": ["alpha", "beta"]}))

    assert {change.path for change in changes} == {"lockDigest", "packages.beta"}


def test_two_environments_with_the_same_lock_share_a_folder(inputs: Properties, tmp_path: Path) -> None:
    first = created(inputs, "first")
    second = created({**inputs, "lockFile": str(tmp_path / "second.txt")}, "second")
    assert second["python"] == first["python"]

    deleted(first, "first")
    assert version_in(second) == "2.0"
    deleted(second, "second")
    assert not Path(inputs["workspace"]).exists()


def test_an_environment_that_a_revision_runs_in_stays(inputs: Properties) -> None:
    state = created(inputs)
    revision = Path(inputs["workspace"]) / "services" / "echo" / "revisions" / "abc"
    revision.mkdir(parents=True)
    (revision / "spec.json").write_text(f'{{"python": "{state["python"]}"}}')

    updated(state, {**inputs, "requirements": ["beta"]})

    assert version_in(state) == "2.0"


def test_what_does_not_resolve_is_told_in_the_resolver_s_words(inputs: Properties) -> None:
    with pytest.raises(ResourceError) as caught:
        created({**inputs, "requirements": ["alpha>9", "beta"]})

    message = str(caught.value)
    assert message.startswith("environment env: its packages do not resolve. The resolver says:\n")
    assert "alpha<=2.0" in message
    assert "Mend `environments.env.pip` in the stack's configuration (asked for: alpha>9, beta)." in message
    assert not Path(inputs["lockFile"]).exists()


def test_what_does_not_resolve_is_named_where_it_was_asked_for(inputs: Properties) -> None:
    sources = {"alpha>9": "env/conda.yml: line 7", "beta": "env/conda.yml: line 8"}
    with pytest.raises(ResourceError) as caught:
        created({**inputs, "requirements": ["alpha>9", "beta"], "sources": sources})

    assert str(caught.value).endswith(
        "Mend `environments.env` where these are asked for:\n  env/conda.yml: line 7: alpha>9"
    )


def test_where_a_requirement_stands_is_no_change(inputs: Properties) -> None:
    state = created({**inputs, "sources": {"alpha": "env/conda.yml: line 7"}})
    assert RESOURCE.diff(state, checked({**inputs, "sources": {"alpha": "env/conda.yml: line 8"}})) == []


def test_a_requirement_s_own_hashes_are_kept_to(inputs: Properties, packages: Path) -> None:
    with (packages / "alpha-2.0-py3-none-any.whl").open("rb") as wheel:
        sound = hashlib.file_digest(wheel, "sha256").hexdigest()
    state = created({**inputs, "requirements": [f"alpha==2.0 --hash=sha256:{'0' * 64} --hash=sha256:{sound}", "beta"]})

    assert version_in(state) == "2.0"
    assert Path(inputs["lockFile"]).read_text().count("--hash") == 2

    deleted(state)
    with pytest.raises(ResourceError) as caught:
        created({**inputs, "requirements": [f"alpha==2.0 --hash=sha256:{'0' * 64}"]})
    assert str(caught.value) == (
        "environment env: the index has no file of alpha==2.0 with a hash that its requirement gives; "
        "take the hashes away, or the package from where they were made"
    )


def test_builds_of_pytorch_are_asked_of_uv_and_kept_in_the_lock(
    inputs: Properties, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = environments.run_uv

    def run_uv(*arguments: str, **more: Any) -> str:
        asked.append(arguments)
        return real(*arguments, **more)

    monkeypatch.setattr(environments, "run_uv", run_uv)
    state = created({**inputs, "torchBackend": "cpu"})

    compiled, _, synced = asked
    assert compiled[-2:] == ("--torch-backend", "cpu")
    assert synced[synced.index("--torch-backend") + 1] == "cpu"
    plain = checked(inputs)
    assert "lockDigest" not in plain, "a lock for other builds does not fit"
    assert "torchBackend" in {change.path for change in RESOURCE.diff(state, plain)}


def test_a_package_that_was_changed_after_locking_is_refused_and_nothing_is_left(
    inputs: Properties, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted(created(inputs))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "another-cache"))
    make_wheel(packages, "alpha", "2.0")
    with zipfile.ZipFile(packages / "alpha-2.0-py3-none-any.whl", "a") as wheel:
        wheel.writestr("intruder.py", "")

    with pytest.raises(ResourceError, match=r"(?s)^environment env: .*Hash mismatch"):
        created(inputs)

    assert not Path(inputs["workspace"]).exists()


def test_what_uv_still_does_for_a_killed_run_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, gate, home = tmp_path / "uv", tmp_path / "gate", tmp_path / "home"
    os.mkfifo(gate)
    program.write_text(f"#!/bin/sh\ncat '{gate}' >/dev/null 2>&1 &\n")
    program.chmod(0o755)
    monkeypatch.setattr(environments.uv, "find_uv_bin", lambda: str(program))

    with environment_folders.lock(home) as held:
        environments.run_uv("pip", "sync", held=held)

    with pytest.raises(BusyError), environment_folders.lock(home, wait=False):
        pass
    gate.write_text("")
    with environment_folders.lock(home):
        pass


def test_a_folder_that_a_killed_run_left_is_cleared(inputs: Properties) -> None:
    left = Path(inputs["workspace"], "environments", "0123456789abcdef.partial-1")
    left.mkdir(parents=True)

    created(inputs)

    assert not left.exists()


@pytest.mark.parametrize("damage", ["folder", "interpreter"])
def test_a_damaged_environment_is_found_and_made_again(inputs: Properties, damage: str) -> None:
    state = created(inputs)
    python = Path(state["python"])
    if damage == "folder":
        python.parent.parent.rename(python.parent.parent.with_name("elsewhere"))
    else:
        python.unlink()
    where: Any = context()

    assert asyncio.run(RESOURCE.read(where, "env", state)) is None
    assert where.log.warnings == ["the virtual environment env is gone or incomplete: it will be made again"]
    assert version_in(created(inputs)) == "2.0"


def test_reading_a_whole_environment_changes_nothing(inputs: Properties) -> None:
    state = created(inputs)
    assert asyncio.run(RESOURCE.read(context(), "env", state)) == state


def test_deleting_twice_is_fine(inputs: Properties) -> None:
    state = created(inputs)
    deleted(state)
    deleted(state)
    assert not Path(inputs["workspace"]).exists()


def test_a_python_version_that_is_none(inputs: Properties) -> None:
    _, failures = asyncio.run(RESOURCE.check(context(), {**inputs, "pythonVersion": "latest"}))
    assert [(failure.property, failure.reason) for failure in failures] == [
        ("pythonVersion", "must be like '3.12', not 'latest'")
    ]


def test_a_python_that_is_not_installed_is_told(inputs: Properties) -> None:
    with pytest.raises(ResourceError, match=r"No interpreter found for Python 3\.99"):
        created({**inputs, "pythonVersion": "3.99"})


def test_a_disk_that_is_full(inputs: Properties, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "environments")

    monkeypatch.setattr(environments, "make", full)
    with pytest.raises(ResourceError, match="No space left on device: environments; free space or mend the rights"):
        created(inputs)
