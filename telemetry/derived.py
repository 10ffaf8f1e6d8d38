"""What is worked out of a metric by the hour: run hours, starts, cycles, energy, counters, differences, rates. Pure.

For whoever keeps derived metrics (``ingest.deriving``). An hour's value depends on the readings and on nothing else:
not on the order in which they came, nor on how many were looked at together. So a late reading changes what lies
between the reading before it and the one after it, which is its own hour unless it stands at that hour's edge.

A step (counted, started, changed) belongs to the hour of the later of its two readings and is never split, so that
what is counted stays whole. Time (running, energy) is cut at the full hour; a reading speaks until the next one, at
most for ``hold_ms`` (SEMANTICS A8), and what nothing speaks about is unknown, not zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from telemetry.readings import Float64s, Int64s, Mask
from telemetry.retention import HOUR_MS

How = Literal["run_hours", "starts", "cycles", "energy", "counter", "difference", "rate", "deviation"]
HOWS: Final[tuple[How, ...]] = get_args(How)
SUMMED: Final = frozenset({"run_hours", "starts", "cycles", "energy", "counter"})
"""Those whose hours add up to a running total."""
OF_TIME: Final = frozenset({"run_hours", "energy"})
"""Those that a reading goes on to feed after its hour."""
OF_HABIT: Final = frozenset({"deviation"})
"""Those that the weeks before decide over (``telemetry.baseline``), not the readings of the hour alone."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one metric is worked out of another.

    ``above``: it runs while the source is greater. ``wraps_at``: the counter shows 0 instead of this number (65,536
    of 16 bits); None where it never begins again by itself. ``scale`` multiplies the result. ``per_ms``: the time
    that a rate is for.
    """

    how: How
    above: float = 0.5
    wraps_at: float | None = None
    scale: float = 1.0
    hold_ms: int = 600_000
    per_ms: int = HOUR_MS


@dataclass(frozen=True, slots=True)
class Opening:
    """The last reading before a range. ``ts_ms`` may be earlier than it was, where only its hour is known any more."""

    ts_ms: int
    value: float


@dataclass(frozen=True, slots=True)
class Break:
    """An instant at which a counter was reset or exchanged: what it showed last before, and first after, if known."""

    at_ms: int
    final: float | None = None
    initial: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Hours:
    """Values of full hours that have one, the earliest first. Columns have one length.

    ``hour_ms``: int64, when the hour begins. ``value``: float64. ``known_ms``: int64, for how much of it something is
    known; a whole hour of those that count steps.
    """

    hour_ms: Int64s
    value: Float64s
    known_ms: Int64s

    def __len__(self) -> int:
        return len(self.hour_ms)


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """Pairs of neighbouring readings: when the later one was, and both values."""

    ts_ms: Int64s
    took_ms: Int64s
    before: Float64s
    after: Float64s


def hour_of(ts_ms: int) -> int:
    """Return when the hour of an instant begins."""
    return ts_ms // HOUR_MS * HOUR_MS


def derive(
    recipe: Recipe,
    ts_ms: Int64s,
    value: Float64s,
    *,
    start_ms: int,
    end_ms: int,
    opening: Opening | None = None,
    breaks: Sequence[Break] = (),
) -> Hours:
    """Return the hours of ``[start_ms, end_ms)``.

    ``ts_ms`` (int64) and ``value`` (float64) are the readings of that range in any order, one an instant; those that
    are no numbers say nothing. ``opening`` is the last one before it, which speaks into it. ``breaks`` concern
    counters; those after the opening must be among them. The start is a full hour, or where its first one begins late.
    """
    usable = np.isfinite(value) & (ts_ms >= start_ms) & (ts_ms < end_ms)
    if recipe.how == "counter" and recipe.wraps_at is not None:
        usable &= (value >= 0) & (value < recipe.wraps_at)
    order = np.argsort(ts_ms[usable], kind="stable")
    ts_ms, value = ts_ms[usable][order], value[usable][order]
    if recipe.how in OF_TIME:
        return _of_time(recipe, ts_ms, value, opening, start_ms, end_ms)
    steps = _steps(ts_ms, value, opening, breaks if recipe.how == "counter" else ())
    # A break before the range belongs to an hour before it.
    if len(steps.ts_ms) and steps.ts_ms[0] < start_ms:
        inside = steps.ts_ms >= start_ms
        steps = _Steps(steps.ts_ms[inside], steps.took_ms[inside], steps.before[inside], steps.after[inside])
    return _of_steps(recipe, ts_ms, steps, start_ms, end_ms)


# Steps -------------------------------------------------------------------------------------------------------------


def _steps(ts_ms: Int64s, value: Float64s, opening: Opening | None, breaks: Sequence[Break]) -> _Steps:
    if opening is not None:
        ts_ms, value = np.append(np.int64(opening.ts_ms), ts_ms), np.append(opening.value, value)
    if not len(ts_ms) and not breaks:
        return _Steps(ts_ms, ts_ms, value, value)
    part = np.zeros(len(ts_ms), np.int64)
    rank = np.ones(len(ts_ms), np.int64)
    if breaks:
        at = sorted(breaks, key=lambda one: one.at_ms)
        part = np.searchsorted(np.array([one.at_ms for one in at], np.int64), ts_ms, side="right").astype(np.int64)
        more = [(one.at_ms, one.final, number, 2) for number, one in enumerate(at) if one.final is not None]
        more += [(one.at_ms, one.initial, number + 1, 0) for number, one in enumerate(at) if one.initial is not None]
        ts_ms = np.append(ts_ms, np.array([row[0] for row in more], np.int64))
        value = np.append(value, np.array([row[1] for row in more], np.float64))
        part = np.append(part, np.array([row[2] for row in more], np.int64))
        rank = np.append(rank, np.array([row[3] for row in more], np.int64))
        order = np.lexsort((rank, ts_ms, part))
        ts_ms, value, part = ts_ms[order], value[order], part[order]
    follows = part[1:] == part[:-1]
    return _Steps(ts_ms[1:][follows], np.diff(ts_ms)[follows], value[:-1][follows], value[1:][follows])


def _of_steps(recipe: Recipe, ts_ms: Int64s, steps: _Steps, start_ms: int, end_ms: int) -> Hours:
    says = np.ones(len(steps.ts_ms), np.bool_)
    if recipe.how == "rate":
        says = (steps.took_ms > 0) & (steps.took_ms <= recipe.hold_ms)
    # Of what is counted, an hour with readings and no step has 0; of what changed, it has nothing to say.
    told = np.append(ts_ms, steps.ts_ms) if recipe.how in SUMMED else steps.ts_ms[says]
    told = told[(told >= start_ms) & (told < end_ms)]
    hours = np.unique(told // HOUR_MS)
    at = np.searchsorted(hours, steps.ts_ms[says] // HOUR_MS)
    total: Float64s = np.bincount(at, _sizes(recipe, steps)[says], minlength=len(hours)).astype(np.float64)
    if recipe.how == "rate":
        took = np.bincount(at, steps.took_ms[says].astype(np.float64), minlength=len(hours))
        total = total / took * recipe.per_ms
    starts = np.maximum(hours * HOUR_MS, start_ms)
    return Hours(starts, total * recipe.scale, np.full(len(hours), HOUR_MS, np.int64))


def _sizes(recipe: Recipe, steps: _Steps) -> Float64s:
    before, after = steps.before, steps.after
    if recipe.how == "starts":
        return ((before <= recipe.above) & (after > recipe.above)).astype(np.float64)
    if recipe.how == "cycles":
        return ((before > recipe.above) & (after <= recipe.above)).astype(np.float64)
    if recipe.how == "counter":
        return counted(before, after, recipe.wraps_at)
    return after - before


def counted(before: Float64s, after: Float64s, wraps_at: float | None) -> Float64s:
    """Return how far a counter went between two readings, never less than nothing.

    One that fell has begun again at zero. If it wraps, and the way over the top is the shorter half of its circle, it
    went over the top: 65,530 → 12 of 16 bits is 18.
    """
    step = after - before
    fell: Mask = step < 0
    if not fell.any():
        return step
    again = after
    if wraps_at is not None:
        over = step + wraps_at
        again = np.where(over <= wraps_at / 2, over, after)
    found: Float64s = np.where(fell, again, step)
    return found


# Time --------------------------------------------------------------------------------------------------------------


def _of_time(
    recipe: Recipe, ts_ms: Int64s, value: Float64s, opening: Opening | None, start_ms: int, end_ms: int
) -> Hours:
    if opening is not None:
        ts_ms, value = np.append(np.int64(opening.ts_ms), ts_ms), np.append(opening.value, value)
    ends = np.minimum(np.append(ts_ms[1:], end_ms), np.minimum(ts_ms + recipe.hold_ms, end_ms))
    begins = np.maximum(ts_ms, start_ms)
    speaks = ends > begins
    begins, ends, value = begins[speaks], ends[speaks], value[speaks]
    # Each span is cut at the full hours: one row for each hour that it touches.
    first, last = begins // HOUR_MS, (ends - 1) // HOUR_MS
    pieces = last - first + 1
    span = np.repeat(np.arange(len(begins)), pieces)
    hour = first[span] + np.arange(len(span)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    took = np.minimum(ends[span], (hour + 1) * HOUR_MS) - np.maximum(begins[span], hour * HOUR_MS)
    hours, at = np.unique(hour, return_inverse=True)
    weight = (value > recipe.above).astype(np.float64) if recipe.how == "run_hours" else value
    total = np.bincount(at, took * weight[span], minlength=len(hours))
    known = np.bincount(at, took.astype(np.float64), minlength=len(hours))
    return Hours(
        np.maximum(hours * HOUR_MS, start_ms), total / HOUR_MS * recipe.scale, np.round(known).astype(np.int64)
    )
