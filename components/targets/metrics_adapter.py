# Runs in a pod of its own, by the Python that is there: serves slipway_requests_in_flight of pods to the cluster's
# autoscalers, as a part of the Kubernetes API (custom.metrics.k8s.io). An autoscaler asks the API server, which asks
# here; the pods' own /metrics tell. Each answer is read when it is asked for, and nothing is kept.
# Whoever asks has to be the API server: it shows a client certificate of the authority that the cluster keeps for this
# (ConfigMap kube-system/extension-apiserver-authentication), and has checked the rights of whom it asks for.
# Arguments: the TCP port to listen on, the folder with tls.crt and tls.key, and the port of the services' pods.
# It uses the standard library alone: its image is the one that services begin with.
from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

GROUP = "custom.metrics.k8s.io"
VERSIONS = ("v1beta2", "v1beta1")
METRIC = "slipway_requests_in_flight"
OURS = "app.kubernetes.io/managed-by=slipway"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TRUSTED = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
REFRESH_SECONDS = 60.0
HANDSHAKE_SECONDS, IDLE_SECONDS = 10, 120  # an API server lets connections go after 90 s without a request
POD_SECONDS, API_SECONDS = 2.0, 10.0
AT_ONCE, LARGEST = 32, 2**20

Answer = tuple[int, dict[str, Any]]


def refusal(code: int, reason: str, message: str) -> Answer:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    return code, {**status, "code": code, "reason": reason, "message": message}


class ApiServer:
    """The API server, asked as this pod's account."""

    def __init__(self, connect: Callable[[], http.client.HTTPConnection], token: Callable[[], str]) -> None:
        self._connect, self._token = connect, token

    def get(self, path: str) -> Answer:
        """Raises OSError, HTTPException where it does not answer."""
        connection = self._connect()
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self._token()}"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        return response.status, found if isinstance(found, dict) else {"message": repr(body[:200])}


class Trust:
    """Who may ask: holders of a certificate by the cluster's own authority for this, with one of its names."""

    def __init__(self, api: ApiServer, certificate: Path) -> None:
        self._api, self._certificate = api, certificate
        self.refresh()

    def refresh(self) -> None:
        """Raises OSError, HTTPException, ValueError where it cannot be read, and leaves what was known as it is."""
        status, found = self._api.get(TRUSTED)
        told = found.get("data") or {}
        authority = told.get("requestheader-client-ca-file")
        if status != 200 or not authority:
            raise ValueError(f"who may ask is not to be learnt from {TRUSTED}: {found.get('message') or 'not set'}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._certificate / "tls.crt", self._certificate / "tls.key")
        context.load_verify_locations(cadata=authority)
        context.verify_mode = ssl.CERT_OPTIONAL  # the kubelet, which has none, asks for /healthz
        self.names = frozenset(json.loads(told.get("requestheader-allowed-names") or "[]"))
        self.context = context

    def admits(self, certificate: Any) -> bool:
        """Whether a certificate, which was verified by the context, is one of those who may ask."""
        if not certificate:
            return False
        subject = [pair for part in certificate.get("subject") or () for pair in part]
        return not self.names or any(key == "commonName" and value in self.names for key, value in subject)


def in_flight(address: str, port: int) -> int | None:
    """The requests that a pod has; None where it does not tell."""
    connection = http.client.HTTPConnection(address, port, timeout=POD_SECONDS)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        text = response.read(LARGEST).decode("utf-8", "replace") if response.status == 200 else ""
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return counted(text)


def counted(text: str) -> int | None:
    """The sum of the metric's samples in what a pod's /metrics shows; None where there is none that can be read."""
    samples = [line for line in text.splitlines() if line.startswith((f"{METRIC}{{", f"{METRIC} "))]
    try:
        return round(sum(float(line.rpartition(" ")[2]) for line in samples)) if samples else None
    except (ValueError, OverflowError):
        return None


class Metrics:
    """The part of the API that is served."""

    def __init__(self, api: ApiServer, port: int) -> None:
        self._api, self._port = api, port
        self._pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)

    def answer(self, target: str) -> Answer:
        """What is answered to GET `target`."""
        place = urlsplit(target)
        match [unquote(part) for part in place.path.strip("/").split("/")]:
            case ["openapi", "v2"]:
                # Nobody needs a description of it; without one, the API server logs an error again and again.
                return 200, {"swagger": "2.0", "info": {"title": GROUP, "version": VERSIONS[0]}, "paths": {}}
            case ["openapi", "v3"]:
                return 200, {"paths": {}}
            case ["apis", group] if group == GROUP:
                return 200, self._group()
            case ["apis", group, version] if group == GROUP and version in VERSIONS:
                return 200, self._resources(version)
            case ["apis", group, version, "namespaces", namespace, "pods", name, metric] if (
                group == GROUP and version in VERSIONS
            ):
                if metric != METRIC:
                    return refusal(404, "NotFound", f"there is no metric {metric} of pods, but {METRIC}")
                query = {key: values[-1] for key, values in parse_qs(place.query).items()}
                if query.get("metricLabelSelector"):
                    return refusal(400, "BadRequest", f"{METRIC} is not told by its labels: no metricLabelSelector")
                return self._values(version, namespace, name, query.get("labelSelector", ""))
        return refusal(404, "NotFound", "the server could not find the requested resource")

    def _group(self) -> dict[str, Any]:
        versions = [{"groupVersion": f"{GROUP}/{version}", "version": version} for version in VERSIONS]
        return {
            "kind": "APIGroup",
            "apiVersion": "v1",
            "name": GROUP,
            "versions": versions,
            "preferredVersion": versions[0],
        }

    def _resources(self, version: str) -> dict[str, Any]:
        metric = {"name": f"pods/{METRIC}", "singularName": "", "namespaced": True}
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{GROUP}/{version}",
            "resources": [{**metric, "kind": "MetricValueList", "verbs": ["get"]}],
        }

    def _values(self, version: str, namespace: str, name: str, selector: str) -> Answer:
        fields = "status.phase=Running" if name == "*" else f"status.phase=Running,metadata.name={name}"
        labels = f"{selector},{OURS}" if selector else OURS
        query = urlencode({"labelSelector": labels, "fieldSelector": fields})
        status, found = self._api.get(f"/api/v1/namespaces/{quote(namespace, safe='')}/pods?{query}")
        if status != 200:
            return refusal(status, str(found.get("reason") or "InternalError"), str(found.get("message") or ""))
        pods = [
            (str(pod["metadata"]["name"]), str(pod["status"]["podIP"]))
            for pod in found.get("items") or ()
            if pod["status"].get("podIP") and not pod["metadata"].get("deletionTimestamp")
        ]
        told = self._pool.map(lambda pod: in_flight(pod[1], self._port), pods)
        known = [(pod, count) for (pod, _), count in zip(pods, told, strict=True) if count is not None]
        if name != "*" and not known:
            return refusal(404, "NotFound", f"the pod {name} of {namespace} does not tell its {METRIC}")
        return 200, _list(version, namespace, known)


