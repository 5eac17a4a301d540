"""A Docker engine for this machine, where nobody runs one: started as a process, stopped when nothing runs on it.

Where systemd runs, the engine is its service, as Debian's package has it, and stays. Elsewhere it is a process of
Slipway's, with its data below SLIPWAY_HOME; it listens at the usual socket, so that `docker ps` works by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from airgap.host import firewall
from airgap.host.packages import SYSTEM_PATH, found
from infra.setup.problem import SetupError, free_space, say
from infra.setup.stack import process_start

SOCKET = Path("/var/run/docker.sock")
_EXEC_ROOT = Path("/run/slipway-engine")
# Its sockets' paths are limited to 107 bytes: not below a folder that may lie deep.
_SECONDS = 60


def ask(path: str, at: Path = SOCKET) -> bytes | None:
    """What the engine answers to a GET of `path`; None where none answers."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(at))
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
        return body if head.split(b" ", 2)[1:2] == [b"200"] else None
    return None


def answers() -> bool:
    """Whether an engine answers at the usual socket."""
    return ask("/_ping") is not None


def by_systemd() -> bool:
    """Whether this machine's services are systemd's."""
    return Path("/run/systemd/system").is_dir()


def is_ours(home: Path) -> bool:
    """Whether an engine of Slipway's has its data there."""
    return (home / "engine.json").is_file()


def start(home: Path) -> None:
    """Starts an engine and waits until it answers. Raises `SetupError`."""
    if by_systemd():
        say("starting the Docker engine: systemctl start docker")
        subprocess.run(["systemctl", "start", "docker"], stdin=subprocess.DEVNULL, check=False)
        if not _comes_up():
            raise SetupError("The Docker engine does not start.", "journalctl -u docker", "mend what it names there.")
        return
    program = found("dockerd")
    if program is None or os.geteuid() != 0:
        raise SetupError(
            "No Docker engine answers, and to start one needs root.", str(SOCKET), "start it, or run this as root."
        )
    home.mkdir(parents=True, exist_ok=True)
    log = home / "dockerd.log"
    say(f"starting a Docker engine: {program}, its data in {home} ({free_space(home)}), its log {log}")
    bridge = Path("/sys/class/net/docker0").exists() and not is_ours(home)
    if not is_ours(home):
        firewall.save(home)
    process = _launch(program, home, log, bridge=bridge)
    if not _comes_up(process):
        # It waits 15 s for a part of its own, which on a busy machine may take longer the first time.
        process = _launch(program, home, log, bridge=bridge)
        if not _comes_up(process):
            raise SetupError(
                "The Docker engine does not start.",
                str(log),
                "see its last lines, mend what they name, then run the same command again.",
            )


def _launch(program: str, home: Path, log: Path, *, bridge: bool) -> subprocess.Popen[bytes]:
    _EXEC_ROOT.mkdir(parents=True, exist_ok=True)
    command = [program, "--host", f"unix://{SOCKET}", "--data-root", str(home / "data")]
    command += ["--exec-root", str(_EXEC_ROOT), "--pidfile", str(_EXEC_ROOT / "docker.pid")]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    note = {"pid": process.pid, "started": process_start(process.pid)[0], "bridge": bridge}
    (home / "engine.json").write_text(json.dumps(note) + "\n")
    return process


def _comes_up(process: subprocess.Popen[bytes] | None = None) -> bool:
    """Waits until the engine answers; False where `process` ends before, or it takes too long."""
    deadline = time.monotonic() + _SECONDS
    while not answers():
        if time.monotonic() > deadline or (process is not None and process.poll() is not None):
            return False
        time.sleep(0.1)
    return True


def stop(home: Path) -> None:
    """Stops the engine that `start` started, where nothing is left on it, and removes its data. Raises `SetupError`."""
    try:
        note = json.loads((home / "engine.json").read_text())
        pid, started = int(note["pid"]), note["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if process_start(pid)[0] == started and started is not None:
        left = _containers()
        if left:
            say(f"the Docker engine stays: {', '.join(left)} still {'runs' if len(left) == 1 else 'run'} on it")
            return
        say(f"stopping the Docker engine (pid {pid}) and removing its data in {home}")
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _SECONDS
        while process_start(pid)[0] == started and not process_start(pid)[1]:
            if time.monotonic() > deadline:
                raise SetupError("The Docker engine does not end.", f"pid {pid}", f"see {home / 'dockerd.log'}.")
            time.sleep(0.1)
    _remove(home, bridge=bool(note.get("bridge")))


def _containers() -> list[str]:
    found_there = json.loads(ask("/containers/json?all=true") or b"[]")
    return [container["Names"][0].lstrip("/") for container in found_there]


def _remove(home: Path, *, bridge: bool) -> None:
    firewall.restore(home)
    ip = found("ip")
    if not bridge and ip is not None:
        subprocess.run([ip, "link", "delete", "docker0"], capture_output=True, check=False)
    # What the engine leaves of a container in the host's network.
    subprocess.run(["umount", str(_EXEC_ROOT / "netns" / "default")], capture_output=True, check=False)
    for folder in (home, _EXEC_ROOT):
        shutil.rmtree(folder, ignore_errors=True)
    SOCKET.unlink(missing_ok=True)
