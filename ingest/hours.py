"""The hours of one derived metric of one asset, out of what the telemetry store holds: read, worked out, compared.

For ``ingest.deriving``. Nothing is written here. The answer is a function of the readings, the devices' bindings, the
recipe and what was done to the meter, so to ask again changes nothing.

The value of an hour is a reading at its beginning (or where the asset's first device of that hour was bound), under
the device that measured it then. The running total of an hour is what it was before, plus its value.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from assets.derivations import Derived
from assets.measured import Span
from ingest.ahead import Reads
from telemetry import derived
from telemetry.baseline import LOOK_BACK_MS, deviations
from telemetry.buckets import MAX_SAMPLES
from telemetry.derived import OF_HABIT, OF_TIME, Break, Hours, Opening, hour_of
from telemetry.readings import Flag, Flags, Float64s, Int64s, Readings, concatenate
from telemetry.retention import DAY_MS, HOUR_MS

PAGE: Final = 200_000
"""Readings of the source that are held at once, as long as one hour has no more."""
KNOWN: Final = 0.9
"""An hour of which less is known is uncertain."""
_BACK_MS: Final = (600_000, HOUR_MS, 6 * HOUR_MS, DAY_MS)
_LONG_AGO_MS: Final = 50 * 366 * DAY_MS


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be worked out: the hours of a derived metric of an asset that a span ``[from_ms, to_ms)`` touches.

    ``sources``: the series that speak one after the other, none at the same time as another. ``values`` and
    ``totals``: where what was worked out is stored. ``stated``: (instant, running total) as people said.
    """

    asset_id: int
    metric: Derived
    sources: tuple[Span, ...]
    values: tuple[Span, ...]
    totals: tuple[Span, ...]
    breaks: tuple[Break, ...]
    stated: tuple[tuple[int, float], ...]
    from_ms: int
    to_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Values by the instants they are stored at, the earliest first: int64, float64, uint8."""

    ts_ms: Int64s
    value: Float64s
    flags: Flags

    def __len__(self) -> int:
        return len(self.ts_ms)

    @classmethod
    def none(cls) -> "Points":
        """Return no points."""
        return cls(np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint8))

    def select(self, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> "Points":
        """Return some of them."""
        return Points(self.ts_ms[rows], self.value[rows], self.flags[rows])

    def over(self, older: "Points") -> "Points":
        """Return these, and those of the older ones whose instants are not among them."""
        rest = older.select(~np.isin(older.ts_ms, self.ts_ms))
        ts_ms = np.concatenate([self.ts_ms, rest.ts_ms])
        order = np.argsort(ts_ms, kind="stable")
        value, flags = np.concatenate([self.value, rest.value]), np.concatenate([self.flags, rest.flags])
        return Points(ts_ms[order], value[order], flags[order])

    def unlike(self, older: "Points") -> "Points":
        """Return those that are not among the older ones as they are."""
        if not len(older):
            return self
        at = np.minimum(np.searchsorted(older.ts_ms, self.ts_ms), len(older) - 1)
        same = (older.ts_ms[at] == self.ts_ms) & (older.value[at] == self.value) & (older.flags[at] == self.flags)
        return self.select(~same)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What was worked out: the values of some hours, and running totals from there on, beside what is stored."""

    values: Points
    totals: Points
    stored_values: Points
    stored_totals: Points

    @classmethod
    def nothing(cls) -> "Found":
        """Return that there was nothing to work out."""
        return cls(Points.none(), Points.none(), Points.none(), Points.none())


