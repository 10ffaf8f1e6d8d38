"""What rows of one batch do to each other."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from telemetry.batch import Batch
from telemetry.readings import Readings


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from([0.0, 1.0, 2.5])), max_size=12))
def test_a_batch_counts_as_if_its_rows_had_come_one_by_one(rows: list[tuple[int, int, float]]) -> None:
    readings = Readings.of(*zip(*rows, strict=True)) if rows else Readings.empty()
    batch = Batch(readings)
    kept: dict[tuple[int, int], str] = {}
    duplicates, corrections = [], []
    for series, ts_ms, value in rows:
        before = kept.get((series, ts_ms))
        duplicates.append(before == str(value))
        corrections.append(before not in (None, str(value)))
        kept[series, ts_ms] = str(value)
    written = batch.written()
    assert written.is_duplicate.tolist() == duplicates
    assert written.is_correction.tolist() == corrections
    assert written.stored + written.duplicate == len(rows)
    final = zip(batch.final.series.tolist(), batch.final.ts_ms.tolist(), map(str, batch.final.value), strict=True)
    assert [((series, ts_ms), value) for series, ts_ms, value in final] == sorted(kept.items())


def test_times_too_far_apart_for_one_sort_key_are_sorted_all_the_same() -> None:
    readings = Readings.of([2**27 - 1, 0, 2**27 - 1], [253_402_300_799_999, 5, 0], [1.0, 2.0, 3.0])
    assert Batch(readings).final.value.tolist() == [2.0, 3.0, 1.0]


def test_the_first_row_of_a_key_meets_the_store_and_the_last_one_changes_it() -> None:
    batch = Batch(Readings.of([1, 1, 1], [5, 5, 5], [1.0, 2.0, 1.0]))
    changed = batch.meet(np.array([0]), Readings.of([1], [5], [1.0]))
    assert changed.tolist() == []
    assert batch.written().is_duplicate.tolist() == [True, False, False]
    assert batch.written().is_correction.tolist() == [False, True, True]
