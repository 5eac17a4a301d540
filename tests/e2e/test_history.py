"""What `make history` tells, from the states and updates of a real engine."""

import json
import os
import subprocess
import sys
from typing import Any

from tests.e2e.project import ROOT, Project


def history(project: Project, *options: str) -> list[dict[str, Any]]:
    """The rows that `python -m infra.history --json` prints, the newest first."""
    done = subprocess.run(
        [sys.executable, "-m", "infra.history", "--json", *options, "test"],
        cwd=project.root,
        env={**os.environ, **project.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def told(rows: list[dict[str, Any]]) -> list[tuple[int, str, str, str, list[str]]]:
    return [(row["update"], row["result"], row["service"], row["revision"], row["models"]) for row in rows]


def test_history_tells_which_revision_served_when(project: Project) -> None:
    project.up()
    first = project.outputs()["revision"]
    project.up()
    project.script.write_text(project.script.read_text() + "\n# changed\n")
    project.up()
    second = project.outputs()["revision"]
    good = project.script.read_text()
    project.model.write_bytes(b"second weights")
    project.script.write_text("def init():\n    raise RuntimeError('no')\n\ndef run(data):\n    return data\n")
    project.failing_up()

    rows = history(project)

    assert told(rows) == [
        (3, "succeeded", "echo", second, ["weights:1"]),
        (1, "succeeded", "echo", first, ["weights:1"]),
    ]
    assert [row["update"] for row in history(project, "--all")] == [4, 3, 2, 1]
    assert history(project, "--all")[0]["result"] == "failed"

    project.stack.destroy()

    assert told(history(project)) == [(5, "succeeded", "echo", None, []), *told(rows)]
    project.script.write_text(good)
    project.up()
    assert [(row["update"], row["models"]) for row in history(project)] == [
        (6, ["weights:1"]),  # a new store counts its versions anew
        (5, []),
        (3, ["weights:1"]),
        (1, ["weights:1"]),
    ]
