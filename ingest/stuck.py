"""Sensors that have stopped moving: which readings of a batch are one equal reading too many (TEL-6).

A sensor that varies by its nature, as every analogue one does that shows its noise, and then says the same number
again and again, is stuck: its last readings are kept and marked, because they no longer tell how the machine is.
Many sensors rest rightly, so three things must be true of one that is marked. It has *varied*: among what it sent
before, at least as many readings as make it stuck, every second one or more differed from the one before. It sent as
many equal readings as its metric says. And they are not at a value at which it has rested before and come back by
itself, as the flow of a pump that is switched off: the first such rest is doubted, later ones are not.

For the pipeline, as columns: a batch costs a sort of the rows of watched series, and no Python a reading. What is
remembered of a series (52 bytes) is of this process. After a start the mark goes on where the newest stored reading
bears it; whether a sensor varies is learned anew. What a batch changes holds from ``settle`` on, so that a batch
that is tried again is judged again as at first, and a reading that is redelivered while its sensor still stands
keeps the mark that it got.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetry import quality
from telemetry.readings import Flag, Flags, Float64s, Int64s, Mask, Readings

_NEVER: Final = 2**62
_MEMORY: Final = 8
"""After so many times as many readings as make it stuck, what a sensor did counts for half."""
_LONG: Final = 1_000_000
"""Stands for the readings of a sensor that was stuck when this process began: more than any limit asks for."""
_IGNORED: Final = Flag.BAD | Flag.HISTORICAL | Flag.BOOLEAN

Int32s = NDArray[np.int32]
Newest = Callable[[Int64s], Readings]
"""Returns the newest stored reading of each series that has one."""


@dataclass(slots=True, eq=False)
class _Known:
    """What is known of each watched series, by slot.

    ``last_ms`` and ``last``: the newest reading judged. ``run``: how many equal ones end with it; ``since_ms``: from
    when on these are marked. ``seen``: readings up to its last change; ``changes``: those of them that differed from
    the one before. ``rest``: the value at which it last stood still and came back.
    """

    last_ms: Int64s
    last: Float64s
    run: Int64s
    since_ms: Int64s
    seen: Float64s
    changes: Float64s
    rest: Float64s

    @classmethod
    def blank(cls, size: int) -> "_Known":
        numbers = np.full(size, np.nan)
        zeros = np.zeros(size)
        return cls(
            np.full(size, -1, np.int64),
            numbers,
            np.zeros(size, np.int64),
            np.full(size, _NEVER, np.int64),
            zeros,
            zeros.copy(),
            numbers.copy(),
        )

    def grown(self, size: int) -> "_Known":
        """Return the same with more room."""
        grown = _Known.blank(size)
        for column in fields(self):
            mine = getattr(self, column.name)
            getattr(grown, column.name)[: len(mine)] = mine
        return grown


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a batch leaves known: the slots that change, and what is then known of each."""

    slots: Int64s
    known: _Known

    def joined(self, other: "Seen") -> "Seen":
        """Return what both leave; they have no slot in common."""
        both = ((getattr(self.known, one.name), getattr(other.known, one.name)) for one in fields(_Known))
        return Seen(np.concatenate([self.slots, other.slots]), _Known(*map(np.concatenate, both)))


