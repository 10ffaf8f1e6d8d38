"""Which rows of a batch count, and which few instances they concern: decided for all rows at once.

A row that changes no comparison of an instance that is not running can lead to nothing, because the trees are monotone
in what helps them: no answer that turned unknown or unhelpful makes a rule true. Everything else is left to machines,
and so is every row of an instance that looks at more than the numbers in these columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rules.columns import Columns, Floats, Int64s, Ints, expand, has_deadband
from rules.outcome import HeldColumns
from rules.said import number_of

Texts = Sequence[str | None] | None
"""What the rows of a batch say in words, by row; None where none does."""

MAX_TS_MS = 2**53
_KEY_ROOM = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows to evaluate, sorted by series slot and time, each pair once; and why the others are not among them.

    A value of NaN says nothing, or nothing but a text. ``row`` and ``late_rows``: numbers in the batch as it came.
    ``first`` and ``last``: where each series begins and ends.
    """

    row: Ints
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

    def newest(self, columns: Columns, text: Texts, now_ms: int) -> HeldColumns:
        """Return the newest row of each series."""
        last = self.last
        if text is not None:
            worded = last[columns.series.stepped[self.slot[last]]]
            pairs = zip(columns.series.id[self.slot[worded]].tolist(), self.row[worded].tolist(), strict=True)
            told = {number: said for number, row in pairs if (said := text[row]) is not None}
            series, arrived_ms = columns.series.id[self.slot[last]], np.full(len(last), now_ms, np.int64)
            return HeldColumns(series, self.ts_ms[last], self.value[last], arrived_ms, told)
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


def admit(columns: Columns, series: Int64s, ts_ms: Int64s, value: Floats, text: Texts = None) -> Rows:
    """Sort a batch, and set aside what is late, repeated, or unusable; see ``Rows``."""
    row = np.arange(len(series))
    slot = columns.slots_of(series)
    is_known = slot >= 0
    if not is_known.all():
        row, slot, ts_ms, value = row[is_known], slot[is_known], ts_ms[is_known], value[is_known]
    is_usable = ~np.isinf(value) & (np.abs(ts_ms) <= MAX_TS_MS)
    unusable = len(row) - int(np.count_nonzero(is_usable))
    if unusable:
        row, slot, ts_ms, value = row[is_usable], slot[is_usable], ts_ms[is_usable], value[is_usable]
    if text is not None:
        value = _read(value, row, text)
    order = _by_series_and_time(slot, ts_ms)
    row, slot, ts_ms, value = row[order], slot[order], ts_ms[order], value[order]
    is_last = np.ones(len(row), np.bool_)
    is_last[:-1] = (slot[1:] != slot[:-1]) | (ts_ms[1:] != ts_ms[:-1])
    mark_ms = columns.series.mark_ms[slot]
    is_late = ts_ms < mark_ms
    mark = columns.series.mark[slot]
    is_known = (ts_ms == mark_ms) & ((value == mark) | (np.isnan(value) & np.isnan(mark)))
    if text is not None or columns.texts:
        _tell_texts_apart(columns, is_known, slot=slot, ts_ms=ts_ms, row=row, text=text)
    counts = is_last & ~is_late & ~is_known
    late_rows = row[is_late]
    duplicates = len(row) - int(np.count_nonzero(counts)) - len(late_rows)
    if not counts.all():
        row, slot, ts_ms, value = row[counts], slot[counts], ts_ms[counts], value[counts]
    begins = np.ones(len(slot), np.bool_)
    begins[1:] = slot[1:] != slot[:-1]
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(slot)) - 1 if len(slot) else first
    return Rows(row, slot, ts_ms, value, first, last, np.sort(late_rows), duplicates, unusable)


def _read(value: Floats, row: Ints, text: Sequence[str | None]) -> Floats:
    """Return the values, with those of texts that read as numbers (A3)."""
    value = value.copy()
    for at in np.flatnonzero(np.isnan(value)).tolist():
        said = text[row[at]]
        number = None if said is None else number_of(said)
        if number is not None:
            value[at] = number
    return value


def _tell_texts_apart(
    columns: Columns, is_known: NDArray[np.bool_], *, slot: Ints, ts_ms: Int64s, row: Ints, text: Texts
) -> None:
    """Take back that rows are known which say something else in words."""
    found = np.flatnonzero(is_known & columns.series.stepped[slot])
    for at, number, when in zip(found, columns.series.id[slot[found]].tolist(), ts_ms[found].tolist(), strict=True):
        said = None if text is None else text[row[at]]
        is_known[at] = columns.text_of(number, when) == said


def concerned(columns: Columns, rows: Rows) -> Concerned:
    """Find the instances for which the rows may lead to something."""
    which, at = expand(columns.leaf_starts[rows.slot], columns.leaf_starts[rows.slot + 1])
    value = rows.value[which]
    is_true = (value >= columns.low[at]) & (value <= columns.high[at])
    changed = columns.leaf_order[at[is_true != columns.truth[at]]]
    owners = [columns.leaves["owner"][changed], _owners_after_gap(columns, rows)]
    is_unknown = np.isnan(rows.value)
    if is_unknown.any():
        # What was true is forgotten, and what is open is not counted.
        says_nothing = is_unknown[which]
        owners.append(columns.leaves["owner"][columns.leaf_order[at[says_nothing]]])
    suspect = np.unique(np.concatenate(owners))
    running = _running(columns, rows)
    is_steady = columns.instances["is_steady"][running] & ~np.isin(running, suspect)
    return Concerned(np.union1d(suspect, running[~is_steady]), running[is_steady], len(at))


def rows_of(columns: Columns, rows: Rows, instances: Ints) -> tuple[Ints, Ints, Int64s, Floats, Ints]:
    """Return the rows of some instances (ascending slots), by instance and time.

    Five columns: which of ``instances``, the number of its metric, device time, value, the row of the batch.
    """
    if not len(instances):
        return instances, instances, instances.astype(np.int64), instances.astype(np.float64), instances
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
    return place[order], metric[order], rows.ts_ms[which], rows.value[which], rows.row[which]


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
    """Return the running instances that the rows bring samples for, and those that every sample concerns, ascending."""
    slot = rows.slot[rows.first]
    slot = slot[(columns.series.running[slot] > 0) | columns.series.stepped[slot]]
    _, at = expand(columns.watch_starts[slot], columns.watch_starts[slot + 1])
    owner = columns.watches["owner"][columns.watch_order[at]]
    return np.unique(owner[columns.instances["is_running"][owner] | columns.instances["is_stepped"][owner]])


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
