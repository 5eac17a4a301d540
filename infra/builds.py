"""What Docker builds for environments: who can have that, and whether secrets stay out of the image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.config import ClusterRegistry, Environment, LayoutRegistry, SecretReference
from infra.problems import Problem


@dataclass(frozen=True)
class BuildPlan:
    """What is built on a base image: see `components.built_image.ImageBuild`."""

    dockerfile: Path | None = None
    apt_packages: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    secrets: Mapping[str, SecretReference] = field(default_factory=dict)


def build_of(environment: Environment, base: BuildPlan | None, root: Path) -> BuildPlan | None:
    """What `environment` builds, with what the one that it clones builds; None for nothing."""
    before = base or BuildPlan()
    dockerfile = None if environment.dockerfile is None else (root / environment.dockerfile).resolve()
    made = BuildPlan(
        dockerfile=dockerfile or before.dockerfile,
        apt_packages=tuple(dict.fromkeys((*before.apt_packages, *environment.apt_packages))),
        steps=(*before.steps, *environment.docker_steps),
        secrets={**before.secrets, **environment.docker_secrets},
    )
    return None if made == BuildPlan() else made


def check(path: str, build: BuildPlan, file: str, key: str = "dockerfile") -> Iterator[Problem]:
    """Yields what cannot be built for the environment at `path` of `file`, which names a Dockerfile by `key`."""
    if build.dockerfile is None:
        if build.secrets and not (build.apt_packages or build.steps):
            yield Problem(file, f"{path}.dockerSecrets", "are for a build, and nothing is built; remove them")
        return
    if build.apt_packages or build.steps:
        other = "aptPackages" if build.apt_packages else "dockerSteps"
        yield Problem(file, f"{path}.{other}", "stands beside a Dockerfile; put it into that")
    try:
        text = build.dockerfile.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        yield Problem(file, f"{path}.{key}", f"{build.dockerfile} cannot be read: {error}; mend the path")
        return
    for secret in sorted(build.secrets.keys() & arguments_of_the_image(text)):
        yield Problem(
            file,
            f"{path}.dockerSecrets.{secret}",
            f"would be kept in the image's history: the last stage of {build.dockerfile.name} has `ARG {secret}`; use "
            f"it in a stage of its own, and take over what that makes with `RUN --mount=type=bind,from=STAGE` or COPY",
        )


def arguments_of_the_image(dockerfile: str) -> set[str]:
    """The build arguments that the last stage of a Dockerfile uses, and that its image tells in its history."""
    stage = re.split(r"^[ \t]*FROM[ \t]", dockerfile, flags=re.IGNORECASE | re.MULTILINE)[-1]
    joined = re.sub(r"\\[ \t]*\n", " ", stage)
    words = re.findall(r"^[ \t]*ARG[ \t]+(.+)$", joined, flags=re.IGNORECASE | re.MULTILINE)
    return {word.partition("=")[0] for line in words for word in line.split()}


def check_uses(local: Mapping[str, str], made: Mapping[str, str], registry: object, file: str) -> Iterator[Problem]:
    """Yields uses of a built environment where there is none: by processes, and without a registry to push to.

    `local` and `made` map the path of such a use to the environment: on this machine, and in an image.
    """
    for path, environment in local.items():
        yield Problem(
            file,
            path,
            f"runs without a container, where Debian packages, steps and Dockerfiles of the environment "
            f"{environment!r} cannot be honoured; deploy to another kind of target, or take another environment",
        )
    for path, environment in made.items():
        if isinstance(registry, LayoutRegistry):
            yield Problem(
                file,
                path,
                f"has the environment {environment!r}, which Docker builds and pushes to a registry, and this "
                f"workspace's is an image layout; choose `kind: service` with a port, or `kind: external`",
            )
        elif isinstance(registry, ClusterRegistry):
            yield Problem(
                file,
                path,
                f"has the environment {environment!r}, which Docker builds and pushes to a registry, and no Docker "
                f"engine reaches this workspace's, in a cluster; choose `kind: external`, or name an image in "
                f"`images.python` that has what is needed",
            )
