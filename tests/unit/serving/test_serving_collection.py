"""Collected data: what is kept, what is blacked out, and that neither a slow nor a full disk touches a request."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from slipway_serving import collection
from slipway_serving.collection import Collector, Record
from tests.unit.serving.conftest import Serve
from tests.unit.serving.support import ECHO, Serving, wait_for

MINE = """
import numpy as np, pandas as pd, json
from azureml.monitoring import ModelDataCollector
def init():
    global inputs, predictions
    inputs = ModelDataCollector("best_model", designation="inputs", feature_names=["a", "b"])
    predictions = ModelDataCollector("best_model", designation="predictions", feature_names=["p"])
def run(data):
    rows = np.array(json.loads(data)["data"])
    inputs.collect(rows)
    rows *= 0
    predictions.collect(pd.DataFrame({"p": [1]}), user_correlation_id="c")
    return 1
"""


def lines(root: Path, designation: str, model: str = "*") -> list[dict[str, Any]]:
    found = []
    for path in sorted(root.glob(f"*/{model}/*/{designation}/*/*/*/data-*.jsonl")):
        found += [json.loads(line) for line in path.read_text().splitlines()]
    return found


def end(server: Serving) -> None:
    server.process.terminate()
    assert server.wait_exit() == 0


def test_inputs_and_outputs_with_their_request(serve: Serve, tmp_path: Path) -> None:
    root = tmp_path / "data"
    server = serve(ECHO, "--collect-dir", str(root), "--revision", "r1", "--service-name", "svc")
    server.score({"a": [1, 2]}, {"x-request-id": "one", "Content-Type": "application/json"})
    server.score("plain text", {"x-request-id": "two"})
    server.score(b"\xff", {"x-request-id": "refused"})
    end(server)
    inputs, outputs = lines(root, "inputs"), lines(root, "outputs")
    assert [(line["requestId"], line["data"]) for line in inputs] == [("one", {"a": [1, 2]}), ("two", "plain text")]
    assert [line["requestId"] for line in outputs] == ["one", "two"]
    assert json.loads(outputs[0]["data"]) == {"a": [1, 2]}
    first = inputs[0]
    assert (first["model"], first["version"], first["revision"], first["route"]) == ("svc", "1", "r1", "/score")
    assert first["time"].endswith("Z")
    day = datetime.now(UTC).strftime("%Y/%m")
    assert list((root / "svc" / "svc" / "1" / "inputs").glob(f"{day}/*/data-0.jsonl"))


def test_named_fields_are_blacked_out_wherever_they_are(serve: Serve, tmp_path: Path) -> None:
    root = tmp_path / "data"
    server = serve(ECHO, "--collect-dir", str(root), "--collect-redact", "name, ssn")
    server.score({"rows": [{"name": "Ada", "age": 36}], "ssn": {"a": 1}})
    server.score("Ada in plain text")
    server.ask("GET", "/score?name=Ada")
    end(server)
    assert lines(root, "inputs")[0]["data"] == {"rows": [{"name": "[redacted]", "age": 36}], "ssn": "[redacted]"}
    written = "".join(path.read_text() for path in root.rglob("*.jsonl"))
    assert "Ada" not in written.replace("Ada in plain text", "")
    assert lines(root, "inputs")[1]["data"] == {"bytes": 17}


def test_a_sample_of_none_keeps_nothing(serve: Serve, tmp_path: Path) -> None:
    server = serve(ECHO, "--collect-dir", str(tmp_path / "data"), "--collect-sample", "0")
    server.score("x")
    end(server)
    assert list((tmp_path / "data").rglob("*.jsonl")) == []


def test_azures_collector_in_a_script(serve: Serve, tmp_path: Path) -> None:
    root = tmp_path / "data"
    server = serve(MINE, "--collect-dir", str(root))
    assert server.score({"data": [[1, 2]]}, {"x-request-id": "one"}).status == 200
    end(server)
    (inputs,) = lines(root, "inputs", "best_model")
    assert (inputs["data"], inputs["features"], inputs["requestId"]) == ([[1, 2]], ["a", "b"], "one")
    (predictions,) = lines(root, "predictions", "best_model")
    assert (predictions["data"], predictions["correlationId"]) == ([{"p": 1}], "c")


def test_azures_collector_without_collection_does_nothing(serve: Serve) -> None:
    server = serve(MINE)
    assert server.score({"data": [[1, 2]]}).status == 200
    assert "data collection is off: best_model/inputs is not collected" in server.log


def test_a_directory_that_cannot_be_used_stops_the_start(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server = serve(ECHO, "--collect-dir", str(tmp_path / "file" / "below"), wait=False)
    assert server.wait_exit() == 2
    assert "data cannot be collected to" in server.log
    wrong = serve(ECHO, "--collect-sample", "2", wait=False)
    assert wrong.wait_exit() == 2
    assert "SLIPWAY_COLLECT_SAMPLE is '2': give a share from 0 to 1" in wrong.log


def test_the_directory_may_vanish_or_break_without_a_failed_request(serve: Serve, tmp_path: Path) -> None:
    root = tmp_path / "data"
    server = serve(ECHO, "--collect-dir", str(root), "--service-name", "svc")
    (root / "svc").write_text("in the way")
    assert [server.score("x").status for _ in range(5)] == [200] * 5
    end(server)
    assert server.log.count("collected data cannot be written") == 1


def collector(root: Path, max_bytes: int) -> Collector:
    return Collector(root, "svc", "r", "0", 1.0, frozenset(), max_bytes)


def record(data: Any, model: str = "m") -> Record:
    return Record(datetime.now(UTC), model, "1", "inputs", "id", {}, data)


def test_the_oldest_days_go_first_when_room_is_short(tmp_path: Path) -> None:
    old = tmp_path / "svc" / "m" / "1" / "inputs" / "2020" / "01"
    for day in ("01", "02", "03"):
        (old / day).mkdir(parents=True)
        (old / day / "data-0.jsonl").write_bytes(b"x" * 1000)
        stamp = datetime(2020, 1, int(day), tzinfo=UTC).timestamp()
        os.utime(old / day / "data-0.jsonl", (stamp, stamp))
    one = collector(tmp_path, 2500)
    one.offer(record(b"[1]"), 3)
    one.close()
    assert sorted(path.parent.name for path in old.rglob("*.jsonl")) == ["02", "03"]
    today = tmp_path / "svc" / "m" / "1" / "inputs" / datetime.now(UTC).strftime("%Y/%m/%d") / "data-0.jsonl"
    assert json.loads(today.read_text())["data"] == [1]
    assert one.dropped == 0


def test_a_full_directory_drops_records_and_counts_them(tmp_path: Path) -> None:
    one = collector(tmp_path, 2000)
    for _ in range(50):
        one.offer(record(b'"' + b"x" * 200 + b'"'), 202)
    one.close()
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.jsonl"))
    assert 0 < size <= 2000
    assert one.dropped > 0


def test_a_full_queue_drops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "QUEUE_BYTES", 10)
    one = collector(tmp_path, 10**6)
    one.offer(record(b"x" * 11), 11)
    one.close()
    assert one.dropped == 1


@pytest.mark.parametrize("data", [b"[1, 2]", [1, 2], "text"])
def test_the_room_of_what_was_written_is_free_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Any) -> None:
    monkeypatch.setattr(collection, "QUEUE_BYTES", 10)
    one = collector(tmp_path, 10**6)
    for count in range(1, 6):
        one.offer(record(data), 6)
        wait_for(lambda written=count: len(lines(tmp_path, "inputs")) == written, "the line")
    one.close()
    assert one.dropped == 0


def test_a_record_that_is_written_before_its_offer_returns_takes_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "QUEUE_BYTES", 10)
    one = collector(tmp_path, 10**6)
    put = one._records.put_nowait

    def put_and_see_it_written(item: Any) -> None:
        put(item)
        wait_for(one._records.empty, "the writer's turn")

    monkeypatch.setattr(one._records, "put_nowait", put_and_see_it_written)
    for _ in range(3):
        one.offer(record(b"[1, 2]"), 6)
        wait_for(lambda: one._waiting_bytes == 0, "the room")
    one.close()
    assert one.dropped == 0


@pytest.mark.parametrize("name", ["../../etc", "..", "", "a/b", "a\0b", "x" * 500, "ü"])
def test_names_stay_inside_the_directory(tmp_path: Path, name: str) -> None:
    one = collector(tmp_path, 10**6)
    one.offer(record(b"1", model=name), 1)
    one.close()
    (found,) = tmp_path.rglob("*.jsonl")
    assert len(found.relative_to(tmp_path).parts) == 8