def parted(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Return which span speaks when: of several at one time, the one that began last."""
    edges = sorted({edge for span in spans for edge in (span.starts_ms, span.ends_ms)})
    parts: list[Span] = []
    for begin, end in itertools.pairwise(edges):
        speaking = [span for span in spans if span.starts_ms <= begin and end <= span.ends_ms]
        if not speaking:
            continue
        chosen = max(speaking, key=lambda span: (span.starts_ms, span.series))
        if parts and parts[-1].series == chosen.series and parts[-1].ends_ms == begin:
            begin = parts.pop().starts_ms  # noqa: PLW2901 - one part with the one before
        parts.append(Span(chosen.metric, chosen.series, chosen.device_id, begin, end))
    return tuple(parts)


def speaker(parts: Sequence[Span], ts_ms: int) -> Span | None:
    """Return which span speaks at an instant."""
    return next((part for part in parts if part.starts_ms <= ts_ms < part.ends_ms), None)


def work_out(store: Reads, work: Work, *, since_ms: int, until_ms: int) -> Found:
    """Return the hours that work is about; those before ``since_ms``, and from ``until_ms`` on, stay as they are.

    Raises:
        kernel.errors.Unavailable: the store does not answer.
    """
    return _Working(store, work).found(max(hour_of(work.from_ms), since_ms), until_ms)


class _Working:
    def __init__(self, store: Reads, work: Work) -> None:
        self._store = store
        self._work = work
        self._recipe = work.metric.recipe

    def found(self, begin_ms: int, until_ms: int) -> Found:
        end_ms = min(_full(self._work.to_ms), until_ms)
        if begin_ms >= end_ms:
            return Found.nothing()
        if self._recipe.how in OF_HABIT:
            values = self._deviations(begin_ms, end_ms)
        else:
            end_ms = self._reach(end_ms, until_ms)
            values = self._hours(begin_ms, end_ms)
        stored = self._stored(self._work.values, begin_ms, until_ms)
        if self._work.metric.total is None:
            return Found(values, Points.none(), stored, Points.none())
        totals = self._totals(begin_ms, values.over(stored))
        return Found(values, totals, stored, self._stored(self._work.totals, begin_ms, until_ms))

    def _reach(self, end_ms: int, until_ms: int) -> int:
        """Return how far a change before ``end_ms`` is felt: up to the next reading, or as long as one speaks."""
        following = None
        for span in self._work.sources:
            begin = max(end_ms, span.starts_ms)
            if begin < min(span.ends_ms, until_ms):
                some = self._store.samples(span.series, begin, min(span.ends_ms, until_ms), limit=1)
                if len(some):
                    following = int(some.ts_ms[0])
                    break
        if self._recipe.how in OF_TIME:
            reach = end_ms + self._recipe.hold_ms
            end_ms = _full(reach if following is None else min(reach, following + 1))
        elif following is not None:
            end_ms = _full(following + 1)
        return min(end_ms, until_ms)

    # The source ---------------------------------------------------------------------------------------------------

    def _hours(self, begin_ms: int, end_ms: int) -> Points:
        """Return the values of the hours of ``[begin_ms, end_ms)`` that have any."""
        found = [*self._pieces(begin_ms, end_ms)]
        if not found:
            return Points.none()
        hour = np.concatenate([one.hour_ms for one in found]) // HOUR_MS
        value = np.concatenate([one.value for one in found])
        known = np.concatenate([one.known_ms for one in found])
        hours, at = np.unique(hour, return_inverse=True)
        total: Float64s = np.bincount(at, value, minlength=len(hours)).astype(np.float64)
        if self._recipe.how == "rate":
            total[at] = value  # of two devices in one hour the later one speaks
        flags = np.zeros(len(hours), np.uint8)
        if self._recipe.how in OF_TIME:
            known_ms = np.bincount(at, known.astype(np.float64), minlength=len(hours))
            flags[known_ms < KNOWN * HOUR_MS] = Flag.UNCERTAIN
        return Points(self._placed(hours * HOUR_MS), total, flags)

    def _deviations(self, begin_ms: int, end_ms: int) -> Points:
        """Return how unusual the hours of ``[begin_ms, end_ms)`` are; those judged since a late one stay."""
        start = max(begin_ms - LOOK_BACK_MS, 0)
        edges = np.arange(start, end_ms + 1, HOUR_MS, dtype=np.int64)
        hour_ms, mean = edges[:-1], np.full(len(edges) - 1, np.nan)
        for span in self._work.sources:
            table = self._store.aggregate([span.series], edges)
            speaks = (table.count[0] > 0) & (hour_ms + HOUR_MS > span.starts_ms) & (hour_ms < span.ends_ms)
            mean[speaks] = table.sum[0][speaks] / table.count[0][speaks]
        wanted = hour_ms[hour_ms >= begin_ms]
        value = deviations(hour_ms, mean, wanted)
        known = np.isfinite(value)
        return Points(self._placed(wanted[known]), value[known], np.zeros(int(known.sum()), np.uint8))

    def _placed(self, hour_ms: Int64s) -> Int64s:
        """Return where hours are stored: at their beginning, or where the first device of that hour was bound."""
        starts = np.array([span.starts_ms for span in self._work.sources], np.int64)
        ends = np.array([span.ends_ms for span in self._work.sources], np.int64)
        first = np.minimum(np.searchsorted(ends, hour_ms, side="right"), len(starts) - 1)
        return np.maximum(hour_ms, starts[first])

    def _pieces(self, begin_ms: int, end_ms: int) -> Iterator[Hours]:
        opening: Opening | None = None
        is_first = True
        for number, span in enumerate(self._work.sources):
            begin, end = max(begin_ms, span.starts_ms), min(end_ms, span.ends_ms)
            if begin >= end:
                continue
            opening = self._opening(number, begin) if is_first else self._handed_over(opening, span, begin)
            is_first = False
            for ts_ms, value, start, stop in self._pages(span.series, begin, end):
                after = span.starts_ms - 1 if opening is None else opening.ts_ms
                breaks = [one for one in self._work.breaks if after < one.at_ms < stop]
                yield derived.derive(
                    self._recipe, ts_ms, value, start_ms=start, end_ms=stop, opening=opening, breaks=breaks
                )
                if len(ts_ms):
                    opening = Opening(int(ts_ms[-1]), float(value[-1]))

    def _pages(self, series: int, start_ms: int, end_ms: int) -> Iterator[tuple[Int64s, Float64s, int, int]]:
        """Yield the usable readings of whole hours, and which hours these are, until the end."""
        kept: list[Readings] = []
        at = begun = start_ms
        while True:
            some = self._store.samples(series, at, end_ms, limit=PAGE)
            kept.append(some)
            if len(some) < PAGE:
                yield *_usable(concatenate(kept)), begun, end_ms
                return
            at = int(some.ts_ms[-1]) + 1
            cut = hour_of(at - 1)
            if cut > begun:
                whole = concatenate(kept)
                yield *_usable(whole.select(whole.ts_ms < cut)), begun, cut
                kept, begun = [whole.select(whole.ts_ms >= cut)], cut
            if at >= end_ms:
                yield *_usable(concatenate(kept)), begun, end_ms
                return

    def _opening(self, number: int, at_ms: int) -> Opening | None:
        """Return the last usable reading before an instant that speaks into it."""
        span = self._work.sources[number]
        found = self._last_before(span, at_ms)
        if found is None and number and self._recipe.how == "counter":
            earlier = self._last_before(self._work.sources[number - 1], span.starts_ms)
            return self._handed_over(earlier, span, at_ms)
        return found

    def _handed_over(self, opening: Opening | None, span: Span, at_ms: int) -> Opening | None:
        """Return what the device before leaves to compare with: nothing, but where a person noted the exchange."""
        if opening is None or self._recipe.how != "counter":
            return None
        first = self._store.samples(span.series, at_ms, min(span.ends_ms, at_ms + _LONG_AGO_MS), limit=1)
        until = int(first.ts_ms[0]) if len(first) else span.ends_ms
        is_noted = any(opening.ts_ms < one.at_ms <= until for one in self._work.breaks)
        return opening if is_noted else None

    def _last_before(self, span: Span, at_ms: int) -> Opening | None:
        reach = self._recipe.hold_ms if self._recipe.how in OF_TIME else DAY_MS
        for back in _BACK_MS:
            start = max(span.starts_ms, at_ms - min(back, reach))
            if start < at_ms:
                ts_ms, value = _usable(self._store.samples(span.series, start, at_ms, limit=MAX_SAMPLES))
                if len(ts_ms):
                    return Opening(int(ts_ms[-1]), float(value[-1]))
            if start == span.starts_ms or back >= reach:
                break
        if self._recipe.how in OF_TIME:
            return None
        return self._long_before(span, at_ms - DAY_MS)

    def _long_before(self, span: Span, at_ms: int) -> Opening | None:
        """Return the last value before an instant of which only hours may be left, at the beginning of its bucket."""
        start = max(span.starts_ms, at_ms - _LONG_AGO_MS, 0)
        if start >= at_ms:
            return None
        cuts = {at_ms - days * DAY_MS for days in (7, 31, 366)} | {one.at_ms for one in self._work.breaks}
        edges = np.array(sorted({start, at_ms, *(cut for cut in cuts if start < cut < at_ms)}), np.int64)
        table = self._store.aggregate([span.series], edges)
        full = np.flatnonzero(table.count[0] > 0)
        return Opening(int(edges[full[-1]]), float(table.last[0, full[-1]])) if len(full) else None

    # What is stored -----------------------------------------------------------------------------------------------

    def _stored(self, spans: Sequence[Span], begin_ms: int, until_ms: int) -> Points:
        """Return what was worked out before, from an instant on."""
        parts = []
        for span in spans:
            begin, end = max(begin_ms, span.starts_ms), min(span.ends_ms, until_ms)
            if begin < end:
                parts.append(self._store.samples(span.series, begin, end, limit=MAX_SAMPLES))
        if not parts:
            return Points.none()
        whole = concatenate(parts)
        order = np.argsort(whole.ts_ms, kind="stable")
        return Points(whole.ts_ms[order], whole.value[order], whole.flags[order])

    def _totals(self, begin_ms: int, values: Points) -> Points:
        total, at_ms = self._total_before(begin_ms)
        stated = [one for one in self._work.stated if one[0] >= at_ms]
        totals = np.empty(len(values))
        row = 0
        for said_ms, said in stated:
            # Hours that ended before it, then the hour in which it was said.
            here = int(np.searchsorted(values.ts_ms, hour_of(said_ms)))
            total = _run(total, values.value[row:here], totals[row:here])
            row, total = here, said
            if here < len(values) and hour_of(int(values.ts_ms[here])) == hour_of(said_ms):
                total = totals[here] = said + self._after(said_ms)
                row = here + 1
        _run(total, values.value[row:], totals[row:])
        return Points(values.ts_ms, totals, values.flags)

    def _total_before(self, begin_ms: int) -> tuple[float, int]:
        """Return the last running total before an hour, and when the hour that it is of ended."""
        for span in reversed(self._work.totals):
            end = min(begin_ms, span.ends_ms)
            for start in (begin_ms - HOUR_MS, begin_ms - 31 * DAY_MS, end - _LONG_AGO_MS):
                start = max(start, span.starts_ms, 0)  # noqa: PLW2901 - cut to where the series speaks
                if start >= end:
                    continue
                some = self._store.samples(span.series, start, end, limit=MAX_SAMPLES)
                if len(some):
                    return float(some.value[-1]), hour_of(int(some.ts_ms[-1])) + HOUR_MS
            start = max(end - _LONG_AGO_MS, span.starts_ms, 0)
            table = self._store.aggregate([span.series], np.array([start, end], np.int64)) if start < end else None
            if table is not None and table.count[0, 0]:
                return float(table.last[0, 0]), begin_ms
        return 0.0, 0

    def _after(self, at_ms: int) -> float:
        """Return what is counted from an instant to the end of its hour."""
        total = 0.0
        for one in self._pieces(at_ms, hour_of(at_ms) + HOUR_MS):
            total += float(one.value.sum())
        return total


def _run(total: float, values: Float64s, into: Float64s) -> float:
    """Add values up one after the other, always in the same order, so that the sum is the same to the last bit."""
    if not len(values):
        return total
    into[:] = np.cumsum(np.append(total, values))[1:]
    return float(into[-1])


def _usable(readings: Readings) -> tuple[Int64s, Float64s]:
    good = np.isfinite(readings.value) & ((readings.flags & np.uint8(Flag.BAD)) == 0)
    return readings.ts_ms[good], readings.value[good]


def _full(ms: int) -> int:
    """Return the full hour at or after an instant."""
    return -(-ms // HOUR_MS) * HOUR_MS
