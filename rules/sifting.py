"""Which rows of a batch count, and which few instances they concern: decided for all rows at once.

A row that changes no comparison of an instance that is not running can lead to nothing, because the trees are monotone
in what helps them: no answer that turned unknown or unhelpful makes a rule true. Everything else is left to machines.
"""

from dataclasses import dataclass

import numpy as np

from rules.columns import Columns, Floats, Int64s, Ints, expand, has_deadband
from rules.outcome import HeldColumns

MAX_TS_MS = 2**53
_KEY_ROOM = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows to evaluate, sorted by series slot and time, each pair once; and why the others are not among them.

    ``first`` and ``last``: where each series begins and ends. ``late_rows``: numbers in the batch as it came.
    """

    slot: Ints
    ts_ms: Int64s
    value: Floats
    first: Ints
    last: Ints
    late_rows: Ints
    duplicates: int
    unusable: int

    def __len__(self) -> int:
        return len(self.slot)

    def newest(self, columns: Columns, now_ms: int) -> HeldColumns:
        """Return the newest row of each series."""
        last = self.last
        series, arrived_ms = columns.series.id[self.slot[last]], np.full(len(last), now_ms, np.int64)
        return HeldColumns(series, self.ts_ms[last], self.value[last], arrived_ms)


@dataclass(frozen=True, slots=True, eq=False)
class Concerned:
    """Instance slots by what the batch asks of them, ascending: to be stepped, or only to be counted."""

    stepped: Ints
    steady: Ints
    comparisons: int


@dataclass(frozen=True, slots=True, eq=False)
class Totals:
    """What a batch adds to steady instances, one entry each: how many samples, the last one, and the extremes."""

    count: Ints
    slot: Ints
    ts_ms: Int64s
    value: Floats
    least: Floats
    greatest: Floats


def admit(columns: Columns, series: Int64s, ts_ms: Int64s, value: Floats) -> Rows:
    """Sort a batch, and set aside what is late, repeated, or no finite number; see ``Rows``."""
    row = np.arange(len(series))
    slot = columns.slots_of(series)
    is_known = slot >= 0
    if not is_known.all():
        row, slot, ts_ms, value = row[is_known], slot[is_known], ts_ms[is_known], value[is_known]
    is_usable = np.isfinite(value) & (np.abs(ts_ms) <= MAX_TS_MS)
    unusable = len(row) - int(np.count_nonzero(is_usable))
    if unusable:
        row, slot, ts_ms, value = row[is_usable], slot[is_usable], ts_ms[is_usable], value[is_usable]
    order = _by_series_and_time(slot, ts_ms)
    row, slot, ts_ms, value = row[order], slot[order], ts_ms[order], value[order]
    is_last = np.ones(len(row), np.bool_)
    is_last[:-1] = (slot[1:] != slot[:-1]) | (ts_ms[1:] != ts_ms[:-1])
    mark_ms = columns.series.mark_ms[slot]
    is_late = ts_ms < mark_ms
    is_known = (ts_ms == mark_ms) & (value == columns.series.mark[slot])
    counts = is_last & ~is_late & ~is_known
    late_rows = row[is_late]
    duplicates = len(row) - int(np.count_nonzero(counts)) - len(late_rows)
    if not counts.all():
        slot, ts_ms, value = slot[counts], ts_ms[counts], value[counts]
    begins = np.ones(len(slot), np.bool_)
    begins[1:] = slot[1:] != slot[:-1]
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(slot)) - 1 if len(slot) else first
    return Rows(slot, ts_ms, value, first, last, np.sort(late_rows), duplicates, unusable)


def concerned(columns: Columns, rows: Rows) -> Concerned:
    """Find the instances for which the rows may lead to something."""
    which, at = expand(columns.leaf_starts[rows.slot], columns.leaf_starts[rows.slot + 1])
    value = rows.value[which]
    is_true = (value >= columns.low[at]) & (value <= columns.high[at])
    changed = columns.leaf_order[at[is_true != columns.truth[at]]]
    owners = [columns.leaves["owner"][changed], _owners_after_gap(columns, rows)]
    suspect = np.unique(np.concatenate(owners))
    running = _running(columns, rows)
    is_steady = columns.instances["is_steady"][running] & ~np.isin(running, suspect)
    return Concerned(np.union1d(suspect, running[~is_steady]), running[is_steady], len(at))


def rows_of(columns: Columns, rows: Rows, instances: Ints) -> tuple[Ints, Ints, Int64s, Floats]:
    """Return the rows of some instances (ascending slots), by instance and time.

    Four columns: which of ``instances``, the number of its metric, device time, value.
    """
    if not len(instances):
        return instances, instances, instances.astype(np.int64), instances.astype(np.float64)
    slots = np.unique(columns.watches["slot"][columns.blocks(instances, "watches")[1]])
    _, row = expand(np.searchsorted(rows.slot, slots), np.searchsorted(rows.slot, slots, "right"))
    slot = rows.slot[row]
    which, at = expand(columns.watch_starts[slot], columns.watch_starts[slot + 1])
    watch = columns.watch_order[at]
    owner = columns.watches["owner"][watch]
    place = np.minimum(np.searchsorted(instances, owner), len(instances) - 1)
    wanted = instances[place] == owner
    which, watch, owner, place = row[which[wanted]], watch[wanted], owner[wanted], place[wanted]
    metric = watch - columns.instances["first_watch"][owner]
    order = np.lexsort((rows.ts_ms[which], place))
    which = which[order]
    return place[order], metric[order], rows.ts_ms[which], rows.value[which]


def totals(columns: Columns, rows: Rows, instances: Ints) -> Totals:
    """Add up the rows of steady instances, each of which watches one series that is in the batch."""
    slot = columns.watches["slot"][columns.instances["first_watch"][instances]]
    at = np.searchsorted(rows.slot[rows.first], slot)
    last = rows.last[at]
    return Totals(
        last - rows.first[at] + 1,
        slot,
        rows.ts_ms[last],
        rows.value[last],
        np.minimum.reduceat(rows.value, rows.first)[at],
        np.maximum.reduceat(rows.value, rows.first)[at],
    )


def _owners_after_gap(columns: Columns, rows: Rows) -> Ints:
    """Return whom rows concern that come after what was held has aged out: for them, what was true is forgotten."""
    before = np.empty(len(rows), np.int64)
    before[1:] = rows.ts_ms[:-1]
    before[rows.first] = columns.series.held_ms[rows.slot[rows.first]]
    row = np.flatnonzero(rows.ts_ms - before > columns.series.hold_ms[rows.slot])
    slot = rows.slot[row]
    which, at = expand(columns.leaf_starts[slot], columns.leaf_starts[slot + 1])
    leaves = columns.leaves[columns.leaf_order[at]]
    value = rows.value[row[which]]
    is_true = (value >= leaves["low"]) & (value <= leaves["high"])
    helps = is_true != leaves["is_negated"]
    forgets = (is_true | (leaves["truth"] & leaves["is_known"])) & has_deadband(leaves)
    owners: Ints = leaves["owner"][helps | forgets]
    return owners


def _running(columns: Columns, rows: Rows) -> Ints:
    """Return the running instances that the rows bring samples for, ascending."""
    slot = rows.slot[rows.first]
    slot = slot[columns.series.running[slot] > 0]
    _, at = expand(columns.watch_starts[slot], columns.watch_starts[slot + 1])
    owner = columns.watches["owner"][columns.watch_order[at]]
    return np.unique(owner[columns.instances["is_running"][owner]])


def _by_series_and_time(slot: Ints, ts_ms: Int64s) -> Ints:
    """Return the stable order by series and time."""
    if not len(slot):
        return slot
    base = int(ts_ms.min())
    span = int(ts_ms.max()) - base + 1
    bits = len(slot).bit_length()
    if (int(slot.max()) + 1) * span << bits < _KEY_ROOM:
        # One number that holds slot, time and row sorts several times as fast as an order of two columns.
        key = ((slot * span + (ts_ms - base)) << bits) | np.arange(len(slot))
        key.sort()
        return key & ((1 << bits) - 1)
    return np.lexsort((ts_ms, slot))
