"""Creating a stack on first use, and what becomes of the lock of a killed pulumi."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.setup import stack
from infra.setup.problem import SetupError

FAKE_PULUMI = """#!/bin/sh
echo "$*" >> "{calls}"
case "$1" in
cancel) /bin/rm -f "{locks}"/*.json ;;
stack)
    if /bin/grep -q encryptionsalt "{config}" 2>/dev/null; then echo 'error: incorrect passphrase' >&2; exit 255; fi
    /bin/mkdir -p "{stacks}"; echo '{{}}' > "{stacks}/dev.json" ;;
esac
"""


class Project:
    """A project with a file backend, and a `pulumi` that notes how it was called."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / ".slipway" / "state" / ".pulumi"
        self.locks = self.state / "locks" / "organization" / "slipway" / "dev"
        self.stacks = self.state / "stacks" / "slipway"
        self.config = root / "stacks" / "Pulumi.dev.yaml"
        self.log = root / "calls"
        (root / "bin").mkdir()
        self.locks.mkdir(parents=True)
        self.config.parent.mkdir()
        (root / "Pulumi.yaml").write_text("name: slipway\nruntime: python\n")
        self.pulumi(
            FAKE_PULUMI.format(calls=self.log, locks=self.locks, stacks=self.stacks, config=self.config),
        )

    def pulumi(self, script: str) -> None:
        """Replace the `pulumi` on PATH."""
        program = self.root / "bin" / "pulumi"
        program.write_text(script)
        program.chmod(0o755)

    def lock(self, pid: int, host: str | None = None, taken: datetime | None = None) -> Path:
        """Leave a lock as Pulumi's file backend does."""
        path = self.locks / f"{pid}.json"
        path.write_text(
            json.dumps(
                {
                    "pid": pid,
                    "username": "ada",
                    "hostname": host or socket.gethostname(),
                    "timestamp": (taken or datetime.now(UTC)).isoformat(),
                }
            )
        )
        return path

    def begun(self) -> None:
        """Leave the note of a creation that was cut short."""
        self.stacks.mkdir(parents=True)
        (self.stacks / "dev.json").write_text('{"checkpoint": {"latest": {"pending_operations": [{}]}}}')

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = Project(tmp_path)
    monkeypatch.setattr(stack, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{made.state.parent}")
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / ".slipway"))
    return made


@pytest.fixture
def sleeper() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts processes that live until they are ended."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def dead_pid() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_lock_of_a_dead_process_is_cleared(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    pid = dead_pid()
    lock = project.lock(pid)

    stack.free("dev")

    assert not lock.exists()
    assert project.calls == ["cancel --yes --stack dev"]
    assert f"clearing the lock that a killed pulumi left on stack dev (pid {pid} is gone)" in capsys.readouterr().err


def test_what_a_killed_pulumi_had_begun_to_create_is_cleared(project: Project) -> None:
    project.lock(dead_pid())
    project.begun()

    stack.free("dev")

    assert project.calls[1:] == ["refresh --yes --skip-preview --clear-pending-creates --stack dev"]


def test_what_was_begun_is_cleared_too_where_the_lock_is_gone_already(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.begun()

    stack.free("dev")

    assert project.calls == ["refresh --yes --skip-preview --clear-pending-creates --stack dev"]
    assert "clearing what a killed pulumi had begun to create on stack dev" in capsys.readouterr().err


def test_a_preview_frees_the_stack_and_leaves_what_was_begun(project: Project) -> None:
    lock = project.lock(dead_pid())
    project.begun()

    assert stack.main(["look", "dev"]) == 0

    assert not lock.exists()
    assert not any("refresh" in call for call in project.calls)


def test_what_a_live_process_has_begun_stays(project: Project, sleeper: Callable[[], subprocess.Popen[bytes]]) -> None:
    project.lock(sleeper().pid)
    project.begun()

    with pytest.raises(SetupError, match="at work"):
        stack.free("dev")
    assert project.calls == []


def test_lock_of_a_live_process_is_reported_and_stays(
    project: Project, sleeper: Callable[[], subprocess.Popen[bytes]]
) -> None:
    pid = sleeper().pid
    lock = project.lock(pid)

    with pytest.raises(SetupError, match=rf"another pulumi is at work on it \(pid {pid}, user ada\)") as raised:
        stack.free("dev")
    assert f"kill {pid}" in raised.value.mend
    assert lock.exists()
    assert project.calls == []


def test_live_lock_beside_a_dead_one_keeps_both(
    project: Project, sleeper: Callable[[], subprocess.Popen[bytes]]
) -> None:
    locks = [project.lock(dead_pid()), project.lock(sleeper().pid)]

    with pytest.raises(SetupError, match="at work"):
        stack.free("dev")
    assert all(lock.exists() for lock in locks)


def test_process_that_started_after_the_lock_did_not_take_it(
    project: Project, sleeper: Callable[[], subprocess.Popen[bytes]]
) -> None:
    lock = project.lock(sleeper().pid, taken=datetime(2020, 1, 1, tzinfo=UTC))

    stack.free("dev")

    assert not lock.exists()


def test_zombie_is_dead(project: Project, sleeper: Callable[[], subprocess.Popen[bytes]]) -> None:
    process = sleeper()
    lock = project.lock(process.pid)
    process.kill()
    deadline = time.monotonic() + 60
    while not stack.process_start(process.pid)[1]:
        assert time.monotonic() < deadline, "the process did not become a zombie"

    stack.free("dev")

    assert not lock.exists()


def test_lock_from_another_machine_is_reported(project: Project) -> None:
    project.lock(1, host="elsewhere")

    with pytest.raises(SetupError, match=r"locked from another machine, by ada@elsewhere \(pid 1\)") as raised:
        stack.free("dev")
    assert "pulumi cancel --stack dev" in raised.value.mend


def test_lock_that_was_cut_short_is_cleared(project: Project) -> None:
    (project.locks / "half.json").write_text('{"pid": 12')

    stack.free("dev")

    assert list(project.locks.iterdir()) == []


def test_lock_that_does_not_go_is_reported(project: Project) -> None:
    project.pulumi("#!/bin/sh\nexit 1\n")
    project.lock(dead_pid())

    with pytest.raises(SetupError, match="could not be cleared"):
        stack.free("dev")


def test_no_lock_needs_no_pulumi(project: Project) -> None:
    project.stacks.mkdir(parents=True)
    (project.stacks / "dev.json").write_text('{"checkpoint": {"latest": {"resources": []}}}')

    stack.free("dev")

    assert project.calls == []


def test_locks_of_other_backends_are_left_to_pulumi(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.lock(dead_pid())
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://states")

    stack.free("dev")

    assert project.calls == []


def test_stack_is_created_on_first_use_only(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert stack.main(["ready", "dev"]) == 0
    assert stack.main(["ready", "dev"]) == 0

    assert project.calls == ["stack select --create --non-interactive --stack dev"]
    assert capsys.readouterr().err == "==> created stack dev\n"


def test_select_is_made_each_time(project: Project) -> None:
    for _ in range(2):
        assert stack.main(["select", "dev"]) == 0

    assert len(project.calls) == 2


def test_salt_of_a_thrown_away_state_is_dropped(project: Project) -> None:
    project.config.write_text("config:\n  slipway:registry: {}\nencryptionsalt: v1:abc=\n")

    stack.create("dev")

    assert project.config.read_text() == "config:\n  slipway:registry: {}\n"
    assert len(project.calls) == 2


def test_salt_stays_where_a_secret_needs_it(project: Project) -> None:
    text = "config:\n  slipway:key:\n    secure: v1:xyz\nencryptionsalt: v1:abc=\n"
    project.config.write_text(text)

    with pytest.raises(SetupError, match="encrypted with another passphrase"):
        stack.create("dev")
    assert project.config.read_text() == text


def test_failure_of_pulumi_is_shown_in_its_words(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.pulumi("#!/bin/sh\necho 'error: no such bucket' >&2\nexit 255\n")

    assert stack.main(["ready", "dev"]) == 1
    assert "error: no such bucket" in capsys.readouterr().err


def test_stack_that_never_was_is_missing(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert stack.main(["missing", "dev"]) == 0
    assert "stack dev does not exist: nothing to delete" in capsys.readouterr().err


def test_compressed_state_counts(project: Project) -> None:
    project.stacks.mkdir(parents=True)
    (project.stacks / "dev.json.gz").write_bytes(b"")

    assert stack.main(["missing", "dev"]) == 1


def test_tidy_removes_empty_directories_alone(project: Project) -> None:
    home = project.root / ".slipway" / "dev"
    (home / "demo" / "store" / "blobs").mkdir(parents=True)
    (home / "other").mkdir()
    (home / "other" / "kept").write_text("")

    assert stack.main(["tidy", "dev"]) == 0
    assert sorted(p.relative_to(home).as_posix() for p in home.rglob("*")) == ["other", "other/kept"]


def test_tidy_removes_the_stack_directory_when_nothing_is_left(project: Project) -> None:
    (project.root / ".slipway" / "dev" / "demo").mkdir(parents=True)

    assert stack.main(["tidy", "organization/slipway/dev"]) == 0
    assert not (project.root / ".slipway" / "dev").exists()
