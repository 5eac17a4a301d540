"""Models from MLflow's runs: a directory and a database, laid out as MLflow 3.17 writes them, read the same way."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from infra.load import load
from infra.problems import ConfigurationError
from provider.content.layer import Layer
from provider.content.tree import walk
from provider.model_source.mlflow import Query, resolve
from provider.model_source.run import SourceError

RUNS = [
    # id, started, status, lifecycle, values of the metric (by step)
    ("aa01", 1000, "FINISHED", "active", [0.9, 0.5]),
    ("aa02", 2000, "FINISHED", "active", [0.1, 0.8]),
    ("aa03", 3000, "FINISHED", "active", [0.8]),
    ("aa04", 4000, "RUNNING", "active", [0.99]),
    ("aa05", 5000, "FINISHED", "deleted", [1.0]),
    ("aa06", 6000, "FINISHED", "active", [float("nan")]),
]
STATUS = {"RUNNING": 1, "FINISHED": 3}
MOVED = "file:///builds/4711/mlruns"


def make_directory(root: Path) -> str:
    """A file store that was made on another machine, as `FileStore` lays it out."""
    store = root / "mlruns"
    write(store / "0" / "meta.yaml", "experiment_id: '0'\nlifecycle_stage: active\nname: Default\n")
    write(store / "17" / "meta.yaml", "experiment_id: '17'\nlifecycle_stage: active\nname: digits\n")
    write(store / "18" / "meta.yaml", "experiment_id: '18'\nlifecycle_stage: deleted\nname: gone\n")
    for run_id, started, status, lifecycle, values in RUNS:
        folder = store / "17" / run_id
        write(
            folder / "meta.yaml",
            f"artifact_uri: {MOVED}/17/{run_id}/artifacts\nlifecycle_stage: {lifecycle}\nrun_id: {run_id}\n"
            f"run_name: run-{run_id}\nstart_time: {started}\nstatus: {STATUS[status]}\n",
        )
        lines = "".join(f"{started + step} {value} {step}\n" for step, value in enumerate(values))
        write(folder / "metrics" / "val" / "accuracy", lines)
        write(folder / "params" / "depth", run_id[-1])
        write(folder / "artifacts" / "model" / "MLmodel", f"run_id: {run_id}\n")
    write(
        store / "17" / "models" / "m-1" / "meta.yaml",
        f"artifact_location: {MOVED}/17/models/m-1/artifacts\ncreation_timestamp: 1\n"
        "name: logged\nsource_run_id: aa03\n",
    )
    write(store / "17" / "models" / "m-1" / "artifacts" / "MLmodel", "logged\n")
    return "mlruns"


def make_database(root: Path) -> str:
    """A SQLite store with the tables of `SqlAlchemyStore`, as far as they are read."""
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        database.executescript(
            """
            CREATE TABLE experiments (experiment_id INTEGER, name VARCHAR, lifecycle_stage VARCHAR);
            CREATE TABLE runs (run_uuid VARCHAR, experiment_id INTEGER, status VARCHAR, start_time BIGINT,
                               artifact_uri VARCHAR, name VARCHAR, lifecycle_stage VARCHAR);
            CREATE TABLE latest_metrics (key VARCHAR, value FLOAT, is_nan BOOLEAN, run_uuid VARCHAR);
            CREATE TABLE params (key VARCHAR, value VARCHAR, run_uuid VARCHAR);
            CREATE TABLE logged_models (name VARCHAR, artifact_location VARCHAR, creation_timestamp_ms BIGINT,
                                        source_run_id VARCHAR, lifecycle_stage VARCHAR);
            INSERT INTO experiments VALUES (0, 'Default', 'active'), (17, 'digits', 'active'), (18, 'gone', 'deleted');
            """
        )
        for run_id, started, status, lifecycle, values in RUNS:
            artifacts = root / "artifacts" / run_id
            write(artifacts / "model" / "MLmodel", f"run_id: {run_id}\n")
            row = (run_id, 17, status, started, str(artifacts), f"run-{run_id}", lifecycle)
            database.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            last, is_nan = (0.0, True) if values[-1] != values[-1] else (values[-1], False)
            database.execute("INSERT INTO latest_metrics VALUES ('val/accuracy', ?, ?, ?)", (last, is_nan, run_id))
            database.execute("INSERT INTO params VALUES ('depth', ?, ?)", (run_id[-1], run_id))
        logged = root / "artifacts" / "m-1" / "artifacts"
        write(logged / "MLmodel", "logged\n")
        database.execute("INSERT INTO logged_models VALUES ('logged', ?, 1, 'aa03', 'active')", (str(logged),))
        database.commit()
    return "sqlite:///mlflow.db"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture(params=[make_directory, make_database], ids=["directory", "database"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make: Callable[[Path], str] = request.param
    return make(tmp_path)


def query(uri: str, **values: Any) -> Query:
    return Query(**{"tracking_uri": uri, "artifact_path": "model", **values})


def mistake(root: Path, asked: Query) -> tuple[str, str]:
    with pytest.raises(SourceError) as caught:
        resolve(asked, root)
    return caught.value.field, str(caught.value)


def test_a_run_by_its_id(uri: str, tmp_path: Path) -> None:
    found = resolve(query(uri, run_id="aa01"), tmp_path)

    assert (found.path / "MLmodel").read_text() == "run_id: aa01\n"
    assert found.path.name == "model"
    assert found.properties == {
        "mlflow.artifactPath": "model",
        "mlflow.experiment": "digits",
        "mlflow.metrics.val/accuracy": "0.5",
        "mlflow.parameters.depth": "1",
        "mlflow.runId": "aa01",
        "mlflow.runName": "run-aa01",
    }


@pytest.mark.parametrize(("mode", "run_id"), [("max", "aa03"), ("min", "aa01")])
def test_the_best_finished_run_by_the_last_value_and_of_equals_the_newest(
    uri: str, tmp_path: Path, mode: str, run_id: str
) -> None:
    found = resolve(query(uri, experiment="digits", metric="val/accuracy", mode=mode), tmp_path)
    assert found.properties["mlflow.runId"] == run_id


def test_a_single_file_of_a_run(uri: str, tmp_path: Path) -> None:
    found = resolve(query(uri, run_id="aa02", artifact_path="model/MLmodel"), tmp_path)
    assert found.path.read_text() == "run_id: aa02\n"


def test_a_model_that_lies_beside_its_run_is_stored_under_its_own_name(uri: str, tmp_path: Path) -> None:
    asked = query(uri, run_id="aa03", artifact_path="logged")
    found = resolve(asked, tmp_path)

    assert Layer(walk(found.path), "digits").prefix == "models/digits/logged"
    assert (found.path / "MLmodel").read_text() == "logged\n"
    assert resolve(asked, tmp_path) == found


def test_what_is_not_there_is_named_with_what_is(uri: str, tmp_path: Path) -> None:
    assert mistake(tmp_path, query(uri, run_id="aa05")) == ("runId", f"{uri} has no run aa05; name one of its own")
    assert mistake(tmp_path, query(uri, experiment="gone", metric="val/accuracy")) == (
        "experiment",
        f"{uri} has no experiment 'gone'; there are Default, digits",
    )
    assert mistake(tmp_path, query(uri, experiment="digits", metric="loss")) == (
        "metric",
        "no finished run of 'digits' has a metric 'loss'; there are val/accuracy",
    )
    field, message = mistake(tmp_path, query(uri, run_id="aa03", artifact_path="modle"))
    assert field == "artifactPath"
    assert message.startswith("run aa03 has no 'modle' among its artifacts and models in ")
    assert message.endswith("; there are logged, model")


def test_a_path_out_of_the_artifacts(uri: str, tmp_path: Path) -> None:
    assert mistake(tmp_path, query(uri, run_id="aa03", artifact_path="../../aa01")) == (
        "artifactPath",
        "'../../aa01' leads out of the run's artifacts",
    )


def test_artifacts_elsewhere(tmp_path: Path) -> None:
    uri = make_database(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("UPDATE runs SET artifact_uri = 's3://bucket/' || run_uuid")
        database.commit()

    assert mistake(tmp_path, query(uri, run_id="aa01")) == (
        "artifactPath",
        "the artifacts of run aa01 are at s3://bucket/aa01, which cannot be read here; download them "
        "(mlflow artifacts download) and give their `path`",
    )


def test_stores_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_text("this is no database, however long it is" * 100)
    assert mistake(tmp_path, query("nothing", run_id="aa01")) == (
        "trackingUri",
        f"{tmp_path}/nothing is no folder; mend the path, or give sqlite:///...",
    )
    assert mistake(tmp_path, query("sqlite:///nothing.db", run_id="aa01")) == (
        "trackingUri",
        f"{tmp_path}/nothing.db is no file; mend the path (three slashes: relative, four: absolute)",
    )
    assert mistake(tmp_path, query("sqlite:///no.db", run_id="aa01")) == (
        "trackingUri",
        f"{tmp_path}/no.db cannot be read as MLflow's database: file is not a database; mend the path, or the file",
    )
    assert mistake(tmp_path, query("databricks://profile", run_id="aa01")) == (
        "trackingUri",
        "databricks:// is not known here; use a folder, sqlite:///file.db or http://..., or give the model's `path`",
    )
    assert mistake(tmp_path, query("https://me:word@host", run_id="aa01")) == (
        "trackingUri",
        "holds credentials, which the state would show; take them out",
    )


def test_damaged_files_are_named(tmp_path: Path) -> None:
    uri = make_directory(tmp_path)
    meta = tmp_path / "mlruns" / "17" / "aa01" / "meta.yaml"

    meta.write_text("")
    assert mistake(tmp_path, query(uri, run_id="aa01")) == (
        "trackingUri",
        f"{meta} is damaged: it is empty, or no mapping",
    )
    meta.write_text("a: [\n")
    assert mistake(tmp_path, query(uri, run_id="aa01"))[1].startswith(f"{meta} is damaged: while parsing a flow ")
    meta.write_text("lifecycle_stage: active\n")
    assert mistake(tmp_path, query(uri, run_id="aa01"))[1] == (
        "mlruns is no tracking store of MLflow as versions 2 and 3 write it (KeyError('status'))"
    )


class TestConfiguration:
    """`models.<name>.mlflow` of a stack."""

    @staticmethod
    def models(root: Path, model: dict[str, Any]) -> Any:
        sections = {"workspace": {"name": "demo"}, "models": {"digits": model}}
        raw = {f"slipway:{key}": json.dumps(value) for key, value in sections.items()}
        return load(raw, (), root, "dev").models

    def mistakes(self, root: Path, model: dict[str, Any]) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            self.models(root, model)
        return [str(problem) for problem in caught.value.problems]

    def test_the_run_becomes_a_path_and_properties(self, tmp_path: Path) -> None:
        make_directory(tmp_path)
        run = {"experiment": "digits", "metric": "val/accuracy"}

        model = self.models(tmp_path, {"mlflow": run, "properties": {"team": "vision", "mlflow.runName": "mine"}})[
            "digits"
        ]

        assert model.location == str(tmp_path / "mlruns" / "17" / "aa03" / "artifacts" / "model")
        assert model.properties["mlflow.runId"] == "aa03"
        assert model.properties["team"] == "vision"
        assert model.properties["mlflow.runName"] == "mine"

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            ({}, "models.digits: has neither a `path` nor an `mlflow` run; add one of them"),
            (
                {"path": "x", "mlflow": {"runId": "aa03"}},
                "models.digits.mlflow: stands beside path; remove one of them",
            ),
            ({"mlflow": {}}, "models.digits.mlflow: needs either `runId` or `experiment`"),
            (
                {"mlflow": {"runId": "a", "experiment": "b"}},
                "models.digits.mlflow: needs either `runId` or `experiment`",
            ),
            (
                {"mlflow": {"experiment": "b"}},
                "models.digits.mlflow: needs the `metric` that says which run of the experiment is the best",
            ),
            (
                {"mlflow": {"runId": "a", "mode": "min"}},
                "models.digits.mlflow: has a `runId`, beside which `metric` and `mode` mean nothing; remove them",
            ),
            (
                {"mlflow": {"runId": "../a"}},
                "models.digits.mlflow.runId: string should match pattern '^[A-Za-z0-9][A-Za-z0-9_-]*$', not '../a'",
            ),
            ({"mlflow": {"runId": "aa09"}}, "models.digits.mlflow.runId: mlruns has no run aa09; name one of its own"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, model: dict[str, Any], message: str) -> None:
        make_directory(tmp_path)
        assert self.mistakes(tmp_path, model) == [f"stacks/Pulumi.dev.yaml: {message}"]
