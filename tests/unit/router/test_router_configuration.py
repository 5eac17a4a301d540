"""What the router is told of a service, as text."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.router.configuration import (
    Deployment,
    Service,
    backends,
    configuration,
    key_digests,
    mark_of,
    pem_of,
)
from provider.router.refusal import NO_KEY, WRONG_KEY, script


def service(*deployments: Deployment, **more: object) -> Service:
    plain = Service(
        name="mnist",
        port=8890,
        bind="0.0.0.0",
        tls=False,
        guarded=False,
        scoring_timeout_ms=60_000,
        deployments=deployments or (Deployment("blue", 100, ("/run/slipway/a.sock",)),),
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def deployment(name: str, weight: int, count: int) -> Deployment:
    return Deployment(name, weight, tuple(f"/run/slipway/{name}-{index}.sock" for index in range(count)))


def test_a_plain_service_is_a_frontend_and_its_backends() -> None:
    text = configuration(service())
    assert "frontend mnist\n  bind 0.0.0.0:8890\n" in text
    assert "  default_backend mnist\n" in text
    server = (
        "  server a unix@/run/slipway/a.sock weight 1 pool-max-conn -1 pool-purge-delay 5s check inter 1s fall 2 rise 1"
    )
    assert text.count(server) == 2
    assert re.findall(r"^backend (.*)$", text, re.MULTILINE) == ["mnist", "mnist:blue"]


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    assert "  bind [::1]:8890\n" in configuration(service(bind="::1"))


def test_tls_offers_http2_and_names_the_certificate() -> None:
    text = configuration(service(tls=True))
    assert "bind 0.0.0.0:8890 ssl crt /etc/slipway-router/certificates/mnist.pem alpn h2,http/1.1\n" in text
    assert "set-header x-forwarded-proto https\n" in text


def test_keys_are_asked_for_before_anything_else_is_done() -> None:
    guarded = configuration(service(guarded=True))
    assert "sha2(256),hex -m str -f /etc/slipway-router/keys/mnist.acl\n" in guarded
    assert guarded.index("use-service") < guarded.index("del-header authorization") < guarded.index("use_backend")
    assert "slipway.no-key" not in configuration(service())


def test_the_router_waits_longer_than_the_server() -> None:
    text = configuration(service(scoring_timeout_ms=90_500))
    assert text.count("timeout server 96s") == 2
    assert "timeout client 96s" in text
    assert "timeout client 65s" in configuration(service())


def test_a_header_picks_a_deployment_and_no_other() -> None:
    text = configuration(service(deployment("blue", 100, 1), deployment("green", 0, 1)))
    assert "use_backend mnist:green if { req.fhdr(azureml-model-deployment) -m str green }" in text
    assert "-m found } !{ req.fhdr(azureml-model-deployment) -m str blue green }" in text


@pytest.mark.parametrize(
    ("deployments", "expected"),
    [
        ([("blue", 100, 1)], {"blue": 1}),
        ([("blue", 90, 1), ("green", 10, 1)], {"blue": 9, "green": 1}),
        ([("blue", 90, 3), ("green", 10, 1)], {"blue": 3, "green": 1}),
        ([("blue", 100, 2), ("green", 0, 1)], {"blue": 1, "green": 0}),
        ([("blue", 99, 1), ("green", 1, 7)], {"blue": 256, "green": 1}),
    ],
)
def test_shares_hold_whatever_the_number_of_servers(
    deployments: list[tuple[str, int, int]], expected: dict[str, int]
) -> None:
    found = backends(service(*(deployment(*item) for item in deployments)))["mnist"]
    assert {name: found[f"{name}-0"].weight for name, _, _ in deployments} == expected


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 7)), min_size=1, max_size=5))
def test_no_share_is_lost_and_none_is_too_large(shares: list[tuple[int, int]]) -> None:
    named = [deployment(f"d{index}", weight, count) for index, (weight, count) in enumerate(shares)]
    servers = backends(service(*named))["mnist"]
    for item in named:
        weight = servers[f"{item.name}-0"].weight
        assert 0 <= weight <= 256
        assert (weight > 0) == (item.weight > 0)


def test_only_what_takes_a_reload_changes_the_mark() -> None:
    first = mark_of(service(deployment("blue", 100, 1)))
    assert mark_of(service(deployment("blue", 100, 3))) == first
    assert mark_of(service(deployment("blue", 100, 1), port=8891)) != first
    assert mark_of(service(deployment("blue", 100, 1), tls=True)) != first
    assert mark_of(service(deployment("blue", 100, 1), deployment("green", 0, 1))) != first
    assert f"  setenv {' '.join(first)}\n" in configuration(service(deployment("blue", 100, 1)))


def test_keys_are_kept_as_digests() -> None:
    assert key_digests(["abc"]) == [hashlib.sha256(b"abc").hexdigest().upper()]


def test_a_certificate_file_has_no_empty_lines() -> None:
    assert pem_of("A\r\n\nB\n", "\nC") == "A\nB\nC\n"


def test_a_request_is_refused_by_what_takes_its_body() -> None:
    text = configuration(service(guarded=True))

    assert "  http-request use-service lua.slipway.no-key if !open !bearer\n" in text
    assert "  http-request use-service lua.slipway.wrong-key if !open !known\n" in text
    assert "@" not in script()
    for name in (NO_KEY, WRONG_KEY):
        assert f'refuse("{name}"' in script()
