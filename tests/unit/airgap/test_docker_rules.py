"""Checks, defaults, names and differences of the docker plugin's stand-in: what follows from the schemas."""

from __future__ import annotations

import json
import re
from typing import Any

import pulumi_docker
import pytest

from airgap.docker import rules
from airgap.docker.container_schema import CONTAINER
from airgap.docker.network import Network
from airgap.docker.plugin import RESOURCES
from airgap.docker.schema import Field, an_object, boolean, integer, mapping, object_set, objects, string, string_set
from airgap.docker.volume import Volume
from provider.values import UNKNOWN

TOKEN = "docker:index/container:Container"
_REST_OF_A_CHECK = {"timeout": "0s", "startPeriod": "0s", "startInterval": "0s", "retries": 0}


def changes(state: dict[str, Any], news: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """The differences of a container: the kind, and whether it replaces, by path."""
    found = rules.differences(CONTAINER, {"name": "a", "image": "b", **state}, {"name": "a", "image": "b", **news})
    given = {**state, **news}
    return {item.path: (item.kind, item.replaces) for item in found if re.split(r"[.\[]", item.path)[0] in given}


def test_name_that_is_not_given_is_made_and_noted() -> None:
    first = rules.check(Network.schema, {}, {}, "net", b"seed")

    assert first["name"].startswith("net-")
    assert len(first["name"]) == len("net-") + 7
    assert first["__defaults"] == ["ipamDriver", "name"]
    assert rules.check(Network.schema, {}, first, "net", b"another seed") == first


def test_same_seed_gives_the_same_name() -> None:
    assert rules.unique_name("net", b"seed") == rules.unique_name("net", b"seed")
    assert rules.unique_name("net", b"seed") != rules.unique_name("net", b"other")


def test_name_that_was_given_is_not_kept_when_it_is_left_out() -> None:
    given = rules.check(Network.schema, {"name": "mine"}, {}, "net", b"seed")

    assert given["name"] == "mine"
    assert rules.check(Network.schema, {}, given, "net", b"seed")["name"] != "mine"


def test_defaults_inside_lists_are_filled_in_and_noted() -> None:
    checked = rules.check(CONTAINER, {"name": "a", "image": "b", "ports": [{"internal": 80}]}, {}, "a", b"")

    assert checked["ports"] == [
        {"internal": 80, "ip": "0.0.0.0", "protocol": "tcp", "__defaults": ["ip", "protocol"]},
    ]


def test_state_carries_no_notes_of_defaults() -> None:
    checked = rules.check(CONTAINER, {"name": "a", "image": "b", "ports": [{"internal": 80}]}, {}, "a", b"")

    state = rules.state_of(CONTAINER, checked, {"id": "1"})

    assert "__defaults" not in json.dumps({name: value for name, value in state.items() if name != "__meta"})
    assert state["__meta"] == '{"schema_version":"2"}'


def test_unknown_properties_are_named_with_their_place() -> None:
    found = rules.failures(TOKEN, CONTAINER, {"image": "a", "colour": "red", "ports": [{"internal": 1, "width": 2}]})

    assert [failure.property for failure in found] == ["colour", "ports[0].width"]
    assert "has no property colour in this stand-in" in found[0].reason


@pytest.mark.parametrize(
    ("inputs", "where", "what"),
    [
        ({}, "image", "is required"),
        ({"image": 1}, "image", "must be a string, not int"),
        ({"image": "a", "memory": "64"}, "memory", "must be a integer, not str"),
        ({"image": "a", "memory": True}, "memory", "must be a integer, not bool"),
        ({"image": "a", "restart": "sometimes"}, "restart", "must be one of no, on-failure, always, unless-stopped"),
        ({"image": "a", "ports": [{}]}, "ports[0].internal", "is required"),
        ({"image": "a", "ports": ["80"]}, "ports[0]", "must be an object"),
        ({"image": "a", "mounts": [{"type": "tape", "target": "/a"}]}, "mounts[0].type", "must be one of bind"),
    ],
)
def test_wrong_values_are_named(inputs: dict[str, Any], where: str, what: str) -> None:
    found = rules.failures(TOKEN, CONTAINER, inputs)

    assert [failure.property for failure in found] == [where]
    assert what in found[0].reason


def test_wrong_value_is_not_shown() -> None:
    (failure,) = rules.failures(TOKEN, CONTAINER, {"image": "a", "envs": "PASSWORD=hidden"})

    assert "hidden" not in failure.reason


def test_unknown_values_pass() -> None:
    assert rules.failures(TOKEN, CONTAINER, {"image": UNKNOWN, "ports": [{"internal": UNKNOWN}]}) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"memory": 0}, {}),
        ({"privileged": False}, {}),
        ({"domainname": ""}, {}),
        ({"dns": []}, {}),
        ({}, {"dns": []}),
        ({"sysctls": {}}, {}),
        ({"hostname": "made-up"}, {}),
        ({"envs": ["A=1"]}, {}),
        ({"user": "1000"}, {"user": ""}),
        ({"envs": ["A=1", "B=2"]}, {"envs": ["B=2", "A=1"]}),
        ({"labels": [{"label": "a", "value": "1"}]}, {"labels": [{"value": "1", "label": "a", "__defaults": []}]}),
        (
            {"ports": [{"internal": 80, "external": 32768, "ip": "0.0.0.0", "protocol": "tcp"}]},
            {"ports": [{"internal": 80, "ip": "0.0.0.0", "protocol": "tcp", "__defaults": ["ip", "protocol"]}]},
        ),
        (
            {"mounts": [{"type": "volume", "source": "a", "target": "/a", "readOnly": False}]},
            {"mounts": [{"type": "volume", "source": "a", "target": "/a"}]},
        ),
        ({"capabilities": {"adds": [], "drops": ["ALL"]}}, {"capabilities": {"drops": ["ALL"]}}),
    ],
)
def test_no_difference(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert changes(old, new) == {}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"memory": 64}, {"memory": 96}, {"memory": ("update", False)}),
        ({"memory": 64}, {}, {"memory": ("delete", False)}),
        ({}, {"memory": 64}, {"memory": ("add", False)}),
        ({"memory": 64, "memorySwap": 128}, {"memory": 64}, {"memorySwap": ("delete", False)}),
        ({"envs": ["A=1"]}, {"envs": ["A=2"]}, {"envs": ("update", True)}),
        ({"envs": ["A=1"]}, {"envs": UNKNOWN}, {"envs": ("update", True)}),
        ({"image": "b"}, {"image": UNKNOWN}, {"image": ("update", True)}),
        ({"command": ["a", "b"]}, {"command": ["a", "c"]}, {"command[1]": ("update", True)}),
        ({"command": ["a"]}, {"command": ["a", UNKNOWN]}, {"command[1]": ("add", True)}),
        ({"command": ["a", "b"]}, {"command": ["a"]}, {"command[1]": ("delete", True)}),
        (
            {"logOpts": {"a.b": "1", "c": "2"}},
            {"logOpts": {"a.b": "3", "c": "2"}},
            {'logOpts["a.b"]': ("update", True)},
        ),
        (
            {"healthcheck": {"tests": ["CMD", "true"], "interval": "30s", **_REST_OF_A_CHECK}},
            {"healthcheck": {"tests": ["CMD", "true"], "interval": UNKNOWN}},
            {"healthcheck.interval": ("update", False)},
        ),
        ({"dns": ["192.0.2.1"]}, {}, {"dns": ("delete", True)}),
        ({"mustRun": False}, {"mustRun": True}, {"mustRun": ("add", False)}),
        (
            {"ports": []},
            {"ports": [{"internal": 80}]},
            {"ports": ("add", True)},
        ),
        (
            {"mounts": [{"type": "volume", "source": "a", "target": "/a"}]},
            {"mounts": [{"type": "volume", "source": "b", "target": "/a"}]},
            {"mounts": ("update", True)},
        ),
        (
            {"ports": [{"internal": 80, "external": 8080, "ip": "0.0.0.0", "protocol": "tcp"}]},
            {"ports": [{"internal": 80, "external": 9090}, {"internal": 81}]},
            {"ports[0].external": ("update", True), "ports[1]": ("add", True)},
        ),
    ],
)
def test_difference(old: dict[str, Any], new: dict[str, Any], expected: dict[str, tuple[str, bool]]) -> None:
    assert changes(old, new) == expected


