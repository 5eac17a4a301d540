"""Turns what happened to a process into a `Cause`: a reason code, a sentence, and a hint that says what to do."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provider.condition import Cause

_VMSTAT = Path("/proc/vmstat")
_ENTRY_SCRIPT = "mend the entry script and run `pulumi up` again"


def out_of_memory_kills() -> int:
    """How many processes the kernel has ended for want of memory since it started; 0 where it does not tell."""
    try:
        for line in _VMSTAT.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        return 0
    return 0


def reported(event: Mapping[str, Any], log: tuple[str, ...]) -> Cause:
    """The cause that the server itself told before it ended."""
    traceback = event.get("traceback") or ()
    if isinstance(traceback, str):
        traceback = traceback.splitlines()
    return Cause(
        reason=str(event.get("reason") or "InitError"),
        message=str(event.get("message") or "the server could not start"),
        exit_code=3,
        traceback=tuple(str(line) for line in traceback),
        log=log,
        hint=str(event.get("hint") or _ENTRY_SCRIPT),
    )


def ended(returncode: int, log: tuple[str, ...], *, out_of_memory: bool, when: str, starting: bool) -> Cause:
    """The cause of a process that ended without being asked to. `returncode` is that of `subprocess`."""
    if returncode >= 0:
        return Cause(
            reason="ExitedAtStart" if starting else "Crashed",
            message=f"the process ended {when} with exit code {returncode}",
            exit_code=returncode,
            log=log,
            hint="the last log lines say what the process did; a `sys.exit` in the entry script ends the server"
            if log
            else "the process wrote nothing; run the entry script by hand with the environment's Python to see why",
        )
    name = _signal_name(-returncode)
    if returncode == -signal.SIGKILL:
        return Cause(
            reason="OutOfMemory" if out_of_memory else "Killed",
            message=f"the process was ended {when} by SIGKILL"
            + (" while the kernel was out of memory" if out_of_memory else ""),
            signal=name,
            out_of_memory=out_of_memory,
            log=log,
            hint="load a smaller model, run fewer services on this machine, or add memory"
            if out_of_memory
            else "somebody ended it, or the kernel did for want of memory: `dmesg` tells",
        )
    return Cause(
        reason="Crashed",
        message=f"the process was ended {when} by {name}",
        signal=name,
        log=log,
        hint="a fault in a compiled package, when nobody sent that signal: try another version of it",
    )


def not_ready_in_time(seconds: float, log: tuple[str, ...]) -> Cause:
    """`init()` did not return within the startup timeout."""
    return Cause(
        reason="StartupTimeout",
        message=f"init() did not return within {seconds:g} s",
        log=log,
        hint="make init() faster, or raise the service's startup timeout",
    )


def not_answering(message: str, log: tuple[str, ...]) -> Cause:
    """The readiness check was not answered as it should be."""
    return Cause(
        reason="NotReady",
        message=f"the readiness check failed: {message}",
        log=log,
        hint="the last log lines say what the server did",
    )


def wrong_revision(asked: str, answered: str | None, log: tuple[str, ...]) -> Cause:
    """Another revision answered than the one that was started."""
    return Cause(
        reason="WrongRevision",
        message=f"revision {answered or 'none'} answered where {asked} was started",
        log=log,
        hint="the entry script must not change the variable SLIPWAY_REVISION or the header slipway-revision",
    )


def sample_refused(message: str, log: tuple[str, ...]) -> Cause:
    """The sample request was not answered with 2xx."""
    return Cause(
        reason="SampleRequestFailed",
        message=f"the sample request failed: {message}",
        log=log,
        hint="mend run() in the entry script, or the file of the sample request",
    )


def stopped_answering(failures: int, message: str, log: tuple[str, ...]) -> Cause:
    """The health check of a process that served failed several times in a row."""
    return Cause(
        reason="ProbeFailed",
        message=f"the health check failed {failures} times in a row: {message}",
        log=log,
        hint="the process hangs: look for a deadlock or an endless loop in run()",
    )


def not_started(error: Exception, what: str) -> Cause:
    """The process could not be started at all, or its private socket could not be made."""
    return Cause(
        reason="InterpreterMissing" if isinstance(error, FileNotFoundError) else "NotStarted",
        message=f"{what} could not be started: {error}",
        hint="run `pulumi up --refresh`: it makes what is missing of the environment again",
    )


def port_lost(host: str, port: int, error: OSError) -> Cause:
    """Another program took the port between the rollout's beginning and its end."""
    return Cause(
        reason="PortInUse",
        message=f"port {port} of {host} was taken by another program: {error.strerror or error}",
        hint="end that program or choose another port",
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
