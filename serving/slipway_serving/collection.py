"""Collects what goes into a model and comes out of it, to files of JSON Lines that roll daily.

The files are `<directory>/<service>/<model>/<version>/<designation>/<year>/<month>/<day>/data-<worker>.jsonl`, as
Azure lays its collected data out. A thread of its own writes them from a bounded queue: a request never waits, a full
queue or a full disk drops records and counts them. The oldest days are deleted where the directory grows beyond its
limit.
"""

from __future__ import annotations

import os
import queue
import random
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from slipway_serving import logs
from slipway_serving.messages import Request, name

QUEUE = 2000
QUEUE_BYTES = 64 * 1024 * 1024
REDACTED = "[redacted]"
CLOSE_TIME = 3.0
MEASURE_EVERY = 4 * 1024 * 1024
"""Bytes written between two looks at how large the directory has become."""


class Record(NamedTuple):
    """One line to be: for which model and designation, and either raw bytes or a value."""

    time: datetime
    model: str
    version: str
    designation: str
    request_id: str
    fields: dict[str, Any]
    data: Any


class Collector:
    """The collection of one process."""

    def __init__(
        self,
        directory: Path,
        service: str,
        revision: str,
        worker: str,
        sample: float,
        redact: frozenset[str],
        max_bytes: int,
    ) -> None:
        self.sample = sample
        self.dropped = 0
        self._root = directory / _safe(service)
        self._revision = revision
        self._worker = worker
        self._redact = redact
        self._max_bytes = max_bytes
        self._records: queue.Queue[tuple[Record, int] | None] = queue.Queue(QUEUE)
        self._waiting_bytes = 0
        self._room = threading.Lock()
        """Guards `_waiting_bytes` and `dropped`: several threads offer, one writes."""
        self._since_measured = MEASURE_EVERY
        self._complained = False
        self._thread = threading.Thread(target=self._write_all, name="slipway-collect", daemon=True)
        self._thread.start()

    def request(self, request: Request, model: str, version: str, body: bytes, kind: str) -> None:
        """Keep a request and its response, or not, as the sampling rate has it. Never waits."""
        if self.sample < 1.0 and random.random() >= self.sample:  # noqa: S311 - a sample, no secret
            return
        now = datetime.now(UTC)
        content = request.headers.get(b"content-type", b"").decode("latin-1")
        fields = {"route": request.route, "contentType": content}
        if request.method == b"GET":
            fields["query"] = REDACTED if self._redact else request.query.decode("latin-1")
        self.offer(Record(now, model, version, "inputs", name(request), fields, request.body), len(request.body))
        fields = {"route": request.route, "contentType": kind}
        self.offer(Record(now, model, version, "outputs", name(request), fields, body), len(body))

    def offer(self, record: Record, size: int) -> None:
        """Queue a record of about `size` bytes; one for which there is no room is dropped and counted."""
        with self._room:
            if self._waiting_bytes + size > QUEUE_BYTES:
                self.dropped += 1
                return
            # Before it is queued: the writer may be done with it before this thread goes on.
            self._waiting_bytes += size
        try:
            self._records.put_nowait((record, size))
        except queue.Full:
            with self._room:
                self._waiting_bytes -= size
                self.dropped += 1

    def close(self) -> None:
        """Write what waits, for a few seconds at most."""
        try:
            self._records.put(None, timeout=CLOSE_TIME)
        except queue.Full:
            return
        self._thread.join(CLOSE_TIME)

    def _write_all(self) -> None:
        while True:
            item = self._records.get()
            if item is None:
                return
            record, size = item
            with self._room:
                self._waiting_bytes -= size
            try:
                self._write(record)
                self._complained = False
            except (OSError, TypeError, ValueError, RecursionError) as error:
                with self._room:
                    self.dropped += 1
                self._complain(f"collected data cannot be written: {error}")

    def _complain(self, message: str) -> None:
        """Once until it works again, not for every record that is lost."""
        if not self._complained:
            self._complained = True
            logs.error(message)

    def _write(self, record: Record) -> None:
        if self._since_measured >= MEASURE_EVERY:
            self._since_measured = 0
            self._make_room()
        line = self._line(record)
        day = record.time.strftime("%Y/%m/%d")
        folder = self._root / _safe(record.model) / _safe(record.version) / _safe(record.designation) / day
        folder.mkdir(parents=True, exist_ok=True)
        if self._since_measured + len(line) > self._max_bytes:
            raise OSError(f"the limit of {self._max_bytes} bytes for {self._root} is reached")
        # Opened for each line: a file that was deleted or moved away meanwhile does no harm.
        with (folder / f"data-{self._worker}.jsonl").open("ab") as file:
            file.write(line)
        self._since_measured += len(line)

    def _line(self, record: Record) -> bytes:
        data = self._readable(record.data)
        message = {
            "time": record.time.isoformat().replace("+00:00", "Z"),
            "requestId": record.request_id,
            "model": record.model,
            "version": record.version,
            "revision": self._revision,
            **record.fields,
            "data": data,
        }
        options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
        return orjson.dumps(message, default=_plain, option=options)

    def _readable(self, data: Any) -> Any:
        """JSON as it is, with the named fields blacked out; other text as text, unless a field could hide in it."""
        if isinstance(data, bytes):
            try:
                data = orjson.loads(data)
            except ValueError:
                if self._redact or b"\0" in data:
                    return {"bytes": len(data)}
                return data.decode("utf-8", "replace")
            if isinstance(data, str) and self._redact:
                # Scripts like to return JSON within a JSON string.
                try:
                    return orjson.dumps(_blacken(orjson.loads(data), self._redact)).decode()
                except ValueError:
                    return data
        return _blacken(data, self._redact) if self._redact else data

    def _make_room(self) -> None:
        """Delete the oldest files until what remains leaves a tenth of the limit free."""
        files = []
        for path in self._root.rglob("*.jsonl"):
            try:
                status = path.stat()
            except OSError:
                continue
            files.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in files)
        today = datetime.now(UTC).strftime("%Y/%m/%d")
        for _, size, path in sorted(files):
            if total <= self._max_bytes * 0.9:
                break
            if path.parent.as_posix().endswith(today) and path.name == f"data-{self._worker}.jsonl":
                continue
            path.unlink(missing_ok=True)
            total -= size
            logs.warning(f"collected data of {path.parent.relative_to(self._root)} was deleted to stay below the limit")
        if total > self._max_bytes:
            self._since_measured = MEASURE_EVERY
            raise OSError(f"the limit of {self._max_bytes} bytes for {self._root} is reached")


active: Collector | None = None
"""The collector of this process, for scripts that collect by themselves; None where collection is off."""


def _safe(name: str) -> str:
    """A name as one part of a path."""
    cleaned = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:100]
    return cleaned if cleaned.strip(".") else "_"


def _blacken(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {name: REDACTED if name in names else _blacken(item, names) for name, item in value.items()}
    if isinstance(value, list):
        return [_blacken(item, names) for item in value]
    return value


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict(orient="records") if type(value).__name__ == "DataFrame" else value.to_dict()
    return value.tolist() if hasattr(value, "tolist") else str(value)


def writable(directory: Path) -> str | None:
    """Why the directory cannot be collected to; None where it can."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return str(error)
    return None if os.access(directory, os.W_OK) else "it cannot be written to"