class Stuck:
    """Judges the batches of one process. For one thread at a time."""

    def __init__(self, newest: Newest) -> None:
        self._newest = newest
        self._slots: Int64s = np.empty(0, np.int64)
        self._used = 0
        self._known = _Known.blank(0)

    def judge(self, readings: Readings, limits: Int32s) -> tuple[Flags | None, Seen | None]:
        """Return the flags of a batch with the marks of stuck sensors, and what the batch leaves known.

        ``limits`` say by series number how many equal readings make it stuck, 0 for never; they may end early. Flags
        are None where nothing is marked.
        """
        rows = _watched(readings, limits)
        if not len(rows):
            return None, None
        order = rows[_by_series_and_time(readings.series[rows], readings.ts_ms[rows])]
        slot = self._slots_of(readings.series[order])
        limit = limits[readings.series[order]].astype(np.int64)
        marked, seen = self._judged(slot, readings.ts_ms[order], readings.value[order], limit)
        if marked is None or not marked.any():
            return None, seen
        flags = readings.flags.copy()
        flags[order[marked]] |= np.uint8(Flag.STUCK)
        return flags, seen

    def settle(self, seen: Seen | None) -> None:
        """Go on from where a batch leaves its series: it is durable."""
        if seen is not None:
            for column in fields(seen.known):
                getattr(self._known, column.name)[seen.slots] = getattr(seen.known, column.name)

    # How --------------------------------------------------------------------------------------------------------

    def _judged(self, slot: Int64s, ts_ms: Int64s, value: Float64s, limit: Int64s) -> tuple[Mask | None, Seen | None]:
        """Judge rows sorted by slot and time; return which are marked, None for none."""
        known = self._known
        first = _starts(slot)
        again = np.zeros(len(slot), np.bool_)
        again[1:] = (slot[1:] == slot[:-1]) & (ts_ms[1:] == ts_ms[:-1])
        if not again.any() and (ts_ms[first] > known.last_ms[slot[first]]).all():
            return self._follow(slot, ts_ms, value, limit, first)
        is_late = (ts_ms <= known.last_ms[slot]) | again
        # A reading that comes late or again has no part in what is remembered, and the mark of the run it lies in.
        marked: Mask = is_late & (value == known.last[slot]) & (ts_ms >= known.since_ms[slot])
        fresh, seen = np.flatnonzero(~is_late), None
        if len(fresh):
            found, seen = self._follow(slot[fresh], ts_ms[fresh], value[fresh], limit[fresh], _starts(slot[fresh]))
            if found is not None:
                marked[fresh] = found
        head = np.maximum.accumulate(np.where(again, 0, np.arange(len(slot))))
        return np.where(again, marked[head] & (value == value[head]), marked), seen

    def _follow(
        self, slot: Int64s, ts_ms: Int64s, value: Float64s, limit: Int64s, first: Int64s
    ) -> tuple[Mask | None, Seen]:
        """Follow each series through rows newer than what is known of it, sorted and each time once.

        Nearly all are far from as many equal readings as would make them stuck, whatever these rows say.
        """
        sizes = np.diff(np.append(first, len(slot)))
        is_near = self._known.run[slot[first]] + sizes >= limit[first]
        if not is_near.any():
            return None, self._far(slot, ts_ms, value, limit, first)
        rows = np.repeat(is_near, sizes)
        marked: Mask = np.zeros(len(slot), np.bool_)
        marked[rows], seen = self._near(slot[rows], ts_ms[rows], value[rows], limit[rows])
        if not rows.all():
            far = ~rows
            seen = seen.joined(self._far(slot[far], ts_ms[far], value[far], limit[far], _starts(slot[far])))
        return marked, seen

    def _far(self, slot: Int64s, ts_ms: Int64s, value: Float64s, limit: Int64s, first: Int64s) -> Seen:
        """Follow series none of which can have become stuck, nor come back from a rest."""
        known, at = self._known, slot[first]
        last = np.append(first[1:], len(slot)) - 1
        size = last - first + 1
        before = np.empty_like(value)
        before[1:] = value[:-1]
        before[first] = known.last[at]
        is_equal = value == before
        broken = np.maximum.reduceat(np.where(is_equal, -1, np.arange(len(slot))), first)
        run = np.where(broken < 0, known.run[at] + size, last - broken + 1)
        changes = known.changes[at] + size - np.add.reduceat(is_equal, first, dtype=np.int64) - np.isnan(known.last[at])
        seen = known.seen[at] + known.run[at] + size - run
        never = np.full(len(at), _NEVER, np.int64)
        after = _Known(ts_ms[last], value[last], run, never, seen, changes, known.rest[at])
        return _left(at, after, limit[last])

    def _near(self, slot: Int64s, ts_ms: Int64s, value: Float64s, limit: Int64s) -> tuple[Mask, Seen]:
        """Follow series that may be stuck, or have been."""
        known, row = self._known, np.arange(len(slot))
        begins = np.ones(len(slot), np.bool_)
        begins[1:] = slot[1:] != slot[:-1]
        first = np.flatnonzero(begins)
        group = np.cumsum(begins) - 1
        before = np.where(begins, known.last[slot], np.roll(value, 1))
        is_equal = value == before
        is_change = ~is_equal & ~np.isnan(before)

        broken = np.maximum.accumulate(np.where(is_equal, -1, row))
        start = first[group]
        run = np.where(broken < start, known.run[slot] + row - start + 1, row - broken + 1)
        ended = np.where(is_change, np.where(begins, known.run[slot], np.roll(run, 1)), 0)
        changes = known.changes[slot] + _summed(is_change.astype(np.float64), first, group)
        seen = known.seen[slot] + _summed(np.minimum(ended, limit).astype(np.float64), first, group)
        has_varied = (seen >= limit) & (2 * changes >= seen)
        came_back = np.maximum.accumulate(np.where(ended >= limit, row, -1))
        rest = np.where(came_back < start, known.rest[slot], before[came_back])
        marked: Mask = (run >= limit) & has_varied & (value != rest)

        last = np.append(first[1:], len(slot)) - 1
        at, since_ms = slot[last], np.full(len(last), _NEVER, np.int64)
        in_last_run = marked & (row > (last - run[last])[group])
        since_ms[group[in_last_run][::-1]] = ts_ms[in_last_run][::-1]  # of several the first is written last
        began_before = run[last] > last - first + 1
        since_ms = np.where(began_before & (known.since_ms[at] != _NEVER), known.since_ms[at], since_ms)
        after = _Known(ts_ms[last], value[last], run[last], since_ms, seen[last], changes[last], rest[last])
        return marked, _left(at, after, limit[last])

    def _slots_of(self, series: Int64s) -> Int64s:
        """Return the slots of series, which get one at first sight and begin where the store has them."""
        highest = int(series.max())
        if highest >= len(self._slots):
            room = np.full(max(highest + 1, 2 * len(self._slots)) - len(self._slots), -1, np.int64)
            self._slots = np.concatenate([self._slots, room])
        slots = self._slots[series]
        if (slots < 0).any():
            self._meet(np.unique(series[slots < 0]))
            slots = self._slots[series]
        return slots

    def _meet(self, series: Int64s) -> None:
        stored = self._newest(series)
        slots = np.arange(self._used, self._used + len(series))
        if slots[-1] >= len(self._known.last):
            self._known = self._known.grown(max(1024, 2 * len(self._known.last), int(slots[-1]) + 1))
        self._slots[series] = slots
        self._used += len(series)
        usable = stored.select(~quality.has(stored.flags, _IGNORED) & np.isfinite(stored.value))
        at, is_stuck = self._slots[usable.series], quality.has(usable.flags, Flag.STUCK)
        known = self._known
        known.last_ms[at], known.last[at], known.run[at] = usable.ts_ms, usable.value, 1
        # Which of the equal readings before were marked is not known: those that come again are.
        known.since_ms[at[is_stuck]] = 0
        known.run[at[is_stuck]] = known.seen[at[is_stuck]] = known.changes[at[is_stuck]] = _LONG


