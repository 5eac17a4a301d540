"""The image of an environment with scikit-learn, beside Docker's: with the wheels at hand, and with nothing at hand."""

from __future__ import annotations

import ensurepip
import os
import shutil
import ssl
import subprocess
from pathlib import Path
from statistics import median

from benchmarks._choice import rounds
from benchmarks.assets.sides import Sides, timed, variable
from benchmarks.report import Row
from provider.images.environment import environment_layer
from tests.docker.images import LOCK

_WARM = 3  # so many times as long may Docker take; with nothing at hand, as long
_TARGET = "/opt/slipway/environment"
_INDEXES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")


def warm(sides: Sides) -> list[Row]:
    """With the wheels in the installer's cache. Docker is given the installed packages, so that its figure is without
    any installer."""
    packages = sides.folder / "site"
    ours, docker = [], []
    sides.forget("layers")
    layer = environment_layer(LOCK.read_text(), "linux/amd64", "3.11")  # fetches what is not in the installer's cache
    packages.mkdir()
    subprocess.run(["tar", "-xf", str(layer.path), "-C", str(packages)], check=True)
    for number in range(rounds()):
        sides.forget("layers")
        ours.append(timed(lambda name=f"warm-{number}": sides.images(name).make(sides.code, [], LOCK)))
        sides.forget_builds()
        lines = [f"COPY site {_TARGET}"]
        docker.append(sides.build_and_push(f"warm-{number}", lines, {"site": packages}, "--no-cache"))
    what = "image with scikit-learn, wheels cached"
    return [Row(what, "s", median(ours), median(docker) / _WARM, {"docker": median(docker)})]


def cold(sides: Sides) -> list[Row]:
    """With nothing in any cache: both fetch the same wheels from the package index. Docker does it with pip."""
    ours, docker = [], []
    for number in range(rounds()):
        wheels = sides.folder / "wheels"
        sides.forget("layers")
        with variable("UV_CACHE_DIR", str(wheels)):
            ours.append(timed(lambda name=f"cold-{number}": sides.images(name).make(sides.code, [], LOCK)))
        shutil.rmtree(wheels)
        sides.forget_builds()
        docker.append(_installed_in_a_build(sides, f"cold-{number}"))
    what = "image with scikit-learn, nothing cached"
    return [Row(what, "s", median(ours), median(docker), {"docker": median(docker)})]


def _installed_in_a_build(sides: Sides, name: str) -> float:
    """Seconds of a build that installs the lock's packages, with pip from Python's own distribution.

    The addresses of indexes may hold passwords: as secrets, they stay out of the image, as the certificates do."""
    [pip] = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    certificates = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    assert certificates is not None, "this Python knows no certificates to trust: set SSL_CERT_FILE"
    options = ["--no-cache", "--network=host", f"--secret=id=certificates,src={certificates}"]
    mounts = ["--mount=type=secret,id=certificates"]
    exports = ["export PIP_CERT=/run/secrets/certificates"]
    for index in _INDEXES:
        if os.environ.get(index):
            options.append(f"--secret=id={index},env={index}")
            mounts.append(f"--mount=type=secret,id={index}")
            exports.append(f'export {index}="$(cat /run/secrets/{index})"')
    install = f"python3 /build/{pip.name}/pip install --no-cache-dir --require-hashes --only-binary=:all: --no-compile"
    install += f" --target={_TARGET} --requirement=/build/lock.txt"
    lines = [f"COPY {pip.name} lock.txt /build/", f"RUN {' '.join(mounts)} {' && '.join([*exports, install])}"]
    return sides.build_and_push(name, lines, {pip.name: pip, "lock.txt": LOCK}, *options)