def test_preview_knows_what_is_given_and_nothing_that_the_engine_says() -> None:
    planned = rules.planned(Volume.schema, {"name": "vol", "labels": [], "__defaults": ["name"]})

    assert planned == {"name": "vol", "labels": [], "driver": UNKNOWN, "mountpoint": UNKNOWN}


def test_limit_that_is_left_out_does_not_stay_in_the_state() -> None:
    state = {"name": "a", "memory": 64, "hostname": "made-up", "bridge": "", "image": "b"}

    assert rules.carried_on(CONTAINER, state, {"name": "a", "image": "b"}) == {
        "name": "a",
        "hostname": "made-up",
        "bridge": "",
        "image": "b",
    }


def test_inputs_follow_the_state_where_they_differ() -> None:
    inputs = {"name": "a", "memory": 64, "ports": [{"internal": 80, "__defaults": []}], "__defaults": ["name"]}
    state = {"name": "a", "memory": 80, "ports": [{"internal": 80, "external": 1, "ip": "0.0.0.0"}]}
    state["ports"] = [{"internal": 80, "external": 1, "ip": "0.0.0.0", "protocol": "tcp"}]

    assert rules.inputs_of(CONTAINER, inputs, state) == {**inputs, "memory": 80}


def test_import_takes_over_what_is_set() -> None:
    state = {"name": "a", "image": "b", "memory": 64, "dns": [], "bridge": "docker0", "command": ["c"]}

    assert rules.inputs_of(CONTAINER, {}, state) == {"name": "a", "image": "b", "memory": 64, "command": ["c"]}


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.token)
def test_every_property_is_one_of_the_package(resource: Any) -> None:
    """A name that is spelt differently would be an error for programs that have it right."""
    arguments = getattr(pulumi_docker, f"{resource.token.rpartition(':')[2]}Args")
    known = _names_of(arguments)

    assert set(resource.schema.inputs) <= set(known)
    for name, field in resource.schema.inputs.items():
        _check_inside(field, f"{arguments.__name__}.{name}", _argument_type(arguments, known[name]))


