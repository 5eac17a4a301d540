"""A Docker engine, on this host or another: the few things that the provider asks of it, with errors for people.

The connection is the map `engine` of a resource: `host` (unix://, ssh:// or tcp://) and, for TLS, `certPath`, the
folder with ca.pem, cert.pem and key.pem. All of it blocks; call it in a thread.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import grp
import io
import socket
import struct
import tarfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from provider.container.ssh import SshForwarder
from provider.container.tls import FILES, configuration, mistakes, refusal
from provider.resource import Failure, ResourceError
from provider.values import UNKNOWN, Properties

if TYPE_CHECKING:
    import docker

OLDEST_API = (1, 40)
"""Docker 19.03: the first with what is asked for here."""
_SECONDS = 60
_CONNECT_SECONDS = 10
_TLS_PORT = 2376
_POOL = 32
_SCHEMES = ("unix", "ssh", "tcp")
_FRAME = struct.Struct(">BxxxL")


class EngineError(ResourceError):
    """The engine cannot be asked, or refused. The message says what to do."""


@dataclass(frozen=True)
class Finished:
    """A command that ran in a container."""

    exit_code: int
    output: bytes
    errors: bytes

    @property
    def text(self) -> str:
        """What it printed."""
        return self.output.decode("utf-8", "replace")

    @property
    def complaint(self) -> str:
        """What it said went wrong."""
        return self.errors.decode("utf-8", "replace").strip() or self.text.strip()


@dataclass(frozen=True)
class File:
    """A file to put into a container."""

    path: str
    """Relative to the folder that it is put into."""
    content: bytes
    mode: int = 0o660


def check_engine(engine: Any) -> list[Failure]:
    """What is wrong with a resource's input `engine`."""
    if engine is UNKNOWN:
        return []
    failures = [
        Failure(f"engine.{name}", "is not known; an engine has host and certPath")
        for name in engine
        if name not in ("host", "certPath")
    ]
    host = engine.get("host")
    if host is None:
        return [
            *failures,
            Failure("engine.host", "is required: unix:///var/run/docker.sock, ssh://user@host, tcp://host:2376"),
        ]
    if host is UNKNOWN:
        return failures
    parts = urlsplit(host) if isinstance(host, str) else urlsplit("")
    if parts.scheme not in _SCHEMES:
        failures.append(Failure("engine.host", f"{host!r} must begin with unix://, ssh:// or tcp://"))
    elif parts.scheme == "unix" and not parts.path:
        failures.append(Failure("engine.host", f"{host!r} names no socket: unix:///var/run/docker.sock"))
    elif parts.scheme != "unix" and not parts.hostname:
        failures.append(Failure("engine.host", f"{host!r} names no host"))
    return failures


def host_of(engine: Properties) -> str:
    """The name by which others reach the engine's host: that of its address; this machine's loopback for a socket."""
    return urlsplit(engine["host"]).hostname or "127.0.0.1"


def is_local(engine: Properties) -> bool:
    """Whether the engine is reached by a socket of this machine."""
    return urlsplit(engine["host"]).scheme == "unix"


def unreachable(host: str) -> str | None:
    """Why nothing can be connected to at an engine's address; None where something listens, and behind ssh."""
    parts = urlsplit(host)
    if parts.scheme == "unix":
        return _refusal(Path(parts.path))
    if parts.scheme != "tcp":
        return None
    try:
        with socket.create_connection((parts.hostname or "", parts.port or _TLS_PORT), _CONNECT_SECONDS):
            return None
    except OSError as problem:
        return (
            f"no Docker engine answers at {host}: {problem.strerror or problem}. Is it running, and is that its port?"
        )


_lock = threading.Lock()
_engines: dict[tuple[str, str | None], Engine] = {}


def engine_of(spec: Properties) -> Engine:
    """The engine of a resource's input `engine`; one connection a process. Raises `EngineError`."""
    key = (spec["host"], spec.get("certPath"))
    with _lock:
        if key not in _engines:
            _engines[key] = Engine(*key)
        return _engines[key]


