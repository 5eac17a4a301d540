"""From `pulumi up` of a changed entry script to the new revision answering, beside starting the server by hand.

The service is the example: scikit-learn is imported at start. By hand means the same interpreter, script and model,
without a supervisor, from the command's start to the first answer of `/ready`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

from benchmarks._stack import pulumi
from benchmarks.report import Row
from tests.e2e.project import Project, free_port, revision_of

_RUNS = 5
_LIMIT_SECONDS = 1.0
_DEADLINE_SECONDS = 60


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        project = _example(Path(folder))
        project.up()
        try:
            by_hand, plain, skipping = [], [], []
            for index in range(_RUNS):
                by_hand.append(_started_by_hand(project))
                plain.append(_updated(project, f"a{index}"))
                skipping.append(_updated(project, f"b{index}", "--skip-preview"))
        finally:
            project.clear()
    hand = statistics.median(by_hand)
    return [
        Row("server started by hand, until ready", "s", hand),
        Row("up --skip-preview of a changed script, until it answers", "s", statistics.median(skipping)),
        Row("  more than by hand", "s", statistics.median(skipping) - hand, _LIMIT_SECONDS),
        Row("up (preview first) of a changed script, until it answers", "s", statistics.median(plain)),
        Row("  more than by hand", "s", statistics.median(plain) - hand, _LIMIT_SECONDS),
    ]


def _example(folder: Path) -> Project:
    project = Project(folder)
    project.sections["environments"] = {"sklearn": {"clone": "minimal", "pip": ["scikit-learn==1.8.0"]}}
    project.sections["models"] = {"sklearn_mnist": {"path": "examples/sklearn_mnist/model"}}
    project.service.update(
        models=["sklearn_mnist"],
        inference={
            "entryScript": "score.py",
            "sourceDirectory": "examples/sklearn_mnist",
            "environment": "sklearn",
        },
    )
    project.script = project.root / "examples" / "sklearn_mnist" / "score.py"
    project.write()
    return project


def _until(condition: Callable[[], bool]) -> float:
    """Seconds from now until `condition` holds."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < _DEADLINE_SECONDS:
        if condition():
            return time.perf_counter() - begun
        time.sleep(0.005)
    raise TimeoutError(f"not within {_DEADLINE_SECONDS} s")


def _answers(url: str, other_than: str | None = None) -> bool:
    try:
        return revision_of(url) != other_than
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _updated(project: Project, change: str, *flags: str) -> float:
    before = revision_of(project.url)
    project.script.write_text(project.script.read_text() + f"# {change}\n")
    up = threading.Thread(
        target=pulumi, args=(project.root, project.environment, "up", "--yes", "--stack", "test", *flags)
    )
    begun = time.perf_counter()
    up.start()
    _until(lambda: _answers(project.url, before))
    taken = time.perf_counter() - begun
    up.join()
    return taken


def _started_by_hand(project: Project) -> float:
    services = project.home / "test" / "demo" / "services"
    revision = services / "echo" / "revisions" / revision_of(project.url)
    (python,) = (project.home / "test" / "demo" / "environments").glob("*/bin/python")
    (model,) = (revision / "azureml-models").glob("*/*")
    port = free_port()
    begun = time.perf_counter()
    server = subprocess.Popen(
        [
            *(str(python), "-m", "slipway_serving", "--entry-script", "score.py", "--revision", "by-hand"),
            *("--model-dir", str(model), "--port", str(port)),
        ],
        cwd=revision / "code",
        env={**os.environ, "PYTHONPATH": str(project.root / "serving")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _until(lambda: _answers(f"http://127.0.0.1:{port}"))
        return time.perf_counter() - begun
    finally:
        server.terminate()
        server.wait()
