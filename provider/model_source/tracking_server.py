"""An MLflow tracking server, by its REST API (version 2.0 of it, which MLflow 2 and 3 have).

Who asks is said as MLflow's own client says it: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or
MLFLOW_TRACKING_TOKEN. Artifacts that the server hands out itself (`mlflow-artifacts:`, its default) are copied into
the user's cache, once for as long as their names and sizes stay.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import math
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from provider.content.errors import ContentError
from provider.content.layout import disk_errors
from provider.local.layout import locked
from provider.model_source.cache import directory
from provider.model_source.run import LoggedModel, Run, SourceError

_TIMEOUT_SECONDS = 30
_PAGE = 1000
_LOCK = ".lock"
_UNREACHED = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)
"""What says that the server is not there, or no longer."""


class TrackingServer:
    """The runs of the server at `address`."""

    def __init__(self, address: str, environment: Mapping[str, str] = os.environ) -> None:
        self.address = address.rstrip("/")
        self._headers = _headers(environment)

    def run(self, run_id: str) -> Run | None:
        answer = self._get("mlflow/runs/get", run_id=run_id)
        return None if answer is None else _run(answer["run"])

    def experiment_id(self, name: str) -> str | None:
        answer = self._get("mlflow/experiments/get-by-name", experiment_name=name)
        if answer is None or answer["experiment"].get("lifecycle_stage") != "active":
            return None
        return str(answer["experiment"]["experiment_id"])

    def experiment_name(self, experiment_id: str) -> str:
        answer = self._get("mlflow/experiments/get", experiment_id=experiment_id)
        return "" if answer is None else str(answer["experiment"]["name"])

    def experiments(self) -> list[str]:
        answer = self._post("mlflow/experiments/search", {"max_results": _PAGE}) or {}
        return sorted(str(experiment["name"]) for experiment in answer.get("experiments", ()))

    def runs(self, experiment_id: str) -> Iterator[Run]:
        question: dict[str, Any] = {"experiment_ids": [experiment_id], "max_results": _PAGE}
        while True:
            answer = self._post("mlflow/runs/search", question) or {}
            yield from (run for item in answer.get("runs", ()) if (run := _run(item)) is not None)
            if not answer.get("next_page_token"):
                return
            question["page_token"] = answer["next_page_token"]

    def logged_models(self, run: Run) -> Iterator[LoggedModel]:
        question = {"experiment_ids": [run.experiment_id], "filter": f"source_run_id = '{run.run_id}'"}
        # A server before MLflow 3 knows of no such models.
        for item in (self._post("mlflow/logged-models/search", question) or {}).get("models", ()):
            info = item["info"]
            yield LoggedModel(info["name"], info["artifact_uri"], int(info["creation_timestamp_ms"]))

    def download(self, location: str, name: str) -> Path | None:
        """A copy, called `name`, of the file or folder at `location`; None where there is nothing."""
        if not location.startswith("mlflow-artifacts:"):
            raise SourceError(
                "artifactPath",
                f"the artifacts are at {location}, which the server does not hand out; download them "
                f"(mlflow artifacts download) and give their `path`",
            )
        path = urlsplit(location).path.strip("/")
        files = dict(self._list(path, ""))
        if not files:
            return None
        key = hashlib.sha256(json.dumps([self.address, path, sorted(files.items())]).encode()).hexdigest()[:16]
        target = directory() / key / name
        if not target.exists():
            try:
                with disk_errors(directory(), sum(files.values())), locked(target.parent / _LOCK):
                    self._copy(path, files, target)
            except ContentError as error:
                raise SourceError("trackingUri", str(error)) from None
        return target

    def _copy(self, path: str, files: Iterable[str], target: Path) -> None:
        """Makes `target`, unless somebody else did; under the lock of its folder."""
        if target.exists():
            return
        for left_behind in target.parent.glob(".*/"):  # by a run that was killed: nobody else holds the lock
            shutil.rmtree(left_behind)
        partial = Path(tempfile.mkdtemp(prefix=".", dir=target.parent))
        try:
            for file in files:
                self._save(f"{path}/{file}" if file else path, partial / target.name / file)
            (partial / target.name).replace(target)
        finally:
            shutil.rmtree(partial)

    def _list(self, path: str, below: str) -> Iterator[tuple[str, int]]:
        """The files of an artifact folder and their sizes; the file itself, as "", where `path` is one."""
        entries = self._entries(path)
        if not entries and not below:
            parent, _, name = path.rpartition("/")
            yield from (
                ("", int(entry.get("file_size", 0)))
                for entry in self._entries(parent)
                if entry["path"] == name and not entry.get("is_dir")
            )
        for entry in entries:
            name = str(entry["path"])
            if name in ("", ".", "..") or "/" in name or "\\" in name:
                raise SourceError("trackingUri", f"{self.address} lists an artifact with the name {name!r}; refused")
            if entry.get("is_dir"):
                yield from self._list(f"{path}/{name}", f"{below}{name}/")
            else:
                yield f"{below}{name}", int(entry.get("file_size", 0))

    def _entries(self, path: str) -> list[dict[str, Any]]:
        answer = self._get("mlflow-artifacts/artifacts", path=path) or {}
        entries: list[dict[str, Any]] = answer.get("files", [])
        return entries

    def _save(self, path: str, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        request = urllib.request.Request(  # noqa: S310 - the address is the user's, http or https
            f"{self.address}/api/2.0/mlflow-artifacts/artifacts/{quote(path)}", headers=self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer, file.open("wb") as copy:  # noqa: S310
                shutil.copyfileobj(answer, copy, 1 << 20)
                copy.flush()
                # A power cut after the rename must not leave empty files that look whole.
                os.fsync(copy.fileno())
                left = answer.length
        except _UNREACHED as error:
            raise self._failure(error) from None
        if left:  # reading in pieces does not tell
            raise SourceError(
                "trackingUri",
                f"{self.address} broke off while it sent {path}; look whether it runs, then try again",
            )

    # --- the API

    def _get(self, method: str, **parameters: str) -> dict[str, Any] | None:
        return self._ask(f"{method}?{urlencode(parameters)}", None)

    def _post(self, method: str, question: Mapping[str, Any]) -> dict[str, Any] | None:
        return self._ask(method, json.dumps(question).encode())

    def _ask(self, method: str, body: bytes | None) -> dict[str, Any] | None:
        """The answer; None where there is no such thing."""
        request = urllib.request.Request(  # noqa: S310
            f"{self.address}/api/2.0/{method}", body, {**self._headers, "Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
                document: dict[str, Any] = json.load(answer)
                return document
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return None
                raise self._failure(error) from None
        except _UNREACHED as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> SourceError:
        if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403):
            return SourceError(
                "trackingUri",
                f"{self.address} refuses (HTTP {error.code}); set MLFLOW_TRACKING_USERNAME and "
                f"MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
            )
        if isinstance(error, urllib.error.HTTPError):
            return SourceError("trackingUri", f"{self.address} fails (HTTP {error.code}); look into its log")
        reason = getattr(error, "reason", None) or error
        return SourceError("trackingUri", f"{self.address} does not answer: {reason}; start it, or mend the address")


def _headers(environment: Mapping[str, str]) -> dict[str, str]:
    token = environment.get("MLFLOW_TRACKING_TOKEN")
    user, password = environment.get("MLFLOW_TRACKING_USERNAME"), environment.get("MLFLOW_TRACKING_PASSWORD")
    if user is not None and password is not None:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def _run(document: Mapping[str, Any]) -> Run | None:
    info, data = document["info"], document.get("data", {})
    if info.get("lifecycle_stage") != "active":
        return None
    # Protocol buffers write a NaN as a string.
    metrics = {str(item["key"]): float(item["value"]) for item in data.get("metrics", ())}
    return Run(
        run_id=str(info["run_id"]),
        experiment_id=str(info["experiment_id"]),
        status=str(info["status"]),
        started=int(info.get("start_time", 0)),
        artifact_uri=str(info["artifact_uri"]),
        name=str(info.get("run_name", "")),
        metrics={name: value for name, value in metrics.items() if not math.isnan(value)},
        parameters={str(item["key"]): str(item.get("value", "")) for item in data.get("params", ())},
    )
