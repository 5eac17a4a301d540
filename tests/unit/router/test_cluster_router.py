"""What the router of a service on Kubernetes is told, as text."""

from __future__ import annotations

import pytest

from provider.router import refusal
from provider.router.cluster import command, configuration

ADDRESSES = {"blue": "10.96.0.7:80", "green": "[fd00::7]:80"}


def text(*, tls: bool = False, scoring_timeout_ms: int = 60_000, blue: int = 90) -> str:
    weights = {"blue": blue, "green": 100 - blue}
    return configuration("mnist", weights, ADDRESSES, tls=tls, scoring_timeout_ms=scoring_timeout_ms)


def backend(whole: str, name: str) -> list[str]:
    _, _, rest = whole.partition(f"\nbackend {name}\n")
    return [line.strip() for line in rest.partition("\nbackend ")[0].splitlines()]


def test_the_deployments_share_requests_by_weight() -> None:
    servers = [line for line in backend(text(), "mnist") if line.startswith("server ")]

    assert servers == [
        "server blue 10.96.0.7:80 weight 90 check inter 1s fall 3 rise 1",
        "server green [fd00::7]:80 weight 10 check inter 1s fall 3 rise 1",
    ]


def test_the_header_picks_a_deployment_as_on_a_docker_host() -> None:
    whole = text()

    assert "use_backend mnist:green if { req.fhdr(azureml-model-deployment) -m str green }" in whole
    assert (
        "http-request use-service lua.slipway.no-deployment if { req.fhdr(azureml-model-deployment) -m found } "
        "!{ req.fhdr(azureml-model-deployment) -m str blue green }"
    ) in whole
    assert "lua-load-per-thread /etc/slipway-haproxy/refuse.lua" in whole
    assert 'refuse("slipway.no-deployment", 404, "There is no deployment of the name in the header' in refusal.script()
    assert [line for line in backend(whole, "mnist:green") if line.startswith("server ")] == [
        "server green [fd00::7]:80 weight 1 check inter 1s fall 3 rise 1"
    ]


@pytest.mark.parametrize("name", ["mnist", "mnist:blue", "mnist:green"])
def test_no_connection_keeps_to_a_pod(name: str) -> None:
    assert {"option http-server-close", "http-reuse never"} <= set(backend(text(), name))


def test_the_server_s_own_answer_comes_before_the_router_s() -> None:
    assert "timeout server 95s" in backend(text(scoring_timeout_ms=90_000), "mnist")


def test_tls_is_that_of_the_mounted_certificate() -> None:
    assert "bind 0.0.0.0:8080 ssl crt /etc/slipway-router/certificates/mnist.pem alpn h2,http/1.1" in text(tls=True)
    assert "ssl crt" not in text()


def test_it_tells_that_it_works_whatever_the_services_do() -> None:
    _, _, front = text().partition("\nfrontend slipway-metrics\n")

    assert front.splitlines()[:4] == [
        "  bind 0.0.0.0:8404",
        "  http-request use-service prometheus-exporter if { path /metrics }",
        "  http-request return status 200 if { path /ready }",
        "  http-request return status 404",
    ]


def test_it_is_started_with_the_mounted_file() -> None:
    assert command()[-2:] == ["-f", "/etc/slipway-haproxy/haproxy.cfg"]