def _list(version: str, namespace: str, known: Iterable[tuple[str, int]]) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    named: dict[str, Any] = (
        {"metric": {"name": METRIC, "selector": None}} if version == "v1beta2" else {"metricName": METRIC}
    )
    return {
        "kind": "MetricValueList",
        "apiVersion": f"{GROUP}/{version}",
        "metadata": {},
        "items": [
            {
                "describedObject": {"kind": "Pod", "namespace": namespace, "name": pod, "apiVersion": "/v1"},
                **named,
                "timestamp": now,
                "value": str(count),
            }
            for pod, count in known
        ],
    }


class Server(ThreadingHTTPServer):
    """Speaks TLS, a thread for each connection."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], trust: Trust, metrics: Metrics) -> None:
        self.trust, self.metrics = trust, metrics
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        # Not where connections are accepted: a client that is slow would keep all others waiting.
        request.settimeout(HANDSHAKE_SECONDS)
        with self.trust.context.wrap_socket(request, server_side=True) as connection:
            Handler(connection, client_address, self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        print(f"{client_address[0]}: {sys.exc_info()[1]}", file=sys.stderr, flush=True)


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    server: Server
    connection: ssl.SSLSocket

    def do_GET(self) -> None:
        if self.path == "/healthz":
            status, found = 200, {"status": "ok"}
        elif not self.server.trust.admits(self.connection.getpeercert()):
            status, found = refusal(401, "Unauthorized", "only the cluster's API server may ask here")
        else:
            try:
                status, found = self.server.metrics.answer(self.path)
            except (OSError, http.client.HTTPException) as error:
                status, found = refusal(503, "ServiceUnavailable", f"the API server does not answer: {error}")
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: it is asked every few seconds."""


def keep_fresh(trust: Trust, stop: threading.Event) -> None:
    """Learns who may ask again and again: authorities are replaced."""
    while not stop.wait(REFRESH_SECONDS):
        try:
            trust.refresh()
        except (OSError, http.client.HTTPException, ValueError) as error:
            print(f"who may ask stays as it was: {error}", file=sys.stderr, flush=True)


def main(port: str, certificate: str, pods: str) -> None:
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    host, api_port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
    api = ApiServer(
        lambda: http.client.HTTPSConnection(host, api_port, timeout=API_SECONDS, context=context),
        lambda: (ACCOUNT / "token").read_text().strip(),  # it is exchanged every hour
    )
    try:
        trust = Trust(api, Path(certificate))
    except (OSError, http.client.HTTPException, ValueError) as error:
        sys.exit(str(error))
    family = "::" if ":" in host else "0.0.0.0"  # noqa: S104 - a pod has one address, which is not known before
    # The first process of a pod ends by no signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=keep_fresh, args=(trust, threading.Event()), daemon=True).start()
    with Server((family, int(port)), trust, Metrics(api, int(pods))) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
