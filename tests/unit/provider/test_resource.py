"""The framework of the resources: declared inputs, exact diffs, values in Pulumi's notation."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi.provider.experimental import provider as api
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime import rpc

from provider.main import RESOURCES
from provider.plugin import SlipwayProvider
from provider.resource import Change, Context, Failure, Input, Resource, check_declared, declared_changes
from provider.values import UNKNOWN, Properties, is_known, secret_names, to_plain_map, to_values

INPUTS = {
    "name": Input("string", replaces=True),
    "count": Input("integer", required=False),
    "tags": Input("map", required=False),
    "items": Input("list", required=False),
    "path": Input("string", required=False, silent=True),
}

plain_values = st.recursive(
    st.booleans() | st.integers(-(2**50), 2**50) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
).filter(lambda value: value != rpc.UNKNOWN)


@given(st.dictionaries(st.text(), plain_values))
def test_values_come_back_as_they_went(values: Properties) -> None:
    assert to_plain_map(to_values(values)) == values


@given(st.dictionaries(st.text(min_size=1), plain_values), st.data())
def test_a_secret_stays_secret(values: Properties, data: st.DataObject) -> None:
    hidden = data.draw(st.sets(st.sampled_from(sorted(values)))) if values else set()
    assert secret_names(to_values(values, hidden)) == hidden


def test_an_unknown_value_is_written_and_read_in_the_engine_s_notation() -> None:
    values = to_values({"a": UNKNOWN, "b": [UNKNOWN]})

    assert values["a"].value == rpc.UNKNOWN
    assert to_plain_map(values) == {"a": UNKNOWN, "b": [UNKNOWN]}
    assert not is_known(to_plain_map(values)["b"])


def test_a_property_that_is_none_is_left_out() -> None:
    assert to_values({"a": None}) == {}


@given(st.dictionaries(st.sampled_from(sorted(INPUTS)), plain_values))
def test_what_is_equal_has_no_changes(state: Properties) -> None:
    assert declared_changes(INPUTS, state, dict(state)) == []


@given(st.dictionaries(st.sampled_from(["tags", "items"]), plain_values), plain_values)
def test_what_differs_has_a_change_and_outputs_do_not_matter(state: Properties, other: Any) -> None:
    changed = {**state, "tags": other}
    # In JSON, other than in Python, true is not 1; a whole double is the integer, for Pulumi has doubles alone.
    expected = json.dumps(_whole(state.get("tags")), sort_keys=True) != json.dumps(_whole(other), sort_keys=True)
    assert bool(declared_changes(INPUTS, {**state, "output": 1}, changed)) == expected


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return {key: _whole(item) for key, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ({"name": "a"}, {"name": "b"}, [Change("name", "update", replaces=True)]),
        ({}, {"count": 1}, [Change("count", "add")]),
        ({"count": 1}, {}, [Change("count", "delete")]),
        ({"count": 1}, {"count": UNKNOWN}, [Change("count", "update")]),
        ({"tags": {"a": "1"}}, {"tags": {"a": "2", "b": "3"}}, [Change("tags.a", "update"), Change("tags.b", "add")]),
        ({"tags": {"x.py": "1"}}, {"tags": {}}, [Change('tags["x.py"]', "delete")]),
        ({"items": [1, 2]}, {"items": [1, 3, 4]}, [Change("items[1]", "update"), Change("items[2]", "add")]),
        ({"items": [{"digest": "a"}]}, {"items": [{"digest": "b"}]}, [Change("items[0].digest", "update")]),
        ({"path": "/a"}, {"path": "/b"}, []),
        ({"items": [True]}, {"items": [1]}, [Change("items[0]", "update")]),
    ],
)
def test_a_change_has_its_exact_path(old: Properties, new: Properties, changes: list[Change]) -> None:
    assert declared_changes(INPUTS, old, new) == changes


@pytest.mark.parametrize(
    ("news", "failure"),
    [
        ({}, Failure("name", "is required")),
        ({"name": 3}, Failure("name", "must be a string, not 3")),
        ({"name": "a", "count": True}, Failure("count", "must be a integer, not True")),
        (
            {"name": "a", "nmae": "b"},
            Failure("nmae", "unknown property; known are count, items, name, path, tags"),
        ),
    ],
)
def test_names_and_types_are_checked(news: Properties, failure: Failure) -> None:
    assert check_declared(INPUTS, news) == [failure]


def test_what_is_unknown_or_the_engine_s_own_is_let_through() -> None:
    assert check_declared(INPUTS, {"name": UNKNOWN, "__defaults": []}) == []


class Thing(Resource):
    """A resource that makes nothing."""

    token = "slipway:index:Thing"
    inputs = INPUTS

    async def create(self, context: Context, news: Properties) -> tuple[str, Properties]:
        return "id", {**news, "made": context.preview}

    async def delete(self, context: Context, resource_id: str, state: Properties) -> None:
        return None

    async def read(self, context: Context, resource_id: str, state: Properties) -> Properties | None:
        return None if resource_id == "gone" else {**state, "count": 7}


URN = "urn:pulumi:test::slipway::slipway:components:Model$slipway:index:Thing::thing"


def answer(request: Any) -> Any:
    """The provider's answer to one request of the engine."""

    async def run() -> Any:
        provider = SlipwayProvider([Thing()])
        provider.connect("127.0.0.1:1")
        method = type(request).__name__.removesuffix("Request").lower()
        return await getattr(provider, method)(request)

    return asyncio.run(run())


def test_a_resource_below_a_component_is_found_and_its_secrets_kept() -> None:
    properties = {"name": PropertyValue("n", is_secret=True), "count": PropertyValue(1.0)}

    created = answer(api.CreateRequest(URN, properties, timeout=0, preview=True))

    assert created.resource_id == "id"
    assert created.properties["name"] == PropertyValue("n", is_secret=True)
    assert created.properties["made"] == PropertyValue(True)


def test_a_check_tells_the_property() -> None:
    checked = answer(api.CheckRequest(URN, {}, {"name": PropertyValue(1.0)}, b""))
    assert [(failure.property, failure.reason) for failure in checked.failures] == [("name", "must be a string, not 1")]


def test_a_diff_is_detailed_and_can_be_ignored() -> None:
    state = {"name": PropertyValue("a"), "count": PropertyValue(1.0)}
    news = {"name": PropertyValue("b"), "count": PropertyValue(2.0)}

    diff = answer(api.DiffRequest(URN, "id", state, news, ["count"]))

    assert diff.changes is True
    assert diff.replaces == ["name"]
    assert list(diff.detailed_diff) == ["name"]
    assert answer(api.DiffRequest(URN, "id", state, state, [])).changes is False


def test_a_read_gives_inputs_and_outputs_or_says_that_it_is_gone() -> None:
    found = answer(api.ReadRequest(URN, "id", {"name": PropertyValue("a")}, {}))
    assert found.properties["count"] == PropertyValue(7.0)
    assert set(found.inputs) == {"name", "count"}

    assert answer(api.ReadRequest(URN, "gone", {}, {})).resource_id == ""


def test_every_resource_has_a_token_of_its_own() -> None:
    assert len({resource.token for resource in RESOURCES}) == len(RESOURCES)
    assert all(resource.token.startswith("slipway:index:") for resource in RESOURCES)
