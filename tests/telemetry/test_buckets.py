"""Where buckets lie, and what they hold."""

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry import buckets
from telemetry.readings import Readings

HOUR = 3_600_000
BERLIN = ZoneInfo("Europe/Berlin")


def ms(*moment: int, zone: ZoneInfo | None = None) -> int:
    return int(datetime(*moment, tzinfo=zone or UTC).timestamp() * 1000)  # type: ignore[arg-type, misc]


def test_points_divide_a_range_evenly() -> None:
    assert buckets.even(100, 200, points=4).tolist() == [100, 125, 150, 175, 200]
    assert buckets.even(100, 201, points=4).tolist() == [100, 126, 152, 178, 201]
    assert buckets.even(0, 2, points=1000).tolist() == [0, 1, 2]


def test_a_step_begins_at_the_start_and_ends_at_the_end() -> None:
    assert buckets.even(5, 30, step_ms=10).tolist() == [5, 15, 25, 30]


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "wanted"),
    [
        (10, 10, {"points": 1}),
        (10, 9, {"points": 1}),
        (0, buckets.MAX_SPAN_MS + 1, {"points": 1}),
        (0, 10, {}),
        (0, 10, {"points": 1, "step_ms": 1}),
        (0, 10, {"points": 0}),
        (0, 10, {"step_ms": 0}),
        (0, 10, {"step_ms": -5}),
        (0, 10_000_000, {"step_ms": 1}),
    ],
)
def test_TEL_3_reversed_endless_and_oversized_ranges_are_refused(
    start_ms: int, end_ms: int, wanted: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match=r"must|give|more than"):
        buckets.even(start_ms, end_ms, **wanted)


@pytest.mark.parametrize("edges", [[], [1], [1, 1], [2, 1], [[1, 2]], [0, buckets.MAX_SPAN_MS + 1]])
def test_edges_that_make_no_buckets_are_refused(edges: list[int]) -> None:
    with pytest.raises(ValueError, match=r"edges|range"):
        buckets.check_edges(np.array(edges, np.int64))


def test_an_answer_too_large_for_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="cells"):
        buckets.distinct(range(100_000), buckets.even(0, 100, points=100))


def test_TEL_3_days_over_the_clock_changes_have_23_24_and_25_hours_and_equal_a_brute_force_result() -> None:
    rng = np.random.default_rng(3)
    for first, last, hours in (
        ((2025, 3, 29), (2025, 4, 1), [24, 23, 24]),
        ((2025, 10, 25), (2025, 10, 28), [24, 25, 24]),
    ):
        start, end = ms(*first, zone=BERLIN), ms(*last, zone=BERLIN)
        edges = buckets.calendar(start, end, unit="day", zone=BERLIN)
        assert (np.diff(edges) // HOUR).tolist() == hours
        times = np.unique(rng.integers(start, end, 5000))
        readings = Readings.of(np.full(len(times), 7), times, rng.normal(0, 100, len(times)))
        found = buckets.fold(readings, np.array([7]), edges)
        for bucket, (low, high) in enumerate(pairwise(edges.tolist())):
            values = [v for t, v in zip(times, readings.value, strict=True) if low <= t < high]
            assert found.count[0, bucket] == len(values)
            assert found.min[0, bucket] == min(values)
            assert found.max[0, bucket] == max(values)
            assert found.first[0, bucket] == values[0]
            assert found.last[0, bucket] == values[-1]
            assert found.sum[0, bucket] == pytest.approx(sum(values))
            assert found.mean[0, bucket] == pytest.approx(sum(values) / len(values))


def test_calendar_buckets_enclose_the_range() -> None:
    start, end = ms(2025, 11, 19, 13, 30), ms(2025, 12, 24, 8)
    weeks = buckets.calendar(start, end, unit="week", zone=BERLIN)
    assert datetime.fromtimestamp(weeks[0] / 1000, BERLIN).strftime("%a %H:%M %d.%m.") == "Mon 00:00 17.11."
    assert weeks[-2] < end <= weeks[-1]
    months = buckets.calendar(start, end, unit="month", zone=BERLIN)
    assert [datetime.fromtimestamp(edge / 1000, BERLIN).month for edge in months] == [11, 12, 1]
    hours = buckets.calendar(start, end, unit="hour", zone=ZoneInfo("Asia/Kathmandu"))
    assert datetime.fromtimestamp(hours[0] / 1000, ZoneInfo("Asia/Kathmandu")).minute == 0
    assert hours[0] <= start < hours[1]


def test_midnight_that_does_not_exist_begins_the_day_at_its_first_instant() -> None:
    beirut = ZoneInfo("Asia/Beirut")  # 2021-03-28 began at 01:00
    edges = buckets.calendar(ms(2021, 3, 27, 12), ms(2021, 3, 29, 12), unit="day", zone=beirut)
    assert datetime.fromtimestamp(edges[1] / 1000, beirut).strftime("%d %H:%M") == "28 01:00"
    assert (np.diff(edges) // HOUR).tolist() == [24, 23, 24]


def test_empty_buckets_are_explicit() -> None:
    readings = Readings.of([4, 4], [0, 25], [1.0, 3.0])
    found = buckets.fold(readings, np.array([9, 4]), buckets.even(0, 30, step_ms=10))
    assert found.count.tolist() == [[0, 0, 0], [1, 0, 1]]
    assert np.isnan(found.mean[0]).all()
    assert found.start_ms.tolist() == [0, 10, 20]


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 99), st.floats(-1e6, 1e6)), max_size=60, unique_by=lambda r: r[:2]
    ),
    st.integers(1, 40),
)
def test_folding_equals_a_loop(rows: list[tuple[int, int, float]], step_ms: int) -> None:
    edges = buckets.even(10, 90, step_ms=step_ms)
    asked = np.array([2, 0, 3])
    found = buckets.fold(Readings.of(*zip(*rows, strict=True)) if rows else Readings.empty(), asked, edges)
    for line, series in enumerate(asked):
        for bucket in range(len(edges) - 1):
            inside = [v for s, t, v in sorted(rows) if s == series and edges[bucket] <= t < edges[bucket + 1]]
            assert found.count[line, bucket] == len(inside)
            if inside:
                seen = [float(column[line, bucket]) for column in (found.min, found.max, found.first, found.last)]
                assert seen == [min(inside), max(inside), inside[0], inside[-1]]
                assert found.sum[line, bucket] == pytest.approx(sum(inside))
