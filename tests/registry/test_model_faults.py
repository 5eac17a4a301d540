"""What goes wrong while a model is registered in a real registry, and what is left of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provider.resource import ResourceError
from provider.values import UNKNOWN
from tests.registry.faulty_proxy import FaultyProxy, Handler, answers, cuts_upload, keeps_upload, loses_answer
from tests.registry.models import ModelStack
from tests.registry.registry_process import DEADLINE, RegistryProcess
from tests.registry.support import MIB, QUICK, content

DENIED = b'{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}'
QUOTA = b'{"errors":[{"code":"DENIED","message":"exceed quota: 10 GiB of 10 GiB used"}]}'


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr("provider.registry.client.Patience", lambda: QUICK)


@pytest.fixture
def stack(tmp_path: Path, proxy: FaultyProxy, name: str) -> ModelStack:
    stack = ModelStack(tmp_path, f"{proxy.address}/{name}")
    stack.source.write_bytes(content(2 * MIB, seed=len(name)).data)
    return stack


def sound(stack: ModelStack) -> bool:
    """Whether the model is whole, by its bytes too."""
    with stack.repository.open_blob(stack.state["contentDigest"]) as blob:
        blob.read()
    return stack.refresh() == stack.state and "drift" not in stack.state


# --- got over


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/tags/list"),
        ("POST", "/uploads/"),
        ("PUT", "/uploads/"),
        ("PUT", "/manifests/1$"),
        ("GET", "/slipway-"),
    ],
)
def test_an_answer_that_passes_is_got_over(
    stack: ModelStack, proxy: FaultyProxy, status: int, method: str, path: str
) -> None:
    fault = proxy.when(method, path, answers(status, Retry_After="0"))
    stack.deploy()
    assert fault.met == 1 or "slipway" in path
    assert sound(stack)


@pytest.mark.parametrize("fault", [cuts_upload(MIB), keeps_upload(MIB), loses_answer])
def test_a_connection_that_ends_in_mid_upload_is_got_over(
    stack: ModelStack, proxy: FaultyProxy, fault: Callable[[Handler], None]
) -> None:
    met = proxy.when("PUT", "/blobs/uploads/", fault)
    stack.deploy()
    assert met.met == 1
    assert sound(stack)


@pytest.mark.parametrize("path", ["/manifests/1$", "/manifests/slipway-"])
def test_a_lost_answer_to_a_manifest_is_got_over(stack: ModelStack, proxy: FaultyProxy, path: str) -> None:
    proxy.when("PUT", path, loses_answer)
    assert stack.deploy()["version"] == 1
    assert sound(stack)


def test_a_layer_that_was_cleared_away_meanwhile_is_sent_again(stack: ModelStack, proxy: FaultyProxy) -> None:
    news = stack.checked()

    def clears(handler: Handler) -> None:
        stack.repository.delete_blob(news["contentDigest"])
        handler.forward()

    proxy.when("PUT", "/manifests/1$", clears)
    stack.deploy()
    assert f"does not hold {news['contentDigest']} that it names" in stack.log.lines[0]
    assert stack.log.lines[0].endswith("sending it again")
    assert sound(stack)


def test_files_that_were_only_just_written_are_hashed_on_the_way(stack: ModelStack) -> None:
    os.utime(stack.source)  # so that nothing is remembered of them
    stack.deploy()
    assert sound(stack)


# --- told


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (answers(401, WWW_Authenticate='Basic realm="x"'), "wants a user name and a password, and none are given"),
        (
            answers(403, DENIED),
            "does not allow it without credentials: 403 .*access to the resource is denied",
        ),
        (answers(429), "answered 429 .tried 4 times"),
        (answers(503), "answered 503 .tried 4 times"),
        (answers(507), "has no room left"),
        (answers(403, QUOTA), "has no room left: exceed quota: 10 GiB of 10 GiB used"),
    ],
)
def test_what_does_not_pass_is_told_and_nothing_is_named(
    stack: ModelStack, proxy: FaultyProxy, answer: Callable[[Handler], None], words: str
) -> None:
    fault = proxy.when("POST", "/blobs/uploads/", answer, times=100)
    with pytest.raises(ResourceError, match=f"^model mnist: .*{words}"):
        stack.deploy()
    fault.times = 0
    assert stack.repository.tags() == []
    stack.deploy()
    assert sound(stack)


def test_a_full_disk_is_told_with_the_size(tmp_path: Path) -> None:
    process = RegistryProcess(tmp_path / "small", limit=f"--fsize={MIB}")
    try:
        process.start()
        stack = ModelStack(tmp_path, process.address)
        stack.source.write_bytes(bytes(2 * MIB))
        with pytest.raises(ResourceError, match=r"upload the blob .* \(209\d+ bytes\).* has no room left"):
            stack.deploy()
        assert stack.repository.tags() == []
    finally:
        process.stop()


def test_a_claim_that_was_left_is_fulfilled_by_the_next_up(stack: ModelStack, proxy: FaultyProxy) -> None:
    fault = proxy.when("PUT", "/manifests/1$", answers(403, DENIED), times=100)
    with pytest.raises(ResourceError, match="does not allow it"):
        stack.deploy()
    fault.times = 0
    assert stack.tags() == []
    assert stack.deploy()["version"] == 1
    assert sound(stack)


_KILLED = """
import sys
from pathlib import Path
from tests.registry.models import ModelStack

