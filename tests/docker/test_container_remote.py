"""A stack on a host behind ssh: a second engine with its own data, which pulls images from the stack's registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.engine import own_engine
from tests.docker.remote import behind_ssh
from tests.docker.staged import StagedProject
from tests.e2e.load import SteadyLoad
from tests.e2e.project import revision_of


@pytest.fixture
def far(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StagedProject]:
    """A project whose target is reached by ssh."""
    (tmp_path / "ssh").mkdir()
    with own_engine() as engine, behind_ssh(engine, tmp_path / "ssh") as address:
        project = StagedProject(tmp_path, engine, images)
        project.environment["PATH"] = f"{tmp_path / 'ssh' / 'bin'}:{project.environment['PATH']}"
        project.stack.workspace.env_vars["PATH"] = project.environment["PATH"]
        project.sections["computeTargets"]["box"]["host"] = address
        project.write()
        yield project
        project.clear()


def test_a_stack_on_a_host_behind_ssh(far: StagedProject) -> None:
    far.up()

    assert far.score({"a": 1}) == {"echo": {"a": 1}, "version": 1}
    before = far.outputs()["revision"]
    assert far.up(refresh=True) == {}

    far.script.write_text(far.script.read_text() + "\n# changed\n")
    with SteadyLoad(far.port, 8) as load:
        far.up()
    assert load.failures == []
    assert revision_of(far.url) == far.outputs()["revision"] != before

    far.stack.destroy()
    assert far.left() == {"containers": [], "volumes": [], "networks": [], "images": [], "files": []}
