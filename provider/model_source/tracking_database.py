"""MLflow's SQLite store, read with the standard library: the tables of its `SqlAlchemyStore`. Opened read-only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from provider.model_source.run import LoggedModel, Run, SourceError

_RUN = (
    "SELECT run_uuid, experiment_id, status, start_time, artifact_uri, name FROM runs WHERE lifecycle_stage = 'active'"
)


class TrackingDatabase:
    """The runs in the database `file`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        if not file.is_file():
            raise SourceError(
                "trackingUri", f"{file} is no file; mend the path (three slashes: relative, four: absolute)"
            )

    def run(self, run_id: str) -> Run | None:
        return next(self._runs(f"{_RUN} AND run_uuid = ?", run_id), None)

    def experiment_id(self, name: str) -> str | None:
        rows = self._rows("SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'", name)
        return str(rows[0][0]) if rows else None

    def experiment_name(self, experiment_id: str) -> str:
        rows = self._rows("SELECT name FROM experiments WHERE experiment_id = ?", experiment_id)
        return str(rows[0][0]) if rows else ""

    def experiments(self) -> list[str]:
        return [
            str(row[0])
            for row in self._rows("SELECT name FROM experiments WHERE lifecycle_stage = 'active' ORDER BY name")
        ]

    def runs(self, experiment_id: str) -> Iterator[Run]:
        yield from self._runs(f"{_RUN} AND experiment_id = ?", experiment_id)

    def logged_models(self, run: Run) -> Iterator[LoggedModel]:
        # The table came with MLflow 3.
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'logged_models'"):
            return
        for name, location, created in self._rows(
            "SELECT name, artifact_location, creation_timestamp_ms FROM logged_models "
            "WHERE source_run_id = ? AND lifecycle_stage = 'active'",
            run.run_id,
        ):
            yield LoggedModel(name, location, created)

    def _runs(self, query: str, value: str) -> Iterator[Run]:
        for run_id, experiment_id, status, started, artifact_uri, name in self._rows(query, value):
            metrics = self._rows("SELECT key, value FROM latest_metrics WHERE run_uuid = ? AND NOT is_nan", run_id)
            parameters = self._rows("SELECT key, value FROM params WHERE run_uuid = ?", run_id)
            yield Run(
                run_id=run_id,
                experiment_id=str(experiment_id),
                status=status,
                started=started or 0,
                artifact_uri=artifact_uri,
                name=name or "",
                metrics=dict(metrics),
                parameters=dict(parameters),
            )

    def _rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        try:
            with closing(sqlite3.connect(f"file:{quote(str(self.file))}?mode=ro", uri=True)) as database:
                return database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise SourceError(
                "trackingUri",
                f"{self.file} cannot be read as MLflow's database: {error}; mend the path, or the file",
            ) from None
