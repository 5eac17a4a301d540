"""Models and images of services, beside `docker build` and `docker push` of the same files, in one run.

Ours are the operations of the resources `ModelVersion` and `ServiceImage` (check and create), without Pulumi's engine
around them; Docker's are its two commands with BuildKit, without the start of a container. Both send to the same
registry on this machine. Needs root, docker, docker-registry and debootstrap, as `make test-docker` does.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airgap.base import image as base_image
from benchmarks.report import Row
from provider.content.cache import DigestCache
from provider.content.layer import layer_digest
from provider.content.store import Request, Store
from provider.content.watch import Watch
from provider.images.environment import environment_layer, lock_digest
from provider.location import Location
from provider.resource import Context
from provider.service_image import ServiceImage
from tests.docker.engine import Docker, docker_engine, registry

_GIB = 2**30
_PIECE = 2**20
_SMALL_FILES, _SMALL_BYTES = 10_000, 10 * 1024
_REPEATS = 5
_ROOT = Path(__file__).parents[1]
_EXAMPLE = _ROOT / "examples" / "sklearn_mnist"
_LOCK = _ROOT / "stacks" / "locks" / "dev.sklearn.txt"

# A plain upload may take 1.3 times as long; Docker six times, and three times for a script.
_UPLOADS, _DOCKERS, _SCRIPTS, _ENVIRONMENTS = 1.3, 6, 3, 3


def run() -> list[Row]:
    with (
        tempfile.TemporaryDirectory() as folder,
        _caches_in(Path(folder) / "xdg"),
        docker_engine() as docker,
        registry(Path(folder)) as address,
    ):
        side = _Side(Path(folder), docker, address)
        rows = []
        big = _random_file(side.root / "big" / "model.bin", _GIB)
        small = _random_files(side.root / "small")
        rows += _registering("a model of 1 GiB", side, big)
        rows += _registering("a model of 10,000 files of 10 KiB", side, small)
        rows += _images(side, big)
        rows += _environment(side)
        return rows


@contextmanager
def _caches_in(folder: Path) -> Iterator[None]:
    """No digests or layers of other runs; the base image, which is no part of what is measured, is taken from them."""
    layer = base_image.cached_layer()[0].parent
    shutil.copytree(layer, folder / "slipway" / "base")
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before


class _Silent:
    def info(self, message: str) -> None:
        return None

    warning = status = info


_CONTEXT = Context("urn:pulumi:bench::slipway::slipway:index:ServiceImage::bench", _Silent())


@dataclass
class _Side:
    """The two sides, and the code folder that both send."""

    root: Path
    docker: Docker
    address: str
    base: str = field(init=False)

    def __post_init__(self) -> None:
        layer, blob, python = base_image.cached_layer()
        with Location(self.address).repository("base/python", Watch()) as store:
            self.base = f"base/python@{base_image.push(store, 'debian12', layer, blob, python)}"
        self.docker.run("pull", f"{self.address}/{self.base}")
        (self.root / "code").mkdir()
        shutil.copy(_EXAMPLE / "score.py", self.root / "code")
        self.empty_lock = self.root / "empty.txt"
        self.empty_lock.write_text("# no packages\n")

    def change_script(self) -> None:
        """Makes the entry script another than it ever was."""
        with (self.root / "code" / "score.py").open("a") as script:
            script.write(f"# {time.time_ns()}\n")

    def image(self, models: list[dict[str, Any]], lock: Path, repository: str = "services/bench") -> dict[str, Any]:
        """Ours: checks and creates."""
        inputs = {
            "registry": self.address,
            "repository": repository,
            "name": "bench",
            "base": self.base,
            "platform": "linux/amd64",
            "pythonVersion": "3.11",
            "lockFile": str(lock),
            "environmentDigest": lock_digest(lock.read_text()),
            "serverDirectory": str(_ROOT / "serving" / "slipway_serving"),
            "models": models,
            "modelLayout": str(self.root / "store"),
            "sourceDirectory": str(self.root / "code"),
            "entryScript": "score.py",
            "port": 8890,
        }
        image = ServiceImage()
        news, failures = asyncio.run(image.check(_CONTEXT, inputs))
        assert not failures, failures
        return asyncio.run(image.create(_CONTEXT, news))[1]

    def docker_build(self, *arguments: str) -> None:
        """`docker build` with BuildKit, which only some of the clients on PATH may have."""
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        if self.docker.host is not None:
            environment["DOCKER_HOST"] = self.docker.host
        said = ""
        for folder in os.get_exec_path():
            client = Path(folder) / "docker"
            if client.is_file():
                command = [str(client), "build", "--quiet", *arguments]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
                if done.returncode == 0:
                    return
                said += done.stderr
        raise AssertionError(f"docker build: {said}")

    def build_and_push(self, name: str, model: Path | None, packages: Path | None, *options: str) -> float:
        """Docker's: an image of the same files. Returns the seconds of the two commands."""
        context = self.root / "context"
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir()
        lines = [f"FROM {self.address}/{self.base}"]
        if packages is not None:
            shutil.copytree(packages, context / "environment", copy_function=os.link)
            lines.append("COPY environment /opt/slipway/environment")
        shutil.copytree(_ROOT / "serving" / "slipway_serving", context / "server")
        lines.append("COPY server /opt/slipway/server/slipway_serving")
        if model is not None:
            os.link(model, context / model.name)
            lines.append(f"COPY {model.name} /models/")
        shutil.copytree(self.root / "code", context / "code")
        lines.append("COPY code /var/azureml-app")
        (context / "Dockerfile").write_text("\n".join(lines) + "\n")
        tag = f"{self.address}/docker/{name}"
        built = _timed(lambda: self.docker_build(*options, "--tag", tag, str(context)))
        return built + _timed(lambda: self.docker.run("push", "--quiet", tag))


