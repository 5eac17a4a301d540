"""A route's inputs: what is refused, what is a change, what comes out. What it does is tried in tests/docker."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from provider.certificates import issue
from provider.resource import Change
from provider.route import Route
from provider.values import UNKNOWN, Properties
from tests.operations import context

CONTEXT = context("slipway:index:Route", "mnist", preview=True)
ROUTE = Route()


def deployment(name: str = "blue", weight: Any = 100, **more: Any) -> Properties:
    return {"name": name, "revision": f"r-{name}", "weight": weight, "sockets": [f"/run/slipway/{name}.sock"], **more}


def inputs(**more: Any) -> Properties:
    return {
        "engine": {"host": "unix:///var/run/docker.sock"},
        "router": "slipway-demo-router",
        "service": "mnist",
        "port": 8890,
        "deployments": [deployment()],
        **more,
    }


def failures(**more: Any) -> list[str]:
    _, found = asyncio.run(ROUTE.check(CONTEXT, inputs(**more)))
    return [f"{failure.property}: {failure.reason}" for failure in found]


def outputs(**more: Any) -> Properties:
    return asyncio.run(ROUTE.create(CONTEXT, inputs(**more)))[1]


@pytest.fixture(scope="module")
def pair() -> tuple[str, str]:
    """A certificate for models.example, and its key."""
    now = datetime.now(UTC)
    authority = issue.authority("Test", 10, now)
    made = issue.server(authority.certificate, authority.private_key, "models.example", ["models.example"], 5, now)
    return made.certificate, made.private_key


@pytest.fixture(scope="module")
def expired() -> tuple[str, str]:
    then = datetime.now(UTC) - timedelta(days=30)
    authority = issue.authority("Test", 10, then)
    made = issue.server(authority.certificate, authority.private_key, "models.example", ["models.example"], 5, then)
    return made.certificate, made.private_key


def test_good_inputs_pass(pair: tuple[str, str]) -> None:
    certificate, key = pair
    assert failures() == []
    assert (
        failures(
            certificate=certificate,
            privateKey=key,
            host="models.example",
            primaryKey="abc",
            secondaryKey="d/e=",
            bind="::",
            scoringTimeoutMs=600_000,
            deployments=[deployment("blue", 90), deployment("green", 10)],
        )
        == []
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"port": 0}, "port: must be from 1 to 65535, not 0"),
        ({"bind": "localhost"}, "bind: 'localhost' must be an IP address"),
        ({"service": "My_Service"}, "service: 'My_Service' is no DNS label"),
        ({"scoringTimeoutMs": 0}, "scoringTimeoutMs: must be from 1 to 1740000, not 0"),
        ({"engine": {"host": "box"}}, "engine.host: 'box' must begin with"),
        ({"deployments": []}, "deployments: must not be empty"),
        ({"deployments": [deployment(weight=90)]}, "the weights add up to 90, not to 100: blue 90"),
        (
            {"deployments": [deployment("blue", 60), deployment("green", 60)]},
            "add up to 120, not to 100: blue 60, green 60",
        ),
        ({"deployments": [deployment(weight=101)]}, "deployments[0].weight: must be a whole number from 0 to 100"),
        ({"deployments": [deployment(weight=1.5)]}, "deployments[0].weight: must be a whole number"),
        ({"deployments": [deployment(sockets=[])]}, "deployments[0].sockets: must name the socket of at least one"),
        ({"deployments": [deployment(sockets=["/var/a.sock"])]}, "must be a path below /run/slipway"),
        ({"deployments": [deployment(sockets=["/run/slipway/a b.sock"])]}, "must be a path below /run/slipway"),
        (
            {"deployments": [deployment(sockets=[f"/run/slipway/{'x' * 100}.sock"])]},
            "is longer than the 107 characters",
        ),
        ({"deployments": [{"name": "blue"}]}, "deployments[0]: needs name, revision, weight, sockets"),
        ({"deployments": [deployment("Blue")]}, "deployments[0].name: 'Blue' is no DNS label"),
        (
            {"deployments": [deployment("blue", 50), deployment("blue", 50, sockets=["/run/slipway/c.sock"])]},
            "two have the same name: blue, blue",
        ),
        (
            {"deployments": [deployment("blue", 50), deployment("green", 50, sockets=["/run/slipway/blue.sock"])]},
            "an instance is named twice",
        ),
        ({"certificate": "x"}, "privateKey: a certificate and its private key belong together"),
        ({"certificate": "x", "privateKey": "y"}, "certificate: is no certificate that can be read"),
    ],
)
def test_what_cannot_be_is_refused(wrong: Properties, words: str) -> None:
    found = failures(**wrong)
    assert any(words in failure for failure in found), found


def test_certificates_are_looked_at(pair: tuple[str, str], expired: tuple[str, str]) -> None:
    certificate, key = pair
    (other,) = failures(certificate=certificate, privateKey=key, host="other.example")
    assert "other.example" in other
    (late,) = failures(certificate=expired[0], privateKey=expired[1])
    assert "expired" in late or "no longer" in late or "ended" in late, late
    (misfit,) = failures(certificate=certificate, privateKey=expired[1])
    assert misfit.startswith("privateKey: ")


def test_a_bad_key_is_refused_without_showing_it() -> None:
    (failure,) = failures(primaryKey="se cret")
    assert failure.startswith("primaryKey: must be printable ASCII")
    assert "cret" not in failure


def test_unknown_values_are_waited_for() -> None:
    unknown = {"port", "service", "bind", "certificate", "privateKey", "primaryKey", "host"}
    assert failures(**dict.fromkeys(unknown, UNKNOWN)) == []
    assert failures(deployments=[UNKNOWN]) == []
    assert failures(deployments=[deployment(weight=90), deployment("green", UNKNOWN, sockets=UNKNOWN)]) == []


def test_where_a_service_is_reached(pair: tuple[str, str]) -> None:
    assert outputs()["scoringUri"] == "http://127.0.0.1:8890/score"
    assert outputs(host="models.example")["swaggerUri"] == "http://models.example:8890/swagger.json"
    assert outputs(engine={"host": "ssh://me@box"})["scoringUri"] == "http://box:8890/score"
    assert outputs(bind="::1")["scoringUri"] == "http://[::1]:8890/score"
    secure = outputs(certificate=pair[0], privateKey=pair[1])
    assert secure["scoringUri"] == "https://127.0.0.1:8890/score"
    assert outputs(port=UNKNOWN)["scoringUri"] is UNKNOWN


def test_the_revision_is_that_of_the_largest_share() -> None:
    found = outputs(deployments=[deployment("blue", 10), deployment("green", 90)])
    assert found["revision"] == "r-green"
    assert found["revisions"] == {"blue": "r-blue", "green": "r-green"}
    assert outputs(deployments=[deployment(revision=UNKNOWN)])["revision"] is UNKNOWN


def test_a_second_up_changes_nothing() -> None:
    assert ROUTE.diff(outputs(), inputs()) == []


def test_a_shift_names_the_shares_that_change() -> None:
    before = outputs(deployments=[deployment("blue", 90), deployment("green", 10)])
    after = inputs(deployments=[deployment("blue", 10), deployment("green", 90)])
    assert ROUTE.diff(before, after) == [
        Change("deployments[0].weight", "update"),
        Change("deployments[1].weight", "update"),
    ]


def test_another_host_replaces_and_other_certificates_for_it_do_not() -> None:
    before = outputs(engine={"host": "tcp://box:2376", "certPath": "/a"})
    assert ROUTE.diff(before, inputs(engine={"host": "tcp://box:2376", "certPath": "/b"})) == [
        Change("engine.certPath", "update")
    ]
    assert ROUTE.diff(before, inputs(engine={"host": "tcp://other:2376", "certPath": "/a"})) == [
        Change("engine.host", "update", replaces=True)
    ]


def test_what_a_refresh_found_is_a_change() -> None:
    found = {**outputs(), "drift": "its file is gone"}
    assert ROUTE.diff(found, inputs()) == [Change("drift", "update", of_input=False)]
