"""What is asked of a curve beyond its buckets: percentiles, rates, time in a state, and what stands in a gap. Pure.

For the API and the export. Every store hands over exact readings (``TelemetryStore.readings``) and the answer is
worked out here, so that all of them agree to the last digit they keep. The price is a bound on how many readings
one question may touch (``telemetry.buckets.MAX_READINGS``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from telemetry import quality
from telemetry.readings import Flag, Float64s, Int64s, Readings

MOST_STATES: Final = 100
"""Different values that time in a state tells apart; a metric that has more is no state."""

Fill = Literal["null", "previous", "linear"]
Grid = tuple[Int64s, Int64s]
"""The series asked for (int64[s], each once) and the edges of the buckets (int64[b + 1])."""


def percentile(readings: Readings, grid: Grid, percent: float) -> Float64s:
    """Return a percentile of each bucket, float64[s, b], NaN where it is empty.

    Between two readings it is interpolated linearly (type 7 of Hyndman and Fan, as numpy and DuckDB do).

    Raises:
        ValueError: the percentile lies outside of 0 … 100.
    """
    if not 0 <= percent <= 100:  # noqa: PLR2004 - per cent
        raise ValueError("a percentile must lie in 0 … 100")
    asked, edges_ms = grid
    rows = _placed(readings, asked, edges_ms, from_ms=int(edges_ms[0]))
    order = np.lexsort((rows.value, rows.bucket, rows.line))
    cell = (rows.line * (len(edges_ms) - 1) + rows.bucket)[order]
    value = rows.value[order]
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    sizes = np.diff(np.append(starts, len(cell)))
    at = percent / 100 * (sizes - 1)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(sizes - 1, 0))
    below, above = value[starts + low], value[starts + high]
    answer = _blank(grid)
    answer.ravel()[cell[starts]] = below + (above - below) * (at - low)
    return answer


def rate(readings: Readings, grid: Grid, *, is_counter: bool, per_ms: int = 1000) -> Float64s:
    """Return how fast a value changed in each bucket, per ``per_ms``: float64[s, b], NaN where nothing says.

    The changes between neighbouring readings that end in a bucket, divided by the time they took. The reading
    before the first edge counts as a neighbour if it is given. A counter that falls has begun again at zero.
    """
    asked, edges_ms = grid
    rows = _placed(readings, asked, edges_ms, from_ms=-(2**62))
    order = np.lexsort((rows.ts_ms, rows.line))
    line, ts_ms, value, bucket = rows.line[order], rows.ts_ms[order], rows.value[order], rows.bucket[order]
    follows = (np.diff(line, prepend=-1) == 0) & (bucket >= 0)
    step = np.diff(value, prepend=0.0)
    if is_counter:
        step = np.where(step < 0, value, step)
    took = np.diff(ts_ms, prepend=0)
    cell = (line * (len(edges_ms) - 1) + bucket)[follows]
    size = len(asked) * (len(edges_ms) - 1)
    change = np.bincount(cell, step[follows], minlength=size)
    time = np.bincount(cell, took[follows].astype(np.float64), minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(time > 0, change / time * per_ms, np.nan)
    return found.reshape(len(asked), len(edges_ms) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class TimeInState:
    """How long each value stood in each bucket. ``states``: the values, numbers before texts.

    ``ms``: int64[states, b]. ``unknown_ms``: int64[b], the time about which no reading speaks.
    """

    states: list[float | str]
    ms: Int64s
    unknown_ms: Int64s


def time_in_state(readings: Readings, edges_ms: Int64s, *, hold_ms: int, now_ms: int) -> TimeInState:
    """Return how long each value of one series stood in each bucket.

    A reading speaks until the next one, at most ``hold_ms`` (SEMANTICS A8), and never beyond ``now_ms``; the time
    between is unknown, as is that after a bad reading. Readings are those of one series, whichever, from
    ``hold_ms`` before the first edge on.

    Raises:
        ValueError: there are more different values than states are told apart.
    """
    order = np.argsort(readings.ts_ms, kind="stable")
    starts = readings.ts_ms[order]
    ends = np.minimum(np.append(starts[1:], 2**62), np.minimum(starts + hold_ms, max(now_ms, int(edges_ms[0]))))
    good = ~quality.has(readings.flags[order], Flag.BAD)
    order, starts, ends = order[good], starts[good], ends[good]
    readings, order = readings.select(order), np.arange(len(order))
    states, which = _states(readings, order)
    if len(states) > MOST_STATES:
        raise ValueError(f"more than {MOST_STATES} different values are no states")
    ms = np.zeros((len(states), len(edges_ms) - 1), np.int64)
    for number in range(len(states)):
        mine = which == number
        ms[number] = _overlap(starts[mine], np.maximum(ends, starts)[mine], edges_ms)
    return TimeInState(states, ms, np.diff(edges_ms) - ms.sum(axis=0))


def fill(values: Float64s, edges_ms: Int64s, how: Fill) -> Float64s:
    """Return a table float64[s, b] with something in its gaps (NaN), by a stated rule.

    ``null`` leaves them, ``previous`` repeats the bucket before, ``linear`` draws a line between the middles of
    the neighbours. Nothing is made up before the first bucket that has a value, nor by ``linear`` after the last.
    """
    if how == "null" or not values.size:
        return values
    by_rule: dict[str, Callable[[Float64s, Float64s], Float64s]] = {"previous": _previous, "linear": _linear}
    middle = (edges_ms[:-1] + edges_ms[1:]) / 2
    return np.stack([by_rule[how](line, middle) for line in values])


def _previous(line: Float64s, _middle: Float64s) -> Float64s:
    at = np.maximum.accumulate(np.where(np.isnan(line), -1, np.arange(len(line))))
    return np.where(at >= 0, line[np.maximum(at, 0)], np.nan)


def _linear(line: Float64s, middle: Float64s) -> Float64s:
    known = ~np.isnan(line)
    if not known.any():
        return line
    drawn: Float64s = np.interp(middle, middle[known], line[known], left=np.nan, right=np.nan)
    return np.where(known, line, drawn)


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """Numbers among readings: to which line of the answer and which bucket each belongs; -1 is before the first."""

    line: Int64s
    bucket: Int64s
    ts_ms: Int64s
    value: Float64s


def _placed(readings: Readings, asked: Int64s, edges_ms: Int64s, *, from_ms: int) -> _Placed:
    inside = np.isfinite(readings.value) & ~quality.has(readings.flags, Flag.BAD) & np.isin(readings.series, asked)
    inside &= (readings.ts_ms >= from_ms) & (readings.ts_ms < edges_ms[-1])
    series, ts_ms = readings.series[inside], readings.ts_ms[inside]
    by_number = np.argsort(asked, kind="stable")
    line = by_number[np.searchsorted(asked[by_number], series)] if len(series) else series
    bucket = np.searchsorted(edges_ms, ts_ms, side="right") - 1
    return _Placed(line, bucket.astype(np.int64), ts_ms, readings.value[inside])


def _blank(grid: Grid) -> Float64s:
    asked, edges_ms = grid
    return np.full((len(asked), len(edges_ms) - 1), np.nan)


def _states(readings: Readings, order: Int64s) -> tuple[list[float | str], Int64s]:
    """Return the different values, and the number of each row's in the order given."""
    value = readings.value[order]
    numbers = np.unique(value[~np.isnan(value)])
    which = np.searchsorted(numbers, np.nan_to_num(value)).astype(np.int64)
    states: list[float | str] = numbers.tolist()
    if readings.text is not None:
        words = {word: place for place, word in enumerate(_words(readings), start=len(states))}
        for row, source in enumerate(order.tolist()):
            word = readings.text[source]
            if word is not None and np.isnan(value[row]):
                which[row] = words[word]
        states += list(words)
    return states, which


def _words(readings: Readings) -> list[str]:
    is_text = np.isnan(readings.value).tolist()
    return sorted(
        {word for word, alone in zip(readings.text or (), is_text, strict=True) if word is not None and alone}
    )


def _overlap(starts: Int64s, ends: Int64s, edges_ms: Int64s) -> Int64s:
    """Return how much of spans, which do not overlap each other and rise, lies in each bucket: int64[b]."""
    covered = np.concatenate([[0], np.cumsum(ends - starts)])
    # The covered time before each edge: all whole spans that began before it, less what the last reaches beyond.
    begun = np.searchsorted(starts, edges_ms, side="right")
    beyond = np.where(begun > 0, np.append(ends, 0)[begun - 1] - edges_ms, 0)
    before: Int64s = covered[begun] - np.maximum(beyond, 0)
    return np.diff(before)