def _names_of(arguments: Any) -> dict[str, str]:
    """The properties of an arguments class: the name in the program by the name on the wire."""
    names = {}
    for python_name, member in vars(arguments).items():
        if isinstance(member, property):
            getter = member.fget
            names[getattr(getter, "_pulumi_name", None) or _camel(python_name)] = python_name
    return names


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _argument_type(arguments: Any, python_name: str) -> Any:
    text = str(vars(arguments)[python_name].fget.__annotations__["return"])
    names = [part for part in dir(pulumi_docker) if part.endswith("Args") and f"'{part}'" in text]
    return getattr(pulumi_docker, names[0]) if names else None


def _check_inside(field: Field, where: str, arguments: Any) -> None:
    if not field.fields:
        return
    assert arguments is not None, f"{where} is no object in the package"
    known = _names_of(arguments)
    assert set(field.fields) <= set(known), where
    for name, inner in field.fields.items():
        _check_inside(inner, f"{where}.{name}", _argument_type(arguments, known[name]))


def test_kinds_are_told_apart() -> None:
    assert not rules.same(boolean(), True, False)
    assert not rules.same(integer(), 1, 2)
    assert not rules.same(string(), "a", "b")
    assert not rules.same(mapping(), {"a": "1"}, {"a": "2"})
    assert rules.same(string_set(), ["a", "b"], ["b", "a"])
    assert not rules.same(objects({"a": string()}), [{"a": "1"}, {"a": "2"}], [{"a": "2"}, {"a": "1"}])
    assert rules.same(object_set({"a": string()}), [{"a": "1"}, {"a": "2"}], [{"a": "2"}, {"a": "1"}])
    assert not rules.same(object_set({"a": string()}), [{"a": "1"}, {"a": "1"}], [{"a": "1"}])
    assert rules.same(an_object({"a": string(default="x")}), {"a": "x"}, {})
