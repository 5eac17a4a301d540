"""Images in a real registry: what goes over the wire, and what faults leave."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provider.content.modelpack import MANIFEST, artifact
from provider.content.watch import Watch
from provider.images.store import ImageLayoutStore
from provider.location import Location
from provider.resource import ResourceError
from provider.values import Properties
from tests.registry.faulty_proxy import FaultyProxy, Handler
from tests.registry.registry_process import RegistryProcess
from tests.registry.support import QUICK
from tests.unit.images.support import SCORE
from tests.unit.images.test_service_image import Stack


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    process = RegistryProcess(tmp_path_factory.mktemp("registry"))
    try:
        process.start()
        yield process
    finally:
        process.stop()


class RegistryStack(Stack):
    """The stack of the other tests, with a registry, behind a proxy, as the place of its images."""

    def __init__(self, root: Path, proxy: FaultyProxy, name: str) -> None:
        super().__init__(root)
        self.proxy = proxy
        self.name = name

    def inputs(self, **more: Any) -> Properties:
        home = str(self.root / "layout")
        place = {"registry": self.proxy.address, "baseRegistry": home, "modelLayout": home}
        return super().inputs(**{**place, "repository": f"services/{self.name}", **more})

    def location(self) -> Location:
        return Location(self.proxy.address)

    def sent(self) -> int:
        """Bytes of blobs and manifests that went over the wire."""
        return sum(request.received for method in ("PUT", "PATCH", "POST") for request in self.proxy.asked(method))


@pytest.fixture
def stack(
    running: RegistryProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[RegistryStack]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    with FaultyProxy(running.port) as proxy:
        yield RegistryStack(tmp_path, proxy, "-".join(re.findall("[a-z0-9]+", request.node.name.lower())))


def refuses(handler: Handler) -> None:
    handler.body()
    handler.send_response(403)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def test_an_image_is_in_the_registry_and_goes_again(stack: RegistryStack) -> None:
    state = stack.create()
    assert state["reference"] == f"{stack.proxy.address}/services/{stack.name}@{state['digest']}"
    assert stack.read(state) == state
    for _ in range(2):
        asyncio.run(stack.resource.delete(stack.context(), state["reference"], state))
    assert stack.read(state) is None
    assert stack.create() == state


def test_an_image_of_a_registry_on_this_machine_that_is_gone_needs_no_removing(
    stack: RegistryStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provider.registry.client.Patience", lambda: QUICK)
    process = RegistryProcess(tmp_path / "gone")
    process.start()
    state = stack.create(registry=process.address)
    process.stop()
    asyncio.run(stack.resource.delete(stack.context(), state["reference"], state))
    assert stack.log.lines[-1].startswith(f"the image {state['reference']} is taken as gone: could not reach it: ")
    elsewhere = {**state, "registry": "registry.invalid"}
    with pytest.raises(ResourceError, match="cannot be reached"):
        asyncio.run(stack.resource.delete(stack.context(), state["reference"], elsewhere))


def test_the_same_image_has_the_same_digest_everywhere(stack: RegistryStack) -> None:
    here = {"registry": str(stack.root / "layout"), "repository": "services/mnist"}
    _, elsewhere = asyncio.run(stack.resource.create(stack.context(), {**stack.checked(), **here}))
    assert stack.create()["digest"] == elsewhere["digest"]


def test_a_changed_script_sends_code_and_documents_alone(stack: RegistryStack) -> None:
    stack.create()
    (stack.code / "score.py").write_text(SCORE + "# changed\n")
    news = stack.checked()
    before = stack.sent()
    _, state = asyncio.run(stack.resource.create(stack.context(), news))
    code = state["layers"][-1]
    assert code["kind"] == "code"
    assert code["size"] < stack.sent() - before <= code["size"] + 65536


def test_a_model_of_the_registry_is_mounted_and_not_sent(stack: RegistryStack) -> None:
    repository = f"models/{stack.name}"
    documents = artifact("mnist", stack.model, "models/mnist/model.bin")
    source = ImageLayoutStore(stack.root / "layout", "models")
    with stack.location().repository(repository, Watch()) as models:
        models.put_blob(stack.model.digest, stack.model.size, lambda: source.open_blob(stack.model.digest))
        config = stack.root / "config.json"
        config.write_bytes(documents.config)
        models.put_blob(documents.config_blob.digest, documents.config_blob.size, lambda: config.open("rb"))
        models.put_manifest("1", MANIFEST, documents.manifest)
    before = [request.path for request in stack.proxy.asked("PUT")]
    state = stack.create(modelRepositories={"mnist": repository})
    put = [request.path for request in stack.proxy.asked("PUT")][len(before) :]
    assert put
    assert not [path for path in put if stack.model.digest in path.replace("%3A", ":")]
    assert any(f"mount={stack.model.digest}" in request.path for request in stack.proxy.asked("POST"))
    assert stack.read(state) == state


def test_what_fails_before_the_manifest_is_completed_by_the_next(stack: RegistryStack) -> None:
    stack.proxy.when("PUT", "/manifests/", refuses)
    with pytest.raises(ResourceError, match="the image of mnist: "):
        stack.create()
    with stack.location().repository(f"services/{stack.name}", Watch()) as store:
        assert store.tags() == []
    before = stack.sent()
    state = stack.create()
    assert stack.sent() - before < 65536
    assert stack.read(state) == state


def test_a_password_is_told_to_nobody(stack: RegistryStack) -> None:
    secret = "s3cret-of-the-registry"
    stack.proxy.when("PUT", "/manifests/", refuses)
    with pytest.raises(ResourceError) as caught:
        stack.create(username="user", password=secret)
    assert secret not in str(caught.value) + " ".join(stack.log.said)
    assert secret not in repr(Location("127.0.0.1:1", "user", secret))
