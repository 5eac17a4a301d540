"""The model of an MLflow run: the run found, its model's files found, and what is told of it as lineage."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from provider.credentials import has_credentials
from provider.model_source.cache import directory
from provider.model_source.run import Remote, Run, SourceError, Tracking, best

_SHOWN = 12


@dataclass(frozen=True)
class Query:
    """Which run, and which model of it: a run by its id, or the best run of an experiment by a metric."""

    tracking_uri: str
    artifact_path: str
    run_id: str | None = None
    experiment: str | None = None
    metric: str | None = None
    mode: str = "max"


@dataclass(frozen=True)
class Found:
    """The model's file or folder, and the run it comes from as properties of a version."""

    path: Path
    properties: dict[str, str]


def resolve(query: Query, root: Path) -> Found:
    """Finds the model of `query`. Paths are relative to `root`. Raises `SourceError`.

    A server is asked over the network, and what it hands out is copied into the user's cache; nothing else changes."""
    try:
        tracking = _tracking(query.tracking_uri, root)
        run = _run(query, tracking)
        path = _files(query, run, tracking, root)
        return Found(path, _lineage(query, run, tracking.experiment_name(run.experiment_id)))
    except OSError as error:
        raise SourceError(
            "trackingUri", f"{error.filename} cannot be read: {error.strerror}; mend the rights"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(
            "trackingUri",
            f"{query.tracking_uri} is no tracking store of MLflow as versions 2 and 3 write it ({error!r})",
        ) from None


def _tracking(uri: str, root: Path) -> Tracking:
    if has_credentials(uri):
        raise SourceError("trackingUri", "holds credentials, which the state would show; take them out")
    scheme, _, rest = uri.partition("://")
    if uri.startswith("sqlite:///"):
        from provider.model_source.tracking_database import TrackingDatabase

        return TrackingDatabase(root / uri.removeprefix("sqlite:///"))
    if scheme in ("http", "https"):
        from provider.model_source.tracking_server import TrackingServer

        return TrackingServer(uri)
    if rest and scheme != "file":
        raise SourceError(
            "trackingUri",
            f"{scheme}:// is not known here; use a folder, sqlite:///file.db or http://..., or give the model's `path`",
        )
    from provider.model_source.tracking_directory import TrackingDirectory

    return TrackingDirectory(root / _local_path(uri))


def _local_path(uri: str) -> str:
    return unquote(urlsplit(uri).path) if uri.startswith("file:") else uri


def _run(query: Query, tracking: Tracking) -> Run:
    if query.run_id is not None:
        run = tracking.run(query.run_id)
        if run is None:
            raise SourceError("runId", f"{query.tracking_uri} has no run {query.run_id}; name one of its own")
        return run
    name, metric = query.experiment or "", query.metric or ""
    experiment_id = tracking.experiment_id(name)
    if experiment_id is None:
        raise SourceError(
            "experiment", f"{query.tracking_uri} has no experiment {name!r}; {_known(tracking.experiments())}"
        )
    runs = list(tracking.runs(experiment_id))
    run = best(runs, metric, query.mode)
    if run is None:
        measured = sorted({key for run in runs if run.status == "FINISHED" for key in run.metrics})
        raise SourceError("metric", f"no finished run of {name!r} has a metric {metric!r}; {_known(measured)}")
    return run


def _known(names: Sequence[str]) -> str:
    if not names:
        return "there is none"
    return f"there are {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"


def _files(query: Query, run: Run, tracking: Tracking, root: Path) -> Path:
    """Where the model's files are: among the run's artifacts, or logged beside it (MLflow 3)."""
    wanted = posixpath.normpath(query.artifact_path)
    if wanted.startswith(("/", "..")):
        raise SourceError("artifactPath", f"{query.artifact_path!r} leads out of the run's artifacts")
    path = _local(f"{run.artifact_uri.rstrip('/')}/{wanted}", posixpath.basename(wanted), run, tracking, root)
    if path is not None:
        return path
    models = sorted(tracking.logged_models(run), key=lambda model: model.created)
    for model in reversed(models):
        if model.name == query.artifact_path:
            path = _local(model.location, model.name, run, tracking, root)
            if path is not None:
                return path
    raise SourceError(
        "artifactPath",
        f"run {run.run_id} has no {query.artifact_path!r} among its artifacts and models in {run.artifact_uri}; "
        f"{_known(sorted({*_names(run.artifact_uri, root), *(model.name for model in models)}))}",
    )


def _local(location: str, name: str, run: Run, tracking: Tracking, root: Path) -> Path | None:
    """What is at `location`, under `name`; None where nothing is."""
    if _is_local(location):
        path = root / _local_path(location)
        return (path if path.name == name else _named(path, name)) if path.exists() else None
    if isinstance(tracking, Remote):
        return tracking.download(location, name)
    raise SourceError(
        "artifactPath",
        f"the artifacts of run {run.run_id} are at {run.artifact_uri}, which cannot be read here; download them "
        f"(mlflow artifacts download) and give their `path`",
    )


def _is_local(location: str) -> bool:
    return location.startswith("file:") or ":/" not in location


def _names(location: str, root: Path) -> set[str]:
    """What a folder of artifacts holds, where it can be looked into."""
    folder = root / _local_path(location)
    return {entry.name for entry in folder.iterdir()} if _is_local(location) and folder.is_dir() else set()


def _named(folder: Path, name: str) -> Path:
    """A link to `folder` with the model's name, which a folder's model keeps in its layer; MLflow calls all alike."""
    link = directory() / hashlib.sha256(os.fsencode(folder)).hexdigest()[:16] / name
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        partial = link.with_name(f".{link.name}.{os.getpid()}")
        partial.symlink_to(folder)
        partial.rename(link)
    return link


def _lineage(query: Query, run: Run, experiment: str) -> dict[str, str]:
    lineage = {
        "mlflow.runId": run.run_id,
        "mlflow.runName": run.name,
        "mlflow.experiment": experiment,
        "mlflow.artifactPath": query.artifact_path,
        **{f"mlflow.metrics.{name}": repr(value) for name, value in run.metrics.items()},
        **{f"mlflow.parameters.{name}": value for name, value in run.parameters.items()},
    }
    return {name: lineage[name] for name in sorted(lineage) if lineage[name] != ""}
