"""The section `packages`: images of models and their scripts that are made and not deployed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from infra.config.base import Section
from infra.config.services import Inference, ModelText

Platform = Literal["linux/amd64", "linux/arm64"]


def _distinct(platforms: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(platforms)) < len(platforms):
        raise ValueError("names a platform twice; remove one of them")
    return platforms


class Package(Section):
    """An image in the registry that serves models, for whoever runs it. Azure's `Model.package()`."""

    models: tuple[ModelText, ...] = ()
    """Models it serves: `name`, `name:version` for one that stays, or `name@alias`."""
    inference: Inference
    """How it is served, or the path of an Azure `inferenceconfig.json`."""
    platforms: Annotated[tuple[Platform, ...], Field(min_length=1), AfterValidator(_distinct)] = ("linux/amd64",)
    """What it is made for: `linux/amd64`, `linux/arm64`, or both."""
