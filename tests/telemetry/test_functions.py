"""Percentiles, rates, time in a state and what stands in a gap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry import buckets, functions
from telemetry.readings import Flag, Readings

NAN = float("nan")
ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 99), st.floats(-1e6, 1e6)), max_size=60, unique_by=lambda row: row[:2]
)


def readings(rows: list[tuple[int, int, float]]) -> Readings:
    return Readings.of(*zip(*rows, strict=True)) if rows else Readings.empty()


@given(ROWS, st.integers(1, 40), st.sampled_from([0, 5, 50, 95, 100]))
def test_percentiles_equal_those_of_numpy(rows: list[tuple[int, int, float]], step_ms: int, percent: float) -> None:
    edges = buckets.even(10, 90, step_ms=step_ms)
    asked = np.array([2, 0, 3])
    found = functions.percentile(readings(rows), (asked, edges), percent)
    for line, series in enumerate(asked):
        for bucket in range(len(edges) - 1):
            inside = [v for s, t, v in rows if s == series and edges[bucket] <= t < edges[bucket + 1]]
            wanted = np.percentile(inside, percent) if inside else NAN
            assert found[line, bucket] == pytest.approx(wanted, rel=1e-9, abs=1e-6, nan_ok=True)


def test_a_percentile_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="percentile"):
        functions.percentile(Readings.empty(), (np.array([1]), np.array([0, 1])), 101)


def test_a_rate_is_the_change_over_the_time_it_took() -> None:
    grid = (np.array([7, 8]), np.array([10_000, 20_000, 30_000, 40_000]))
    some = Readings.of([7, 7, 7, 7, 8], [5000, 15_000, 25_000, 28_000, 13_000], [0.0, 10.0, 40.0, 34.0, 1.0])
    found = functions.rate(some, grid, is_counter=False)
    np.testing.assert_allclose(found, [[1.0, 24 / 13, NAN], [NAN, NAN, NAN]])
    per_minute = functions.rate(some, grid, is_counter=False, per_ms=60_000)
    np.testing.assert_allclose(per_minute, found * 60)


def test_a_counter_that_falls_has_begun_again() -> None:
    grid = (np.array([7]), np.array([0, 10_000]))
    some = Readings.of([7, 7, 7], [0, 4000, 8000], [100.0, 104.0, 2.0])
    assert functions.rate(some, grid, is_counter=True).tolist() == [[6 / 8]]
    assert functions.rate(some, grid, is_counter=False).tolist() == [[-98 / 8]]


@given(ROWS, st.integers(1, 40), st.integers(1, 50), st.integers(0, 120))
def test_time_in_state_equals_counting_every_millisecond(
    rows: list[tuple[int, int, float]], step_ms: int, hold_ms: int, now_ms: int
) -> None:
    mine = sorted((t, round(v) % 3) for s, t, v in rows if s == 1)
    edges = buckets.even(20, 90, step_ms=step_ms)
    found = functions.time_in_state(
        Readings.of([1] * len(mine), [t for t, _ in mine], [float(v) for _, v in mine]),
        edges,
        hold_ms=hold_ms,
        now_ms=now_ms,
    )
    for bucket in range(len(edges) - 1):
        counted: dict[float | None, int] = {}
        for ms in range(edges[bucket], edges[bucket + 1]):
            before = [(t, v) for t, v in mine if t <= ms]
            state = before[-1][1] if before and ms < min(before[-1][0] + hold_ms, max(now_ms, 20)) else None
            counted[state] = counted.get(state, 0) + 1
        told = dict(zip(found.states, found.ms[:, bucket].tolist(), strict=True))
        assert {state: ms for state, ms in told.items() if ms} == {s: n for s, n in counted.items() if s is not None}
        assert found.unknown_ms[bucket] == counted.get(None, 0)


def test_TEL_6_a_bad_reading_is_in_no_percentile_and_no_rate_and_after_it_nothing_is_known() -> None:
    some = Readings.of([1] * 4, [0, 10, 20, 30], [1.0, 500.0, 3.0, 3.0], flags=[0, Flag.BAD, Flag.STUCK, 0])
    grid = np.array([1]), np.array([0, 40])
    assert functions.percentile(some, grid, 100).tolist() == [[3.0]]
    assert functions.rate(some, grid, is_counter=False, per_ms=30).tolist() == [[2.0]]
    told = functions.time_in_state(some, grid[1], hold_ms=15, now_ms=100)
    assert (told.states, told.ms.tolist(), told.unknown_ms.tolist()) == ([1.0, 3.0], [[10], [20]], [10])


def test_texts_are_states_too_and_too_many_values_are_none() -> None:
    some = Readings.of([1, 1, 1], [0, 4, 6], [NAN, 1.0, NAN], ["run", None, ""])
    found = functions.time_in_state(some, np.array([0, 10]), hold_ms=100, now_ms=100)
    assert (found.states, found.ms.tolist(), found.unknown_ms.tolist()) == ([1.0, "", "run"], [[2], [4], [4]], [0])
    many = Readings.of([1] * 101, range(101), [float(number) for number in range(101)])
    with pytest.raises(ValueError, match="states"):
        functions.time_in_state(many, np.array([0, 1000]), hold_ms=10, now_ms=1000)


def test_gaps_are_filled_by_the_rule_that_was_asked_for_and_never_at_the_ends() -> None:
    edges = np.arange(0, 70, 10)
    table = np.array([[NAN, 1.0, NAN, NAN, 4.0, NAN], [NAN] * 6])
    assert functions.fill(table, edges, "null") is table
    np.testing.assert_allclose(functions.fill(table, edges, "previous"), [[NAN, 1, 1, 1, 4, 4], [NAN] * 6])
    np.testing.assert_allclose(functions.fill(table, edges, "linear"), [[NAN, 1, 2, 3, 4, NAN], [NAN] * 6])
