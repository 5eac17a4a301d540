"""Starts the scoring server as a process, alone or under a supervisor's control socket, and talks to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SERVING = Path(__file__).parents[3] / "serving"
DEADLINE = 180.0
"""Seconds; long, for a busy machine: whoever passes waits for no deadline."""
ECHO = "def init():\n    pass\n\ndef run(data):\n    return data\n"


class Answer(NamedTuple):
    """A response, read to its end. Header names are lower case; a repeated header is joined with ", "."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def wait_for(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """Poll until the condition is true."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not happen within {deadline} s"
        time.sleep(0.01)


class Serving:
    """A server process. Its output goes to a file, so that no pipe can fill up."""

    def __init__(
        self,
        directory: Path,
        script: str | None = ECHO,
        *options: str,
        env: dict[str, str] | None = None,
        control: bool = False,
        python: str = sys.executable,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        command = [python, "-m", "slipway_serving", *options]
        if script is not None:
            (directory / "score.py").write_text(script)
            command += ["--entry-script", "score.py"]
        self.control: Supervisor | None = None
        descriptors: tuple[int, ...] = ()
        if control:
            ours, theirs = socket.socketpair()
            self.control = Supervisor(ours)
            descriptors = (theirs.fileno(),)
            command += ["--control-fd", str(theirs.fileno())]
        elif "--port" not in options:
            command += ["--port", "0"]
        self.log_path = directory / "server.log"
        base = {name: value for name, value in os.environ.items() if not name.startswith(("AZUREML_", "AML_"))}
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                env={**base, "PYTHONPATH": str(SERVING), **(env or {})},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
            )
        if control:
            theirs.close()

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_ready(self) -> Serving:
        """Until the log says that scoring is possible."""
        wait_for(lambda: "ready to score" in self.log or self.process.poll() is not None, "ready")
        assert self.process.poll() is None, self.log
        return self

    @property
    def port(self) -> int:
        found = wait_for(
            lambda: re.search(r"listening on https?://[^\s]*:(\d+)", self.log) or self.process.poll() is not None,
            "listen",
        )
        assert isinstance(found, re.Match), self.log
        return int(found[1])

    def connect(self, timeout: float = DEADLINE) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(
        self, method: str, path: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        connection = self.connect()
        try:
            return exchange(connection, method, path, body, headers)
        finally:
            connection.close()

    def score(self, body: Any = b"", headers: dict[str, str] | None = None) -> Answer:
        """POST /score; anything but bytes and str is sent as JSON."""
        content = body if isinstance(body, bytes | str) else json.dumps(body)
        return self.ask("POST", "/score", content, headers or {"Content-Type": "application/json"})

    def raw(self, data: bytes, *, then_close: bool = False) -> bytes:
        """Send bytes as they are; everything that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE) as connection:
            connection.sendall(data)
            if then_close:
                connection.shutdown(socket.SHUT_WR)
            received = b""
            while True:
                try:
                    chunk = connection.recv(65536)
                except ConnectionResetError:
                    return received
                if not chunk:
                    return received
                received += chunk

    def wait_exit(self) -> int:
        return self.process.wait(DEADLINE)

    def stop(self) -> None:
        """End the process and everything of it."""
        if self.control is not None:
            self.control.socket.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE)


class Supervisor:
    """The other end of the control socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(DEADLINE)
        self._buffer = b""

    def event(self) -> dict[str, Any]:
        """The next event."""
        while b"\n" not in self._buffer:
            data = self.socket.recv(65536)
            assert data, "the server closed the control socket"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def listen(self, listening: socket.socket) -> None:
        socket.send_fds(self.socket, [b'{"command": "listen"}\n'], [listening.fileno()])
        assert self.event() == {"event": "listening"}

    def drain(self, grace: float) -> None:
        self.socket.sendall(json.dumps({"command": "drain", "graceSeconds": grace}).encode() + b"\n")


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | str | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """One request on an open connection."""
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    content = response.read()
    fields: dict[str, str] = {}
    for name, value in response.getheaders():
        fields[name.lower()] = f"{fields[name.lower()]}, {value}" if name.lower() in fields else value
    return Answer(response.status, fields, content)


def listening_socket() -> socket.socket:
    """A TCP socket that listens on a free port of this machine."""
    return socket.create_server(("127.0.0.1", 0))
