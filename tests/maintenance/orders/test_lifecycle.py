from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Conflict, Invalid
from maintenance.orders import lifecycle
from maintenance.orders.lifecycle import Times

START = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)


def at(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


def live(*taken: tuple[str, int]) -> tuple[str, Times]:
    """Walk an order that is new through (verb, minute) and return where it ends."""
    phase, times = "new", Times()
    for verb, minute in taken:
        for step in lifecycle.steps(phase, verb):
            times = lifecycle.after_step(times, step, at(minute))
            phase = lifecycle.MOVES[step][phase]
    return phase, times


def test_FS_2_travel_is_arrival_minus_departure_and_a_pause_is_not_work() -> None:
    phase, times = live(
        ("assign", 0), ("accept", 2), ("depart", 5), ("arrive", 30), ("start", 35), ("pause", 50), ("resume", 80),
        ("finish", 100),
    )  # fmt: skip
    assert phase == "done"
    assert lifecycle.travelled(times) == timedelta(minutes=25)
    assert lifecycle.worked(times, at(500)) == timedelta(minutes=35)


@pytest.mark.parametrize("phase", ["new", "assigned", "accepted", "travelling", "on_site"])
def test_FS_2_finish_before_start_is_a_conflict_that_lists_what_is_possible(phase: str) -> None:
    with pytest.raises(Conflict) as refused:
        lifecycle.next_phase(phase, "finish")
    assert set(refused.value.values["allowed"].split(", ")) == set(lifecycle.allowed(phase))


def test_one_tap_on_start_takes_the_steps_before_it_and_fills_their_times_in_order() -> None:
    phase, times = live(("assign", 0), ("start", 7))
    assert phase == "working"
    assert times.accepted_at == times.departed_at == times.arrived_at == times.started_at == at(7)


def test_work_sent_back_counts_neither_the_waiting_nor_loses_the_first_start() -> None:
    phase, times = live(("assign", 0), ("start", 10), ("finish", 30), ("send_back", 90), ("finish", 100))
    assert phase == "done"
    assert times.started_at == at(10)
    assert lifecycle.worked(times, at(500)) == timedelta(minutes=30)


def test_a_paused_order_handed_over_keeps_the_work_done_and_counts_no_gap() -> None:
    phase, times = live(
        ("assign", 0), ("start", 10), ("pause", 40), ("assign", 60), ("accept", 61), ("start", 90), ("finish", 100)
    )
    assert phase == "done"
    assert lifecycle.worked(times, at(500)) == timedelta(minutes=40)


def test_a_fault_that_comes_back_before_verification_goes_back_to_dispatch() -> None:
    phase, times = live(("assign", 0), ("start", 10), ("finish", 30), ("reopen", 40))
    assert (phase, times.assigned_at, times.finished_at) == ("new", None, None)
    assert lifecycle.worked(times, at(500)) == timedelta(minutes=20)


def test_an_unknown_verb_is_invalid() -> None:
    with pytest.raises(Invalid):
        lifecycle.steps("new", "explode")


def test_an_ended_order_allows_nothing() -> None:
    assert lifecycle.allowed("closed") == lifecycle.allowed("cancelled") == ()


@pytest.mark.parametrize("verb", ["refuse", "pause", "cancel", "send_back"])
def test_these_steps_need_a_reason(verb: str) -> None:
    needs = lifecycle.required(verb, {}, signal_is_abnormal=False)
    with pytest.raises(Invalid) as refused:
        lifecycle.require(needs, ())
    assert refused.value.field == "reason"
    lifecycle.require(needs, {"reason"})


def test_finishing_asks_for_what_the_kind_of_work_says_and_names_all_that_is_missing() -> None:
    needs = lifecycle.required("finish", {"finish": ["finding", "resolution", "photo"]}, signal_is_abnormal=False)
    assert lifecycle.missing(needs, {"finding"}) == ("resolution", "photo")


def test_finishing_while_the_signal_is_abnormal_needs_a_word_on_it() -> None:
    needs = lifecycle.required("finish", {"finish": ["finding"]}, signal_is_abnormal=True)
    assert lifecycle.missing(needs, {"finding"}) == ("signal",)
    assert lifecycle.missing(needs, {"finding", "reason"}) == ()


steps_taken = st.lists(st.tuples(st.sampled_from(sorted(lifecycle.MOVES)), st.integers(-5, 120)), max_size=40)


@given(steps_taken)
def test_whatever_is_tried_phases_stay_legal_and_times_stay_in_order(tried: list[tuple[str, int]]) -> None:
    phase, times, minute = "new", Times(), 0
    for verb, gap in tried:
        minute += gap  # clocks of two machines may disagree: an instant before the last step is moved up
        try:
            path = lifecycle.steps(phase, verb)
        except Conflict:
            assert verb not in lifecycle.allowed(phase)
            continue
        for step in path:
            times = lifecycle.after_step(times, step, at(minute))
            phase = lifecycle.MOVES[step][phase]
        assert phase in lifecycle.PHASES
        visit = [times.assigned_at, times.accepted_at, times.departed_at, times.arrived_at]
        work = [times.started_at, times.finished_at, times.verified_at, times.closed_at]
        for order in (visit, work):
            known = [moment for moment in order if moment is not None]
            assert known == sorted(known)
        worked = lifecycle.worked(times, at(10_000))
        assert worked is None or worked >= timedelta(0)
        assert times.paused_s >= 0


@given(st.lists(st.integers(1, 60), min_size=2, max_size=20))
def test_work_is_the_sum_of_the_stretches_between_start_or_resume_and_pause_or_finish(gaps: list[int]) -> None:
    minute, expected, taken = 0, 0, [("assign", 0), ("start", 0)]
    working = True
    for gap in gaps:
        minute += gap
        expected += gap if working else 0
        taken.append(("pause" if working else "resume", minute))
        working = not working
    taken.append(("finish", minute + 5))
    expected += 5 if working else 0
    _phase, times = live(*taken)
    assert lifecycle.worked(times, at(100_000)) == timedelta(minutes=expected)


@given(st.sampled_from(lifecycle.PHASES), st.sampled_from(sorted(lifecycle.MOVES)))
def test_the_next_phase_is_where_the_single_steps_lead(phase: str, verb: str) -> None:
    if verb not in lifecycle.allowed(phase):
        return
    ends = phase
    for step in lifecycle.steps(phase, verb):
        ends = lifecycle.MOVES[step][ends]
    assert lifecycle.next_phase(phase, verb) == ends
