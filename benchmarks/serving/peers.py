"""The servers that are compared: how each is installed, started, and asked."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HANDLERS = Path(__file__).parent / "handlers"
COMMON = ("numpy>=1.26", "scikit-learn>=1.5", "onnxruntime>=1.20", "orjson", "uvloop", "httptools")
FEATURES = 64
TENSOR_SIZES = {"1 KiB": 256, "1 MiB": 262_144, "10 MiB": 2_621_440}
"""Elements of FP32."""


@dataclass(frozen=True)
class Case:
    """One thing that is measured: a model, and what a request of it carries."""

    name: str
    model: str
    """noop, sklearn, onnx or identity."""
    elements: int = 0
    binary: bool = False
    seconds: float = 5.0


SCORE_CASES = (
    Case("no-op /score", "noop"),
    Case("scikit-learn, one row", "sklearn"),
    Case("ONNX, one row", "onnx"),
)
V2_CASES = tuple(
    Case(f"V2 {'binary' if binary else 'JSON'}, {name}", "identity", elements, binary)
    for binary in (False, True)
    for name, elements in TENSOR_SIZES.items()
)

Body = Callable[[Case], tuple[str, bytes, dict[str, str]] | None]
"""The path, body and headers with which a server is asked; None where it cannot do the case."""


@dataclass(frozen=True)
class Peer:
    """A server. `command` takes the Python of its environment, the case, a port, the workers and a scratch folder."""

    name: str
    requirements: tuple[str, ...]
    command: Callable[[str, Case, int, int, Path], list[str]]
    body: Body
    has_v2: bool = False


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def rows_body(path: str, member: str = "data") -> Body:
    """JSON rows under a member."""

    def body(case: Case) -> tuple[str, bytes, dict[str, str]] | None:
        if case.model == "identity":
            return None
        count = 10 if case.model == "noop" else FEATURES
        rows = [[float(i % 16) for i in range(count)]]
        return path, json.dumps({member: rows}).encode(), {"Content-Type": "application/json"}

    return body


def v2_body(case: Case) -> tuple[str, bytes, dict[str, str]]:
    """A V2 request for the model `bench`."""
    path = "/v2/models/bench/infer"
    count = case.elements or (10 if case.model == "noop" else FEATURES)
    values = [float(i % 16) for i in range(count)]
    shape = [count] if case.elements else [1, count]
    entry: dict[str, object] = {"name": "x", "shape": shape, "datatype": "FP32"}
    if not case.binary:
        return path, json.dumps({"inputs": [{**entry, "data": values}]}).encode(), {"Content-Type": "application/json"}
    raw = struct.pack(f"<{count}f", *values)
    head = json.dumps(
        {
            "inputs": [{**entry, "parameters": {"binary_data_size": len(raw)}}],
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        }
    ).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return path, head + raw, headers


def ours_body(case: Case) -> tuple[str, bytes, dict[str, str]] | None:
    return v2_body(case) if case.model == "identity" else rows_body("/score")(case)


def kserve_body(case: Case) -> tuple[str, bytes, dict[str, str]] | None:
    return v2_body(case) if case.model == "identity" else rows_body("/v1/models/bench:predict", "instances")(case)


def ours_command(python: str, case: Case, port: int, workers: int, scratch: Path) -> list[str]:
    script = "tensors.py" if case.model == "identity" else "score.py"
    options = ["--service-name", "bench", "--port", str(port), "--workers", str(workers)]
    return [python, "-m", "slipway_serving", "--entry-script", str(HANDLERS / script), *options]


def mlserver_command(python: str, case: Case, port: int, workers: int, scratch: Path) -> list[str]:
    settings = {
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0 if workers == 1 else workers,
        "debug": False,
        "use_structured_logging": False,
    }
    (scratch / "settings.json").write_text(json.dumps(settings))
    (scratch / "model-settings.json").write_text(
        json.dumps({"name": "bench", "implementation": "mlserver_model.Model"})
    )
    return [str(Path(python).parent / "mlserver"), "start", str(scratch)]


PEERS = (
    Peer(
        "bare ASGI on uvicorn",
        ("uvicorn", *COMMON),
        lambda python, case, port, workers, scratch: [python, str(HANDLERS / "bare.py")],
        rows_body("/score"),
    ),
    Peer(
        "Mosec",
        ("mosec==0.9.8", *COMMON),
        lambda python, case, port, workers, scratch: [
            python,
            str(HANDLERS / "mosec_server.py"),
            "--port",
            str(port),
            "--log-level",
            "error",
        ],
        rows_body("/inference"),
    ),
    Peer(
        "azureml-inference-server-http",
        ("azureml-inference-server-http==1.5.1", *COMMON),
        lambda python, case, port, workers, scratch: [
            str(Path(python).parent / "azmlinfsrv"),
            "--entry_script",
            str(HANDLERS / "score.py"),
            "--port",
            str(port),
            "--worker_count",
            str(workers),
        ],
        rows_body("/score"),
    ),
    # Its worker processes do not start with a newer uvloop.
    Peer("MLServer", ("mlserver==1.7.1", "uvloop<0.22", *COMMON), mlserver_command, v2_body, has_v2=True),
    Peer(
        "KServe",
        ("kserve==0.21.0", *COMMON),
        lambda python, case, port, workers, scratch: [python, str(HANDLERS / "kserve_server.py")],
        kserve_body,
        has_v2=True,
    ),
    Peer(
        "LitServe",
        ("litserve==0.2.19", *COMMON),
        lambda python, case, port, workers, scratch: [python, str(HANDLERS / "litserve_server.py")],
        rows_body("/predict"),
    ),
    Peer(
        "BentoML",
        ("bentoml==1.4.39", *COMMON),
        lambda python, case, port, workers, scratch: [
            str(Path(python).parent / "bentoml"),
            "serve",
            "bentoml_service:Bench",
            "--port",
            str(port),
            "--working-dir",
            str(HANDLERS),
        ],
        rows_body("/predict"),
    ),
)
