"""An hour of late readings is noted once while its note stands, however many readings of it come."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ingest import late
from ingest.late import Told

STANDS_MS = 50

batches = st.lists(st.tuples(st.sets(st.integers(0, 12), max_size=6), st.integers(0, 30)), max_size=25)


@given(batches)
def test_what_is_noted_again_is_what_no_standing_note_covers(given_batches: list[tuple[set[int], int]]) -> None:
    told, plain, now_ms = Told(), dict[int, int](), 1000
    for hours, passed_ms in given_batches:
        now_ms += passed_ms
        since_ms = now_ms - STANDS_MS
        fresh = told.before(np.array(sorted(hours), np.int64), since_ms)
        assert fresh.tolist() == [hour for hour in sorted(hours) if plain.get(hour, 0) < since_ms]
        told.add(fresh, now_ms)
        plain |= dict.fromkeys(fresh.tolist(), now_ms)


def test_there_is_an_end_to_what_is_remembered() -> None:
    told = Told()
    told.add(np.arange(late._MOST + 1), 1)
    told.add(np.array([late._MOST + 5]), 1)
    assert told.before(np.array([7, late._MOST + 5]), 1).tolist() == [7]
