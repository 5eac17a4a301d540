"""The provider's process and its engine."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from tests.ports import free_port

PLUGIN = Path(__file__).parents[3] / "provider" / "pulumi-resource-slipway"


def test_a_provider_of_a_living_engine_tells_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as engine:
        address = f"127.0.0.1:{engine.getsockname()[1]}"
        with subprocess.Popen([sys.executable, PLUGIN, address], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                assert int(process.stdout.readline()) > 0
            finally:
                process.kill()


def test_a_provider_whose_engine_was_gone_before_it_looked_for_its_parent_ends() -> None:
    address = f"127.0.0.1:{free_port()}"
    ended = subprocess.run([sys.executable, PLUGIN, address], capture_output=True, text=True, check=False, timeout=180)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"error: no engine answers at {address}, which was to be served" in ended.stderr
