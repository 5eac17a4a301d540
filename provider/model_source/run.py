"""A training run as every kind of tracking store tells of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable


class SourceError(Exception):
    """A run or its model cannot be had. The message says what is wrong and how to mend it; `field` says where."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Run:
    """A finished or unfinished run that was not deleted."""

    run_id: str
    experiment_id: str
    status: str
    """FINISHED, RUNNING, FAILED, KILLED or SCHEDULED."""
    started: int
    """Milliseconds since 1970."""
    artifact_uri: str
    name: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    """The last value of each; NaN is left out."""
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LoggedModel:
    """A model that a run of MLflow 3 logged: it lies beside the run, not among its artifacts."""

    name: str
    location: str
    created: int


class Tracking(Protocol):
    """A tracking store."""

    def run(self, run_id: str) -> Run | None:
        """The run, unless there is none or it was deleted."""

    def experiment_id(self, name: str) -> str | None:
        """The experiment of this name, unless there is none or it was deleted."""

    def experiment_name(self, experiment_id: str) -> str:
        """The name of an experiment."""

    def experiments(self) -> list[str]:
        """The names of all."""

    def runs(self, experiment_id: str) -> Iterable[Run]:
        """The runs of an experiment."""

    def logged_models(self, run: Run) -> Iterable[LoggedModel]:
        """The models that a run logged."""


@runtime_checkable
class Remote(Protocol):
    """A tracking store that hands out artifacts itself."""

    def download(self, location: str, name: str) -> Path | None:
        """A copy, called `name`, of the file or folder at `location`; None where there is nothing."""


def best(runs: Iterable[Run], metric: str, mode: str) -> Run | None:
    """The finished run with the highest (`max`) or lowest (`min`) last value of a metric; of equals, the newest."""
    sign = 1 if mode == "max" else -1
    candidates = [
        run
        for run in runs
        if run.status == "FINISHED" and metric in run.metrics and not math.isnan(run.metrics[metric])
    ]
    return max(candidates, key=lambda run: (sign * run.metrics[metric], run.started, run.run_id), default=None)