def _watched(readings: Readings, limits: Int32s) -> Int64s:
    """Return the rows that are looked at."""
    if not len(readings) or not len(limits):
        return np.empty(0, np.int64)
    inside = readings.series < len(limits)
    watched = (
        limits[readings.series] > 0 if inside.all() else inside & (limits[np.where(inside, readings.series, 0)] > 0)
    )
    if readings.flags.any():
        watched &= ~quality.has(readings.flags, _IGNORED)
    if readings.text is not None:
        watched &= np.isfinite(readings.value)
    return np.flatnonzero(watched)


def _left(slots: Int64s, known: _Known, limit: Int64s) -> Seen:
    """Return what a batch leaves; what was long ago counts for less."""
    fade = np.where(known.seen > _MEMORY * limit, 0.5, 1.0)
    known.seen, known.changes = known.seen * fade, known.changes * fade
    return Seen(slots, known)


def _starts(slot: Int64s) -> Int64s:
    """Return where each run of one slot begins."""
    return np.flatnonzero(np.append(True, slot[1:] != slot[:-1]))


def _by_series_and_time(series: Int64s, ts_ms: Int64s) -> Int64s:
    order = np.argsort(series, kind="stable")
    ordered, times = series[order], ts_ms[order]
    if ((ordered[1:] == ordered[:-1]) & (times[1:] < times[:-1])).any():
        return np.lexsort((ts_ms, series))
    return order


def _summed(column: Float64s, first: Int64s, group: Int64s) -> Float64s:
    """Return the running sum inside each group of rows."""
    total = np.cumsum(column)
    summed: Float64s = total - (total[first] - column[first])[group]
    return summed
