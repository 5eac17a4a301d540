"""Opens a connection through an API server to what runs in a pod: a WebSocket with numbered channels.

Each message begins with the number of its channel. The subprotocol is `v4.channel.k8s.io`, which kubelets know for
commands and for ports alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from provider.kubernetes.cluster import (
    RIGHTS,
    ApiError,
    AwayError,
    Cluster,
    ForbiddenError,
    LoginError,
    is_busy,
)

_PROTOCOL = "v4.channel.k8s.io"


def connected(
    cluster: Cluster, path: str, query: Sequence[tuple[str, str]], seconds: float, *, denied: str, failed: str
) -> Any:
    """A `websocket.WebSocket` to `path`, which ends with the subresource of a pod that it leads to. `seconds`: how long
    it waits for each message.

    Raises `ClusterError`, in words that begin with `denied` where the rights are missing, else with `failed`."""
    import websocket  # for those who need it

    try:
        return _opened(cluster, path, query, seconds)
    except websocket.WebSocketBadStatusException as error:
        raise _refusal(cluster, error, path, denied, failed) from None
    except (websocket.WebSocketException, OSError) as error:
        raise AwayError(cluster.unreachable(error)) from None


def _opened(cluster: Cluster, path: str, query: Sequence[tuple[str, str]], seconds: float) -> Any:
    import websocket

    url = "ws" + f"{cluster.access.server}{path}?{urlencode(query)}".removeprefix("http")
    _, login = cluster.session()
    options: dict[str, Any] = {"header": [f"{name}: {value}" for name, value in login.headers]}
    if url.startswith("wss:"):
        options["sslopt"] = {"context": cluster.tls(login)}
        if cluster.access.server_name:
            options["sslopt"]["server_hostname"] = cluster.access.server_name
    proxy = cluster.proxy()
    if proxy is None:
        options["http_no_proxy"] = ["*"]
    else:
        parts = urlsplit(proxy)
        options |= {"http_proxy_host": parts.hostname, "http_proxy_port": parts.port or 80, "proxy_type": parts.scheme}
        if parts.username:
            options["http_proxy_auth"] = (unquote(parts.username), unquote(parts.password or ""))
    return websocket.create_connection(url, timeout=seconds, subprotocols=[_PROTOCOL], **options)


def _refusal(cluster: Cluster, error: Any, path: str, denied: str, failed: str) -> Exception:
    said = _words_of(error)
    if error.status_code == 401:
        return LoginError(cluster.not_logged_in())
    if error.status_code == 403:
        right = f"pods/{path.rpartition('/')[2]}"
        return ForbiddenError(f"{denied}: {said}. Grant the verbs get and create on {right}: {RIGHTS}")
    if is_busy(error.status_code, said):
        return AwayError(f"{failed} now: {said}")
    return ApiError(f"{failed}: {said}", error.status_code)


def _words_of(error: Any) -> str:
    """What the API server said to a `WebSocketBadStatusException`."""
    body = (error.resp_body or b"").decode("utf-8", "replace")
    try:
        return str(json.loads(body).get("message") or body)
    except (ValueError, AttributeError):
        return body or str(error)
