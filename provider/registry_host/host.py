"""Starts, changes and ends the registry of a folder, for the resource."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from provider.content.errors import ContentError
from provider.content.watch import Watch, human_size
from provider.local import ports
from provider.local.layout import is_held, read_json, remove_if_empty, remove_tree, write_json
from provider.local.listener import bind
from provider.local.surroundings import base_environment
from provider.registry.auth import Credentials
from provider.registry_host.processes import python
from provider.registry_host.spec import Files, Spec
from provider.registry_host.usage import used_bytes

_USER = "slipway"
_BCRYPT_COST = 10
_START_SECONDS = 60.0
_STOP_SECONDS = 75.0
_END_SECONDS = 2.0
_FIRST_SECONDS = 3.0
"""How long a keeper that was just started may be without its lock."""
_POLL_SECONDS = 0.02
_MOST_FAILURES = 3
"""How often a registry or its keeper may end at its start before it is given up."""
_PROGRAMS = ("docker-registry", "registry")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: str
    private_key: str = field(repr=False)

    @property
    def digest(self) -> str:
        """Names exactly these two."""
        return hashlib.sha256(f"{self.certificate}\0{self.private_key}".encode()).hexdigest()[:16]


def program() -> str:
    """The registry's executable on this machine. Raises `ContentError`."""
    path = os.environ.get("PATH", os.defpath)
    for name in _PROGRAMS:
        found = shutil.which(name, path=path)
        if found is not None:
            return found
    raise ContentError(
        "there is no registry program on PATH (docker-registry or registry, CNCF Distribution); install it: `apt-get "
        "install --no-install-recommends docker-registry`, or take an external registry"
    )


def is_running(folder: Path) -> bool:
    """Whether the service has its keeper."""
    return is_held(Files(folder).lock)


def port_conflict(folder: Path, address: str, port: int) -> tuple[str, str] | None:
    """What keeps the registry from listening there: the property that it is about, and why; None: nothing does."""
    if not 1 <= port <= 65535:
        return "port", f"{port} is no TCP port; choose one from {ports.first_unprivileged()} to 65535"
    files = Files(folder)
    spec = read_json(files.spec)
    own = spec is not None and spec.get("port") == port
    if own and is_running(folder):
        return None
    began = time.monotonic()
    while True:
        try:
            bind(address, port).close()
        except OSError as error:
            # A registry whose keeper was killed may not have heard of it, or still be ending.
            patience = max(ports.patience(port), _END_SECONDS if own else 0.0)
            if error.errno != errno.EADDRINUSE or time.monotonic() - began > patience:
                about, why = ports.refusal(error, address, port, ports.holder(port))
                return ("bind" if about == "host" else about), why
            time.sleep(_POLL_SECONDS)
        else:
            return None


def quota_conflict(folder: Path, quota_bytes: int) -> str | None:
    """Why the quota cannot be so small; None where it can."""
    used = used_bytes(Files(folder).data)
    if used <= quota_bytes:
        return None
    return (
        f"{folder} holds {human_size(used)}, and only {human_size(quota_bytes)} would be allowed ({used} > "
        f"{quota_bytes} bytes); keep the larger tier, or remove models and images first"
    )


def asked_for(folder: Path) -> Spec | None:
    """What the service was last asked to be; None where there is none."""
    document = read_json(Files(folder).spec)
    try:
        return None if document is None else Spec(**document)
    except TypeError:
        return None


def state(folder: Path) -> str:
    """`Serving`, or what the registry does instead."""
    status = read_json(Files(folder).status)
    if not is_running(folder) or not isinstance(status, dict):
        return "Stopped"
    return str(status.get("state"))


