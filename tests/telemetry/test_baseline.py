"""The seasonal baseline: planted faults are found, quiet weeks stay quiet, too little past says nothing (RUL-18)."""

import numpy as np
import pytest

from telemetry import baseline
from telemetry.baseline import LOOK_BACK_MS, WEEK_HOURS
from telemetry.readings import Float64s, Int64s
from telemetry.retention import HOUR_MS

START_MS = 1_790_000_000_000 // HOUR_MS * HOUR_MS
ODD = 6.0
"""So many usual distances, two hours in a row, are a finding: what a rule of the product would ask."""


def plant(weeks: int, seed: int) -> tuple[Int64s, Float64s]:
    """Return hours of a machine that works two shifts on five days, with noise that grows with the load."""
    rng = np.random.default_rng(seed)
    hour = np.arange(weeks * WEEK_HOURS)
    of_day, of_week = hour % 24, hour // 24 % 7
    works = (of_week < 5) & (of_day >= 6) & (of_day < 22)
    value = np.where(works, 60 + 8 * np.sin(np.pi * (of_day - 6) / 16), 20) + rng.normal(size=len(hour)) * np.where(
        works, 1.2, 0.3
    )
    return START_MS + hour * HOUR_MS, value


def findings(hour_ms: Int64s, value: Float64s, wanted_ms: Int64s) -> list[tuple[int, int]]:
    """Return the runs of at least two unusual hours: first and last."""
    odd = np.abs(baseline.deviations(hour_ms, value, wanted_ms)) >= ODD
    runs: list[tuple[int, int]] = []
    begin = None
    for place, is_odd in enumerate([*odd.tolist(), False]):
        if is_odd and begin is None:
            begin = place
        elif not is_odd and begin is not None:
            if place - begin >= 2:
                runs.append((int(wanted_ms[begin]), int(wanted_ms[place - 1])))
            begin = None
    return runs


@pytest.mark.parametrize("seed", range(6))
def test_RUL_18_of_five_planted_faults_four_are_found_with_at_most_one_false_in_thirty_days(seed: int) -> None:
    hour_ms, value = plant(12, seed)
    wanted = hour_ms[-30 * 24 :]
    faults = ((100, 6, 15.0), (205, 4, -20.0), (330, 12, 9.0), (452, 3, 30.0), (610, 8, -12.0))
    begin = len(hour_ms) - len(wanted)
    for at, hours, by in faults:
        value[begin + at : begin + at + hours] += by
    runs = findings(hour_ms, value, wanted)
    hits = [
        any(first <= wanted[at + hours - 1] and last >= wanted[at] for first, last in runs) for at, hours, _ in faults
    ]
    false = [
        run for run in runs if not any(run[0] <= wanted[at + hours] and run[1] >= wanted[at] for at, hours, _ in faults)
    ]
    assert sum(hits) >= 4
    assert len(false) <= 1


def test_RUL_18_three_days_of_data_say_nothing() -> None:
    hour_ms, value = plant(1, 1)
    hour_ms, value = hour_ms[: 3 * 24], value[: 3 * 24]
    assert np.isnan(baseline.deviations(hour_ms, value, hour_ms)).all()
    nothing = np.empty(0, np.int64)
    assert np.isnan(baseline.deviations(nothing, np.empty(0), hour_ms)).all()


def test_an_hour_is_judged_by_the_past_alone_and_asking_for_many_is_asking_one_by_one() -> None:
    hour_ms, value = plant(9, 2)
    value[500:520] = np.nan
    wanted = hour_ms[-300:]
    together = baseline.deviations(hour_ms, value, wanted)
    for place in (0, 17, 150, 299):
        until = hour_ms <= wanted[place]
        since = hour_ms >= wanted[place] - LOOK_BACK_MS
        alone = baseline.deviations(hour_ms[until & since], value[until & since], wanted[place : place + 1])
        np.testing.assert_equal(alone[0], together[place])


def test_what_never_changes_is_usual_and_its_first_change_is_not() -> None:
    hour_ms = START_MS + np.arange(9 * WEEK_HOURS) * HOUR_MS
    value = np.full(len(hour_ms), 5.0)
    assert baseline.deviations(hour_ms, value, hour_ms[-1:]) == [0.0]
    value[-1] = 5.1
    assert baseline.deviations(hour_ms, value, hour_ms[-1:])[0] > ODD


def test_units_do_not_matter() -> None:
    hour_ms, value = plant(9, 3)
    wanted = hour_ms[-200:]
    plain = baseline.deviations(hour_ms, value, wanted)
    np.testing.assert_allclose(baseline.deviations(hour_ms, value * 1.8 + 32, wanted), plain, rtol=1e-6)
    np.testing.assert_allclose(baseline.deviations(hour_ms, -value, wanted), -plain, rtol=1e-6)
