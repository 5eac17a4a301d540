"""An engine as one of another host: behind an ssh server of our own on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.docker.engine import SECONDS, Docker, free_port, wait_until

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@contextmanager
def behind_ssh(docker: Docker, folder: Path) -> Iterator[str]:
    """The engine's address by ssh. A command `ssh` below `folder`, first on PATH, has the key and trusts the server."""
    program = shutil.which("sshd", path=_PATH)
    if program is None:
        raise AssertionError("sshd is missing: apt-get install --no-install-recommends openssh-server")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    port = free_port()
    engine = docker.host or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder / 'host'}\nAuthorizedKeysFile {folder / 'user.pub'}\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\nPermitRootLogin prohibit-password\n"
        f"SetEnv DOCKER_HOST={engine} PATH={_PATH}\n"
    )
    (folder / "bin").mkdir()
    wrapper = folder / "bin" / "ssh"
    options = f"-i {folder / 'user'} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {options} "$@"\n')
    wrapper.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    log = folder / "sshd.log"
    with log.open("wb") as output:
        command = [program, "-D", "-e", "-f", str(folder / "sshd_config")]
        process = subprocess.Popen(command, stderr=output, stdout=output)
    try:
        wait_until(lambda: _answers(port), process, log)
        yield f"ssh://root@127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
