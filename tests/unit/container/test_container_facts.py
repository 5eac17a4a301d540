"""A container's condition, by what the engine says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from provider.condition import Condition
from provider.container.facts import Limits, Seen, condition, traceback_of, worst
from provider.local.probe import Answer

HOST = {"Name": "box", "NCPU": 2, "MemTotal": 4 * 1024**3}
LOG = (
    "2026-11-22T10:00:00Z INFO loading",
    "Traceback (most recent call last):",
    '  File "score.py", line 3, in init',
    "    open('gone')",
    "FileNotFoundError: [Errno 2] No such file or directory: 'gone'",
    "2026-11-22T10:00:01Z ERROR init() failed",
)


def seen(
    status: str, *, restarts: int = 0, log: tuple[str, ...] = (), answer: Answer | None = None, **state: Any
) -> Seen:
    inspected = {
        "State": {"Status": status, **state},
        "RestartCount": restarts,
        "Config": {"Env": ["A=b=c", "SLIPWAY_REVISION=r1"]},
    }
    return Seen("one", inspected, answer, "connection refused", log)


def told(item: Seen, limits: Limits | None = None, *, has_image: bool = True) -> tuple[Condition, bool]:
    return condition(item, "registry/mnist@sha256:1", has_image, HOST, limits or Limits())


def answer(status: int, **body: str) -> Answer:
    return Answer(status, {}, json.dumps(body).encode())


def test_a_container_that_answers_is_healthy_however_often_it_began() -> None:
    found, _ = told(seen("running", restarts=7, answer=answer(200)))
    assert found.state == "Healthy"


@pytest.mark.parametrize(
    ("item", "state", "reason", "words"),
    [
        (seen("created"), "Transitioning", "Created", "made and not started"),
        (seen("running"), "Transitioning", "Starting", "connection refused"),
        (seen("running", ExitCode=0, restarts=2), "Transitioning", "Starting", "connection refused"),
        (seen("running", answer=answer(503, message="init() runs")), "Transitioning", "Starting", "init() runs"),
        (seen("restarting", ExitCode=1), "Transitioning", "Restarting", "exit code 1"),
        (seen("removing"), "Transitioning", "Removing", "removed"),
        (
            seen("running", Health={"Status": "unhealthy", "Log": [{"Output": "timed out\n"}]}),
            *("Unhealthy", "ProbeFailed", "timed out"),
        ),
    ],
)
def test_what_may_get_better_is_waited_for(item: Seen, state: str, reason: str, words: str) -> None:
    found, hopeless = told(item)
    assert (found.state, found.reason, hopeless) == (state, reason, False)
    assert words in found.message


@pytest.mark.parametrize(
    ("item", "state", "reason", "words"),
    [
        (
            seen("restarting", ExitCode=1, restarts=2),
            "Failed",
            "CrashLoop",
            "restarted 2 times and ended again, with exit code 1",
        ),
        (seen("running", ExitCode=0, restarts=5), "Failed", "CrashLoop", "was restarted 5 times"),
        (seen("exited", ExitCode=1), "Failed", "Crashed", "exit code 1"),
        (seen("exited", ExitCode=0), "Failed", "Stopped", "was stopped"),
        (seen("restarting", ExitCode=137, OOMKilled=True), "Failed", "OutOfMemory", "more than its memory"),
        (seen("created", Error="port is taken"), "Failed", "NotStarted", "port is taken"),
        (seen("paused"), "Unhealthy", "Paused", "is paused"),
        (
            seen("created", Error='error gathering device information while adding custom device "/dev/xdma0"'),
            *("Unschedulable", "DeviceMissing", "/dev/xdma0"),
        ),
        (
            seen("created", Error='could not select device driver "" with capabilities: [[gpu]]'),
            *("Unschedulable", "GpuMissing", "gpu"),
        ),
        (
            seen("exited", ExitCode=128, Error='error gathering device information for "/dev/xdma0"'),
            *("Unschedulable", "DeviceMissing", "/dev/xdma0"),
        ),
        (Seen("one", None), "Failed", "ContainerMissing", "is gone"),
    ],
)
def test_what_is_known_to_be_wrong_is_told_at_once(item: Seen, state: str, reason: str, words: str) -> None:
    found, hopeless = told(item)
    assert (found.state, found.reason, hopeless) == (state, reason, True)
    assert words in found.message
    assert found.cause is not None
    assert found.cause.hint


def test_a_server_that_says_it_cannot_start_is_not_waited_for_again() -> None:
    found, hopeless = told(seen("restarting", ExitCode=3, log=LOG))
    assert (found.state, found.reason, hopeless) == ("Failed", "InitError", True)
    assert found.message == "the service cannot start: FileNotFoundError: [Errno 2] No such file or directory: 'gone'"
    assert found.cause is not None
    assert found.cause.traceback == LOG[1:5]
    assert found.cause.exit_code == 3


def test_the_limit_that_was_too_low_is_named() -> None:
    found, _ = told(seen("exited", ExitCode=137, OOMKilled=True), Limits(memory_bytes=256 * 1024**2))
    assert "its memory of 256 MiB" in found.message
    assert found.cause is not None
    assert found.cause.out_of_memory


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(cpus=4), "4 CPUs are asked for, and box has 2"),
        (Limits(memory_bytes=8 * 1024**3), "8192 MiB of memory are asked for, and box has 4096"),
    ],
)
def test_a_host_that_is_too_small_is_named(limits: Limits, words: str) -> None:
    # An engine takes such limits, and runs the container.
    for item in (Seen("one", None), seen("created"), seen("running", answer=answer(200))):
        found, hopeless = told(item, limits)
        assert (found.state, hopeless) == ("Unschedulable", True)
        assert found.message == words


def test_an_image_that_is_gone_is_named() -> None:
    found, _ = told(Seen("one", None), has_image=False)
    assert found.reason == "ImageMissing"
    assert "registry/mnist@sha256:1" in found.message


def test_the_revision_is_what_the_container_was_made_with() -> None:
    assert seen("running").revision == "r1"
    assert Seen("one", None).revision is None


def test_when_it_ended_is_read_with_nanoseconds_and_zone() -> None:
    assert seen("exited", FinishedAt="0001-01-01T00:00:00Z").ended is None
    first = seen("exited", FinishedAt="2026-11-22T10:00:00.123456789Z").ended
    assert first == seen("exited", FinishedAt="2026-11-22T11:00:00+01:00").ended


def test_all_are_as_well_as_the_worst() -> None:
    healthy, _ = told(seen("running", answer=answer(200)))
    waiting, _ = told(seen("created"))
    failed = told(seen("exited", ExitCode=1))
    assert worst([(healthy, False), (waiting, False)])[0] is waiting
    assert worst([(healthy, False), failed, (waiting, False)]) == failed


def test_only_the_last_traceback_counts() -> None:
    assert traceback_of(("Traceback (most recent call last):", "ValueError: 1", "x", *LOG))[-1].startswith(
        "FileNotFound"
    )
    assert traceback_of(("nothing",)) == ()
