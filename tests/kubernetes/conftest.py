"""The cluster of these tests: the one that KUBECONFIG names, or one that is made for them and removed in the end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airgap.cluster import other

ROOT = Path(__file__).resolve().parents[2]
FIRST = "test_cluster_on_this_machine.py"
"""Makes clusters of its own, of which a machine has one at a time: before the one that the other tests share."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name != FIRST)
    if other.named(os.environ) or other.tool():
        # No cluster is built on that machine.
        ours = [item for item in items if item.path.name == FIRST]
        config.hook.pytest_deselected(items=ours)
        items[:] = [item for item in items if item not in ours]


def airgap_cluster(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs `python -m airgap.cluster`."""
    return subprocess.run(
        [sys.executable, "-m", "airgap.cluster", command, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of a cluster that answers."""
    folder = tmp_path_factory.mktemp("kubernetes") / "cluster"
    made = airgap_cluster("up", folder)
    assert made.returncode == 0, made.stderr
    yield Path(made.stdout.strip())
    removed = airgap_cluster("down", folder)
    assert removed.returncode == 0, removed.stderr