def _timed(work: Callable[[], Any]) -> float:
    os.sync()
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


# --- registering


def _registering(what: str, side: _Side, source: Path) -> list[Row]:
    """Into a store on this machine; beside it the sha256 of the files and one copy of them."""
    plain = _timed(lambda: _hash_and_copy(source, side.root / "copy"))
    shutil.rmtree(side.root / "copy")
    ours, peak = _register_apart(source, side.root / "store")
    again = _timed(lambda: _register(source, side.root / "store"))
    return [
        Row(f"register {what}", "s", ours, peers={"sha256 + copy": plain}),
        Row(f"register {what} again", "s", again),
        Row(f"register {what}: peak memory", "MiB", peak / 2**20),
    ]


def _hash_and_copy(source: Path, target: Path) -> None:
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    for file in files:
        with file.open("rb") as content:
            hashlib.file_digest(content, "sha256")
        copy = target / file.relative_to(source.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    os.sync()


def _register(source: Path, store: Path) -> dict[str, Any]:
    cache = DigestCache()
    layer = layer_digest(source, "bench", cache)
    Store(store, cache).register(Request("bench", source, layer.digest, "bench/slipway"))
    return {"name": "bench", "version": 1, "digest": layer.digest, "size": layer.size}


def _register_apart(source: Path, store: Path) -> tuple[float, int]:
    """Seconds and peak memory (bytes) of registering, in a process of its own."""
    os.sync()
    code = (
        "import resource, sys, time; from pathlib import Path; from benchmarks.assets import _register\n"
        "begun = time.perf_counter(); _register(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    command = [sys.executable, "-c", code, str(source), str(store)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
    seconds, peak = done.stdout.split()
    return float(seconds), int(peak)


# --- images


def _images(side: _Side, model: Path) -> list[Row]:
    upload = _timed(lambda: _upload(side.address, model))
    shutil.rmtree(side.root / "store")
    shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"]) / "slipway" / "digests")
    first = _timed(lambda: side.image([_register(model, side.root / "store")], side.empty_lock))
    registered = _register(model, side.root / "store")
    docker_first = side.build_and_push("bench", model, None)
    changed, docker_changed = [], []
    for _ in range(_REPEATS):
        side.change_script()
        changed.append(_timed(lambda: side.image([registered], side.empty_lock)))
        docker_changed.append(side.build_and_push("bench", model, None))
    side.change_script()
    shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"]) / "slipway" / "digests")
    shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"]) / "slipway" / "layers")
    uncached = _timed(lambda: side.image([registered], side.empty_lock))
    side.docker.run("builder", "prune", "--all", "--force")
    docker_uncached = side.build_and_push("bench", model, None, "--no-cache")
    warm = statistics.median(docker_changed)
    return [
        Row("register a model of 1 GiB, and its image", "s", first, docker_first / _DOCKERS, {"docker": docker_first}),
        Row("the same, to sha256 + one upload of it", "ratio", first / upload, _UPLOADS),
        Row("entry script changed", "s", statistics.median(changed), warm / _SCRIPTS, {"docker": warm}),
        Row("entry script changed, no cache", "s", uncached, warm / _SCRIPTS, {"docker": docker_uncached}),
    ]


def _environment(side: _Side) -> list[Row]:
    """scikit-learn, with the wheels in the installer's cache. Docker is given the installed packages, so that its
    figure is without any installer."""
    packages = side.root / "site"
    made = Path(os.environ["XDG_CACHE_HOME"]) / "slipway" / "layers"
    environment_layer(_LOCK.read_text(), "linux/amd64", "3.11")  # fetches what is not in the installer's cache
    shutil.rmtree(made)
    first = _timed(lambda: side.image([], _LOCK, "services/sklearn"))
    [layer] = made.glob("*.tar")
    packages.mkdir()
    subprocess.run(["tar", "-xf", str(layer), "-C", str(packages)], check=True)
    docker = side.build_and_push("sklearn", None, packages)
    return [Row("image with scikit-learn, wheels cached", "s", first, docker / _ENVIRONMENTS, {"docker": docker})]


def _upload(address: str, file: Path) -> None:
    """sha256 of a file, then one upload of it with curl."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    begin = [
        "curl",
        "--silent",
        "--fail",
        "--include",
        "--request",
        "POST",
        f"http://{address}/v2/plain/blobs/uploads/",
    ]
    answer = subprocess.run(begin, capture_output=True, text=True, check=True).stdout
    place = next(line.split(" ", 1)[1].strip() for line in answer.splitlines() if line.lower().startswith("location:"))
    joint = "&" if "?" in place else "?"
    send = ["curl", "--silent", "--fail", "--header", "Content-Type: application/octet-stream", "--upload-file"]
    subprocess.run([*send, str(file), f"{place}{joint}digest=sha256:{digest}"], check=True)


# --- files


def _random_file(path: Path, size: int) -> Path:
    path.parent.mkdir()
    with path.open("wb") as file:
        for _ in range(size // _PIECE):
            file.write(os.urandom(_PIECE))
    return path


def _random_files(folder: Path) -> Path:
    for number in range(_SMALL_FILES):
        place = folder / f"{number // 100:03}" / f"{number % 100:02}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(os.urandom(_SMALL_BYTES))
    return folder
