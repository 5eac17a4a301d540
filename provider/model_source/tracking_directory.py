"""MLflow's file store: a directory of small YAML files (`mlruns`), as its `FileStore` writes it.

`<experiment>/meta.yaml`, `<experiment>/<run>/{meta.yaml,metrics/,params/,artifacts/}`, and since MLflow 3
`<experiment>/models/<model>/{meta.yaml,artifacts/}`. A metric's file has a line `timestamp value step` for each value.
The addresses in meta.yaml are those of the machine that trained: what lies in the directory itself is preferred.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from provider.model_source.run import LoggedModel, Run, SourceError

# RunStatus of MLflow's protocol.
_STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}


class TrackingDirectory:
    """The runs below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        if not root.is_dir():
            raise SourceError("trackingUri", f"{root} is no folder; mend the path, or give sqlite:///...")

    def run(self, run_id: str) -> Run | None:
        for folder in self.root.glob(f"*/{run_id}"):
            if (folder / "meta.yaml").is_file():
                return _run(folder)
        return None

    def experiment_id(self, name: str) -> str | None:
        return next((str(meta["experiment_id"]) for meta in self._metas() if meta.get("name") == name), None)

    def experiment_name(self, experiment_id: str) -> str:
        return next((str(meta["name"]) for meta in self._metas() if str(meta["experiment_id"]) == experiment_id), "")

    def experiments(self) -> list[str]:
        return sorted(str(meta["name"]) for meta in self._metas())

    def runs(self, experiment_id: str) -> Iterator[Run]:
        for folder in sorted((self.root / experiment_id).iterdir()):
            if (folder / "meta.yaml").is_file() and (run := _run(folder)) is not None:
                yield run

    def logged_models(self, run: Run) -> Iterator[LoggedModel]:
        for file in sorted((self.root / run.experiment_id).glob("models/*/meta.yaml")):
            meta = _yaml(file)
            if meta.get("source_run_id") == run.run_id:
                location = _location(file.parent / "artifacts", str(meta["artifact_location"]))
                yield LoggedModel(str(meta["name"]), location, int(meta["creation_timestamp"]))

    def _metas(self) -> Iterator[dict[str, Any]]:
        for file in sorted(self.root.glob("[!.]*/meta.yaml")):
            meta = _yaml(file)
            if meta.get("lifecycle_stage") == "active":
                yield meta


def _run(folder: Path) -> Run | None:
    meta = _yaml(folder / "meta.yaml")
    if meta.get("lifecycle_stage") != "active":
        return None
    return Run(
        run_id=folder.name,
        experiment_id=folder.parent.name,
        status=_STATUS.get(meta["status"], str(meta["status"])),
        started=int(meta["start_time"]),
        artifact_uri=_location(folder / "artifacts", str(meta["artifact_uri"])),
        name=str(meta.get("run_name") or ""),
        metrics=dict(_metrics(folder / "metrics")),
        parameters={_key(file, folder / "params"): file.read_text() for file in _files(folder / "params")},
    )


def _metrics(folder: Path) -> Iterator[tuple[str, float]]:
    for file in _files(folder):
        values = []
        for line in file.read_text().splitlines():
            timestamp, value, *step = line.split()
            values.append((int(step[0]) if step else 0, int(timestamp), float(value)))
        # The last value is the one of the highest step, then of the latest time (MLflow's own rule).
        last = max(values, key=lambda entry: entry[:2], default=(0, 0, math.nan))[2]
        if not math.isnan(last):
            yield _key(file, folder), last


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _key(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _location(here: Path, written: str) -> str:
    return str(here) if here.is_dir() else written


def _yaml(file: Path) -> dict[str, Any]:
    import yaml  # as everywhere in what a preview imports: only where it is needed

    try:
        document = yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both safe
    except yaml.YAMLError as error:
        raise SourceError("trackingUri", f"{file} is damaged: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise SourceError("trackingUri", f"{file} is damaged: it is empty, or no mapping")
    return document
