"""The state machine of a service, with whatever events in whatever order."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from provider.condition import FINAL, Cause
from provider.local.record import Record

CAUSE = Cause("InitError", "init() raised ValueError")
OTHER = Cause("Crashed", "the process ended")

REVISIONS = st.sampled_from(["aaaa", "bbbb", "cccc"])
EVENTS = st.one_of(
    st.tuples(st.just("wanted"), REVISIONS),
    st.tuples(st.just("reached"), st.sampled_from(["Starting", "Checking", "Switching", "NoResources"])),
    st.tuples(st.just("failed"), st.just(CAUSE)),
    st.tuples(st.just("took_over")),
    st.tuples(st.just("went_down"), st.just(OTHER)),
    st.tuples(st.just("came_up")),
    st.tuples(st.just("settled")),
)


def after(record: Record, event: tuple[Any, ...]) -> Record:
    name, *arguments = event
    if name == "settled":
        return record.settled(record.active) if record.active is not None else record
    return getattr(record, name)(*arguments)


def after_all(events: list[tuple[Any, ...]]) -> Record:
    record = Record()
    for event in events:
        record = after(record, event)
    return record


ANY = st.lists(EVENTS, max_size=30).map(after_all)


@given(ANY)
def test_healthy_means_that_the_revision_asked_for_is_up_and_nothing_is_under_way(record: Record) -> None:
    is_healthy = record.condition.state == "Healthy"
    assert is_healthy == (
        record.active is not None
        and record.active == record.desired
        and record.up
        and record.phase is None
        and record.failure is None
    )


@given(ANY, REVISIONS, st.lists(EVENTS.filter(lambda event: event[0] in ("reached", "failed")), max_size=5))
def test_a_rollout_that_does_not_take_over_leaves_what_serves(
    record: Record, revision: str, events: list[tuple[Any, ...]]
) -> None:
    later = record.wanted(revision)
    for event in events:
        later = after(later, event)
    assert (later.active, later.serving) == (record.active, record.serving)


@given(ANY, REVISIONS)
def test_a_rollout_that_took_over_is_healthy(record: Record, revision: str) -> None:
    later = record.wanted(revision).took_over()
    assert (later.condition.state, later.serving) == ("Healthy", revision)


@given(ANY, REVISIONS)
def test_a_rollout_that_failed_is_failed_with_its_cause(record: Record, revision: str) -> None:
    condition = record.wanted(revision).failed(CAUSE).condition
    assert (condition.state, condition.reason, condition.cause) == ("Failed", "InitError", CAUSE)


@given(ANY, REVISIONS)
def test_a_new_wish_is_not_final_and_forgets_the_last_failure(record: Record, revision: str) -> None:
    later = record.wanted(revision)
    assert later.condition.state not in FINAL
    assert later.failure is None


@given(ANY)
def test_a_service_that_is_down_serves_nothing(record: Record) -> None:
    later = record.went_down(OTHER)
    assert later.serving is None
    assert later.condition.state != "Healthy"


@given(ANY)
def test_every_state_has_a_reason_and_a_message(record: Record) -> None:
    condition = record.condition
    assert condition.reason
    assert condition.message
    assert condition.final == (condition.state in ("Failed", "Healthy"))


@given(ANY)
def test_bad_states_of_what_was_deployed_tell_their_cause(record: Record) -> None:
    if record.condition.state in ("Failed", "Unhealthy"):
        assert record.condition.cause is not None


@given(ANY)
def test_what_comes_late_from_a_rollout_that_ended_is_ignored(record: Record) -> None:
    ended = record.wanted("aaaa").failed(CAUSE)
    assert ended.reached("Checking").took_over().failed(OTHER) == ended


def test_lack_of_resources_is_unschedulable() -> None:
    condition = Record().wanted("aaaa").reached("NoResources").condition
    assert (condition.state, condition.reason, condition.final) == ("Unschedulable", "NoResources", False)


def test_restarts_are_counted_until_another_revision_takes_over() -> None:
    record = Record().wanted("aaaa").took_over().went_down(OTHER).came_up().went_down(OTHER).came_up()
    assert record.restarts == 2
    assert record.wanted("bbbb").took_over().restarts == 0


@given(st.builds(Cause, st.text(), st.text(), log=st.lists(st.text()).map(tuple), exit_code=st.none() | st.integers()))
def test_a_cause_survives_the_way_through_json(cause: Cause) -> None:
    assert Cause.from_json(cause.as_json()) == cause
