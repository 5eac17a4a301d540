"""What a preview waits for before it does anything: modules that few stacks need are loaded where they are used."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SLOW = {"cryptography", "docker", "kubernetes", "pulumi_docker", "pulumi_kubernetes", "requests", "urllib3"}


@pytest.mark.parametrize("module", ["provider.main", "infra.stack", "infra.load", "airgap.docker.plugin"])
def test_what_loads_slowly_waits_until_it_is_needed(module: str) -> None:
    program = f"import sys, {module}; print(*(name.partition('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert SLOW & set(done.stdout.split()) == set()
