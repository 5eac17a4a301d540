"""The section `models`: what is registered, and the training runs that it may come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from infra.config.base import Alias, AssetName, Path, Section, Text


class MlflowRun(Section):
    """A training run that MLflow tracked: one by its id, or the best one of an experiment."""

    tracking_uri: Path = "mlruns"
    """Where MLflow tracks: a folder or `sqlite:///mlflow.db`, relative to the project's folder, or `http://...`."""
    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] | None = None
    """Id of the run."""
    experiment: Annotated[str, Field(min_length=1)] | None = None
    """In the place of an id: the name of an experiment, whose best finished run is taken."""
    metric: Annotated[str, Field(min_length=1)] | None = None
    """The metric that says which run is the best."""
    mode: Literal["max", "min"] | None = None
    """Whether the highest (`max`, the default) or the lowest (`min`) value is the best."""
    artifact_path: Annotated[str, Field(min_length=1)] = "model"
    """The model among the run's artifacts, or the name that it was logged with."""

    @model_validator(mode="after")
    def _one_run(self) -> Self:
        if (self.run_id is None) == (self.experiment is None):
            raise ValueError("needs either `runId` or `experiment`")
        if self.run_id is None and self.metric is None:
            raise ValueError("needs the `metric` that says which run of the experiment is the best")
        if self.run_id is not None and (self.metric is not None or self.mode is not None):
            raise ValueError("has a `runId`, beside which `metric` and `mode` mean nothing; remove them")
        return self


class Model(Section):
    """A registered model."""

    path: Path | None = None
    """File or folder, relative to the project's folder."""
    mlflow: MlflowRun | None = None
    """In the place of a path: the training run that made it."""
    framework: str | None = None
    """Framework, as in Azure: ScikitLearn, Onnx, TensorFlow, ..."""
    framework_version: Text | None = None
    """The framework's version."""
    description: str | None = None
    """What the model is for."""
    tags: Mapping[AssetName, Text] = {}
    """Tags, `name: value`; they can change."""
    properties: Mapping[AssetName, Text] = {}
    """Properties, `name: value`."""
    keep_versions: Annotated[int, Field(ge=1)] | None = None
    """How many of the newest versions stay registered (and those that a service or an alias names); by default all."""
    aliases: Mapping[Alias, Annotated[int, Field(ge=1)]] = {}
    """Names for versions, `champion: 3`; they can move."""
    sample_input: Path | None = None
    """File with a sample of what it takes, up to 64 KiB of text; kept with the version."""
    sample_output: Path | None = None
    """File with what it answers to that."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.path is None and self.mlflow is None:
            raise ValueError("has neither a `path` nor an `mlflow` run; add one of them")
        return self

    @property
    def location(self) -> str:
        """The path of its files: that of a run is known once the run is found, as it is in a plan."""
        if self.path is None:
            raise ValueError("the run of this model was not looked for")
        return self.path
