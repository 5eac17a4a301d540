"""The section `environments`, and the environments that Azure's inference configurations write out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from infra.config.base import BY_FORM, SECTION, TEXT, AssetName, Path, Secret, Section, Text


def _debian_package(name: str) -> str:
    if re.fullmatch(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=[A-Za-z0-9.+:~-]+)?", name) is None:
        raise ValueError(f"{name!r} is no Debian package: `libgomp1`, or `libgomp1=12.2.0-14` for one version")
    return name


def _secret_file(name: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", name) is None:
        raise ValueError(f"{name!r} is no name: up to 63 letters, digits and '_', the first no digit")
    return name


class Environment(Section):
    """The packages that services run with, beside those of the scoring server."""

    clone: AssetName | None = None
    """Environment to begin with: a curated one (`minimal`, `sklearn`, `onnx`, `tensorflow`, `pytorch`) or another of
    this file."""
    pip: tuple[str, ...] = ()
    """Packages to add, as pip names them: `scikit-learn`, `numpy>=2,<3`."""
    pip_requirements_file: Path | None = None
    """A requirements file with packages to add, relative to the project's folder."""
    conda_dependencies_file: Path | None = None
    """A conda file: its pip packages, Python's version, and from PyPI its conda packages."""
    python_version: Annotated[str, Field(pattern=r"^3\.\d+$")] | None = None
    """Python's version, `"3.12"` (in quotes); by default the one that runs Slipway."""
    apt_packages: tuple[Annotated[str, AfterValidator(_debian_package)], ...] = ()
    """Debian packages to install in the image; Docker builds it."""
    docker_steps: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Shell commands to run as root when the image is built, in order."""
    dockerfile: Path | None = None
    """A Dockerfile in place of these two, relative to the project's folder; it begins with `ARG BASE_IMAGE` and
    `FROM ${BASE_IMAGE}`, or with an image that has the same Python."""
    docker_secrets: Mapping[Annotated[str, AfterValidator(_secret_file)], Secret] = {}
    """Secrets of the build: files in /run/secrets, for a Dockerfile build arguments. They are in no layer."""
    environment_variables: Mapping[str, Text] = {}
    """Environment variables of the services."""


class CondaDependencies(Section):
    """The conda part of an Azure environment; its conda packages are taken from PyPI."""

    name: str | None = None
    channels: tuple[str, ...] = ()
    dependencies: tuple[
        Annotated[
            Annotated[str, TEXT] | Annotated[Mapping[Literal["pip"], tuple[str, ...]], SECTION],
            BY_FORM,
        ],
        ...,
    ] = ()


class AzurePython(Section):
    """The `python` part of an Azure environment."""

    interpreter_path: Literal["python"] | None = None
    user_managed_dependencies: Literal[False] | None = None
    conda_dependencies: CondaDependencies | None = None
    conda_dependencies_file: Path | None = None
    base_conda_environment: None = None


class AzureDocker(Section):
    """The `docker` part of an Azure environment."""

    base_dockerfile: Path | None = None
    """A Dockerfile that the image is built from, relative to the source of this section."""
    base_image: str | None = None
    """Azure's base image."""
    enabled: bool | None = None
    arguments: tuple[()] = ()
    gpu_support: Literal[False] | None = None
    shared_volumes: bool | None = None
    shm_size: None = None


class AzureEnvironment(Section):
    """An environment written out in an Azure `inferenceconfig.json`."""

    name: AssetName
    version: str | None = None
    environment_variables: Mapping[str, Text] = {}
    docker: AzureDocker = AzureDocker()
    python: AzurePython = AzurePython()
