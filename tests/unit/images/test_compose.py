"""An image put together from its layers, sent, and read back."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provider.content.cache import DigestCache
from provider.content.errors import ContentError
from provider.content.modelpack import Blob
from provider.images.base import read_base
from provider.images.compose import Image, Service, compose
from provider.images.layers import Model as LayeredModel
from provider.images.layers import code_layer, links_layer, model_layer, server_layer
from provider.images.publish import missing_from, publish
from provider.images.store import ImageLayoutStore
from tests.unit.images.support import SCORE, CountingStore, contents, push_base, register_model, unpacked

SERVICE = Service("mnist", "linux/amd64", "3.11", 8890, "abc", "score.py", ())


def image_of(root: Path, models: dict[str, Blob], base: str, service: Service = SERVICE, code: str = SCORE) -> Image:
    """The image of a server, models and an entry script, made from files below `root`."""
    (root / "code").mkdir(exist_ok=True)
    (root / "code" / "score.py").write_text(code)
    (root / "slipway_serving").mkdir(exist_ok=True)
    (root / "slipway_serving" / "__init__.py").write_text("")
    versions = tuple(LayeredModel(name, 1, layer) for name, layer in models.items())
    bases = ImageLayoutStore(root / "layout", "base", DigestCache(root / "cache"))
    return compose(
        replace(service, models=versions),
        read_base(bases, "base", base, service.platform),
        [
            server_layer(root / "slipway_serving"),
            *(model_layer(model, None, (f"models/{model.name}",)) for model in versions),
            links_layer(versions),
            code_layer(root / "code"),
        ],
    )


def config_of(image: Image) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(image.config)
    return document


def variables(image: Image) -> dict[str, str]:
    return dict(item.split("=", 1) for item in config_of(image)["config"]["Env"])


def test_the_same_inputs_are_the_same_image(tmp_path: Path) -> None:
    digests = set()
    for folder in ("here", "elsewhere"):
        root = tmp_path / folder
        root.mkdir()
        image = image_of(root, {"mnist": register_model(root)}, push_base(root))
        digests.add(image.digest)
    assert len(digests) == 1


def test_an_image_is_read_back(tmp_path: Path) -> None:
    layer = register_model(tmp_path)
    image = image_of(tmp_path, {"mnist": layer}, push_base(tmp_path))
    with CountingStore(tmp_path) as store:
        digest = publish(image, store, "abc")
        media_type, manifest = store.get_manifest("abc") or ("", b"")
        assert media_type == "application/vnd.oci.image.manifest.v1+json"
        layers = [item["digest"] for item in json.loads(manifest)["layers"]]
        assert layers[2] == layer.digest
        assert json.loads(manifest)["annotations"]["org.opencontainers.image.revision"] == "abc"
        _, server, model, links, code = [store.open_blob(item) for item in layers]
        assert list(contents(server)) == ["opt/slipway/server/slipway_serving/__init__.py"]
        assert contents(model) == {"models/mnist/model.bin": b"weights"}
        found = unpacked(links)
        assert found["var/azureml-app/azureml-models/mnist/1"].linkname == "/models/mnist"
        assert contents(code) == {"var/azureml-app/score.py": SCORE.encode()}
        assert missing_from(store, manifest) == []
    assert digest == image.digest


def test_the_config_says_how_to_run_it(tmp_path: Path) -> None:
    image = image_of(tmp_path, {"mnist": register_model(tmp_path)}, push_base(tmp_path, variables=("A=1", "PATH=/x")))
    config = config_of(image)
    assert (config["os"], config["architecture"], config["created"]) == ("linux", "amd64", "1970-01-01T00:00:00Z")
    assert config["config"]["User"] == "10001:10001"
    assert config["config"]["ExposedPorts"] == {"8890/tcp": {}}
    assert config["config"]["Entrypoint"] == ["python3", "-m", "slipway_serving"]
    assert config["config"]["WorkingDir"] == "/var/azureml-app"
    assert config["config"]["Labels"]["slipway.models"] == "mnist:1"
    assert config["config"]["Labels"]["org.opencontainers.image.revision"] == "abc"
    assert len(config["history"]) == len(config["rootfs"]["diff_ids"]) == 5
    found = variables(image)
    assert found["A"] == "1"
    assert found["PATH"].endswith("/site-packages/bin:/x")
    assert found["SERVER_PORT"] == "8890"
    assert found["AZUREML_ENTRY_SCRIPT"] == "score.py"


def test_variables_of_the_user_s_are_in_the_image_and_change_nothing_of_the_server_s(tmp_path: Path) -> None:
    given = {"LEVEL": "3", "A": "2", "PATH": "/mine", "PYTHONPATH": "/lib", "SERVER_PORT": "1", "HOME": "/data"}
    base = push_base(tmp_path, variables=("A=1", "PATH=/x"))
    found = variables(image_of(tmp_path, {}, base, replace(SERVICE, variables=given)))

    assert (found["LEVEL"], found["A"], found["HOME"], found["SERVER_PORT"]) == ("3", "2", "/data", "8890")
    assert found["PATH"].endswith("/site-packages/bin:/mine")
    assert found["PYTHONPATH"] == "/opt/slipway/server:/lib"


def test_the_model_directory_is_azures(tmp_path: Path) -> None:
    base = push_base(tmp_path)
    one, other = register_model(tmp_path, "one"), register_model(tmp_path, "other")
    assert "AZUREML_MODEL_DIR" not in variables(image_of(tmp_path, {}, base))
    single = variables(image_of(tmp_path, {"one": one}, base))
    assert single["AZUREML_MODEL_DIR"] == "/var/azureml-app/azureml-models/one/1"
    several = variables(image_of(tmp_path, {"one": one, "other": other}, base))
    assert several["AZUREML_MODEL_DIR"] == "/var/azureml-app/azureml-models"


def test_only_what_is_missing_is_sent(tmp_path: Path) -> None:
    models = {"mnist": register_model(tmp_path, content=bytes(2**20))}
    base = push_base(tmp_path)
    with CountingStore(tmp_path) as store:
        first = image_of(tmp_path, models, base)
        publish(first, store, "1")
        assert not {layer.blob.digest for layer in first.layers if layer.kind in ("base", "model")} & store.sent.keys()
    with CountingStore(tmp_path) as store:
        changed = image_of(tmp_path, models, base, code=SCORE + "# changed\n")
        publish(changed, store, "2")
        code = changed.layers[-1].blob
        assert store.sent == {
            code.digest: code.size,
            changed.config_blob.digest: changed.config_blob.size,
            "2": len(changed.manifest),
        }
        assert sum(store.sent.values()) <= code.size + 65536
    with CountingStore(tmp_path) as store:
        publish(changed, store, "2")
        assert store.sent == {"2": len(changed.manifest)}


def test_what_is_in_another_store_is_copied(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    layer = register_model(tmp_path)
    image = image_of(tmp_path, {}, push_base(tmp_path))
    source = ImageLayoutStore(tmp_path / "layout", "models/mnist", DigestCache(tmp_path / "cache"))
    model = model_layer(LayeredModel("mnist", 1, layer), lambda: source.open_blob(layer.digest))
    image = Image(image.config, image.manifest, (*image.layers, model))
    with CountingStore(tmp_path / "target") as store:
        publish(image, store, "1")
        assert layer.digest in store.sent
        assert set(store.sent) >= {item.blob.digest for item in image.layers}


def test_a_layer_that_is_nowhere_is_named(tmp_path: Path) -> None:
    image = image_of(tmp_path, {"gone": Blob(f"sha256:{'0' * 64}", 10)}, push_base(tmp_path))
    with CountingStore(tmp_path) as store, pytest.raises(ContentError, match=r"model layer sha256:000.*models/gone"):
        publish(image, store, "1")
    with CountingStore(tmp_path) as store:
        assert store.get_manifest("1") is None


def test_a_push_that_was_cut_short_completes(tmp_path: Path) -> None:
    image = image_of(tmp_path, {"mnist": register_model(tmp_path)}, push_base(tmp_path))
    for most in range(4):
        with CountingStore(tmp_path, most=most) as store, pytest.raises(ConnectionResetError):
            publish(image, store, "1")
        with CountingStore(tmp_path) as store:
            assert store.get_manifest("1") is None
    with CountingStore(tmp_path) as store:
        assert publish(image, store, "1") == image.digest
        assert missing_from(store, image.manifest) == []


def test_code_in_the_place_of_the_models_is_refused(tmp_path: Path) -> None:
    (tmp_path / "code" / "azureml-models").mkdir(parents=True)
    (tmp_path / "code" / "azureml-models" / "x").write_text("x")
    with pytest.raises(ContentError, match="azureml-models/x, where an image has the paths of its models"):
        code_layer(tmp_path / "code")


# --- base images


def base_of(root: Path, digest: str, platform: str = "linux/amd64") -> object:
    return read_base(ImageLayoutStore(root / "layout", "base", DigestCache(root / "cache")), "base", digest, platform)


def test_a_missing_base_is_named(tmp_path: Path) -> None:
    push_base(tmp_path)
    with pytest.raises(ContentError, match=r"the base image base@sha256:000.* is not there"):
        base_of(tmp_path, f"sha256:{'0' * 64}")


def test_a_base_for_another_platform_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="is made for linux/arm64, not for linux/amd64"):
        base_of(tmp_path, push_base(tmp_path, "linux/arm64"))


def test_a_base_of_several_platforms_is_chosen_from(tmp_path: Path) -> None:
    entries = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": push_base(tmp_path, f"linux/{architecture}"),
            "size": 1,
            "platform": {"os": "linux", "architecture": architecture},
        }
        for architecture in ("amd64", "arm64")
    ]
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    repository = _Manifests({entry["digest"]: tmp_path for entry in entries}, index)
    base = read_base(repository, "base", "sha256:index", "linux/arm64")  # type: ignore[arg-type]
    assert base.layers[0].blob.size == 1024
    with pytest.raises(ContentError, match="not made for linux/s390x, only for linux/amd64, linux/arm64"):
        read_base(repository, "base", "sha256:index", "linux/s390x")  # type: ignore[arg-type]


class _Manifests:
    """A repository with an index of manifests that lie in a layout's blobs."""

    def __init__(self, roots: dict[str, Path], index: bytes) -> None:
        self._roots = roots
        self._index = index

    def get_manifest(self, reference: str) -> tuple[str, bytes] | None:
        if reference not in self._roots:
            return "application/vnd.oci.image.index.v1+json", self._index
        return "application/vnd.oci.image.manifest.v1+json", self._blob(reference)

    def open_blob(self, digest: str) -> io.BytesIO:
        return io.BytesIO(self._blob(digest))

    def _blob(self, digest: str) -> bytes:
        root = next(iter(self._roots.values()))
        return (root / "layout" / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": []},
        {"layers": [{"mediaType": "text/plain", "digest": f"sha256:{'0' * 64}", "size": 1}]},
        {"layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "../x", "size": 1}]},
        {"layers": 7},
        {"config": {"digest": f"sha256:{'0' * 64}", "size": 2**40}},
        {"config": None},
    ],
)
def test_a_base_that_is_no_image_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    class Changed(ImageLayoutStore):
        def get_manifest(self, reference: str) -> tuple[str, bytes] | None:
            found = super().get_manifest(reference)
            assert found is not None
            return found[0], json.dumps({**json.loads(found[1]), **changes}).encode()

    digest = push_base(tmp_path)
    with pytest.raises(ContentError, match="is no image that can be built on"):
        read_base(Changed(tmp_path / "layout", "base"), "base", digest, "linux/amd64")


def test_a_base_with_another_python_is_refused(tmp_path: Path) -> None:
    base = push_base(tmp_path, variables=("PYTHON_VERSION=3.12.4",))
    with pytest.raises(ContentError, match=r"has Python 3\.12\.4, and the environment is for Python 3\.11"):
        image_of(tmp_path, {}, base)


def test_a_base_in_dockers_own_format_is_taken_over(tmp_path: Path) -> None:
    class Docker(ImageLayoutStore):
        def get_manifest(self, reference: str) -> tuple[str, bytes] | None:
            found = super().get_manifest(reference)
            assert found is not None
            manifest = json.loads(found[1])
            manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
            return "application/vnd.docker.distribution.manifest.v2+json", json.dumps(manifest).encode()

    digest = push_base(tmp_path)
    base = read_base(Docker(tmp_path / "layout", "base"), "base", digest, "linux/amd64")
    assert base.layers[0].media_type == "application/vnd.oci.image.layer.v1.tar+gzip"
