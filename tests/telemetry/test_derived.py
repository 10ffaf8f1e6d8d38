"""What is worked out of a metric by the hour, against a plain reading of the same sentences."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.derived import HOWS, OF_HABIT, OF_TIME, SUMMED, Break, Opening, Recipe, derive
from telemetry.retention import HOUR_MS

MINUTE = 60_000
HOURS = 4
END = HOURS * HOUR_MS
Rows = list[tuple[int, float]]

ROWS = st.lists(
    st.tuples(st.integers(0, HOURS * 60 - 1).map(lambda minute: minute * MINUTE), st.integers(0, 99).map(float)),
    max_size=40,
    unique_by=lambda row: row[0],
)
RECIPES = st.builds(
    Recipe,
    st.sampled_from(sorted(set(HOWS) - OF_HABIT)),
    above=st.sampled_from([0.5, 30.0]),
    wraps_at=st.sampled_from([None, 100.0]),
    scale=st.sampled_from([1.0, 0.25]),
    hold_ms=st.sampled_from([10 * MINUTE, 90 * MINUTE]),
)


def run(
    recipe: Recipe,
    rows: Sequence[tuple[int, float]],
    *,
    start: int = 0,
    end: int = END,
    opening: Opening | None = None,
    breaks: Sequence[Break] = (),
) -> dict[int, float]:
    ts_ms = np.array([row[0] for row in rows], np.int64)
    value = np.array([row[1] for row in rows], np.float64)
    found = derive(recipe, ts_ms, value, start_ms=start, end_ms=end, opening=opening, breaks=breaks)
    return dict(zip((found.hour_ms // HOUR_MS).tolist(), found.value.tolist(), strict=True))


def plain(recipe: Recipe, rows: Rows) -> dict[int, float]:
    """Do the same one reading after the other, one minute after the other."""
    return plain_time(recipe, sorted(rows)) if recipe.how in OF_TIME else plain_steps(recipe, sorted(rows))


def plain_time(recipe: Recipe, ordered: Rows) -> dict[int, float]:
    found: dict[int, float] = {}
    for (at, value), (following, _) in itertools.pairwise([*ordered, (END, 0.0)]):
        for minute in range(at, min(following, at + recipe.hold_ms, END), MINUTE):
            share = value if recipe.how == "energy" else float(value > recipe.above)
            hour = minute // HOUR_MS
            found[hour] = found.get(hour, 0.0) + share * recipe.scale / 60
    return found


def plain_steps(recipe: Recipe, ordered: Rows) -> dict[int, float]:
    changes: dict[int, list[tuple[float, int]]] = {}
    for (before_ms, before), (at, after) in itertools.pairwise(ordered):
        if recipe.how != "rate" or at - before_ms <= recipe.hold_ms:
            changes.setdefault(at // HOUR_MS, []).append((plain_step(recipe, before, after), at - before_ms))
    found = dict.fromkeys((at // HOUR_MS for at, _ in ordered), 0.0) if recipe.how in SUMMED else {}
    for hour, steps in changes.items():
        found[hour] = sum(step for step, _ in steps) * recipe.scale
        if recipe.how == "rate":
            found[hour] *= HOUR_MS / sum(took for _, took in steps)
    return found


def plain_step(recipe: Recipe, before: float, after: float) -> float:
    if recipe.how == "starts":
        return float(before <= recipe.above < after)
    if recipe.how == "cycles":
        return float(after <= recipe.above < before)
    if recipe.how == "counter" and after < before:
        circle = recipe.wraps_at
        return after - before + circle if circle and after - before + circle <= circle / 2 else after
    return after - before


@given(RECIPES, ROWS)
def test_every_figure_equals_a_plain_reference(recipe: Recipe, rows: Rows) -> None:
    assert run(recipe, rows) == pytest.approx(plain(recipe, rows))


@given(RECIPES, ROWS, st.randoms(use_true_random=False))
def test_the_order_in_which_readings_come_changes_nothing(recipe: Recipe, rows: Rows, random: st.DataObject) -> None:
    shuffled = [*rows]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert run(recipe, shuffled) == run(recipe, rows)


@given(RECIPES, ROWS, st.integers(1, HOURS - 1))
def test_hours_worked_out_in_two_parts_are_those_worked_out_at_once(recipe: Recipe, rows: Rows, cut: int) -> None:
    at = cut * HOUR_MS
    early, late = [row for row in rows if row[0] < at], [row for row in rows if row[0] >= at]
    opening = Opening(*max(early)) if early else None
    parts = run(recipe, early, end=at) | run(recipe, late, start=at, opening=opening)
    assert parts == run(recipe, rows)


@given(RECIPES, ROWS.filter(lambda rows: len(rows) > 2), st.data())
def test_a_late_reading_changes_only_what_lies_between_its_neighbours(
    recipe: Recipe, rows: Rows, data: st.DataObject
) -> None:
    late = data.draw(st.sampled_from(sorted(rows)))
    without = [row for row in rows if row != late]
    before, after = run(recipe, without), run(recipe, rows)
    changed = {hour for hour in before.keys() | after.keys() if before.get(hour) != pytest.approx(after.get(hour))}
    following = min((row[0] for row in rows if row[0] > late[0]), default=END - 1)
    assert changed <= set(range(late[0] // HOUR_MS, following // HOUR_MS + 1))


def test_TEL_7_a_16_bit_counter_that_goes_from_65530_to_12_adds_18() -> None:
    counter = Recipe("counter", wraps_at=65_536)
    assert run(counter, [(0, 65_530), (MINUTE, 12)]) == {0: 18}
    assert run(Recipe("counter", wraps_at=2**32), [(0, 2**32 - 6), (MINUTE, 12)]) == {0: 18}
    assert run(Recipe("counter", wraps_at=100_000), [(0, 99_990), (MINUTE, 5)]) == {0: 15}


def test_a_counter_that_falls_by_more_than_half_its_circle_or_has_none_was_reset() -> None:
    rows = [(0, 30_000.0), (MINUTE, 5.0), (2 * MINUTE, 9.0)]
    assert run(Recipe("counter", wraps_at=65_536), rows) == {0: 9}
    assert run(Recipe("counter"), rows) == {0: 9}


def test_a_value_no_counter_of_that_width_can_show_is_left_out() -> None:
    assert run(Recipe("counter", wraps_at=65_536), [(0, 10), (MINUTE, 70_000), (2 * MINUTE, 12)]) == {0: 2}


def test_an_exchanged_counter_goes_on_with_what_was_read_off_both() -> None:
    rows = [(0, 500.0), (30 * MINUTE, 7010.0), (50 * MINUTE, 7025.0)]
    counter = Recipe("counter")
    assert run(counter, rows, breaks=[Break(20 * MINUTE)]) == {0: 15}
    assert run(counter, rows, breaks=[Break(20 * MINUTE, final=504, initial=7000)]) == {0: 4 + 10 + 15}
    assert run(counter, rows, breaks=[Break(20 * MINUTE, final=504)]) == {0: 4 + 15}
    # Counted in the hour in which it happened, and not a second time in the next.
    opening = Opening(0, 500.0)
    later = [(HOUR_MS + MINUTE, 7010.0)]
    split = [Break(20 * MINUTE, final=504, initial=7000)]
    assert run(counter, later, start=HOUR_MS, opening=opening, breaks=split) == {1: 10}


def test_a_machine_runs_while_a_reading_says_so_and_no_longer_than_it_speaks() -> None:
    runs = Recipe("run_hours", hold_ms=30 * MINUTE)
    assert run(runs, [(50 * MINUTE, 1.0), (65 * MINUTE, 0.0)]) == pytest.approx({0: 10 / 60, 1: 5 / 60})
    # Nothing after it: it speaks for half an hour, and about the rest nothing is known.
    found = derive(runs, np.array([50 * MINUTE]), np.array([1.0]), start_ms=0, end_ms=END)
    assert (found.known_ms // MINUTE).tolist() == [10, 20]


def test_power_becomes_energy() -> None:
    assert run(Recipe("energy", hold_ms=HOUR_MS), [(0, 3.0), (30 * MINUTE, 5.0), (HOUR_MS, 0.0)]) == pytest.approx(
        {0: 4.0, 1: 0.0}
    )


def test_a_start_in_a_gap_is_a_start_and_the_first_reading_of_all_is_none() -> None:
    assert run(Recipe("starts"), [(0, 1.0), (MINUTE, 0.0), (3 * HOUR_MS, 1.0)]) == {0: 0, 3: 1}
    assert run(Recipe("cycles"), [(0, 1.0), (MINUTE, 0.0), (3 * HOUR_MS, 1.0)]) == {0: 1, 3: 0}
