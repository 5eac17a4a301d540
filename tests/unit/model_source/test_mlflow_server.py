"""Models from an MLflow server: its REST API, spoken by a small server here with the answers of MLflow 3.17."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from provider.model_source.mlflow import Query, resolve
from provider.model_source.run import SourceError

DEADLINE = 60.0
ARTIFACTS = {
    "1/aa01/artifacts/model/MLmodel": b"first",
    "1/aa02/artifacts/model/MLmodel": b"second",
    "1/aa02/artifacts/model/data/weights.bin": b"weights",
    "1/models/m-1/artifacts/MLmodel": b"logged",
}


def run(run_id: str, accuracy: Any, stage: str = "active") -> dict[str, Any]:
    return {
        "info": {
            "run_id": run_id,
            "run_name": f"run-{run_id}",
            "experiment_id": "1",
            "status": "FINISHED",
            "start_time": 1000,
            "artifact_uri": f"mlflow-artifacts:/1/{run_id}/artifacts",
            "lifecycle_stage": stage,
        },
        "data": {
            "metrics": [{"key": "accuracy", "value": accuracy, "timestamp": 1, "step": 0}],
            "params": [{"key": "depth", "value": "3"}],
        },
    }


RUNS = {
    "aa01": run("aa01", 0.5),
    "aa02": run("aa02", 0.9),
    "aa03": run("aa03", "NaN"),
    "aa04": run("aa04", 1, "deleted"),
}


class Server(BaseHTTPRequestHandler):
    """As much of the API as is asked for."""

    downloads = 0
    status = 200
    authorization: str | None = None
    hostile = False
    cut = False
    """It ends in the middle of a file."""
    gate: threading.Event | None = None
    """What a download waits for."""

    def do_GET(self) -> None:
        type(self).authorization = self.headers.get("Authorization")
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        method = address.path.removeprefix("/api/2.0/")
        if self.status != 200:
            self._answer(None, self.status)
        elif method == "mlflow/runs/get":
            self._answer({"run": RUNS[asked["run_id"]]} if asked["run_id"] in RUNS else None)
        elif method == "mlflow/experiments/get-by-name":
            known = asked["experiment_name"] == "digits"
            self._answer({"experiment": {"experiment_id": "1", "lifecycle_stage": "active"}} if known else None)
        elif method == "mlflow/experiments/get":
            self._answer({"experiment": {"experiment_id": "1", "name": "digits"}})
        elif method == "mlflow-artifacts/artifacts":
            self._answer({"files": entries(asked["path"])} if not self.hostile else {"files": [{"path": "../x"}]})
        elif method.startswith("mlflow-artifacts/artifacts/"):
            type(self).downloads += 1
            if self.gate is not None:
                assert self.gate.wait(DEADLINE)
            self._send(ARTIFACTS[method.removeprefix("mlflow-artifacts/artifacts/")], 200, cut=self.cut)
        else:
            self._answer(None)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/2.0/mlflow/runs/search":
            # Two pages.
            first = "page_token" not in asked
            names = ["aa01"] if first else ["aa02", "aa03"]
            more = {"next_page_token": "more"} if first else {}
            self._answer({"runs": [RUNS[name] for name in names], **more})
        elif self.path == "/api/2.0/mlflow/experiments/search":
            self._answer({"experiments": [{"name": "Default"}, {"name": "digits"}]})
        elif self.path == "/api/2.0/mlflow/logged-models/search" and asked["filter"] == "source_run_id = 'aa02'":
            location = "mlflow-artifacts:/1/models/m-1/artifacts"
            self._answer(
                {"models": [{"info": {"name": "logged", "artifact_uri": location, "creation_timestamp_ms": "5"}}]}
            )
        else:
            self._answer(None)

    def _answer(self, document: Any, status: int = 200) -> None:
        if document is None:
            status = 404 if status == 200 else status
            document = {"error_code": "RESOURCE_DOES_NOT_EXIST"}
        self._send(json.dumps(document).encode(), status)

    def _send(self, body: bytes, status: int, *, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:-1] if cut else body)

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the base class's name


def entries(path: str) -> list[dict[str, Any]]:
    below = {name.removeprefix(f"{path}/"): body for name, body in ARTIFACTS.items() if name.startswith(f"{path}/")}
    folders = sorted({name.partition("/")[0] for name in below if "/" in name})
    files = [{"path": name, "is_dir": False, "file_size": len(body)} for name, body in below.items() if "/" not in name]
    return [*files, *({"path": name, "is_dir": True} for name in folders)]


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("downloads", "status", "authorization", "hostile", "cut", "gate"):
        monkeypatch.setattr(Server, name, getattr(Server, name))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def mistake(root: Path, asked: Query) -> tuple[str, str]:
    with pytest.raises(SourceError) as caught:
        resolve(asked, root)
    return caught.value.field, str(caught.value)


def test_the_best_run_s_model_is_copied_once(address: str, tmp_path: Path) -> None:
    asked = Query(address, "model", experiment="digits", metric="accuracy")
    found = resolve(asked, tmp_path)

    assert found.path.name == "model"
    assert (found.path / "MLmodel").read_bytes() == b"second"
    assert (found.path / "data" / "weights.bin").read_bytes() == b"weights"
    assert found.properties == {
        "mlflow.artifactPath": "model",
        "mlflow.experiment": "digits",
        "mlflow.metrics.accuracy": "0.9",
        "mlflow.parameters.depth": "3",
        "mlflow.runId": "aa02",
        "mlflow.runName": "run-aa02",
    }
    assert resolve(asked, tmp_path) == found
    assert Server.downloads == 2, "each file was copied once"


def test_a_single_file(address: str, tmp_path: Path) -> None:
    found = resolve(Query(address, "model/MLmodel", run_id="aa01"), tmp_path)
    assert found.path.name == "MLmodel"
    assert found.path.read_bytes() == b"first"


def test_a_copy_that_the_server_broke_off_is_not_kept(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Query(address, "model", run_id="aa02")
    monkeypatch.setattr(Server, "cut", True)
    assert mistake(tmp_path, asked) == (
        "trackingUri",
        f"{address} broke off while it sent 1/aa02/artifacts/model/MLmodel; look whether it runs, then try again",
    )
    monkeypatch.setattr(Server, "cut", False)
    assert (resolve(asked, tmp_path).path / "MLmodel").read_bytes() == b"second"


def test_a_connection_that_is_reset_is_the_server_s_matter(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reset(*_: object) -> None:
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

    monkeypatch.setattr(shutil, "copyfileobj", reset)
    assert mistake(tmp_path, Query(address, "model", run_id="aa02")) == (
        "trackingUri",
        f"{address} does not answer: [Errno 104] Connection reset by peer; start it, or mend the address",
    )


def test_two_who_ask_for_the_same_model_at_once_share_one_copy(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, gate = Query(address, "model", run_id="aa02"), threading.Event()
    locks: list[Any] = []
    monkeypatch.setattr(Server, "gate", gate)
    lock = fcntl.flock

    def locking(*arguments: Any) -> None:
        locks.append(arguments)
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", locking)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(resolve, asked, tmp_path)
        eventually(lambda: Server.downloads)
        second = pool.submit(resolve, asked, tmp_path)
        eventually(lambda: Server.downloads == 2 or len(locks) == 2)
        gate.set()
        assert first.result(DEADLINE) == second.result(DEADLINE)
    assert Server.downloads == 2, "each file was copied once"


def test_what_a_killed_copy_left_is_cleared(address: str, tmp_path: Path) -> None:
    asked = Query(address, "model", run_id="aa02")
    kept = resolve(asked, tmp_path).path
    left = kept.parent / ".abcdefgh" / "model"
    left.mkdir(parents=True)
    (left / "MLmodel").write_bytes(b"sec")
    shutil.rmtree(kept)

    resolve(asked, tmp_path)
    assert [path.name for path in kept.parent.iterdir() if path.is_dir()] == ["model"]


def test_a_full_disk_is_told_with_the_figures(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    field, told = mistake(tmp_path, Query(address, "model", run_id="aa02"))
    assert field == "trackingUri"
    assert re.fullmatch(r"the disk of .*/cache/slipway/mlflow is full: 13 bytes needed, .* free; free some .*", told)


def test_a_logged_model(address: str, tmp_path: Path) -> None:
    found = resolve(Query(address, "logged", run_id="aa02"), tmp_path)
    assert found.path.name == "logged"
    assert (found.path / "MLmodel").read_bytes() == b"logged"


def test_what_the_server_does_not_have(address: str, tmp_path: Path) -> None:
    for run_id in ("aa04", "aa09"):
        told = mistake(tmp_path, Query(address, "model", run_id=run_id))
        assert told == ("runId", f"{address} has no run {run_id}; name one of its own")
    assert mistake(tmp_path, Query(address, "model", experiment="other", metric="accuracy")) == (
        "experiment",
        f"{address} has no experiment 'other'; there are Default, digits",
    )
    assert mistake(tmp_path, Query(address, "nothing", run_id="aa02")) == (
        "artifactPath",
        "run aa02 has no 'nothing' among its artifacts and models in mlflow-artifacts:/1/aa02/artifacts; "
        "there are logged",
    )


def test_who_asks_is_said_as_mlflow_s_client_says_it(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
    resolve(Query(address, "model", run_id="aa01"), tmp_path)
    assert Server.authorization == "Bearer token"

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "word")
    resolve(Query(address, "model", run_id="aa01"), tmp_path)
    assert Server.authorization == "Basic bWU6d29yZA=="


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            401,
            "refuses (HTTP 401); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        ),
        (500, "fails (HTTP 500); look into its log"),
    ],
)
def test_a_server_that_refuses_or_fails(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, words: str
) -> None:
    monkeypatch.setattr(Server, "status", status)
    assert mistake(tmp_path, Query(address, "model", run_id="aa01")) == ("trackingUri", f"{address} {words}")


def test_a_server_that_is_away(tmp_path: Path) -> None:
    assert mistake(tmp_path, Query("http://127.0.0.1:9", "model", run_id="aa01")) == (
        "trackingUri",
        "http://127.0.0.1:9 does not answer: [Errno 111] Connection refused; start it, or mend the address",
    )


def test_a_listing_that_leads_elsewhere_is_refused(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "hostile", True)
    assert mistake(tmp_path, Query(address, "model", run_id="aa01")) == (
        "trackingUri",
        f"{address} lists an artifact with the name '../x'; refused",
    )
