"""A copy of the project in a folder of its own, driven through a real engine by the Automation API."""

from __future__ import annotations

import atexit
import compileall
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from pulumi import automation

from infra.setup.shell_environment import backend_url
from tests.ports import free_port
from tests.quick_up import up

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("infra", "components", "provider", "serving", "examples")

ECHO = """
import json, os

def init():
    global started
    started = True

def run(data):
    return {"echo": json.loads(data), "version": VERSION}

VERSION = 1
"""


@functools.cache
def compiled() -> Path:
    """A copy of the project's parts that every project of this run is copied from: with bytecode, which each of them
    would otherwise compile in its first `up`, in every process."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-compiled-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(folder / part, quiet=1)
    return folder


class Project:
    """One project, one stack `test`, one backend, one workspace folder: all below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        self.home = folder / "home"
        self.state = folder / "state"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.root.mkdir()
        for part in PARTS:
            shutil.copytree(compiled() / part, self.root / part)
        shutil.copy(ROOT / "Pulumi.yaml", self.root)
        (self.root / "stacks").mkdir()
        # The language host looks for the virtual environment that Pulumi.yaml names.
        (self.root / ".venv").symlink_to(sys.prefix)
        self.state.mkdir()
        self.environment = {
            "PULUMI_BACKEND_URL": backend_url(self.state),
            "PULUMI_CONFIG_PASSPHRASE": "e2e",
            "PULUMI_HOME": str(folder / "pulumi"),
            "SLIPWAY_HOME": str(self.home),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            # Each command starts three Pythons: they may keep what they compiled, as they do on a user's machine.
            "PYTHONDONTWRITEBYTECODE": "",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self.sections: dict[str, Any] = {
            "workspace": {"name": "demo"},
            "computeTargets": {"laptop": {"kind": "local"}},
            "models": {"weights": {"path": "model.bin"}},
            "services": {
                "echo": {
                    "models": ["weights"],
                    "inference": {"entryScript": "score.py", "sourceDirectory": "src"},
                    "computeTarget": "laptop",
                    "deployment": {"port": self.port},
                }
            },
        }
        (self.root / "src").mkdir()
        self.script = self.root / "src" / "score.py"
        self.script.write_text(ECHO)
        self.model = self.root / "model.bin"
        self.model.write_bytes(b"first weights")
        self.write()
        self.stack = automation.create_or_select_stack(
            "test", work_dir=str(self.root), opts=automation.LocalWorkspaceOptions(env_vars=self.environment)
        )

    @property
    def service(self) -> dict[str, Any]:
        """The configuration of the service, to be changed before `write`."""
        service: dict[str, Any] = self.sections["services"]["echo"]
        return service

    def write(self) -> None:
        """Writes the stack's configuration; what Pulumi put beside it stays, and so do secrets that were set."""
        file = self.root / "stacks" / "Pulumi.test.yaml"
        document = yaml.safe_load(file.read_text()) if file.exists() else {}
        before = document.get("config") or {}
        kept = {key: value for key, value in before.items() if isinstance(value, dict) and "secure" in value}
        document["config"] = {f"slipway:{key}": value for key, value in self.sections.items()} | kept
        file.write_text(yaml.safe_dump(document))

    def up(self, **options: Any) -> dict[str, int]:
        """`pulumi up`; returns how many resources were created, updated, ... (`same` left out)."""
        return {kind: count for kind, count in up(self.stack, **options).items() if kind != "same"}

    def failing_up(self, **options: Any) -> str:
        """`pulumi up` that must fail; returns what it printed."""
        try:
            self.stack.up(**options)
        except automation.CommandError as error:
            return str(error)
        raise AssertionError("the up went through")

    def preview(self) -> str:
        """`pulumi preview --diff`; returns what it printed."""
        return self.stack.preview(diff=True).stdout

    def failing_preview(self) -> str:
        """`pulumi preview` that must fail; returns what it printed."""
        try:
            self.stack.preview()
        except automation.CommandError as error:
            return str(error)
        raise AssertionError("the preview went through")

    def outputs(self) -> dict[str, Any]:
        """The outputs of the service."""
        service: dict[str, Any] = self.stack.outputs()["services"].value["echo"]
        return service

    def score(self, body: Any = 1) -> Any:
        """The service's answer to `body`."""
        return json.loads(post(f"{self.url}/score", json.dumps(body).encode()))

    def start_up(self) -> subprocess.Popen[str]:
        """A `pulumi up` in the background, to be killed."""
        return self.start("up")

    def start(self, command: str, *options: str) -> subprocess.Popen[str]:
        """A command of the engine in the background."""
        return subprocess.Popen(
            ["pulumi", command, *options, "--yes", "--skip-preview", "--stack", "test", "--non-interactive"],
            cwd=self.root,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def files(self) -> list[Path]:
        """Everything in the folder that workspaces are in."""
        return sorted(self.home.rglob("*")) if self.home.exists() else []

    def clear(self) -> None:
        """Takes everything down, whatever a test left."""
        self.stack.cancel()
        self.stack.destroy()


def eventually(condition: Callable[[], object], what: str, seconds: float = 300) -> None:
    """Waits until `condition` holds. A busy machine takes its time, and whoever passes loses none by a late end."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.01)


def post(url: str, body: bytes, timeout: float = 120) -> bytes:
    """The body of the answer; raises on a status of 400 and more."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as response:
        answer: bytes = response.read()
        return answer


def answers(url: str) -> bool:
    """Whether anything answers at `url`."""
    try:
        with urllib.request.urlopen(url, timeout=60):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def revision_of(url: str) -> str:
    """The revision that answers at the service's root `url`."""
    with urllib.request.urlopen(f"{url}/ready", timeout=120) as response:
        revision: str = response.headers["slipway-revision"]
        return revision


def descendants_of_supervisors(home: Path) -> list[int]:
    """The processes of this user whose command line or working directory names `home`."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (os.getpid(), threading.get_native_id()):
            continue
        try:
            names = (entry / "cmdline").read_bytes().decode(errors="replace") + str((entry / "cwd").readlink())
        except OSError:
            continue
        if str(home) in names:
            found.append(int(entry.name))
    return found
