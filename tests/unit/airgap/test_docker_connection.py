"""How the docker plugin's stand-in reaches an engine and a registry."""

from __future__ import annotations

import base64
import gc
import json
import os
import socket
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from airgap.docker import images
from airgap.docker.connection import Auth, Connection, EngineError, host_of, settings_of
from airgap.docker.ssh import Tunnel
from provider.resource import ResourceError


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("DOCKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker-config"))


def test_settings_are_decoded() -> None:
    sent = {"host": "unix:///a", "registryAuth": '[{"address": "r"}]', "sshOpts": '["-v"]', "version": "5.2.0"}

    assert settings_of(sent) == {"host": "unix:///a", "registryAuth": [{"address": "r"}], "sshOpts": ["-v"]}


def test_unknown_setting_is_named() -> None:
    with pytest.raises(ResourceError, match="has no setting colour"):
        settings_of({"colour": "red"})


def test_host_is_the_program_s_then_the_environment_s_then_this_machine_s(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Connection({}).host == "unix:///var/run/docker.sock"
    monkeypatch.setenv("DOCKER_HOST", "tcp://one:2376")
    assert Connection({}).host == "tcp://one:2376"
    assert Connection({"host": "ssh://two"}).host == "ssh://two"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK's, of a socket it left open
def test_engine_that_is_away_is_named_with_what_helps(tmp_path: Path) -> None:
    connection = Connection({"host": f"unix://{tmp_path}/missing.sock"})

    with pytest.raises(EngineError, match=r"missing.sock: nothing listens there. Start the engine"):
        _ = connection.api
    gc.collect()


def test_certificates_come_from_a_folder_or_as_text(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").write_text(name)

    assert Connection({"certPath": str(tmp_path)}).tls_files == {
        name: str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key")
    }
    with closing(Connection({"caMaterial": "1", "certMaterial": "2", "keyMaterial": "3"})) as given:
        assert [Path(path).read_text() for path in given.tls_files.values()] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("r.example:5000", "r.example:5000"),
        ("https://r.example/v2/", "r.example"),
        ("https://index.docker.io/v1/", "index.docker.io"),
        ("docker.io", "index.docker.io"),
    ],
)
def test_registry_s_host(address: str, host: str) -> None:
    assert host_of(address) == host


def test_credentials_come_from_the_configuration() -> None:
    entries = [{"address": "one", "username": "u", "password": "p"}, {"address": "two", "authDisabled": True}]
    connection = Connection({"registryAuth": entries})

    assert connection.auth_for("one") == Auth("one", "u", "p")
    assert connection.auth_for("two") == Auth("two", "", "")
    assert connection.auth_for("three") is None


def test_credentials_of_docker_login_are_used(tmp_path: Path) -> None:
    (tmp_path / "docker-config").mkdir()
    stored = {"auths": {"https://one/v2/": {"auth": base64.b64encode(b"u:p:q").decode()}}}
    (tmp_path / "docker-config/config.json").write_text(json.dumps(stored))

    assert Connection({}).auth_for("one") == Auth("one", "u", "p:q")


@pytest.mark.parametrize(
    ("image", "registry", "repository", "tag"),
    [
        ("python", "", "python", "latest"),
        ("team/python:3", "", "team/python", "3"),
        ("r.example/team/python:3", "r.example", "r.example/team/python", "3"),
        ("localhost:5000/python", "localhost:5000", "localhost:5000/python", "latest"),
        ("localhost/python", "localhost", "localhost/python", "latest"),
        ("r.example/python:3@sha256:ab", "r.example", "r.example/python", "sha256:ab"),
    ],
)
def test_names_of_images(image: str, registry: str, repository: str, tag: str) -> None:
    assert images.registry_of(image) == registry
    assert images.repository_and_tag(image) == (repository, tag)


def test_repo_digest_is_that_of_the_repository() -> None:
    found = {"RepoDigests": ["other@sha256:1", "r.example/python@sha256:2"]}

    assert images.repo_digest(found, "r.example/python:3") == "r.example/python@sha256:2"
    assert images.repo_digest({}, "python") == ""


@pytest.mark.parametrize(
    ("host", "command"),
    [
        ("ssh://box", ["ssh", "--", "box", "docker system dial-stdio"]),
        ("ssh://me@box:2222", ["ssh", "-l", "me", "-p", "2222", "--", "box", "docker system dial-stdio"]),
        (
            "ssh://box/run/other.sock",
            ["ssh", "--", "box", "docker --host unix:///run/other.sock system dial-stdio"],
        ),
    ],
)
def test_way_through_ssh(host: str, command: list[str]) -> None:
    with closing(Tunnel(host, [])) as tunnel:
        assert tunnel.command == command


def test_ssh_gets_its_options() -> None:
    with closing(Tunnel("ssh://box", ["-o", "ConnectTimeout=5"])) as tunnel:
        assert tunnel.command[:3] == ["ssh", "-o", "ConnectTimeout=5"]


def test_tunnel_carries_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ssh"
    program.write_text('#!/bin/sh\nread line\necho "back: $line"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    with closing(Tunnel("ssh://box", [])) as tunnel, socket.socket(socket.AF_UNIX) as client:
        client.connect(tunnel.open().removeprefix("unix://"))
        client.sendall(b"hello\n")
        with client.makefile() as answer:
            assert answer.read() == "back: hello\n"


def test_socket_of_a_process_that_is_gone_is_removed(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short_path))
    gone, alive = short_path / "slipway-ssh-4194305-a", short_path / f"slipway-ssh-{os.getpid()}-a"
    gone.mkdir()
    alive.mkdir()

    with closing(Tunnel("ssh://box", [])) as tunnel:
        tunnel.open()

    assert (gone.exists(), alive.exists()) == (False, True)


def test_ssh_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\necho 'box: Permission denied (publickey).' >&2\nexit 255\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    with (
        closing(Connection({"host": "ssh://me@box"})) as connection,
        pytest.raises(EngineError, match=r"no Docker engine answers at ssh://me@box: box: Permission denied"),
    ):
        _ = connection.api
