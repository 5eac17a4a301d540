"""Models that come from training runs: each run is looked up, and the model becomes one with a path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from infra.config import MlflowRun, Model
from infra.problems import Problem


def find_runs(models: Mapping[str, Model], root: Path, file: str, problems: list[Problem]) -> dict[str, Model]:
    """`models` with the path and the properties of their runs. Those whose run is not found are left out, and told."""
    found = {}
    for name, model in models.items():
        if model.mlflow is None:
            found[name] = model
        elif model.path is not None:
            problems.append(Problem(file, f"models.{name}.mlflow", "stands beside path; remove one of them"))
        else:
            sourced = _from_run(name, model, model.mlflow, root, file, problems)
            if sourced is not None:
                found[name] = sourced
    return found


def _from_run(name: str, model: Model, run: MlflowRun, root: Path, file: str, problems: list[Problem]) -> Model | None:
    # Only a stack with such a model pays for reading stores of runs.
    from provider.model_source.mlflow import Query, resolve
    from provider.model_source.run import SourceError

    query = Query(run.tracking_uri, run.artifact_path, run.run_id, run.experiment, run.metric, run.mode or "max")
    try:
        found = resolve(query, root)
    except SourceError as error:
        problems.append(Problem(file, f"models.{name}.mlflow.{error.field}", str(error)))
        return None
    return model.model_copy(update={"path": str(found.path), "properties": {**found.properties, **model.properties}})
