"""`LocalService` whose models come from a real registry: fetched, verified, and never half there."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provider.local.layout import models
from provider.resource import ResourceError
from tests.registry.faulty_proxy import FaultyProxy, Handler, answers, changes, cuts_download
from tests.registry.models import ModelStack
from tests.registry.support import MIB, QUICK, content
from tests.unit.local.conftest import get
from tests.unit.local.conftest import home as home
from tests.unit.local.deployment import Deployment

SCORE = """
import hashlib, os, pathlib

def init():
    global answer
    walk = os.walk(os.environ["AZUREML_MODEL_DIR"], followlinks=True)
    files = sorted(pathlib.Path(folder, name) for folder, _, names in walk for name in names)
    answer = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]

def run(data):
    return {"files": answer}
"""


class Service:
    """A service and the stack that registers its models."""

    def __init__(self, folder: Path, home: Path, address: str) -> None:
        self.folder, self.address = folder, address
        self.deployment = Deployment(home, modelRegistry=address, models=[])
        self.deployment.write("score.py", SCORE)
        shutil.rmtree(home / "store")
        self.models: list[ModelStack] = []

    def serve(self, name: str, data: bytes, **more: Any) -> ModelStack:
        """Registers a model, and names it to the service."""
        model = ModelStack(self.folder / f"models-{name}", self.address, name=name)
        state = model.up(data)
        served = {"name": name, "version": state["version"], "digest": state["contentDigest"]}
        inputs = self.deployment.inputs
        inputs["models"] = [*inputs["models"], served]
        inputs["modelRepositories"] = {**inputs.get("modelRepositories", {}), name: state["repository"], **more}
        self.models.append(model)
        return model

    @property
    def here(self) -> list[str]:
        """What there is of models on this machine, whole or not."""
        folder = models(self.deployment.home)
        return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))

    def answer(self) -> Any:
        return get(self.deployment.port, "/score", b"{}")["files"]


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr("provider.registry.client.Patience", lambda: QUICK)


@pytest.fixture
def service(tmp_path: Path, home: Path, proxy: FaultyProxy, name: str) -> Iterator[Service]:
    service = Service(tmp_path, home, f"{proxy.address}/{name}")
    yield service
    if service.deployment.state:
        service.deployment.down()


def test_a_service_runs_on_what_the_registry_has_and_leaves_nothing(service: Service) -> None:
    model = service.serve("digits", b"seven")
    service.deployment.up()
    assert service.answer() == [hashlib.sha256(b"seven").hexdigest()]
    assert service.here == [model.state["contentDigest"][7:]]
    assert not (service.deployment.home / "store").exists()
    service.deployment.down()
    assert not service.deployment.home.exists()


def test_a_model_that_is_here_is_not_fetched_again(service: Service, proxy: FaultyProxy) -> None:
    service.serve("digits", b"seven")
    service.deployment.up()
    before = len(proxy.requests)
    service.deployment.write("score.py", SCORE + "# changed")
    service.deployment.inputs |= {"modelUsername": "u", "modelPassword": "p"}
    service.deployment.up()
    assert len(proxy.requests) == before


def test_several_models_are_fetched_at_once_but_not_more_than_the_tier_has(
    service: Service, proxy: FaultyProxy
) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def counts(handler: Handler) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        handler.forward(change=ends)

    def ends(_: dict[str, str], body: bytes) -> bytes:
        """Before the answer goes out: who has it asks for the next one at once."""
        nonlocal running
        with lock:
            running -= 1
        return body

    data = [content(MIB, seed=800 + number).data for number in range(5)]
    for number, item in enumerate(data):
        service.serve(f"m{number}", item)
    proxy.when("GET", "/blobs/", counts, times=100)
    service.deployment.inputs["modelParallel"] = 2
    service.deployment.up()
    assert service.answer() == [hashlib.sha256(item).hexdigest() for item in data]
    assert most <= 2


def test_where_it_is_not_told_the_model_s_own_repository_is_taken(service: Service) -> None:
    service.serve("Digits.V2", b"seven")
    del service.deployment.inputs["modelRepositories"]
    service.deployment.up()
    assert service.answer() == [hashlib.sha256(b"seven").hexdigest()]


def test_how_the_registry_is_reached_is_no_part_of_a_revision(service: Service) -> None:
    service.serve("digits", b"seven")
    before = service.deployment.up()
    service.deployment.inputs |= {"modelRegistry": "elsewhere.example", "modelParallel": 16}
    news = service.deployment.checked()
    assert service.deployment.service.diff(service.deployment.state, news) == []
    assert service.deployment.state["revision"] == before["revision"]


def test_a_layout_on_this_machine_can_be_named_too(service: Service, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    service.address = str(layout)
    model = ModelStack(tmp_path / "models-digits", str(layout), name="digits")
    state = model.up(b"seven")
    served = {"name": "digits", "version": 1, "digest": state["contentDigest"]}
    service.deployment.inputs |= {"models": [served], "modelRegistry": str(layout)}
    service.deployment.up()
    assert service.answer() == [hashlib.sha256(b"seven").hexdigest()]


# --- faults


def test_a_connection_that_ends_in_the_middle_is_gone_on_with(service: Service, proxy: FaultyProxy) -> None:
    data = content(4 * MIB, seed=810).data
    service.serve("digits", data)
    proxy.when("GET", "/blobs/", cuts_download(3 * MIB))
    proxy.when("GET", "/blobs/", answers(503, Retry_After="0"))
    service.deployment.up()
    assert service.answer() == [hashlib.sha256(data).hexdigest()]
    assert any("Range" in request.headers for request in proxy.asked("GET", "/blobs/"))


def test_what_is_not_what_its_digest_says_is_never_served(service: Service, proxy: FaultyProxy) -> None:
    service.serve("digits", b"seven" * MIB)
    proxy.when("GET", "/blobs/", changes(lambda _, body: body[:3000] + b"X" + body[3001:]), times=100)
    with pytest.raises(ResourceError, match=r"is damaged: the blob sha256:.* is corrupt: the registry"):
        service.deployment.apply()
    assert service.here == []


def test_what_ends_too_early_is_never_served(service: Service, proxy: FaultyProxy) -> None:
    service.serve("digits", b"seven" * MIB)

    def short(headers: dict[str, str], body: bytes) -> bytes:
        headers["Content-Length"] = str(MIB)
        return body[:MIB]

    proxy.when("GET", "/blobs/", changes(short), times=100)
    with pytest.raises(ResourceError, match="is damaged: "):
        service.deployment.apply()
    assert service.here == []


def test_a_layer_that_is_gone_says_how_to_mend_it(service: Service) -> None:
    model = service.serve("digits", b"seven")
    model.repository.delete_blob(model.state["contentDigest"])
    with pytest.raises(ResourceError, match=r"does not hold it; run `pulumi up --refresh`, which uploads"):
        service.deployment.apply()
    assert service.here == []
    model.refresh()
    model.deploy()
    service.deployment.up()
    assert service.answer() == [hashlib.sha256(b"seven").hexdigest()]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (answers(401, WWW_Authenticate="Basic realm=x"), "wants a user name and a password"),
        (answers(403), "does not allow it"),
        (answers(429), "answered 429"),
        (answers(500), "answered 500"),
    ],
)
def test_what_does_not_pass_is_told_and_what_ran_goes_on(
    service: Service, proxy: FaultyProxy, answer: Any, words: str
) -> None:
    service.serve("digits", b"seven")
    service.deployment.up()
    before = service.here
    service.serve("letters", b"eight")
    proxy.when("GET", "/blobs/", answer, times=100)
    with pytest.raises(ResourceError, match=words):
        service.deployment.apply()
    assert service.answer() == [hashlib.sha256(b"seven").hexdigest()]
    assert service.here == before


def test_the_wish_to_stop_is_heeded_and_leaves_nothing(service: Service, proxy: FaultyProxy) -> None:
    service.serve("digits", content(4 * MIB, seed=811).data)

    def stops(handler: Handler) -> None:
        service.deployment.cancelled.set()
        handler.forward()

    proxy.when("GET", "/blobs/", stops)
    with pytest.raises(ResourceError, match="cancelled"):
        service.deployment.apply()
    assert service.here == []


@pytest.mark.parametrize(
    ("wrong", "where", "words"),
    [
        ({"modelRegistry": "stacks/store"}, "modelRegistry", "must be a registry's address"),
        ({"modelUsername": "u"}, "modelUsername", "go together"),
        ({"modelParallel": 0}, "modelParallel", "at least 1"),
    ],
)
def test_what_cannot_be_is_refused(service: Service, wrong: dict[str, Any], where: str, words: str) -> None:
    service.deployment.inputs |= wrong
    ((name, reason),) = service.deployment.failures()
    assert name == where
    assert words in reason
