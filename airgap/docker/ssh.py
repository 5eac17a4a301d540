"""A way through ssh to the Docker engine of another machine.

The Docker CLI's way: for each connection `ssh HOST docker system dial-stdio`, which is whatever engine `docker` uses
over there. On this side a socket in a directory of its own stands for it.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from typing import IO
from urllib.parse import urlsplit

from provider import scratch

_CHUNK = 64 * 1024


class Tunnel:
    """Listens on a socket of this machine; each connection to it is one to the engine at `host` (`ssh://...`)."""

    def __init__(self, host: str, options: Sequence[str]) -> None:
        self._host = host
        self._options = list(options)
        self._folder = ""
        self._listener = socket.socket(socket.AF_UNIX)
        self.complaint = ""
        """What ssh said last."""

    def open(self) -> str:
        """Starts to listen; returns the URL to use in the engine's place."""
        self._folder = str(scratch.folder("ssh"))
        path = f"{self._folder}/docker.sock"
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return f"unix://{path}"

    def close(self) -> None:
        """Stops to listen. What is being carried is not cut off."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def command(self) -> list[str]:
        """The ssh command of one connection."""
        url = urlsplit(self._host)
        command = ["ssh", *self._options]
        if url.username:
            command += ["-l", url.username]
        if url.port:
            command += ["-p", str(url.port)]
        remote = ["docker"]
        if url.path not in {"", "/"}:
            remote += ["--host", f"unix://{url.path}"]
        return [*command, "--", url.hostname or "", shlex.join([*remote, "system", "dial-stdio"])]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._carry, args=(connection,), daemon=True).start()

    def _carry(self, connection: socket.socket) -> None:
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # an interrupt at the terminal is the engine's to handle
        )
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        sender = threading.Thread(target=_send, args=(connection, process.stdin), daemon=True)
        sender.start()
        complaints = threading.Thread(target=self._listen_to_complaints, args=(process.stderr,), daemon=True)
        complaints.start()
        with contextlib.suppress(OSError):
            while chunk := process.stdout.read(_CHUNK):
                connection.sendall(chunk)
        complaints.join(1)  # what it says explains the end of the connection
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        process.terminate()
        process.wait()
        sender.join()
        for stream in (process.stdout, process.stderr):
            stream.close()

    def _listen_to_complaints(self, stream: IO[bytes]) -> None:
        for line in stream:
            self.complaint = line.decode(errors="replace").strip()


def _send(connection: socket.socket, stream: IO[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while chunk := connection.recv(_CHUNK):
            stream.write(chunk)
    with contextlib.suppress(OSError):
        stream.close()
