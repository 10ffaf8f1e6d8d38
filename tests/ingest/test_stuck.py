"""When a sensor is taken for stuck, against a judge that looks at one reading after the other."""

import math
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.stuck import Stuck
from telemetry.readings import Flag, Int64s, Readings

LIMIT = 5
LIMITS = np.array([LIMIT, LIMIT, 0], np.int32)


def nothing_stored(_series: Int64s) -> Readings:
    return Readings.empty()


def judge(stuck: Stuck, readings: Readings, *, limits: np.ndarray = LIMITS) -> list[bool]:  # type: ignore[type-arg]
    flags, seen = stuck.judge(readings, limits)
    stuck.settle(seen)
    marks = readings.flags if flags is None else flags
    return [bool(mark & Flag.STUCK) for mark in marks.tolist()]


def of(values: list[float], *, start: int = 0, series: int = 0, flags: list[int] | None = None) -> Readings:
    return Readings.of([series] * len(values), range(start, start + len(values)), values, flags=flags)


NOISE = [20.1, 20.3, 20.2, 20.2, 20.4, 20.1, 20.0, 20.3]


def test_TEL_6_30_equal_readings_of_a_noisy_sensor_mark_it_stuck_until_it_moves() -> None:
    limits = np.array([30], np.int32)
    stuck = Stuck(nothing_stored)
    noise = [20 + math.sin(7 * step) for step in range(40)]
    assert not any(judge(stuck, of(noise), limits=limits))
    marks = judge(stuck, of([21.5] * 40, start=40), limits=limits)
    assert marks == [False] * 29 + [True] * 11
    assert judge(stuck, of([21.6, 21.5], start=80), limits=limits) == [False, False]


def test_a_sensor_that_never_varied_is_not_stuck() -> None:
    stuck = Stuck(nothing_stored)
    assert not any(judge(stuck, of([1.0] * 100)))
    # Nor is one that steps now and then, as a set point, a level in a closed tank, a thermometer of whole degrees.
    steps = [float(step // 7) for step in range(200)]
    assert not any(judge(stuck, of(steps, start=100)))


def test_where_it_rested_before_and_came_back_by_itself_it_may_rest_again() -> None:
    stuck = Stuck(nothing_stored)
    pump_on, pump_off = [3.1, 3.3, 3.2, 3.5, 3.4, 3.1, 3.2, 3.6], [0.0] * 8
    assert not any(judge(stuck, of(pump_on)))
    assert judge(stuck, of(pump_off, start=10)) == [False] * 4 + [True] * 4
    for again in range(3):
        start = 100 * (again + 1)
        assert not any(judge(stuck, of([*pump_on, *pump_off], start=start)))
    # At another value it is stuck as before.
    assert judge(stuck, of([*pump_on, *[2.7] * 6], start=1000))[-2:] == [True, True]


def test_what_is_bad_history_a_switch_or_of_another_metric_is_not_looked_at() -> None:
    stuck = Stuck(nothing_stored)
    judge(stuck, of(NOISE))
    for flag in (Flag.BAD, Flag.HISTORICAL, Flag.BOOLEAN):
        assert not any(judge(stuck, of([1.0] * 9, start=10, flags=[flag] * 9)))
    assert not any(judge(stuck, of([*NOISE, *[1.0] * 9], series=2)))
    assert not any(judge(stuck, of([*NOISE, *[1.0] * 9], series=90)))
    text = Readings.of([0] * 9, range(50, 59), [math.nan] * 9, ["off"] * 9)
    assert not any(judge(stuck, text))


def test_a_batch_that_is_tried_again_or_comes_again_is_judged_as_at_first() -> None:
    stuck = Stuck(nothing_stored)
    judge(stuck, of(NOISE))
    batch = of([20.5] * 7, start=10)
    first, _ = stuck.judge(batch, LIMITS)
    again, seen = stuck.judge(batch, LIMITS)
    assert first is not None
    assert again is not None
    assert first.tolist() == again.tolist()
    stuck.settle(seen)
    assert judge(stuck, batch) == [False] * 4 + [True] * 3
    assert judge(stuck, of([20.5], start=17)) == [True]
    # The same reading twice in one batch has one mark.
    twice = Readings.of([0, 0], [18, 18], [20.5, 20.5])
    assert judge(stuck, twice) == [True, True]


def test_a_sensor_that_was_stuck_is_so_after_a_start() -> None:
    newest = replace(of([20.5], start=30), flags=np.array([Flag.STUCK], np.uint8))
    stuck = Stuck(lambda _series: newest)
    assert judge(stuck, of([20.5, 20.5, 20.6, 20.6], start=30)) == [True, True, False, False]
    # One that was not is met where it stands.
    stuck = Stuck(lambda _series: of([20.5], start=30))
    assert not any(judge(stuck, of([20.5] * 30, start=31)))


@dataclass
class OneByOne:
    """The rule as its module tells it, a reading at a time."""

    last: float | None = None
    run: int = 0
    seen: int = 0
    changes: int = 0
    rest: float | None = None

    def judge(self, value: float) -> bool:
        if value == self.last:
            self.run += 1
        else:
            if self.last is not None:
                self.seen += min(self.run, LIMIT)
                self.changes += 1
                if self.run >= LIMIT:
                    self.rest = self.last
            self.last, self.run = value, 1
        has_varied = self.seen >= LIMIT and 2 * self.changes >= self.seen
        return self.run >= LIMIT and has_varied and value != self.rest


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([1.0, 2.0, 3.0]), st.integers(1, 7)), max_size=12),
    st.data(),
)
def test_batches_are_judged_as_one_reading_after_the_other(
    runs: list[tuple[int, float, int]], data: st.DataObject
) -> None:
    rows = [(series, value) for series, value, times in runs for _ in range(times)][: 8 * LIMIT]
    readings = Readings.of([s for s, _ in rows], range(len(rows)), [v for _, v in rows])
    one_by_one = {0: OneByOne(), 1: OneByOne()}
    wanted = [one_by_one[series].judge(value) for series, value in rows]
    stuck, found, begin = Stuck(nothing_stored), [], 0
    while begin < len(rows):
        end = min(begin + data.draw(st.integers(1, 20)), len(rows))
        part = readings.select(np.arange(begin, end))
        shuffled = np.array(data.draw(st.permutations(range(len(part)))), np.int64)
        marks = dict(zip(shuffled.tolist(), judge(stuck, part.select(shuffled)), strict=True))
        found += [marks[row] for row in range(len(part))]
        begin = end
    assert found == wanted
