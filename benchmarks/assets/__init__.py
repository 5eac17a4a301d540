"""Models and images of services, beside `docker build` and `docker push` of the same files, in one run.

Ours are the operations of the resources `ModelVersion` and `ServiceImage` (check and create), without Pulumi's engine
around them; Docker's are its two commands with BuildKit, without the start of a container. Both send to the same
registry on this machine. Needs root, docker, docker-registry and debootstrap, as `make test-docker` does; 10 GiB are
left out, and that is said, where the disk is too small for them.

Environment variables narrow a run: BENCH_CASES (parts of the names of cases, separated by commas; `python -m
benchmarks.assets` lists them) and BENCH_ROUNDS; BENCH_SHRINK divides the sizes, to try whether it runs at all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks._choice import chosen
from benchmarks.assets import environments, images, models
from benchmarks.assets.sides import Sides, caches_in, sides_of
from benchmarks.report import Row
from tests.docker.engine import docker_engine, registry

CASES: dict[str, Callable[[Sides], list[Row]]] = {
    "store: 1 GiB": lambda sides: models.stored(sides, models.GIB_1),
    "store: 10,000 files": lambda sides: models.stored(sides, models.SMALL_FILES),
    "store: 10 GiB": lambda sides: models.stored(sides, models.GIB_10),
    "registry: 1 GiB": lambda sides: models.pushed(sides, models.GIB_1),
    "registry: 10,000 files": lambda sides: models.pushed(sides, models.SMALL_FILES),
    "registry: 10 GiB": lambda sides: models.pushed(sides, models.GIB_10),
    "first deployment: model in a store": lambda sides: images.first(sides, in_registry=False),
    "first deployment: model in the registry": lambda sides: images.first(sides, in_registry=True),
    "entry script": images.script,
    "environment: wheels cached": environments.warm,
    "environment: nothing cached": environments.cold,
}


def run() -> list[Row]:
    """Measures the chosen cases. Each has a folder and a registry in it, which are removed after it."""
    cases = {name: case for name, case in CASES.items() if chosen(name, "BENCH_CASES")}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as root, caches_in(Path(root) / "xdg"), docker_engine() as docker:
        for name, case in cases.items():
            print(f"  {name} ...", flush=True)
            with (
                tempfile.TemporaryDirectory(dir=root) as folder,
                registry(Path(folder)) as address,
                sides_of(Path(folder), docker, address) as sides,
            ):
                rows += case(sides)
    return rows