class Engine:
    """A connection to an engine. Raises `EngineError` from every method."""

    def __init__(self, host: str, cert_path: str | None = None) -> None:
        self.host = host
        self._forwarder = SshForwarder(host) if host.startswith("ssh://") else None
        try:
            self._client = self._connect(cert_path)
        except EngineError:
            if self._forwarder is not None:
                self._forwarder.close()
            raise

    def _connect(self, cert_path: str | None) -> docker.DockerClient:
        import docker  # a fifth of a second, for those who need it

        if self.host.startswith("unix://") and (reason := _refusal(Path(urlsplit(self.host).path))) is not None:
            raise EngineError(reason)
        address = self.host if self._forwarder is None else f"unix://{self._forwarder.path}"
        tls: Any = False
        if cert_path is not None:
            if wrong := mistakes(Path(cert_path)):
                raise EngineError("; ".join(wrong))
            authority, *pair = (str(Path(cert_path) / name) for name in FILES)
            tls = configuration(authority, (pair[0], pair[1]))
        try:
            client = docker.DockerClient(
                base_url=address, version="auto", tls=tls, timeout=_SECONDS, max_pool_size=_POOL
            )
        except docker.errors.DockerException as error:
            raise EngineError(self._unreachable(error)) from None
        spoken = str(client.api.api_version)
        version = tuple(int(part) for part in spoken.split("."))
        if version < OLDEST_API:
            client.close()
            raise EngineError(
                f"the Docker engine at {self.host} is too old: it speaks version {spoken} of the API, and "
                f"{'.'.join(map(str, OLDEST_API))} is needed; install Docker 19.03 or newer"
            )
        return client

    def _unreachable(self, error: Exception) -> str:
        if self.host.startswith("unix://"):
            path = Path(urlsplit(self.host).path)
            return _refusal(path) or f"what listens on {path} does not answer as a Docker engine: {error}"
        if self._forwarder is not None:
            said = self._forwarder.said() or str(error)
            return (
                f"no Docker engine can be reached at {self.host}: {said}. "
                f"Try `docker -H {self.host} version`: ssh must log in without a question, and find Docker there"
            )
        if (refused := refusal(error)) is not None:
            return f"the Docker engine at {self.host} cannot be used: {refused}"
        return (
            f"no Docker engine answers at {self.host}: {error}. Is it running, and are its certificates the right ones?"
        )

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        import docker
        import requests

        try:
            yield
        except docker.errors.APIError as error:
            raise EngineError(f"{what}: the Docker engine says: {error.explanation or error}") from None
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise EngineError(f"{what}: {self._unreachable(error)}") from None

    def inspect(self, container: str) -> dict[str, Any] | None:
        """What the engine knows of a container; None where there is none."""
        import docker

        with self._told(f"container {container}"):
            try:
                found: dict[str, Any] = self._client.api.inspect_container(container)
            except docker.errors.NotFound:
                return None
            return found

    def has_image(self, reference: str) -> bool:
        """Whether the host has an image."""
        import docker

        with self._told(f"image {reference}"):
            try:
                self._client.images.get(reference)
            except docker.errors.NotFound:
                return False
            return True

    def information(self) -> dict[str, Any]:
        """The engine's own description of its host."""
        with self._told("the engine's host"):
            found: dict[str, Any] = self._client.api.info()
            return found

    def start(self, container: str) -> None:
        """Starts a container that has ended."""
        with self._told(f"container {container}"):
            self._client.api.start(container)

    def log(self, container: str, lines: int) -> list[str]:
        """The last lines that a container wrote."""
        with self._told(f"log of {container}"):
            text: bytes = self._client.api.logs(container, stdout=True, stderr=True, tail=lines)
            return text.decode("utf-8", "replace").splitlines()

    def execute(
        self, container: str, command: Sequence[str], stdin: bytes | None = None, seconds: float = _SECONDS
    ) -> Finished:
        """Runs a command in a container. What is given to it is sent whole, and not ended: it must know its length."""
        with self._told(f"command in {container}"):
            api = self._client.api
            run = api.exec_create(container, list(command), stdin=stdin is not None)["Id"]
            stream: Any = api.exec_start(run, socket=True)
            connection: socket.socket = getattr(stream, "_sock", stream)
            try:
                connection.settimeout(seconds)
                if stdin:
                    connection.sendall(stdin)
                # What came with the head of the answer is in the buffer of whoever read that, past the bare socket.
                output, errors = _outputs(stream._response.raw._fp.fp)
            finally:
                stream.close()
                connection.close()
            return Finished(_exit_code(api, run), output, errors)

    def put(self, container: str, folder: str, files: Sequence[File], owner: int, folders: Sequence[str] = ()) -> None:
        """Puts files into a folder of a container, with the folders above them and `folders`; all are of `owner`."""
        with self._told(f"files for {container}"):
            self._client.api.put_archive(container, folder, _archive(files, owner, folders))


def _exit_code(api: Any, run: str) -> int:
    """The exit code of a command whose output has ended. The engine may take a moment to know it."""
    for _ in range(200):
        state = api.exec_inspect(run)
        if not state["Running"] and state["ExitCode"] is not None:
            return int(state["ExitCode"])
        threading.Event().wait(0.01)
    raise OSError("the command's end was not told by the engine")


def _outputs(reader: io.BufferedReader) -> tuple[bytes, bytes]:
    """Standard output and standard error of a command, told apart by the engine's frames."""
    parts: dict[int, list[bytes]] = {1: [], 2: []}
    while reader.peek(1):
        stream, length = _FRAME.unpack(_read(reader, _FRAME.size))
        parts.setdefault(stream, []).append(_read(reader, length))
    return b"".join(parts[1]), b"".join(parts[2])


def _read(reader: io.BufferedReader, length: int) -> bytes:
    data = reader.read(length)
    if len(data) < length:
        raise OSError("its output was cut off")
    return data


def _archive(files: Sequence[File], owner: int, more: Sequence[str]) -> bytes:
    packed = io.BytesIO()
    folders = sorted({*more, *(str(parent) for file in files for parent in Path(file.path).parents)} - {"."})
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in folders:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o770, owner, owner
            archive.addfile(entry)
        for file in files:
            entry = tarfile.TarInfo(file.path)
            entry.size, entry.mode, entry.uid, entry.gid = len(file.content), file.mode, owner, owner
            archive.addfile(entry, io.BytesIO(file.content))
    return packed.getvalue()


def _refusal(path: Path) -> str | None:
    """Why a socket of this machine cannot be connected to."""
    where = f"the Docker engine's socket {path}"
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(str(path))
    except FileNotFoundError:
        return f"{where} does not exist: is Docker installed and running? Try `systemctl start docker`"
    except ConnectionRefusedError:
        return f"nobody listens on {where}: the engine is not running. Try `systemctl start docker`"
    except PermissionError:
        return (
            f"{where} may not be used by {getpass.getuser()}: it belongs to the group {_group(path)}. "
            f"Try `sudo usermod -aG {_group(path)} {getpass.getuser()}`, then log in again"
        )
    except OSError as problem:
        return f"{where} cannot be used: {problem.strerror or problem}"
    return None


@functools.cache
def _group(path: Path) -> str:
    try:
        number = path.stat().st_gid
    except OSError:
        return "docker"
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


__all__ = [
    "Engine",
    "EngineError",
    "File",
    "Finished",
    "check_engine",
    "engine_of",
    "host_of",
    "is_local",
    "unreachable",
]
