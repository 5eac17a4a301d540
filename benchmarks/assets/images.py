"""Images of a service with a model of 1 GiB, beside Docker's: the first deployment, and a changed entry script."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks._choice import rounds
from benchmarks.assets.models import GIB_1
from benchmarks.assets.sides import Sides, timed
from benchmarks.report import Row
from tests.docker.images import register

# A plain upload may take 1.3 times as long; Docker six times, and three times for a script.
_UPLOADS, _DOCKERS, _SCRIPTS = 1.3, 6, 3
_REPEATS = 5  # for each round


def first(sides: Sides, *, in_registry: bool) -> list[Row]:
    """The model registered and its image made, with nothing of either there before; beside it one upload of the file
    with curl, and Docker's image of it. Other bytes in each round."""
    uploads, ours, docker = [], [], []
    ways: list[Callable[[Path], None]] = [
        lambda file: uploads.append(timed(lambda: sides.upload(file))),
        lambda file: ours.append(timed(lambda: _deployed(sides, file, in_registry))),
        lambda file: docker.append(sides.build_and_push("bench", ["COPY model.bin /models/"], {"model.bin": file})),
    ]
    for number in range(rounds()):
        file = GIB_1.make(sides.folder / "source")
        for way in (*ways[number % 3 :], *ways[: number % 3]):
            way(file)
        shutil.rmtree(sides.images().store, ignore_errors=True)
    place = "the registry" if in_registry else "a store"
    what = f"first deployment, a model of {GIB_1.name} in {place}"
    ratio = median(one / upload for one, upload in zip(ours, uploads, strict=True))
    return [
        Row(what, "s", median(ours), median(docker) / _DOCKERS, {"docker": median(docker)}),
        Row(f"{what}, to sha256 + one upload", "ratio", ratio, _UPLOADS),
    ]


def _deployed(sides: Sides, file: Path, in_registry: bool) -> None:
    images = sides.images()
    if in_registry:
        model = register("bench", file, sides.address)
        images.make(sides.code, [model], sides.empty_lock, modelRepositories={"bench": "models/bench"})
    else:
        images.make(sides.code, [images.model("bench", file)], sides.empty_lock)


def script(sides: Sides) -> list[Row]:
    """An image of the same model with a changed entry script: with all caches, and with none."""
    images = sides.images()
    file = GIB_1.make(sides.folder / "source")
    model = images.model("bench", file)

    def ours() -> float:
        sides.change_script()
        return timed(lambda: images.make(sides.code, [model], sides.empty_lock))

    def docker(*options: str) -> float:
        return sides.build_and_push("bench", ["COPY model.bin /models/"], {"model.bin": file}, *options)

    ours(), docker()
    warm, docker_warm = [], []
    for _ in range(_REPEATS * rounds()):
        warm.append(ours())
        docker_warm.append(docker())
    uncached, docker_uncached = [], []
    for _ in range(rounds()):
        sides.forget("digests", "layers")
        uncached.append(ours())
        sides.forget_builds()
        docker_uncached.append(docker("--no-cache"))
    limit = median(docker_warm) / _SCRIPTS
    return [
        Row("entry script changed", "s", median(warm), limit, {"docker": median(docker_warm)}),
        Row("entry script changed, no cache", "s", median(uncached), limit, {"docker": median(docker_uncached)}),
    ]
