"""An engine behind ssh, as a Unix socket of this machine.

Each connection to the socket becomes an `ssh` with `docker system dial-stdio` on the other host, as Docker's own
command does it; the first one carries those that follow. Who may log in is ssh's own matter: its configuration, keys
and agent are used, and nothing is asked.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from urllib.parse import urlsplit

from provider import scratch

_CONNECT_SECONDS = 10
_KEPT_SECONDS = 30


class SshForwarder:
    """A listening socket in a folder of its own, for as long as this process lives."""

    def __init__(self, host: str) -> None:
        """`host`: ssh://[user@]host[:port]."""
        self._folder = scratch.folder("ssh")
        self.path = self._folder / "docker.sock"
        self._said = self._folder / "ssh.log"
        self._command = command(host, self._folder)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self.path))
        self._listening.listen(64)
        self._thread = threading.Thread(target=self._accept, name=f"ssh-{host}", daemon=True)
        self._thread.start()

    def said(self) -> str:
        """The last line that ssh wrote."""
        lines = self._said.read_text(errors="replace").split("\n") if self._said.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        """Ends it; connections that are open end with their other side."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self) -> None:
        running: list[subprocess.Popen[bytes]] = []
        while True:
            try:
                accepted = self._listening.accept()[0]
            except OSError:  # closed
                break
            with contextlib.closing(accepted) as connection, self._said.open("ab") as said:
                # The connection itself is what ssh reads from and writes to.
                end = connection.fileno()
                running.append(subprocess.Popen(self._command, stdin=end, stdout=end, stderr=said))
            running = [process for process in running if process.poll() is None]
        for process in running:
            process.wait()


def command(host: str, folder: Path) -> list[str]:
    """The command that connects to the engine on `host`; what ssh keeps open for the next ones is in `folder`."""
    parts = urlsplit(host)
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": str(_CONNECT_SECONDS),
        "ControlMaster": "auto",
        # A short name: ssh adds to it, and the path of a socket has little room. In there is one host alone.
        "ControlPath": str(folder / "shared"),
        "ControlPersist": f"{_KEPT_SECONDS}s",
    }
    words = ["ssh", "-T", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    if parts.port is not None:
        words += ["-p", str(parts.port)]
    if parts.username:
        words += ["-l", parts.username]
    return [*words, "--", parts.hostname or "", "docker", "system", "dial-stdio"]
