"""The two sides that are measured beside each other: Slipway's resources, and the commands of Docker and curl."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airgap.base import image as base_image
from benchmarks.assets.files import digest_of
from provider.content.watch import Watch
from provider.location import Location
from tests.docker.engine import Docker
from tests.docker.images import EXAMPLE, ROOT, Images


@contextmanager
def caches_in(folder: Path) -> Iterator[None]:
    """No digests or layers of other runs; the base image, which is no part of what is measured, is taken from them."""
    shutil.copytree(base_image.cached_layer()[0].parent, folder / "slipway" / "base")
    with variable("XDG_CACHE_HOME", str(folder)):
        yield


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Sets an environment variable meanwhile."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def sides_of(folder: Path, docker: Docker, address: str) -> Iterator[Sides]:
    """The two sides of a case."""
    sides = Sides(folder, docker, address)
    try:
        yield sides
    finally:
        sides.close()


def timed(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes, with nothing left to be written by what was before."""
    os.sync()
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@dataclass
class Sides:
    """What both sides of a case use: a folder, a registry with a base image, and the code that both send."""

    folder: Path
    docker: Docker
    address: str
    base: str = field(init=False)

    def __post_init__(self) -> None:
        layer, blob, python = base_image.cached_layer()
        with Location(self.address).repository("base/python", Watch()) as store:
            self.base = f"base/python@{base_image.push(store, 'debian12', layer, blob, python)}"
        self.docker.run("pull", f"{self.address}/{self.base}")
        self.code = self.folder / "code"
        self.code.mkdir()
        shutil.copy(EXAMPLE / "score.py", self.code)
        self.empty_lock = self.folder / "empty.txt"
        self.empty_lock.write_text("# no packages\n")

    def close(self) -> None:
        """Takes the base image out of the engine, which may be that of the machine."""
        self.docker.run("image", "rm", "--force", f"{self.address}/{self.base}")

    def images(self, name: str = "bench") -> Images:
        """Ours: images from the models of a store in the case's folder."""
        return Images(self.address, self.base, self.folder, name)

    def forget(self, *caches: str) -> None:
        """Removes caches of ours: `digests`, `layers`."""
        for cache in caches:
            shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"]) / "slipway" / cache, ignore_errors=True)

    def change_script(self) -> None:
        """Makes the entry script another than it ever was."""
        with (self.code / "score.py").open("a") as script:
            script.write(f"# {time.time_ns()}\n")

    # --- Docker's

    def forget_builds(self) -> None:
        """Docker's cold cache. That of an engine which was running already is somebody's: it stays."""
        if self.docker.host is not None:
            self.docker.run("builder", "prune", "--all", "--force")

    def build_and_push(self, name: str, lines: list[str], files: dict[str, Path], *options: str) -> float:
        """Docker's image: `files` by their names in the context, which `lines` put onto the base image, then the
        server's code and the service's. Returns the seconds of the two commands."""
        context = self.folder / "context"
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir()
        ours = {"server": ROOT / "serving" / "slipway_serving", "code": self.code}
        for target, source in {**files, **ours}.items():
            # What was made for this is linked; other files may be on another file system.
            copy = os.link if source.is_relative_to(self.folder) else shutil.copyfile
            if source.is_dir():
                shutil.copytree(source, context / target, copy_function=copy)
            else:
                copy(source, context / target)
        steps = [f"FROM {self.address}/{self.base}", *lines]
        steps += ["COPY server /opt/slipway/server/slipway_serving", "COPY code /var/azureml-app"]
        (context / "Dockerfile").write_text("\n".join(steps) + "\n")
        tag = f"{self.address}/docker/{name}"
        built = timed(lambda: self._build(*options, "--tag", tag, str(context)))
        pushed = timed(lambda: self.docker.run("push", "--quiet", tag))
        self.docker.run("image", "rm", "--force", tag)
        return built + pushed

    def _build(self, *arguments: str) -> None:
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

    # --- curl's

    def upload(self, source: Path) -> None:
        """sha256 of a file, then one upload of it with curl. A folder is made a tar first."""
        file = source
        if source.is_dir():
            file = self.folder / "plain.tar"
            subprocess.run(["tar", "-cf", str(file), "-C", str(source.parent), source.name], check=True)
        quiet = ["curl", "--silent", "--fail"]
        begin = [*quiet, "--include", "--request", "POST", f"http://{self.address}/v2/plain/blobs/uploads/"]
        answer = subprocess.run(begin, capture_output=True, text=True, check=True).stdout
        place = next(
            line.split(" ", 1)[1].strip() for line in answer.splitlines() if line.lower().startswith("location:")
        )
        target = f"{place}{'&' if '?' in place else '?'}digest=sha256:{digest_of(file)}"
        send = [*quiet, "--header", "Content-Type: application/octet-stream", "--upload-file", str(file), target]
        subprocess.run(send, check=True)
        if file is not source:
            file.unlink()
