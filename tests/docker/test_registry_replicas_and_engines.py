"""A container engine and a registry with replicas: a push and a pull outlive the registry that served them."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from provider.certificates import issue, life
from provider.content.watch import Watch
from provider.registry_host import host
from tests.docker.engine import Docker
from tests.registry.service import Service, eventually
from tests.registry.support import MIB


@pytest.fixture
def premium(tmp_path: Path) -> Iterator[Service]:
    """With TLS, of an authority that no engine knows; on loopback they do not ask."""
    service = Service(tmp_path / "registry")
    authority = issue.authority("Example", 10, life.now())
    made = issue.server(authority.certificate, authority.private_key, "registry", ["127.0.0.1"], 5, life.now())
    service.inputs |= {"tier": "Premium", "quotaBytes": 1024 * MIB, "cpus": 2, "memoryBytes": 1024 * MIB}
    service.up(replicas=2, certificate=made.certificate, privateKey=made.private_key)
    yield service
    host.remove(service.folder, Watch())


def image(docker: Docker, folder: Path, reference: str, layers: int) -> None:
    """An image of layers that no compression makes smaller."""
    for number in range(layers):
        (folder / f"file{number}").write_bytes(random.Random(number).randbytes(12 * MIB))  # noqa: S311
    text = "".join(f"COPY file{number} /\n" for number in range(layers))
    (folder / "Dockerfile").write_text(f'FROM scratch\n{text}CMD ["/nothing"]\n')
    docker.run("build", "--quiet", "--tag", reference, str(folder))


def exported(docker: Docker, reference: str) -> set[str]:
    container = docker.run("create", reference)
    try:
        done = subprocess.run(
            ["docker", *([] if docker.host is None else ["--host", docker.host]), "export", container],
            capture_output=True,
            check=True,
        )
    finally:
        docker.run("rm", container)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        return {member.name for member in archive if member.size == 12 * MIB}


def test_a_push_and_a_pull_outlive_a_killed_replica(
    docker: Docker, premium: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))  # where `docker login` writes
    address = premium.state["address"].removeprefix("https://")
    reference = f"{address}/team/app:1"
    (tmp_path / "context").mkdir()
    image(docker, tmp_path / "context", reference, layers=4)
    docker.run("login", "--username", premium.state["username"], "--password", premium.state["password"], address)
    try:
        with Killing(premium) as kills:
            docker.run("push", reference)
        docker.run("rmi", reference)
        with Killing(premium):
            docker.run("pull", reference)
        assert exported(docker, reference) == {f"file{number}" for number in range(4)}
        assert kills
    finally:
        docker.attempt("rmi", "--force", reference)


class Killing:
    """Kills a registry as soon as something comes to it, and then the other one, once the first is back."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._kills: list[int] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for place in (0, 1):
            pid = self._service.status()["replicas"][place]
            busy = _bytes_of(pid)
            while not self._done.is_set() and _bytes_of(pid) < busy + MIB:
                self._done.wait(0.001)
            if self._done.is_set():
                return
            os.kill(pid, signal.SIGKILL)
            self._kills.append(pid)
            eventually(partial(self._is_back, place, pid), "it is back")

    def _is_back(self, place: int, killed: int) -> bool:
        """Whether another one runs there and all serve; that one ended, the status tells a moment later."""
        status = self._service.status()
        return status["state"] == "Serving" and status["replicas"][place] != killed

    def __enter__(self) -> list[int]:
        self._thread.start()
        return self._kills

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def _bytes_of(pid: int) -> int:
    """What a process has read and written so far."""
    try:
        lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    except OSError:
        return 0
    return int(lines["rchar"]) + int(lines["wchar"])
