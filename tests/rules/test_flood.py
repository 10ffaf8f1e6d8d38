"""When counts of ten minutes are a flood: worked examples and what holds of any counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.flood import Flood, floods

COUNTS = st.dictionaries(st.integers(0, 200), st.integers(1, 30), max_size=80)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, []),
        ({3: 10}, []),
        ({3: 11}, [Flood(3, 3, 11)]),
        ({3: 11, 4: 5, 5: 4}, [Flood(3, 4, 16)]),
        ({3: 11, 5: 9}, [Flood(3, 3, 11)]),
        ({0: 9, 1: 12, 2: 8, 3: 20, 4: 1, 5: 13}, [Flood(1, 3, 40), Flood(5, 5, 13)]),
    ],
)
def test_ALM_13_a_flood_begins_above_ten_and_ends_below_five(counts: dict[int, int], expected: list[Flood]) -> None:
    assert floods(counts) == expected


@given(COUNTS)
def test_ALM_13_floods_are_apart_and_hold_every_span_above_ten(counts: dict[int, int]) -> None:
    found = floods(counts)
    within = {span for one in found for span in range(one.first, one.last + 1)}
    assert {span for span, number in counts.items() if number > 10} <= within
    assert all(counts[span] >= 5 for span in within)
    assert all(counts[one.first] > 10 for one in found)
    assert sum(one.spans for one in found) == len(within)
    assert sum(one.alarms for one in found) == sum(counts[span] for span in within)
