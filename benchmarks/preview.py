"""A no-op `pulumi preview` of 1, 100 and 1,000 services, beside a bare program with as many bare resources.

The services beyond the first are in the configuration and in Pulumi's state alone: a preview looks at nothing else. The
two programs take turns, so that both see the same machine.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks._stack import bare_project, multiply, pulumi, timed
from benchmarks.report import Row
from tests.e2e.project import Project

_RUNS = {1: 7, 100: 5, 1000: 3}
_RATIO_LIMIT = 1.2
# Of every stack: workspace, registry, environment and model, each with one resource; and of each service.
_COMPONENTS, _CUSTOM = 4, 4
_COMPONENTS_PER_SERVICE, _CUSTOM_PER_SERVICE = 1, 2


def run() -> list[Row]:
    rows = []
    for count, runs in _RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            project = Project(Path(folder))
            project.up()
            deployed = pulumi(project.root, project.environment, "stack", "export", "--stack", "test")
            try:
                multiply(project, count)
                pairs = _measured(project, Path(folder) / "bare", count, runs)
            finally:
                pulumi(project.root, project.environment, "stack", "import", "--stack", "test", text=deployed)
                project.clear()
        ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
        rows.append(Row(f"no-op preview, {count} services", "s", ours, peers={"bare program": theirs}))
        ratio = statistics.median(mine / other for mine, other in pairs)
        rows.append(Row(f"no-op preview, {count} services, to a bare program", "ratio", ratio, _RATIO_LIMIT))
    return rows


def _measured(project: Project, bare: Path, count: int, runs: int) -> list[tuple[float, float]]:
    """Seconds of ours and of the bare program, pair by pair; the first pair warms up and is left out."""
    environment = project.environment
    components, custom = _COMPONENTS + count * _COMPONENTS_PER_SERVICE, _CUSTOM + count * _CUSTOM_PER_SERVICE
    bare_project(bare, environment, components, custom)
    command = ("preview", "--stack", "test", "--expect-no-changes")
    return [(timed(project.root, environment, *command), timed(bare, environment, *command)) for _ in range(runs + 1)][
        1:
    ]