stack = ModelStack(Path(sys.argv[1]), sys.argv[2])
stack.source.write_bytes(Path(sys.argv[3]).read_bytes())
stack.deploy()
"""


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/blobs/uploads/"),
        ("PUT", "/manifests/slipway-"),
        ("GET", "/manifests/slipway-"),
        ("PUT", "/manifests/1$"),
    ],
)
def test_what_a_killed_up_left_is_completed_by_the_next(
    stack: ModelStack, proxy: FaultyProxy, tmp_path: Path, method: str, path: str, done: bool
) -> None:
    processes: list[subprocess.Popen[bytes]] = []

    def kills(handler: Handler) -> None:
        if done:
            handler.forward(answer=False)  # it must not hear of it before it ends
        processes[0].kill()
        processes[0].wait()
        if not done:
            handler.cut()

    fault = proxy.when(method, path, kills)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "killed"), stack.address, str(stack.source)]
    processes.append(subprocess.Popen(command, env=environment))
    assert processes[0].wait(DEADLINE) == -signal.SIGKILL
    assert fault.met == 1
    assert stack.deploy()["version"] == 1
    assert sound(stack)
    stack.down()
    assert stack.repository.tags() == []


def test_files_that_changed_since_they_were_checked_are_told_and_nothing_is_named(
    stack: ModelStack, proxy: FaultyProxy
) -> None:
    news = stack.checked()

    def changes(handler: Handler) -> None:
        stack.source.write_bytes(content(2 * MIB, seed=999).data)
        handler.forward()

    proxy.when("POST", "/blobs/uploads/", changes)
    with pytest.raises(ResourceError, match=f"^model mnist: .*{stack.source.name} changed "):
        _create(stack, news)
    assert stack.repository.tags() == []


def test_the_wish_to_stop_is_heeded_in_mid_upload(stack: ModelStack, proxy: FaultyProxy) -> None:
    context = stack.context()

    def stops(handler: Handler) -> None:
        context.cancelled.set()
        handler.forward()

    proxy.when("POST", "/blobs/uploads/", stops)
    news = stack.checked()
    with pytest.raises(ResourceError, match=r"cancelled while .*; nothing half-done is left"):
        _create(stack, news, context)
    assert stack.repository.tags() == []


def test_a_registry_that_deletes_nothing_is_told_and_the_stack_comes_down(
    stack: ModelStack, proxy: FaultyProxy
) -> None:
    stack.deploy(aliases={})
    proxy.when("DELETE", "/manifests/", answers(405), times=100)
    stack.source.write_bytes(b"second")
    stack.deploy(keepVersions=1)
    assert "for a deletion, enable it in the registry's own configuration" in stack.log.lines[0]
    assert set(stack.state["versions"]) == {"1", "2"}
    stack.down()
    assert stack.tags() == ["1", "2"]


# --- away


def test_a_registry_that_is_away_leaves_a_preview_open_and_a_refresh_as_it_was(
    stack: ModelStack, tmp_path: Path
) -> None:
    process = RegistryProcess(tmp_path / "other")
    process.start()
    stack.address = process.address
    state = stack.deploy()
    process.stop()
    assert stack.refresh() == state
    assert "cannot be reached (Connection refused)" in stack.log.lines[0]
    assert stack.changes() == []
    described = stack.preview(description="digits")
    assert (described["version"], described["versions"]) == (state["version"], state["versions"])
    stack.source.write_bytes(b"second")
    foreseen = stack.preview()
    assert (foreseen["version"], foreseen["repository"]) == (UNKNOWN, "models/mnist")
    with pytest.raises(ResourceError, match="cannot be reached"):
        stack.deploy()
    process.start()
    assert stack.deploy()["version"] == 2
    process.stop()


def test_credentials_that_are_refused_are_no_drift(stack: ModelStack, proxy: FaultyProxy) -> None:
    state = stack.deploy()
    proxy.when("GET", "/tags/list", answers(401, WWW_Authenticate='Basic realm="x"'), times=100)
    assert stack.refresh() == state
    assert stack.log.lines[0].startswith("model mnist was not looked at: ")
    assert "wants a user name and a password" in stack.log.lines[0]


# --- side by side


def test_models_together_keep_to_the_tier_s_number_of_uploads(tmp_path: Path, proxy: FaultyProxy, name: str) -> None:
    running, most, lock, both = 0, 0, threading.Lock(), threading.Event()

    def counts(handler: Handler) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if most == 2:
                both.set()
        data = handler.body()
        both.wait(DEADLINE)  # the first one for another: each alone would be over before the next
        with lock:
            running -= 1
        handler.rfile = _Again(data, handler.rfile)  # type: ignore[assignment]
        handler.forward()

    proxy.when("PUT", "/blobs/uploads/", counts, times=100)
    stacks = [ModelStack(tmp_path, f"{proxy.address}/{name}", f"s{number}", f"m{number}") for number in range(6)]
    for number, stack in enumerate(stacks):
        stack.source.write_bytes(content(MIB, seed=700 + number).data)
    threads = [threading.Thread(target=stack.deploy, kwargs={"parallel": 2}) for stack in stacks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [stack.state["version"] for stack in stacks] == [1] * 6
    assert most == 2


class _Again:
    """Gives what was read already, then what follows."""

    def __init__(self, data: bytes, rest: Any) -> None:
        self._data = data
        self._rest = rest

    def read1(self, size: int) -> bytes:
        data, self._data = self._data[:size], self._data[size:]
        return data or bytes(self._rest.read1(size))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rest, name)  # requests that follow on the same connection


def _create(stack: ModelStack, news: dict[str, Any], context: Any = None) -> None:
    asyncio.run(stack.resource.create(context or stack.context(), news))
