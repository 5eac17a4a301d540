"""The processes that a keeper holds end with it, whenever that is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

DEADLINE = 180.0

_KILLED_AT_ONCE = """
import os, signal, sys, time
from provider.registry_host import processes

class Kernel:
    def prctl(self, *arguments):
        with open(sys.argv[1], "w") as file:
            file.write(str(os.getpid()))
        keeper = os.getppid()
        os.kill(keeper, signal.SIGKILL)
        while os.getppid() == keeper:
            time.sleep(0.01)
        real.prctl(*arguments)

real, processes._LIBC = processes._LIBC, Kernel()
processes.child(["sleep", "3600"])
"""


def test_a_process_whose_keeper_is_killed_while_it_starts_ends(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    keeper = subprocess.run([sys.executable, "-c", _KILLED_AT_ONCE, str(told)], check=False)
    assert keeper.returncode == -signal.SIGKILL
    pid = int(told.read_text())
    try:
        deadline = time.monotonic() + DEADLINE
        while _is_alive(pid):
            assert time.monotonic() < deadline, "it runs on"
            time.sleep(0.01)
    finally:
        if _is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
