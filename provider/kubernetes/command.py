"""Runs a command in a pod, as `kubectl exec` does: over a WebSocket to the API server.

The subprotocol `v4.channel.k8s.io`: the first byte of a message names the stream it belongs to. What is given to the
command is sent whole, and not ended: it must know its length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from provider.kubernetes.cluster import ApiError, AwayError, Cluster, path_in
from provider.kubernetes.streams import connected

_INPUT, _OUTPUT, _ERRORS, _END = 0, 1, 2, 3
_PIECE = 32 * 1024
_COULD_NOT_RUN = 126


@dataclass(frozen=True)
class Finished:
    """A command that ran in a pod."""

    exit_code: int
    output: bytes
    complaint: str
    """What it said went wrong."""


def execute(
    cluster: Cluster,
    namespace: str,
    pod: str,
    container: str,
    command: Sequence[str],
    stdin: bytes | None = None,
    seconds: float = 60,
) -> Finished:
    """Runs a command to its end; once more where the API server went away meanwhile. Raises `ClusterError`."""
    return cluster.patiently(lambda: _attempt(cluster, namespace, pod, container, command, stdin, seconds))


def _attempt(
    cluster: Cluster,
    namespace: str,
    pod: str,
    container: str,
    command: Sequence[str],
    stdin: bytes | None,
    seconds: float,
) -> Finished:
    import websocket  # for those who need it

    query = [("container", container), ("stdout", "1"), ("stderr", "1"), ("stdin", "1" if stdin is not None else "0")]
    path = path_in(namespace, "pods", pod, "exec")
    connection = connected(
        cluster,
        path,
        query + [("command", part) for part in command],
        seconds,
        denied=f"commands may not be run in the pods of the namespace {namespace}",
        failed=f"no command can be run in the pod {pod}",
    )
    try:
        for start in range(0, len(stdin or b""), _PIECE):
            connection.send_binary(bytes([_INPUT]) + (stdin or b"")[start : start + _PIECE])
        return _finished(connection)
    except websocket.WebSocketTimeoutException:
        raise ApiError(f"the command in the pod {pod} did not end within {seconds:g} s", 504) from None
    except (websocket.WebSocketException, OSError) as error:
        raise AwayError(f"the command in the pod {pod} was cut off: {error or type(error).__name__}") from None
    finally:
        connection.close(timeout=1)


def _finished(connection: Any) -> Finished:
    import websocket

    parts: dict[int, list[bytes]] = {}
    while True:
        code, data = connection.recv_data()
        if code == websocket.ABNF.OPCODE_CLOSE or not data:
            break
        parts.setdefault(data[0], []).append(data[1:])
        if data[0] == _END:
            break
    output, errors = b"".join(parts.get(_OUTPUT, ())), b"".join(parts.get(_ERRORS, ()))
    complaint = errors.decode("utf-8", "replace").strip()
    code, said = _end(b"".join(parts.get(_END, ())))
    return Finished(code, output, complaint or said)


def _end(message: bytes) -> tuple[int, str]:
    """The exit code, and what Kubernetes says of it."""
    try:
        status = json.loads(message)
    except ValueError:
        return _COULD_NOT_RUN, "it was cut off"
    if status.get("status") == "Success":
        return 0, ""
    causes = (status.get("details") or {}).get("causes") or ()
    code = next((cause.get("message") for cause in causes if cause.get("reason") == "ExitCode"), None)
    return (int(code) if code is not None else _COULD_NOT_RUN), str(status.get("message") or "")
