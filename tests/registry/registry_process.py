"""A real registry (CNCF Distribution, Debian's package `docker-registry`) as a process of the tests' own."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.ports import free_port

DEADLINE = 180.0


class RegistryProcess:
    """A registry with its data below `folder`; `more` is merged into its configuration."""

    def __init__(self, folder: Path, more: dict[str, Any] | None = None, limit: str | None = None) -> None:
        program = shutil.which("docker-registry") or shutil.which("docker-registry", path="/usr/bin:/usr/local/bin")
        assert program, "no docker-registry on PATH: apt-get install --no-install-recommends docker-registry"
        self.port = free_port()
        self.data = folder / "data"
        self.log = folder / "registry.log"
        self._configuration = folder / "config.yml"
        self._command = [program, "serve", str(self._configuration)]
        if limit is not None:
            self._command = ["prlimit", limit, *self._command]
        self._process: subprocess.Popen[bytes] | None = None
        self.data.mkdir(parents=True)
        document: dict[str, Any] = {
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": str(self.data)}, "delete": {"enabled": True}},
            "http": {"addr": f"127.0.0.1:{self.port}"},
        }
        for name, section in (more or {}).items():
            document[name] = {**document.get(name, {}), **section}
        self._is_encrypted = "tls" in document["http"]
        self._configuration.write_text(json.dumps(document))  # JSON is YAML

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + DEADLINE
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"no answer within {DEADLINE} s: {self.log.read_text()}"
            time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def blob_file(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self.data / "docker" / "registry" / "v2" / "blobs" / "sha256" / name[:2] / name / "data"

    def _answers(self) -> bool:
        if self._is_encrypted:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0
        try:
            with urllib.request.urlopen(f"http://{self.address}/v2/", timeout=DEADLINE):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 401
        except OSError:
            return False
