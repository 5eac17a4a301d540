"""A container's condition, by what the engine says of it. Pure.

What is known to be wrong is told at once: a container that cannot be started for want of a device, or whose server says
that it cannot start, will not get better by waiting. The engine restarts a container that ended, so a first crash may
be its last; a second one is a loop. An engine takes limits that its host cannot hold to without a word, and runs the
container: they are compared here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from provider.condition import Cause, Condition
from provider.local.probe import Answer

COULD_NOT_START = 3
"""The exit code of a scoring server that says so itself, which is Azure's too."""
_LOOP = 2
"""Restarts from which on a container that has ended again is in a loop."""
_MANY = 5
"""Restarts from which on it is in a loop even while it runs, as long as it is not ready."""
_GONE = "0001-01-01T00:00:00Z"
_MEBIBYTE = 1024 * 1024
_DEVICE = re.compile(r"device", re.IGNORECASE)
_GPU = re.compile(r"could not select|nvidia|gpu", re.IGNORECASE)
_CPUS = re.compile(r"range of cpus", re.IGNORECASE)
_TRACEBACK = "Traceback (most recent call last):"
_MEND = "mend the entry script and run `pulumi up` again"
_MAKE_AGAIN = "run `pulumi up --refresh`: it is made again"


@dataclass(frozen=True)
class Limits:
    """What a container is given; None: all that the host has."""

    cpus: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Seen:
    """One container at one moment."""

    name: str
    inspected: Mapping[str, Any] | None
    """What the engine says; None: there is no such container."""
    answer: Answer | None = None
    """To GET /ready, where it runs and answered."""
    silence: str = ""
    """Why it did not answer, where it runs."""
    log: Sequence[str] = ()
    """Its last lines."""

    @property
    def state(self) -> Mapping[str, Any]:
        """The engine's state of the container."""
        return {} if self.inspected is None else self.inspected["State"]

    @property
    def status(self) -> str:
        """`created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`, or `missing`."""
        return str(self.state.get("Status", "missing"))

    @property
    def revision(self) -> str | None:
        """The revision that it was made for."""
        if self.inspected is None:
            return None
        variables = dict(entry.partition("=")[::2] for entry in self.inspected["Config"].get("Env") or ())
        return variables.get("SLIPWAY_REVISION")

    @property
    def ended(self) -> datetime | None:
        """When it ended last; None where it never did."""
        moment = self.state.get("FinishedAt", _GONE)
        if moment == _GONE:
            return None
        # Nanoseconds are more than Python reads.
        return datetime.fromisoformat(re.sub(r"\.\d+", "", moment).replace("Z", "+00:00")).astimezone(UTC)


def condition(
    seen: Seen, image: str, has_image: bool, host: Mapping[str, Any], limits: Limits
) -> tuple[Condition, bool]:
    """The condition of a container, and whether it is known that waiting brings no better one.

    `host` is the engine's description of its host (`NCPU`, `MemTotal` in bytes), `limits` what is asked of it."""
    if (lacking := _lacking(host, limits)) is not None:
        return lacking, True
    if seen.status == "running":
        return _running(seen)
    if seen.status == "missing":
        return _missing(seen, image, has_image)
    if seen.status == "created" or (seen.status == "exited" and seen.state.get("Error")):
        return _unstarted(seen)
    if seen.status == "paused":
        cause = Cause("Paused", f"the container {seen.name} is paused", hint=f"docker unpause {seen.name}")
        return Condition("Unhealthy", "Paused", cause.message, cause), True
    if seen.status == "removing":
        return Condition("Transitioning", "Removing", f"the container {seen.name} is being removed"), False
    return _ended(seen, limits)


def _lacking(host: Mapping[str, Any], limits: Limits) -> Condition | None:
    """What the host has not enough of."""
    name = host.get("Name", "the host")
    cpus, memory = host.get("NCPU"), host.get("MemTotal")
    if limits.cpus is not None and cpus is not None and limits.cpus > cpus:
        what = f"{limits.cpus:g} CPUs are asked for, and {name} has {cpus}"
        return _unschedulable("NotEnoughCpus", what, "ask for less in the deployment's cpu, or use a larger host")
    if limits.memory_bytes is not None and memory is not None and limits.memory_bytes > memory:
        asked, has = limits.memory_bytes // _MEBIBYTE, memory // _MEBIBYTE
        what = f"{asked} MiB of memory are asked for, and {name} has {has}"
        return _unschedulable("NotEnoughMemory", what, "ask for less in memoryInGB, or use a larger host")
    return None


def _unschedulable(reason: str, message: str, hint: str) -> Condition:
    return Condition("Unschedulable", reason, message, Cause(reason, message, hint=hint))


def _missing(seen: Seen, image: str, has_image: bool) -> tuple[Condition, bool]:
    if has_image:
        cause = Cause("ContainerMissing", f"the container {seen.name} is gone", hint=_MAKE_AGAIN)
    else:
        cause = Cause(
            "ImageMissing",
            f"the container {seen.name} is gone, and so is its image {image} on that host",
            hint="run `pulumi up --refresh`: the image is pulled again, if the registry still has it",
        )
    return Condition("Failed", cause.reason, cause.message, cause), True


