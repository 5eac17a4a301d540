"""A Docker engine and a registry for the tests: one that is running already, or one started for them and stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port

SECONDS = 300
"""Far more than anything here takes."""
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Docker:
    """The `docker` command of an engine."""

    host: str | None

    def run(self, *arguments: str) -> str:
        """What a command prints; fails with what it says where it does not succeed."""
        done = self.attempt(*arguments)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command that may fail."""
        environment = dict(os.environ)
        if self.host is not None:
            environment["DOCKER_HOST"] = self.host
        return subprocess.run(
            ["docker", *arguments], env=environment, capture_output=True, text=True, timeout=600, check=False
        )


@contextmanager
def docker_engine() -> Iterator[Docker]:
    """The engine of this machine, or one of our own below a temporary folder. Fails where neither is to be had."""
    if shutil.which("docker") is None:
        raise AssertionError("docker is missing: apt-get install --no-install-recommends docker.io")
    running = Docker(None)
    if running.attempt("info").returncode == 0:
        yield running
        return
    with own_engine() as started:
        yield started


@contextmanager
def own_engine(*options: str) -> Iterator[Docker]:
    """An engine below a temporary folder, whatever else runs. Fails where none can be started."""
    with restartable_engine(*options) as engine:
        yield engine.docker


class OwnEngine:
    """An engine of our own, which can be ended and started again: its data below `data`, all else below `folder`."""

    def __init__(self, program: str, folder: Path, data: Path, options: tuple[str, ...]) -> None:
        self.docker = Docker(f"unix://{folder}/docker.sock")
        self._log = folder / "docker.log"
        self._command = [program, "--data-root", str(data), "--exec-root", f"{folder}/run"]
        self._command += ["--pidfile", f"{folder}/docker.pid", "--host", f"{self.docker.host}"]
        # The machine's firewall and routing stay as they are: the published ports need the engine's own proxy alone.
        self._command += ["--iptables=false", "--ip-forward=false", "--ip-masq=false", *options]
        self._running = contextlib.ExitStack()

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        process = self._running.enter_context(_process(self._command, self._log))
        wait_until(lambda: self.docker.attempt("info").returncode == 0, process, self._log)

    def end(self) -> None:
        """Ends it, and with it the containers, as a shutdown of the machine does."""
        self._running.close()


@contextmanager
def restartable_engine(*options: str, data: Path | None = None) -> Iterator[OwnEngine]:
    """An engine of our own, started; by default its data are below a temporary folder too."""
    program = shutil.which("dockerd", path=_PATH)
    if program is None or os.geteuid() != 0:
        raise AssertionError("no Docker engine can be started: that needs root, and dockerd")
    with tempfile.TemporaryDirectory(prefix="slipway-docker-") as name:
        folder = Path(name)
        with _bridge() as bridge, _unmounted(folder / "run"):
            engine = OwnEngine(program, folder, data or folder / "data", (f"--bridge={bridge}", *options))
            try:
                engine.start()
                yield engine
            finally:
                engine.end()


@contextmanager
def _unmounted(run: Path) -> Iterator[None]:
    """Takes away the mount that an engine leaves after a container of the host's network."""
    try:
        yield
    finally:
        namespace = run / "netns" / "default"
        if namespace.exists() and str(namespace) in Path("/proc/self/mounts").read_text():
            subprocess.run(["umount", str(namespace)], check=True)


@contextmanager
def _bridge() -> Iterator[str]:
    """A network bridge for one engine: those that share docker0 give addresses twice, and one without removes it."""
    program = shutil.which("ip", path=_PATH)
    assert program is not None, "ip is missing: apt-get install --no-install-recommends iproute2"
    taken = subprocess.run([program, "-4", "-o", "address"], capture_output=True, text=True, check=True).stdout
    # Of the block that is set aside for tests of networks (RFC 2544), which no other program of a machine takes.
    number = next(number for number in range(256) if f" 198.18.{number}." not in taken)
    name = f"slipway-test{number}"
    subprocess.run([program, "link", "add", name, "type", "bridge"], check=True)
    try:
        subprocess.run([program, "address", "add", f"198.18.{number}.1/24", "dev", name], check=True)
        yield name
    finally:
        subprocess.run([program, "link", "delete", name], check=True)


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """The address of a registry of our own, on the loopback: an engine takes images from there without TLS."""
    program = shutil.which("docker-registry", path=_PATH)
    if program is None:
        raise AssertionError("docker-registry is missing: apt-get install docker-registry")
    port = free_port()
    configuration = folder / "config.yml"
    configuration.write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with _process([program, "serve", str(configuration)], folder / "registry.log") as process:
        wait_until(lambda: _answers(port), process, folder / "registry.log")
        yield f"127.0.0.1:{port}"


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until `condition` holds; fails with the log where `process` ends before, or it takes too long."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            raise AssertionError(f"{process.args!r} did not come up:\n{log.read_text()[-3000:]}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, "PATH": _PATH}, start_new_session=True
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
