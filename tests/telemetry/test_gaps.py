"""Where readings are missing, against asking every millisecond."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from telemetry import gaps


def found(ts_ms: list[int], start_ms: int, end_ms: int, hold_ms: int) -> list[list[int]]:
    return gaps.find(np.array(ts_ms, np.int64), start_ms, end_ms, hold_ms=hold_ms).tolist()  # type: ignore[no-any-return]


def test_TEL_6_a_gap_reaches_from_the_last_reading_before_it_to_the_first_after() -> None:
    assert found([90, 100, 110, 150, 160], 100, 170, 15) == [[110, 150]]
    assert found([], 100, 170, 15) == [[100, 170]]
    assert found([120], 100, 200, 15) == [[100, 120], [120, 200]]
    # One that spoke at the beginning, and one that still speaks at the end.
    assert found([90, 105, 120, 130], 100, 145, 15) == []
    assert found([80, 100], 100, 101, 15) == []


@given(st.sets(st.integers(0, 60)), st.integers(1, 12), st.integers(12, 40), st.integers(1, 20))
def test_a_moment_is_in_a_gap_when_the_readings_around_it_are_too_far_apart(
    moments: set[int], hold: int, start: int, width: int
) -> None:
    end = start + width
    ts_ms = sorted(one for one in moments if start - hold <= one)
    missing = found(ts_ms, start, end, hold)
    known = [one for one in ts_ms if one < end]
    for at in range(start, end):
        before = max((one for one in known if one <= at), default=start - hold - 1)
        after = min((one for one in known if one > at), default=end)
        assert any(begin <= at < stop for begin, stop in missing) == (after - before > hold)
