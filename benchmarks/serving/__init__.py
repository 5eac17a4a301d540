"""The scoring server beside its peers, in one run: the same models, one worker and two, 8 connections.

Each peer has a virtual environment of its own below `.slipway/benchmarks`. Servers are measured one at a time, in
rounds, so that none has the machine in a better hour; the figure is the median of its rounds. Environment variables
narrow a run: BENCH_PEERS and BENCH_CASES (parts of names, separated by commas), BENCH_ROUNDS, BENCH_SECONDS.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._choice import chosen, rounds
from benchmarks.report import Row
from benchmarks.serving.peers import (
    HANDLERS,
    PEERS,
    SCORE_CASES,
    V2_CASES,
    Case,
    Peer,
    free_port,
    ours_body,
    ours_command,
)

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".slipway" / "benchmarks"
CONNECTIONS = 8
WARM_UP = 1.0
START_TIME = 60.0
BARE = "bare ASGI on uvicorn"
OURS = Peer("Slipway", (), ours_command, ours_body, has_v2=True)


@dataclass
class Figures:
    """What one server did in one case."""

    rate: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def run() -> list[Row]:
    """Measure, and make the rows."""
    peers = [OURS, *(peer for peer in PEERS if chosen(peer.name, "BENCH_PEERS"))]
    pythons = {peer.name: _environment(peer) for peer in peers}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        onnx = _write_onnx(Path(folder))
        for case, workers in _plan():
            figures = {peer.name: Figures() for peer in peers}
            for _ in range(rounds()):
                for peer in peers:
                    _measure(peer, pythons[peer.name], case, workers, onnx, Path(folder), figures[peer.name])
            rows += _rows(case, workers, {name: found for name, found in figures.items() if found.rate})
    return rows


def _plan() -> list[tuple[Case, int]]:
    cases = [(case, workers) for case in SCORE_CASES for workers in (1, 2) if case.model == "noop" or workers == 1]
    cases += [(case, 1) for case in V2_CASES]
    return [(case, workers) for case, workers in cases if chosen(case.name, "BENCH_CASES")]


def _environment(peer: Peer) -> str:
    """The Python of the peer's virtual environment, which is made if need be; our own is the one that runs."""
    if not peer.requirements:
        return sys.executable
    key = hashlib.sha256("\n".join(peer.requirements).encode()).hexdigest()[:12]
    home = ENVIRONMENTS / key
    python = home / "bin" / "python"
    if not (home / ".complete").exists():
        print(f"setting up {peer.name} ...", flush=True)
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", "--clear", "--python", sys.executable, str(home)], check=True)
        subprocess.run([*uv, "pip", "install", "-q", "--python", str(python), *peer.requirements], check=True)
        (home / ".complete").touch()
    return str(python)


def _write_onnx(folder: Path) -> Path:
    """A small network of two layers, for 64 features and 10 classes."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    weights = {
        name: numpy_helper.from_array(generator.standard_normal(shape).astype("float32"), name)
        for name, shape in {"w1": (64, 32), "b1": (32,), "w2": (32, 10), "b2": (10,)}.items()
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(nodes, "bench", [x], [y], list(weights.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def _measure(peer: Peer, python: str, case: Case, workers: int, onnx: Path, folder: Path, into: Figures) -> None:
    """Start the server, load it, and add what was seen to its figures; nothing where it cannot do the case."""
    asked = peer.body(case)
    if asked is None or (case.model == "identity" and not peer.has_v2):
        return
    path, body, headers = asked
    scratch = Path(tempfile.mkdtemp(dir=folder))
    port = free_port()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    (scratch / "request").write_bytes(head.encode() + body)
    environment = {
        **os.environ,
        "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{HANDLERS}:{ROOT / 'serving'}",
        "BENCH_CASE": case.model,
        "BENCH_PORT": str(port),
        "BENCH_WORKERS": str(workers),
        "BENCH_ONNX": str(onnx),
        "AZUREML_MODEL_DIR": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    seconds = float(os.environ.get("BENCH_SECONDS", case.seconds))
    with _server(peer.command(python, case, port, workers, scratch), environment, scratch) as (process, began):
        if not _wait(port, path, body, headers, process):
            print(f"  {peer.name}: {case.name}: no answer; see below\n{_tail(scratch)}", flush=True)
            return
        into.ready.append(time.perf_counter() - began)
        _load(port, WARM_UP, scratch)
        result = _load(port, seconds, scratch)
        if set(result["statuses"]) != {"200"}:
            print(f"  {peer.name}: {case.name}: statuses {result['statuses']}", flush=True)
            return
        into.rate.append(result["rate"])
        into.p99.append(result["p99"] * 1000)
        into.memory.append(_memory(process.pid))
    shown = (
        f"{into.rate[-1]:,.0f}/s, p99 {into.p99[-1]:.2f} ms, ready {into.ready[-1]:.2f} s, {into.memory[-1]:.0f} MiB"
    )
    print(f"  {case.name}, {workers} worker(s), {peer.name}: {shown}", flush=True)


@contextmanager
def _server(
    command: list[str], environment: dict[str, str], scratch: Path
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """The server in a process group of its own, which is ended as a whole."""
    with (scratch / "log").open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=scratch,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield process, began
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)


def _wait(port: int, path: str, body: bytes, headers: dict[str, str], process: subprocess.Popen[bytes]) -> bool:
    """Until the server answers a real request with 200."""
    end = time.perf_counter() + START_TIME
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    while time.perf_counter() < end and process.poll() is None:
        if _listens(port):
            # The listener may be there before the model is: until START_TIME, any other answer counts as not yet.
            with suppress(OSError), urllib.request.urlopen(request, timeout=30) as response:
                return bool(response.status == 200)
        time.sleep(0.01)
    return False


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
        return True
    return False


def _load(port: int, seconds: float, scratch: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.serving.load", str(port), str(CONNECTIONS), str(seconds)]
    done = subprocess.run([*command, str(scratch / "request")], cwd=ROOT, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _memory(pid: int) -> float:
    """MiB of a process and all below it; what they share is counted once (PSS)."""
    total = 0
    todo = [pid]
    while todo:
        current = todo.pop()
        with suppress(OSError, ValueError):
            for task in Path(f"/proc/{current}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
            rollup = Path(f"/proc/{current}/smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


def _tail(scratch: Path) -> str:
    return "\n".join((scratch / "log").read_text(errors="replace").splitlines()[-8:])


def _rows(case: Case, workers: int, figures: dict[str, Figures]) -> list[Row]:
    """Rate, p99, time to ready and memory of a case."""
    if OURS.name not in figures:
        return []
    name = f"{case.name}, {workers} worker{'s' if workers > 1 else ''}"

    def row(what: str, unit: str, attribute: str, limit: float | None = None) -> Row:
        medians = {peer: statistics.median(getattr(found, attribute)) for peer, found in figures.items()}
        ours = medians.pop(OURS.name)
        return Row(f"{name}: {what}", unit, ours, limit, medians)

    rates = {peer: statistics.median(found.rate) for peer, found in figures.items() if peer != OURS.name}
    real = {peer: rate for peer, rate in rates.items() if peer != BARE}
    aims = [max(real.values())] if real else []
    if case.model == "noop":
        aims = [2 * aim for aim in aims] + ([0.6 * rates[BARE]] if BARE in rates else [])
    rows = [row("rate", "requests/s", "rate", max(aims) if aims else None), row("p99", "ms", "p99")]
    if case.model == "noop":
        rows += [row("ready after start", "s", "ready"), row("memory", "MiB", "memory")]
    return rows
