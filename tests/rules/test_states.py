"""The states of an alarm: one word for every combination of marks, and verbs that fit it; then escalation."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Conflict, Invalid
from rules import escalation, states
from rules.escalation import Due, Followed, Policy, Step
from rules.states import CAUSES, STATES, Marks

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MARKS = st.builds(
    Marks,
    is_active=st.booleans(),
    is_acknowledged=st.booleans(),
    is_latched=st.booleans(),
    shelved=st.sampled_from([None, "timed", "once"]),
    suppressed_by=st.none() | st.sampled_from(CAUSES),
    is_out_of_service=st.booleans(),
    is_chattering=st.booleans(),
)


@given(
    marks=MARKS, verb=st.sampled_from(["acknowledge", "clear", "shelve", "unshelve", "take_out", "put_back", "reset"])
)
def test_D08_every_verb_that_fits_changes_the_marks_and_every_other_is_refused(marks: Marks, verb: str) -> None:
    assert marks.state in STATES
    if verb not in states.verbs(marks):
        with pytest.raises(Conflict):
            states.after(marks, verb)
        return
    then = states.after(marks, verb)
    assert then != marks
    assert verb not in states.verbs(then)
    if verb in {"unshelve", "put_back"}:
        assert states.is_released(marks, then) == (marks.is_held and not then.is_held and marks.is_active)
    if not then.is_active:
        assert not states.is_released(marks, then)


@pytest.mark.parametrize(
    ("marks", "state"),
    [
        (Marks(), "unacknowledged"),
        (Marks(is_acknowledged=True), "acknowledged"),
        (Marks(is_active=False), "returned_unacknowledged"),
        (Marks(is_active=False, is_acknowledged=True), "normal"),
        (Marks(is_active=False, is_acknowledged=True, is_latched=True), "latched"),
        (Marks(shelved="timed"), "shelved"),
        (Marks(shelved="timed", suppressed_by="gateway"), "suppressed"),
        (Marks(shelved="once", suppressed_by="window", is_out_of_service=True), "out_of_service"),
    ],
)
def test_the_marks_amount_to_the_states_of_ISA_18_2(marks: Marks, state: str) -> None:
    assert marks.state == state
    assert marks.is_listed == (state != "normal")


def test_a_shelf_for_once_ends_with_the_alarm_and_a_timed_one_does_not() -> None:
    assert states.ended(Marks(shelved="once")).shelved is None
    assert states.ended(Marks(shelved="timed")).shelved == "timed"


@pytest.mark.parametrize("until", [None, NOW, NOW - MINUTE, NOW + timedelta(hours=8, minutes=1)])
def test_ALM_4_no_end_or_too_long_is_refused(until: datetime | None) -> None:
    with pytest.raises(Invalid):
        states.shelf(until=until, is_once=False, longest=timedelta(hours=8), now=NOW)


def test_ALM_4_a_shelf_lasts_as_long_as_the_role_allows() -> None:
    eight = timedelta(hours=8)
    assert states.shelf(until=NOW + eight, is_once=False, longest=eight, now=NOW) == NOW + eight
    assert states.shelf(until=None, is_once=True, longest=eight, now=NOW) == NOW + eight


def test_ALM_6_three_repeats_then_escalation() -> None:
    policy = Policy(15 * MINUTE, 3, steps=(Step(timedelta(), "dispatcher"), Step(60 * MINUTE, "manager")))
    followed, given, called = Followed(NOW, is_acknowledged=False), [], []
    at: datetime | None = NOW
    while at is not None:
        due = escalation.due(followed, policy, at)
        if due.reminder is not None:
            given.append((at - NOW, due.reminder))
        called += [(at - NOW, number) for number in due.steps]
        followed = Followed(
            NOW,
            is_acknowledged=False,
            reminders=due.reminder or followed.reminders,
            escalated=max([followed.escalated, *(n + 1 for n in due.steps)]),
        )
        at = due.next_at
    assert given == [(15 * MINUTE, 1), (30 * MINUTE, 2), (45 * MINUTE, 3)]
    assert called == [(60 * MINUTE, 1)]


def test_what_was_missed_is_caught_up_once() -> None:
    steps = (Step(10 * MINUTE, "a"), Step(20 * MINUTE, "b"), Step(300 * MINUTE, "c"))
    due = escalation.due(Followed(NOW, is_acknowledged=False), Policy(15 * MINUTE, 20, steps=steps), NOW + 61 * MINUTE)
    assert due == Due(reminder=4, steps=(0, 1), next_at=NOW + 75 * MINUTE)


def test_an_acknowledgement_stops_all_but_the_re_alarm_and_that_is_capped() -> None:
    policy = Policy(15 * MINUTE, 3, 120 * MINUTE, 2, (Step(MINUTE, "manager"),))
    taken = Followed(NOW, is_acknowledged=True)
    assert escalation.due(taken, policy, NOW + 100 * MINUTE) == Due(next_at=NOW + 120 * MINUTE)
    assert escalation.due(taken, policy, NOW + 120 * MINUTE).rearms
    spent = Followed(NOW, is_acknowledged=True, realarms=2)
    assert escalation.due(spent, policy, NOW + 500 * MINUTE) == Due()


@given(
    followed=st.builds(
        Followed,
        announced_at=st.just(NOW),
        is_acknowledged=st.booleans(),
        reminders=st.integers(0, 5),
        escalated=st.integers(0, 3),
        realarms=st.integers(0, 3),
    ),
    minutes=st.integers(0, 1000),
)
def test_the_next_look_lies_ahead(followed: Followed, minutes: int) -> None:
    policy = Policy(7 * MINUTE, 5, 90 * MINUTE, 3, (Step(20 * MINUTE, "a"), Step(300 * MINUTE, "b")))
    due = escalation.due(followed, policy, NOW + minutes * MINUTE)
    assert due.rearms or due.next_at is None or due.next_at > NOW + minutes * MINUTE
