"""The engine itself: too old, without rights, behind TLS, started again, with a full disk."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pulumi import automation

from provider.container import engine as engine_module
from provider.container.engine import Engine, EngineError
from tests.certificates import Authority
from tests.docker.engine import Docker, OwnEngine, restartable_engine
from tests.docker.staged import StagedProject, host_of
from tests.e2e.load import SteadyLoad
from tests.e2e.project import answers, eventually, revision_of
from tests.ports import free_port

MIB = 2**20
_NOBODY = 65534


def test_an_engine_that_is_too_old(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "OLDEST_API", (1, 999))
    with pytest.raises(EngineError, match=r"is too old: it speaks version 1\.\d+ of the API, and 1\.999 is needed"):
        Engine(host_of(docker))


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights, and without its groups."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(_NOBODY)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@dataclass
class Far:
    """An engine at tcp://, with a disk of its own, and a project on it."""

    engine: OwnEngine
    disk: Path
    certificates: Path
    """Below it are those of the `server` and of the `client`."""
    authority: Authority
    project: StagedProject

    def resize(self, mebibytes: int) -> None:
        """Makes the disk as large as that."""
        subprocess.run(["mount", "-o", f"remount,size={mebibytes}m", str(self.disk)], check=True)

    def restart(self, while_it_is_away: Callable[[], Any] = lambda: None) -> None:
        """Ends the engine and starts it again."""
        self.engine.end()
        while_it_is_away()
        self.engine.start()

    def told(self) -> str:
        """What an `up --refresh` says that cannot reach the engine."""
        with pytest.raises(automation.CommandError) as raised:
            self.project.up(refresh=True)
        return str(raised.value)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Iterator[Far]:
    """One for the tests of this module, which leave it in good state."""
    folder = tmp_path_factory.mktemp("far")
    authority, certificates, port = Authority(), folder / "certificates", free_port()
    certificates.mkdir()
    server, client = authority.write(certificates / "server", "127.0.0.1"), authority.write(certificates / "client")
    options = [f"--tlscacert={server / 'ca.pem'}", f"--tlscert={server / 'cert.pem'}", f"--tlskey={server / 'key.pem'}"]
    options += ["--tlsverify", "--host", f"tcp://127.0.0.1:{port}"]
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4g", "slipway-test", str(disk)], check=True)
    try:
        with restartable_engine(*options, data=disk) as engine:
            project = StagedProject(folder, engine.docker, images)
            box = project.sections["computeTargets"]["box"]
            box |= {"host": f"tcp://127.0.0.1:{port}", "certPath": str(client)}
            project.write()
            made = Far(engine, disk, certificates, authority, project)
            yield made
            project.clear()
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", str(disk)], check=True)


def test_a_stack_on_an_engine_behind_tls(far: Far) -> None:
    far.project.up()

    assert far.project.score({"a": 1}) == {"echo": {"a": 1}, "version": 1}
    assert far.project.outputs()["scoringUri"] == f"{far.project.url}/score"
    assert far.project.up(refresh=True) == {}


def test_an_engine_whose_group_one_is_not_of(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(str(far.engine.docker.host).removeprefix("unix://"))
    path.parent.chmod(0o755)
    assert path.group() == "docker"
    monkeypatch.setattr(getpass, "getuser", lambda: "somebody")
    with as_nobody(), pytest.raises(EngineError) as raised:
        Engine(f"unix://{path}")
    assert f"the Docker engine's socket {path} may not be used by somebody" in str(raised.value)
    assert "it belongs to the group docker. Try `sudo usermod -aG docker somebody`" in str(raised.value)


def test_services_come_back_with_the_engine(far: Far) -> None:
    (container,) = far.project.containers()
    before = json.loads(far.engine.docker.run("inspect", container))[0]

    far.restart(lambda: eventually(lambda: not answers(f"{far.project.url}/ready"), "nothing answers"))

    eventually(lambda: answers(f"{far.project.url}/ready"), "it answers again")
    after = json.loads(far.engine.docker.run("inspect", container))[0]
    assert (after["Id"], after["State"]["Running"]) == (before["Id"], True)
    assert after["State"]["StartedAt"] != before["State"]["StartedAt"]
    assert far.project.up(refresh=True) == {}
    assert far.project.score(1)["echo"] == 1


@pytest.mark.parametrize(
    ("name", "ends", "words"),
    [
        ("127.0.0.1", -timedelta(days=1), "certificate has expired"),
        ("192.0.2.1", timedelta(days=1), "IP address mismatch, certificate is not valid for '127.0.0.1'"),
    ],
)
def test_an_engine_with_a_wrong_certificate(far: Far, name: str, ends: timedelta, words: str) -> None:
    server = far.certificates / "server"
    far.restart(lambda: far.authority.write(server, name, ends=ends))
    try:
        assert f"its certificate is not accepted: {words}" in far.told()
    finally:
        far.restart(lambda: far.authority.write(server, "127.0.0.1"))


@contextlib.contextmanager
def client_of(far: Far, authority: Authority, **more: Any) -> Iterator[None]:
    """Has the project come with another client's certificate, of which the engine's is accepted."""
    client = far.certificates / "client"
    kept = shutil.copytree(client, far.certificates / "kept", dirs_exist_ok=True)
    authority.write(client, **more)
    shutil.copy(kept / "ca.pem", client)
    yield
    shutil.copytree(kept, client, dirs_exist_ok=True)


def test_a_client_of_another_authority(far: Far) -> None:
    with client_of(far, Authority("Another")):
        assert "refuses the certificate in cert.pem" in far.told()


def test_a_client_whose_certificate_expired_is_told_in_the_preview(far: Far) -> None:
    with (
        client_of(far, far.authority, ends=-timedelta(days=1)),
        pytest.raises(automation.CommandError, match=r"computeTargets\.box\.certPath: .*/cert\.pem expired at"),
    ):
        far.project.preview()


def test_a_full_disk(far: Far) -> None:
    eventually(lambda: answers(f"{far.project.url}/ready"), "it answers")
    before = revision_of(far.project.url)
    used = shutil.disk_usage(far.disk).used // MIB
    far.project.model.write_bytes(os.urandom(32 * MIB))
    far.resize(used + 8)

    with SteadyLoad(far.project.port) as load:
        said = far.project.failing_up()

    assert "no space left on device" in said
    assert "/services/echo" in said
    assert load.failures == []
    assert set(load.answers) == {before}

    far.resize(4096)
    far.project.up()
    assert revision_of(far.project.url) == far.project.outputs()["revision"] != before
    assert far.project.up(refresh=True) == {}
