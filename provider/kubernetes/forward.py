"""Connects to a port of a pod, as `kubectl port-forward` does: a plain socket here, a WebSocket to the API server.

The subprotocol has two channels for a port, for what goes through and for what went wrong, and names the port in the
first message of each. A connection ends as a whole: neither side can end its half alone.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from provider.kubernetes.cluster import ApiError, Cluster, path_in
from provider.kubernetes.streams import connected

_DATA = 0
_PIECE = 256 * 1024
_FIRST_MESSAGES = 2


def connect(cluster: Cluster, namespace: str, pod: str, port: int, seconds: float = 15) -> socket.socket:
    """A connection to `port` of a pod. `seconds`: how long the API server may take to make it.

    That nothing listens there is told by its end. Raises `ClusterError`; where the pod is not there or does not run,
    an `ApiError`."""
    connection = cluster.patiently(lambda: _attempt(cluster, namespace, pod, port, seconds))
    ours, theirs = socket.socketpair()
    sender = threading.Thread(target=_send, args=(theirs, connection), name="forward-out", daemon=True)
    receiver = threading.Thread(target=_receive, args=(theirs, connection, sender), name="forward-in", daemon=True)
    sender.start()
    receiver.start()
    return ours


def _attempt(cluster: Cluster, namespace: str, pod: str, port: int, seconds: float) -> Any:
    import websocket  # for those who need it

    path = path_in(namespace, "pods", pod, "portforward")
    connection = connected(
        cluster,
        path,
        [("ports", str(port))],
        seconds,
        denied=f"ports of the pods of the namespace {namespace} may not be reached",
        failed=f"the pod {pod} cannot be reached",
    )
    try:
        for _ in range(_FIRST_MESSAGES):
            connection.recv_data()
    except (websocket.WebSocketException, OSError) as error:
        connection.shutdown()
        raise ApiError(f"the way to the pod {pod} ended at once: {error or type(error).__name__}", 502) from None
    connection.settimeout(None)  # what goes through may rest for as long as it likes
    return connection


def _send(socket_here: socket.socket, connection: Any) -> None:
    """What is written here goes there, until it is closed here."""
    import websocket

    with contextlib.suppress(OSError, websocket.WebSocketException):
        while piece := socket_here.recv(_PIECE):
            connection.send_binary(bytes([_DATA]) + piece)
    with contextlib.suppress(OSError, AttributeError):  # it is None once it was closed
        connection.sock.shutdown(socket.SHUT_RDWR)  # which ends the other thread's waiting, as a close would not


def _receive(socket_here: socket.socket, connection: Any, sender: threading.Thread) -> None:
    """What comes from there is read here, until it ends there or nobody reads it any more."""
    import websocket

    with contextlib.suppress(OSError, websocket.WebSocketException):
        while True:
            code, message = connection.recv_data()
            if code == websocket.ABNF.OPCODE_CLOSE or not message or message[0] != _DATA:
                break
            socket_here.sendall(memoryview(message)[1:])
    with contextlib.suppress(OSError):
        socket_here.shutdown(socket.SHUT_RDWR)
    sender.join()
    socket_here.close()
    connection.shutdown()