def apply(folder: Path, spec: Spec, watch: Watch, pair: Pair | None = None) -> Credentials:
    """Makes the service what `spec` says, and waits until it serves. Idempotent; safe to kill and repeat.

    `pair`: the certificate and the key to speak TLS with, in place of what `spec` says of them.
    Raises `ContentError`."""
    files = Files(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        credentials = _credentials(files)
        spec = replace(spec, certificate=_keep(files, pair))
        write_json(files.spec, asdict(spec))
    except OSError as error:
        raise ContentError(f"the registry's folder {folder} cannot be written: {error.strerror}") from error
    _outlast(folder, watch)
    deadline = time.monotonic() + _START_SECONDS
    status = "Stopped"
    for _ in range(_MOST_FAILURES):
        if not _signal(files, signal.SIGHUP):
            _start(files)
        status = _wait(files, spec, deadline, watch)
        if status == "Serving":
            return credentials
        if status != "Stopped":
            break
    raise ContentError(
        f"the registry on {spec.bind}:{spec.port} does not serve ({status}): {_last_lines(files)}; mend that, then run "
        f"`pulumi up` again"
    )


def _outlast(folder: Path, watch: Watch) -> None:
    """Waits for the end of a keeper that a `destroy` has asked to end, and that outlived it."""
    deadline = time.monotonic() + _STOP_SECONDS
    while state(folder) == "Ending" and time.monotonic() < deadline:
        watch.check("waiting for the registry's end")
        time.sleep(_POLL_SECONDS)


def remove(folder: Path, watch: Watch) -> None:
    """Ends the registry and removes all it stored. Succeeds where it is gone."""
    files = Files(folder)
    deadline = time.monotonic() + _STOP_SECONDS
    _signal(files, signal.SIGTERM)
    while is_running(folder):
        if time.monotonic() > deadline:
            raise ContentError(f"the registry in {folder} does not end; end its process, then try again")
        watch.check("ending the registry")
        time.sleep(_POLL_SECONDS)
    remove_tree(folder)
    remove_if_empty(folder.parent)


def credentials_of(folder: Path) -> Credentials | None:
    """The user that was generated for the service; None where there is none."""
    document = read_json(Files(folder).credentials)
    if not isinstance(document, dict):
        return None
    return Credentials(str(document["username"]), str(document["password"]))


def _credentials(files: Files) -> Credentials:
    known = credentials_of(files.folder)
    if known is None:
        known = Credentials(_USER, secrets.token_urlsafe(24))
        _write_private(files.credentials, json.dumps({"username": known.username, "password": known.password}))
        files.users.unlink(missing_ok=True)
    if not files.users.exists():
        import bcrypt  # here: it is needed once in a service's life, and not at every start of the provider

        hashed = bcrypt.hashpw(known.password.encode(), bcrypt.gensalt(_BCRYPT_COST)).decode()
        _write_private(files.users, f"{known.username}:{hashed}\n")
    return known


def certificate_of(folder: Path) -> Pair | None:
    """The certificate and the key that the service speaks TLS with; None where it speaks none."""
    files, spec = Files(folder), asked_for(folder)
    if spec is None or spec.certificate is None:
        return None
    try:
        pair = Pair(files.certificate.read_text(), files.private_key.read_text())
    except (OSError, UnicodeDecodeError):
        return None
    return pair if pair.digest == spec.certificate else None


def _keep(files: Files, pair: Pair | None) -> str | None:
    if pair is None:
        files.certificate.unlink(missing_ok=True)
        files.private_key.unlink(missing_ok=True)
        return None
    if certificate_of(files.folder) != pair:
        _write_private(files.private_key, pair.private_key)
        _write_private(files.certificate, pair.certificate)
    return pair.digest


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _start(files: Files) -> None:
    with os.fdopen(os.open(files.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as log:
        subprocess.run(
            python("keeper", files.folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=base_environment(os.environ),  # not `pulumi`'s: it holds passphrases
            cwd="/",
            start_new_session=True,
            check=True,
        )


def _wait(files: Files, spec: Spec, deadline: float, watch: Watch) -> str:
    """Waits until the service serves what is asked for, or has no keeper, or time is up. Returns what it does."""
    found = "Starting"
    began = time.monotonic()
    while time.monotonic() < deadline:
        status = read_json(files.status)
        # A keeper that has only just been started has no lock yet.
        alive = is_running(files.folder) or time.monotonic() < began + _FIRST_SECONDS
        told = status if isinstance(status, dict) and status.get("spec") == spec.digest else {}
        if told and told.get("keeper") == _keeper(files):  # and not an earlier one
            found = str(told.get("state"))
            if found == "Serving":
                return found
            if told.get("failures", 0) >= _MOST_FAILURES:
                break
        if not alive:
            return "Stopped"
        watch.check("waiting for the registry")
        time.sleep(_POLL_SECONDS)
    return found


def _signal(files: Files, number: signal.Signals) -> bool:
    """Sends a signal to the keeper; False where there is none."""
    deadline = time.monotonic() + _FIRST_SECONDS
    while is_held(files.lock):
        keeper = _keeper(files)
        if keeper is not None:
            try:
                os.kill(keeper, number)
            except ProcessLookupError:
                return False
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return False


def _keeper(files: Files) -> int | None:
    """The process that holds the lock, as is written there; None while that is not so yet."""
    status = read_json(files.status)
    try:
        # Where it is not, the disk was full, or the keeper is one of a Slipway that wrote it to its status alone.
        keeper = int(files.lock.read_text() or (status["keeper"] if isinstance(status, dict) else ""))
        # For a moment it is the number of the one before, which may be anybody's by now.
        own = Path(f"/proc/{keeper}/cwd").samefile(files.folder)
    except (OSError, ValueError, KeyError):
        return None
    return keeper if own and is_held(files.lock) else None


def _last_lines(files: Files) -> str:
    try:
        lines = files.log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
    except OSError:
        lines = []
    return " / ".join(lines) or "it said nothing"
