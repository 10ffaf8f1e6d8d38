"""The columns of a batch, and what they refuse."""

import numpy as np
import pytest

from telemetry.readings import Flag, Readings, concatenate, same


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="ts_ms must be 2 values"):
        Readings.of([1, 2], [10], [1.0, 2.0])
    with pytest.raises(ValueError, match="text must have 1"):
        Readings.of([1], [10], [1.0], text=[None, None])


def test_columns_of_the_wrong_type_are_refused() -> None:
    with pytest.raises(ValueError, match="value must be 1 values of float64"):
        Readings(np.array([1]), np.array([1]), np.array([1], np.int64), None, np.zeros(1, np.uint8))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("series", "ts_ms", "value", "text"),
    [
        (-1, 0, 1.0, None),
        (2**27, 0, 1.0, None),
        (1, -1, 1.0, None),
        (1, 253_402_300_800_000, 1.0, None),
        (1, 0, float("inf"), None),
        (1, 0, float("nan"), None),
        (1, 0, float("inf"), "text"),
        (1, 0, float("nan"), "\ud800"),
        (1, 0, float("nan"), "x" * 1001),
    ],
)
def test_what_no_store_could_keep_is_refused(series: int, ts_ms: int, value: float, text: str | None) -> None:
    with pytest.raises(ValueError, match=r"must|surrogates"):
        Readings.of([series], [ts_ms], [value], text=None if text is None else [text])


def test_a_mask_or_row_numbers_select_rows() -> None:
    readings = Readings.of([1, 2, 3], [10, 20, 30], [1.0, float("nan"), 3.0], text=[None, "on", None])
    by_mask = readings.select(np.array([False, True, True]))
    assert (by_mask.series.tolist(), by_mask.text) == ([2, 3], ["on", None])
    by_number = readings.select(np.array([2, 0]))
    assert (by_number.series.tolist(), by_number.text) == ([3, 1], None)


def test_batches_with_and_without_texts_are_joined() -> None:
    joined = concatenate([Readings.of([1], [10], [1.0]), Readings.of([2], [20], [float("nan")], text=["on"])])
    assert (joined.series.tolist(), joined.text) == ([1, 2], [None, "on"])
    assert len(concatenate([])) == 0


def test_readings_are_compared_by_number_text_and_flags() -> None:
    nan = float("nan")
    left = Readings.of([1] * 5, range(5), [0.0, 1.0, nan, nan, 2.0], text=[None, None, "a", "a", None])
    right = Readings.of(
        [1] * 5, range(5), [-0.0, 1.5, nan, nan, 2.0], text=[None, None, "a", "b", None], flags=[0, 0, 0, 0, Flag.BAD]
    )
    assert same(left, right).tolist() == [True, False, True, False, False]