def _unstarted(seen: Seen) -> tuple[Condition, bool]:
    """Made and not started yet; or the engine could not start it, be it once more."""
    error = str(seen.state.get("Error") or "")
    if not error:
        return Condition("Transitioning", "Created", f"the container {seen.name} is made and not started yet"), False
    if _GPU.search(error):
        hint = (
            "the host has no such GPU, or its engine no NVIDIA runtime: install the driver and the NVIDIA Container "
            "Toolkit there, choose another host, or ask for less in gpuCores"
        )
        return _unschedulable("GpuMissing", f"the container {seen.name} cannot be started: {error}", hint), True
    if _DEVICE.search(error):
        hint = "the host has no such device, or no driver for it: choose another host, or take it out of the deployment"
        return _unschedulable("DeviceMissing", f"the container {seen.name} cannot be started: {error}", hint), True
    if _CPUS.search(error):
        hint = "ask for less in the deployment's cpu, or use a larger host"
        return _unschedulable("NotEnoughCpus", f"the container {seen.name} cannot be started: {error}", hint), True
    cause = Cause("NotStarted", f"the engine cannot start the container {seen.name}: {error}", hint=_MAKE_AGAIN)
    return Condition("Failed", cause.reason, cause.message, cause), True


def _running(seen: Seen) -> tuple[Condition, bool]:
    answer = seen.answer
    if answer is not None and answer.ok:
        return Condition("Healthy", "Ready", f"the container {seen.name} answers"), False
    if _restarts(seen) >= _MANY:
        return _loop(seen), True
    if (seen.state.get("Health") or {}).get("Status") == "unhealthy":
        said = [entry.get("Output", "").strip() for entry in seen.state["Health"].get("Log") or ()]
        what = next((line for line in reversed(said) if line), "it does not answer")
        cause = Cause(
            "ProbeFailed",
            f"the health check of {seen.name} fails: {what}",
            log=tuple(seen.log),
            hint="the process hangs: look for a deadlock or an endless loop in run()",
        )
        return Condition("Unhealthy", cause.reason, cause.message, cause), False
    if answer is None:
        return Condition("Transitioning", "Starting", f"the container {seen.name} starts: {seen.silence}"), False
    return Condition("Transitioning", "Starting", f"the container {seen.name} starts: {answer.excerpt(200)}"), False


def _restarts(seen: Seen) -> int:
    return int((seen.inspected or {}).get("RestartCount") or 0)


def _loop(seen: Seen) -> Condition:
    # While it runs, the engine does not tell how it ended before.
    code = None if seen.status == "running" else seen.state.get("ExitCode")
    ended = f"the container {seen.name} was restarted {_restarts(seen)} times"
    cause = Cause(
        "CrashLoop",
        ended if code is None else f"{ended} and ended again, with exit code {code}",
        exit_code=code,
        traceback=traceback_of(seen.log),
        log=tuple(seen.log),
        hint="the last log lines say what the process did",
    )
    return Condition("Failed", cause.reason, cause.message, cause)


def _ended(seen: Seen, limits: Limits) -> tuple[Condition, bool]:
    """`restarting`, `exited` or `dead`."""
    code, restarts, log = int(seen.state.get("ExitCode") or 0), _restarts(seen), tuple(seen.log)
    again = seen.status == "restarting"
    if seen.state.get("OOMKilled"):
        limit = "" if limits.memory_bytes is None else f" of {limits.memory_bytes // _MEBIBYTE} MiB"
        cause = Cause(
            "OutOfMemory",
            f"the container {seen.name} was ended for taking more than its memory{limit}",
            exit_code=code,
            out_of_memory=True,
            log=log,
            hint="raise memoryInGB of the deployment, or load a smaller model",
        )
    elif code == COULD_NOT_START:
        cause = init_error(log)
    elif code == 0 and not again:
        cause = Cause("Stopped", f"the container {seen.name} was stopped", log=log, hint=_MAKE_AGAIN, exit_code=0)
    elif restarts >= _LOOP:
        return _loop(seen), True
    else:
        cause = Cause(
            "Crashed",
            f"the container {seen.name} ended with exit code {code}",
            exit_code=code,
            traceback=traceback_of(log),
            log=log,
            hint="the last log lines say what the process did",
        )
        if again:
            # One crash may be the last.
            return Condition("Transitioning", "Restarting", f"{cause.message}, and is started again", cause), False
    return Condition("Failed", cause.reason, cause.message, cause), True


def init_error(log: Sequence[str]) -> Cause:
    """The cause of a server that could not start and said so in its log, before it ended with `COULD_NOT_START`."""
    found = traceback_of(log)
    said = next((line for line in reversed(log) if "ERROR" in line), "")
    what = _after_level(found[-1] if found else said) or "the server could not start"
    return Cause(
        "InitError",
        f"the service cannot start: {what}",
        exit_code=COULD_NOT_START,
        traceback=found,
        log=tuple(log),
        hint=_MEND,
    )


def _after_level(line: str) -> str:
    return line.partition(" ERROR ")[2] or line


def traceback_of(log: Sequence[str]) -> tuple[str, ...]:
    """The last Python traceback in a log, to its end: the line that names the exception."""
    starts = [index for index, line in enumerate(log) if line.rstrip().endswith(_TRACEBACK)]
    if not starts:
        return ()
    found = [_TRACEBACK]
    for line in log[starts[-1] + 1 :]:
        found.append(line)
        if line and not line[0].isspace():
            break
    return tuple(found)


WORST = ("Healthy", "Transitioning", "Unhealthy", "Unschedulable", "Failed")
"""From best to worst: a service is as well as the worst of its containers."""


def worst(conditions: Sequence[tuple[Condition, bool]]) -> tuple[Condition, bool]:
    """The condition of all containers together; what is known to be in vain counts before what may get better."""
    return max(conditions, key=lambda item: (item[1], WORST.index(item[0].state)))
