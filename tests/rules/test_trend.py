"""Trend to limit: how near it comes on wear whose truth is known, and what it says when there is nothing to say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.wear import HOUR_MS, LIMIT, wear
from rules import trend
from rules.trend import DAY_MS, Forecast, Outlook, Shape


def foresee(ts_ms: trend.Int64s, value: trend.Floats, limit: float = LIMIT, *, is_rising: bool = True) -> Forecast:
    now_ms = int(ts_ms[-1]) + HOUR_MS
    return trend.foresee(ts_ms, value, limit=limit, is_rising=is_rising, now_ms=now_ms, horizon_days=365)


@pytest.mark.parametrize(
    ("shape", "lived", "held", "off"),
    [
        (Shape.LINE, 0.5, 0.75, 0.1),
        (Shape.LINE, 0.85, 0.75, 0.1),
        (Shape.ACCELERATING, 0.7, 0.5, 0.25),
        (Shape.ACCELERATING, 0.85, 0.65, 0.2),
    ],
)
def test_RUL_18_the_crossing_of_generated_wear_is_foretold_and_the_interval_holds_it(
    shape: Shape, lived: float, held: float, off: float
) -> None:
    holds, missed_by = [], []
    for seed in range(12):
        life = 60 + 12.0 * seed
        days = int(life * lived)
        told = foresee(*wear(shape, days, life, seed))
        assert told.earliest_ms is not None
        assert told.likely_ms is not None
        truth = life * DAY_MS
        holds.append(told.earliest_ms <= truth <= (told.latest_ms or np.inf))
        missed_by.append(abs(told.likely_ms - truth) / DAY_MS / (life - days))
    assert np.mean(holds) >= held
    assert np.median(missed_by) <= off


def test_RUL_18_what_does_not_wear_raises_no_hopes_and_no_fears() -> None:
    outlooks = [foresee(*wear(None, 90, 1, seed)).outlook for seed in range(25)]
    assert outlooks.count(Outlook.CROSSES) == 0
    assert outlooks.count(Outlook.STEADY) >= 24


def test_RUL_18_three_days_of_data_are_not_enough() -> None:
    told = foresee(*wear(Shape.LINE, 3, 60, 1))
    assert told == Forecast(Outlook.NOT_ENOUGH, 3)
    assert trend.foresee(
        trend.NO_TIMES, trend.NO_VALUES, limit=1, is_rising=True, now_ms=0, horizon_days=1
    ) == Forecast(Outlook.NOT_ENOUGH, 0)


def test_what_is_there_already_is_said_and_what_lies_far_away_too() -> None:
    ts_ms, value = wear(Shape.LINE, 60, 50, 1)
    assert foresee(ts_ms, value).outlook is Outlook.CROSSED
    ts_ms, value = wear(Shape.LINE, 60, 2000, 1)
    assert foresee(ts_ms, value).outlook in {Outlook.BEYOND, Outlook.STEADY}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(-50, 50), st.sampled_from([0.1, 1.0, 1000.0]))
def test_a_falling_measurement_is_the_mirror_of_a_rising_one_and_units_do_not_matter(
    seed: int, moved: float, scale: float
) -> None:
    ts_ms, value = wear(Shape.LINE, 50, 80, seed)
    up = foresee(ts_ms, value * scale + moved, LIMIT * scale + moved)
    down = foresee(ts_ms, -value * scale - moved, -LIMIT * scale - moved, is_rising=False)
    assert (up.outlook, up.likely_ms, up.earliest_ms) == (down.outlook, down.likely_ms, down.earliest_ms)
    plain = foresee(ts_ms, value)
    assert up.outlook is plain.outlook
    assert up.likely_ms is not None
    assert plain.likely_ms is not None
    assert abs(up.likely_ms - plain.likely_ms) < DAY_MS / 10


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_readings_does_not_matter_and_gaps_and_nan_are_left_out(random_: object) -> None:
    ts_ms, value = wear(Shape.LINE, 40, 80, 5)
    value[100:200] = np.nan
    order = np.arange(len(ts_ms))
    random_.shuffle(order)  # type: ignore[attr-defined]  # hypothesis' own Random
    assert foresee(ts_ms, value) == trend.foresee(
        ts_ms[order], value[order], limit=LIMIT, is_rising=True, now_ms=int(ts_ms[-1]) + HOUR_MS, horizon_days=365
    )
