"""The cluster's daemons: started in sessions of their own, known by pid and start time, ended by those alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from airgap.cluster.place import Place
from airgap.cluster.programs import PATH
from infra.setup.problem import SetupError

_POLL_SECONDS = 0.1
_UNWANTED = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "kubeconfig", "notify_socket", "gofips")
"""Variables of the caller's that would change what a daemon does."""

_WHEN_TOLD = 'read -r go && exec "$@" < /dev/null'
"""Becomes the daemon once it is told to, with the same pid and start time. Whoever is killed before he has noted these
tells it nothing, and it ends: no daemon runs that is not known."""

_started: dict[int, subprocess.Popen[bytes]] = {}
"""What this process started and may outlive: asked for, so that it is buried when it ends."""


@dataclass(frozen=True)
class Daemon:
    """One process of the cluster, running or not."""

    place: Place
    name: str

    @property
    def _file(self) -> Path:
        return self.place.processes / f"{self.name}.json"

    @property
    def log(self) -> Path:
        return self.place.logs / f"{self.name}.log"

    def pid(self) -> int | None:
        """Its process id; None where it does not run. A process that took over the number is not it."""
        try:
            known = json.loads(self._file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        pid: int = known["pid"]
        started = started_at(pid)
        if started is None and pid in _started:
            _started.pop(pid).wait()
        return pid if started is not None and started == known["started"] else None

    def start(self, command: Sequence[str]) -> None:
        """Starts it, unless it runs."""
        if self.pid() is not None:
            return
        environment = {k: v for k, v in os.environ.items() if k.lower() not in _UNWANTED}
        told, tell = os.pipe()
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _WHEN_TOLD, "sh", *command],
                stdin=told,
                stdout=log,
                stderr=log,
                env={**environment, "PATH": PATH},
                cwd="/",
                start_new_session=True,
            )
        os.close(told)
        _started[process.pid] = process
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps({"pid": process.pid, "started": started_at(process.pid)}))
        fresh.replace(self._file)
        with contextlib.suppress(BrokenPipeError):  # it ended already: whoever waits for it is told so
            os.write(tell, b"go\n")
        os.close(tell)

    def stop(self, seconds: float = 20) -> None:
        """Ends it: asked first, then made to."""
        pid = self.pid()
        if pid is not None:
            _signal(pid, signal.SIGTERM)
            if not _until(lambda: self.pid() is None, seconds):
                _signal(pid, signal.SIGKILL)
                _until(lambda: self.pid() is None, seconds)
        self._file.unlink(missing_ok=True)

    def wait(self, ready: Callable[[], bool], seconds: float) -> None:
        """Waits until `ready`. Raises SetupError, with the end of its log, where it ends or takes longer."""
        if _until(lambda: ready() or self.pid() is None, seconds) and self.pid() is not None:
            return
        what = "is not ready" if self.pid() else "ended"
        lines = self.log.read_text(errors="replace").splitlines()[-8:] if self.log.exists() else []
        said = "".join(f"\n    {line[:300]}" for line in lines)
        raise SetupError(
            f"{self.name} {what} ({seconds:.0f} s at most). Its last lines:{said}",
            str(self.log),
            "run `python -m airgap.cluster down` and `up` again; the log says more.",
        )


def wait_until(condition: Callable[[], bool], seconds: float, what: str, where: str) -> None:
    """Waits for `condition`. Raises SetupError that says `what` did not happen."""
    if not _until(condition, seconds):
        raise SetupError(
            f"{what} ({seconds:.0f} s at most).", where, "run `python -m airgap.cluster status`; the logs say more."
        )


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def started_at(pid: int) -> str | None:
    """When a process started, in ticks since the machine did; None where it is gone, or is only not buried yet.

    Field 22 of /proc/PID/stat; the second one, the name, may hold spaces and brackets. See proc(5).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def resident_bytes(pid: int) -> int:
    """The memory that a process holds; 0 where it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def kill_all(pids: Callable[[], list[int]], seconds: float = 10) -> None:
    """Kills the processes that `pids` names, and again those that it names then, until it names none."""

    def none_left() -> bool:
        there = pids()
        for pid in there:
            _signal(pid, signal.SIGKILL)
        return not there

    _until(none_left, seconds)
