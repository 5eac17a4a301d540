"""What serves the requests in flight of pods to a cluster's autoscalers: who may ask, and what is answered."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.targets import cluster_settings, metrics_adapter
from components.targets.metrics_adapter import ApiServer, Metrics, Server, Trust, counted
from tests.certificates import Authority
from tests.ports import free_port
from tests.unit.kubernetes import api_server
from tests.unit.kubernetes.api_server import items, refusal

PODS = "/api/v1/namespaces/models/pods"
IN_FLIGHT = "/namespaces/models/pods/*/slipway_requests_in_flight"
V1BETA2 = "/apis/custom.metrics.k8s.io/v1beta2"
SHOWN = (
    "# HELP slipway_requests_in_flight Requests read and not answered yet.\n"
    "# TYPE slipway_requests_in_flight gauge\n"
    'slipway_requests_in_flight{service="mnist",model="a b"} 3\n'
    'slipway_requests_queued{service="mnist"} 2\n'
)


@dataclass
class Adapter:
    """A running adapter, the API server that it asks, and the pod at 127.0.0.1."""

    api: api_server.ApiServer
    pod: api_server.ApiServer
    trust: Trust
    port: int
    folder: Path

    def trusts(self, authority: Path, *names: str) -> None:
        """Has the cluster say who may ask."""
        told = {
            "requestheader-client-ca-file": (authority / "ca.pem").read_text(),
            "requestheader-allowed-names": json.dumps(names),
        }
        self.api.answers[metrics_adapter.TRUSTED] = 200, {"kind": "ConfigMap", "data": told}
        self.trust.refresh()

    def ask(self, path: str, client: str | None = "proxy") -> tuple[int, dict[str, Any]]:
        """The answer to whoever has the certificate in the folder `client`."""
        context = ssl.create_default_context(cafile=str(self.folder / "server" / "ca.pem"))
        if client is not None:
            context.load_cert_chain(self.folder / client / "cert.pem", self.folder / client / "key.pem")
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=60, context=context)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


def pod(name: str, address: str | None = "127.0.0.1", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}, "status": {} if address is None else {"podIP": address}}


@pytest.fixture
def adapter(tmp_path: Path) -> Iterator[Adapter]:
    server, proxies = Authority("Slipway").write(tmp_path / "server", "localhost"), Authority("Front proxies")
    proxies.write(tmp_path / "proxy")
    Authority("Somebody").write(tmp_path / "stranger")
    for given, wanted in (("cert.pem", "tls.crt"), ("key.pem", "tls.key")):
        shutil.copy(server / given, server / wanted)
    with api_server.serving(free_port()) as api, api_server.serving() as pods:
        told = {"requestheader-client-ca-file": (tmp_path / "proxy" / "ca.pem").read_text()}
        api.answers[metrics_adapter.TRUSTED] = 200, {"data": {**told, "requestheader-allowed-names": '["client"]'}}
        pods.answers["/metrics"] = 200, SHOWN
        where = api.server.server_address[1], pods.server.server_address[1]
        asked = ApiServer(lambda: http.client.HTTPConnection("127.0.0.1", where[0], timeout=60), lambda: "a-token")
        trust = Trust(asked, server)
        with Server(("127.0.0.1", 0), trust, Metrics(asked, where[1])) as running:
            thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            yield Adapter(api, pods, trust, running.server_address[1], tmp_path)
            running.shutdown()
            thread.join()


def test_the_pods_themselves_tell(adapter: Adapter) -> None:
    # At the second one's address nobody listens; the others are about to come, and to go.
    leaving = pod("d", deletionTimestamp="2026-01-01T00:00:00Z")
    adapter.api.answers[PODS] = items(pod("a"), pod("b", "127.0.0.2"), pod("c", None), leaving)

    status, found = adapter.ask(f"{V1BETA2}{IN_FLIGHT}?labelSelector=app%3Dmnist")

    assert (status, found["kind"], found["apiVersion"]) == (
        200,
        "MetricValueList",
        "custom.metrics.k8s.io/v1beta2",
    )
    (item,) = found["items"]
    assert item["describedObject"] == {"kind": "Pod", "namespace": "models", "name": "a", "apiVersion": "/v1"}
    assert (item["metric"]["name"], item["value"]) == ("slipway_requests_in_flight", "3")
    assert adapter.api.asked[-1] == (
        f"GET {PODS}?labelSelector=app%3Dmnist%2Capp.kubernetes.io%2Fmanaged-by%3Dslipway"
        "&fieldSelector=status.phase%3DRunning"
    )
    assert adapter.api.headers[-1]["authorization"] == "Bearer a-token"


def test_one_pod_is_told_in_the_earlier_version_too(adapter: Adapter) -> None:
    adapter.api.answers[PODS] = items(pod("a"))

    status, found = adapter.ask(f"{V1BETA2.replace('v1beta2', 'v1beta1')}{IN_FLIGHT.replace('*', 'a')}")

    assert status == 200
    assert (found["items"][0]["metricName"], found["items"][0]["value"]) == ("slipway_requests_in_flight", "3")
    assert adapter.api.asked[-1].endswith("status.phase%3DRunning%2Cmetadata.name%3Da")


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        (IN_FLIGHT.replace("slipway_requests_in_flight", "cpu"), 404, "there is no metric cpu of pods, but slipway_"),
        (f"{IN_FLIGHT}?metricLabelSelector=a%3Db", 400, "is not told by its labels: no metricLabelSelector"),
        (IN_FLIGHT.replace("*", "gone"), 404, "the pod gone of models does not tell its slipway_requests_in_flight"),
        ("/namespaces/models/services/*/slipway_requests_in_flight", 404, "could not find the requested resource"),
        (IN_FLIGHT.replace("models", "others"), 403, "slipway-metrics cannot list pods"),
    ],
)
def test_what_cannot_be_told_is_refused_as_the_api_does(path: str, code: int, message: str, adapter: Adapter) -> None:
    adapter.api.answers[PODS] = items()
    adapter.api.answers[PODS.replace("models", "others")] = refusal(
        403, "slipway-metrics cannot list pods", "Forbidden"
    )

    status, found = adapter.ask(f"{V1BETA2}{path}")

    assert (status, found["kind"], found["code"]) == (code, "Status", code)
    assert message in found["message"]


def test_an_api_server_that_is_away_is_told(adapter: Adapter) -> None:
    adapter.api.server.shutdown()
    adapter.api.server.server_close()

    status, found = adapter.ask(f"{V1BETA2}{IN_FLIGHT}")

    assert (status, found["reason"]) == (503, "ServiceUnavailable")
    assert "the API server does not answer" in found["message"]


def test_the_api_server_finds_what_there_is(adapter: Adapter) -> None:
    assert adapter.ask("/apis/custom.metrics.k8s.io")[1]["preferredVersion"]["version"] == "v1beta2"
    (resource,) = adapter.ask(V1BETA2)[1]["resources"]
    assert (resource["name"], resource["verbs"]) == ("pods/slipway_requests_in_flight", ["get"])
    assert adapter.ask("/openapi/v2")[1]["paths"] == adapter.ask("/openapi/v3")[1]["paths"] == {}


def test_whoever_shows_no_certificate_learns_nothing_but_that_it_lives(adapter: Adapter) -> None:
    assert adapter.ask("/healthz", None) == (200, {"status": "ok"})
    for path in ("/apis/custom.metrics.k8s.io", f"{V1BETA2}{IN_FLIGHT}", "/openapi/v2"):
        status, found = adapter.ask(path, None)
        assert (status, found["message"]) == (401, "only the cluster's API server may ask here")
    assert not any(PODS in asked for asked in adapter.api.asked)


def test_a_certificate_of_another_authority_ends_the_connection(adapter: Adapter) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        adapter.ask(V1BETA2, "stranger")


def test_a_certificate_for_something_else_counts_for_nothing(adapter: Adapter) -> None:
    adapter.trusts(adapter.folder / "proxy", "somebody-else")
    assert adapter.ask(V1BETA2)[0] == 401
    adapter.trusts(adapter.folder / "proxy")
    assert adapter.ask(V1BETA2)[0] == 200, "no name is asked for"


def test_another_authority_counts_once_it_is_known(adapter: Adapter) -> None:
    adapter.trusts(adapter.folder / "stranger", "client")
    assert adapter.ask(V1BETA2, "stranger")[0] == 200
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        adapter.ask(V1BETA2, "proxy")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((200, {"data": {"client-ca-file": "pem"}}), "not set"),
        (refusal(403, "slipway-metrics cannot get configmaps"), "slipway-metrics cannot get configmaps"),
    ],
)
def test_who_may_ask_has_to_be_known(answer: Any, why: str, adapter: Adapter) -> None:
    adapter.api.answers[metrics_adapter.TRUSTED] = answer
    with pytest.raises(ValueError, match=f"who may ask is not to be learnt from .*: {why}"):
        adapter.trust.refresh()
    assert adapter.ask(V1BETA2)[0] == 200, "what was known stays"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (SHOWN, 3),
        ("slipway_requests_in_flight 0\n", 0),
        ('slipway_requests_in_flight{worker="1"} 2\nslipway_requests_in_flight{worker="2"} 1e0\n', 3),
        ("slipway_requests_in_flight_total 9\n", None),
        ("slipway_requests_in_flight{} NaN\n", None),
        ("slipway_requests_in_flight{} +Inf\n", None),
        ("slipway_requests_in_flight{} many\n", None),
        ("<html>", None),
    ],
)
def test_what_a_pod_shows_is_counted(text: str, count: int | None) -> None:
    assert counted(text) == count


def test_names_are_those_that_autoscalers_ask_for() -> None:
    assert (metrics_adapter.GROUP, metrics_adapter.METRIC) == (
        cluster_settings.CUSTOM_METRICS,
        cluster_settings.IN_FLIGHT,
    )
