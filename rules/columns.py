"""What the engine knows, as columns: instances, their metrics and comparisons, and what each series holds.

Instances and series are numbered densely ("slots"). The slot of an instance stays while it lives; those of series are
given anew whenever instances come or go. Other modules read the columns; they are changed only here.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from rules.outcome import LONG_AGO, NEVER, HeldColumns

Ints = NDArray[np.intp]
Int64s = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Table = NDArray[np.void]

WATCH = np.dtype([("series", np.int64), ("hold_ms", np.int64), ("owner", np.intp), ("slot", np.intp)])
"""One metric of one instance. A metric without a series has series and slot -1."""
LEAF = np.dtype(
    [
        ("low", np.float64),
        ("high", np.float64),
        ("keep_low", np.float64),
        ("keep_high", np.float64),
        ("owner", np.intp),
        ("watch", np.intp),
        ("truth", np.bool_),
        ("is_known", np.bool_),
        ("is_negated", np.bool_),
    ]
)
"""One comparison of a create rule.

``truth``: its last answer; while none is known, the one that helps no rule. ``is_negated``: the tree uses its opposite.
"""
INSTANCE = np.dtype(
    [
        ("id", np.int64),
        ("first_watch", np.intp),
        ("watches", np.intp),
        ("first_leaf", np.intp),
        ("leaves", np.intp),
        ("wake_ms", np.int64),
        ("drop_ms", np.int64),
        ("is_running", np.bool_),
        ("is_steady", np.bool_),
        ("is_stepped", np.bool_),
    ]
)
"""``watches`` and ``leaves`` are counts; ``wake_ms`` and ``drop_ms`` are server time: next timer, end of keeping.

``is_stepped``: columns cannot tell what concerns it, so every sample of its series does; it has no leaves here.
"""


@dataclass(slots=True, eq=False)
class SeriesColumns:
    """What each watched series holds, by slot, in order of series number.

    ``held``: the newest value known; ``mark``: the newest one evaluated. They differ only after a start, until the
    first batch. ``hold_ms``: the shortest among the watching instances; ``running``: how many of these are running;
    ``stepped``: whether any of them is stepped by every sample.
    """

    id: Int64s
    held_ms: Int64s
    held: Floats
    arrived_ms: Int64s
    mark_ms: Int64s
    mark: Floats
    hold_ms: Int64s
    running: Ints
    stepped: Mask

    @classmethod
    def empty(cls, ids: Int64s) -> "SeriesColumns":
        """Return columns for series that hold nothing yet."""
        long_ago = np.full(len(ids), LONG_AGO, np.int64)
        nothing = np.full(len(ids), np.nan)
        zeros = np.zeros(len(ids), np.int64)
        return cls(
            ids,
            long_ago,
            nothing,
            zeros,
            long_ago.copy(),
            nothing.copy(),
            zeros.copy(),
            np.zeros(len(ids), np.intp),
            np.zeros(len(ids), np.bool_),
        )

    def of(self, slot: Ints) -> tuple[Int64s, Int64s, Floats, Int64s]:
        """Return what slots hold, -1 nothing: time, time of the newest evaluated, value, arrival (server time)."""
        if not len(self.id):
            long_ago = np.full(len(slot), LONG_AGO, np.int64)
            return long_ago, long_ago, np.full(len(slot), np.nan), np.zeros(len(slot), np.int64)
        held_ms = np.where(slot < 0, LONG_AGO, self.held_ms[slot])
        mark_ms = np.where(slot < 0, LONG_AGO, self.mark_ms[slot])
        return held_ms, mark_ms, self.held[slot], self.arrived_ms[slot]

    def moved_to(self, ids: Int64s) -> "SeriesColumns":
        """Return columns for other series, in which those known here hold what they held."""
        moved = SeriesColumns.empty(ids)
        at = np.searchsorted(ids, self.id)
        here = np.flatnonzero(np.append(ids, -1)[at] == self.id)
        there = at[here]
        for column in fields(self):
            getattr(moved, column.name)[there] = getattr(self, column.name)[here]
        return moved


class Columns:
    """All instances and series of one engine.

    ``low``, ``high`` and ``truth`` are read for every row: the comparisons in order of their series, with the interval
    in which each is true now. ``leaf_starts[s]:leaf_starts[s + 1]`` are those of series slot s; ``leaf_order`` leads
    from there to ``leaves``. ``watch_starts`` and ``watch_order`` are the same for ``watches``. ``texts``: what series
    said last in words, with the time, where somebody may look at it; an older time than that held is no longer true.
    """

    def __init__(self) -> None:
        self.texts: dict[int, tuple[int, str]] = {}
        self.instances: Table = np.zeros(0, INSTANCE)
        self.watches: Table = np.zeros(0, WATCH)
        self.leaves: Table = np.zeros(0, LEAF)
        self.series = SeriesColumns.empty(np.empty(0, np.int64))
        self._free: list[int] = []
        self._index()

    def exchange(
        self,
        gone: Ints,
        ids: Int64s,
        watches: Table,
        watch_counts: Ints,
        leaves: Table,
        leaf_counts: Ints,
        *,
        is_stepped: Mask,
    ) -> Ints:
        """Add k instances, forget those in the slots ``gone``, and return the slots of the new ones.

        ``watches`` and ``leaves`` hold the blocks of the new instances one after the other, ``*_counts`` their
        lengths; ``leaves["watch"]`` counts inside the block of its instance. Owners and slots are filled in here.
        ``is_stepped``: those of the new ones that every sample concerns.
        What series hold stays, except for those that nobody watches any more.
        """
        slots = self._take_slots(len(ids))
        added = self.instances[slots]
        added["id"], added["is_stepped"] = ids, is_stepped
        added["watches"], added["leaves"] = watch_counts, leaf_counts
        added["first_watch"] = len(self.watches) + np.cumsum(watch_counts) - watch_counts
        added["first_leaf"] = len(self.leaves) + np.cumsum(leaf_counts) - leaf_counts
        self.instances[slots] = added
        watches["owner"] = np.repeat(slots, watch_counts)
        leaves["owner"] = np.repeat(slots, leaf_counts)
        leaves["watch"] += np.repeat(added["first_watch"], leaf_counts)
        leaves["truth"] = leaves["is_negated"]
        self.watches = np.concatenate([self.watches, watches])
        self.leaves = np.concatenate([self.leaves, leaves])
        self._forget(gone)
        self._index()
        return slots

    def remove(self, slots: Ints) -> None:
        """Forget instances, and series that nobody watches any more."""
        self._forget(slots)
        self._index()

    def blocks(self, slots: Ints, word: str) -> tuple[Ints, Ints]:
        """Return where the watches or leaves (``word``) of some instances stand, one block after the other.

        Two arrays of equal length: which of ``slots``, and the position.
        """
        first = self.instances["first_watch" if word == "watches" else "first_leaf"][slots]
        return expand(first, first + self.instances[word][slots])

    def evaluated(self) -> HeldColumns:
        """Return the series of which a sample was evaluated, with the newest one."""
        series = self.series
        found = np.flatnonzero(series.mark_ms != LONG_AGO)
        ids, mark_ms = series.id[found], series.mark_ms[found]
        when = dict(zip(ids.tolist(), mark_ms.tolist(), strict=True)) if self.texts else {}
        text = {number: told for number, (ts_ms, told) in self.texts.items() if when.get(number) == ts_ms}
        return HeldColumns(ids, mark_ms, series.mark[found], series.arrived_ms[found], text)

    def hold(self, held: HeldColumns) -> None:
        """Take over the newest evaluated samples of series; those nobody watches are ignored."""
        slot = self.slots_of(held.series)
        known, series = np.flatnonzero(slot >= 0), self.series
        at = slot[known]
        series.held_ms[at] = series.mark_ms[at] = held.ts_ms[known]
        series.held[at] = series.mark[at] = held.value[known]
        series.arrived_ms[at] = held.arrived_ms[known]
        if held.text or self.texts:
            self._say(held, known, at)

    def restore(self, held: HeldColumns) -> None:
        """Take over evaluated samples, sorted by time, where nothing as new is known to have been evaluated."""
        slot = self.slots_of(held.series)
        news = np.flatnonzero(slot >= 0)
        news = news[held.ts_ms[news] > self.series.mark_ms[slot[news]]]
        rows = (held.series[news], held.ts_ms[news], held.value[news], held.arrived_ms[news])
        self.hold(HeldColumns(*rows, held.text))

    def seed(self, seeds: HeldColumns) -> None:
        """Take over values that may not have been evaluated, where they are newer and no running instance watches."""
        slot = self.slots_of(seeds.series)
        is_usable = np.isfinite(seeds.value)
        if seeds.text:
            is_usable |= np.isin(seeds.series, list(seeds.text))
        news, series = np.flatnonzero((slot >= 0) & is_usable), self.series
        news = news[(seeds.ts_ms[news] > series.held_ms[slot[news]]) & (series.running[slot[news]] == 0)]
        at = slot[news]
        series.held_ms[at], series.held[at] = seeds.ts_ms[news], seeds.value[news]
        series.arrived_ms[at] = seeds.arrived_ms[news]
        if seeds.text or self.texts:
            self._say(seeds, news, at)

    def mark(self, known: HeldColumns, mark_ms: Int64s) -> None:
        """Say up to when series were evaluated, where that is later than what is known; each series once.

        ``known``: what was stored last of each; the value that was evaluated last is known where it is that one.
        """
        slot = self.slots_of(known.series)
        news = np.flatnonzero(slot >= 0)
        news = news[mark_ms[news] > self.series.mark_ms[slot[news]]]
        at = slot[news]
        self.series.mark_ms[at] = mark_ms[news]
        self.series.mark[at] = np.where(known.ts_ms[news] == mark_ms[news], known.value[news], np.nan)

    def text_of(self, series: int, ts_ms: int) -> str | None:
        """Return what a series said in words at the time of what it holds, None where it said a number."""
        told = self.texts.get(series)
        return told[1] if told is not None and told[0] == ts_ms else None

    def mark_running(self, slots: Ints, is_running: Mask) -> None:
        """Say of some instances, each named once, whether each sample of theirs matters."""
        changed = self.instances["is_running"][slots] != is_running
        slots, is_running = slots[changed], is_running[changed]
        self.instances["is_running"][slots] = is_running
        which, watches = self.blocks(slots, "watches")
        at = self.watches["slot"][watches]
        np.add.at(self.series.running, at[at >= 0], np.where(is_running[which], 1, -1)[at >= 0])

    def answer(self, leaves: Ints, truths: NDArray[np.int8]) -> None:
        """Note new answers of comparisons: 1 true, 0 false, -1 unknown."""
        is_true = np.where(truths < 0, self.leaves["is_negated"][leaves], truths == 1)
        self.leaves["truth"][leaves] = is_true
        self.leaves["is_known"][leaves] = truths >= 0
        rank = self._leaf_rank[leaves]
        self.truth[rank] = is_true
        self.low[rank], self.high[rank] = _intervals(self.leaves[leaves])

    def slots_of(self, series: Int64s) -> Ints:
        """Return the slot of each series number, -1 where no rule uses it."""
        if self._slot_table is not None:
            inside = (series >= 0) & (series < len(self._slot_table))
            return self._slot_table[np.where(inside, series, len(self._slot_table) - 1)]
        if not len(self.series.id):
            return np.full(len(series), -1, np.intp)
        slot = np.searchsorted(self.series.id, series)
        slot[slot == len(self.series.id)] = 0
        slot[self.series.id[slot] != series] = -1
        return slot

    def _say(self, held: HeldColumns, rows: Ints, slots: Ints) -> None:
        """Remember what some rows say in words, where it may be asked for."""
        rows = rows[self.series.stepped[slots]]
        for number, ts_ms in zip(held.series[rows].tolist(), held.ts_ms[rows].tolist(), strict=True):
            if number in held.text:
                self.texts[number] = (ts_ms, held.text[number])
            else:
                self.texts.pop(number, None)

    def _forget(self, slots: Ints) -> None:
        if not len(slots):
            return
        gone = np.zeros(len(self.instances), np.bool_)
        gone[slots] = True
        self.instances[slots] = _vacant(len(slots))
        watch_stays, leaf_stays = ~gone[self.watches["owner"]], ~gone[self.leaves["owner"]]
        watch_at, leaf_at = _positions(watch_stays), _positions(leaf_stays)
        self.instances["first_watch"] = watch_at[self.instances["first_watch"]]
        self.instances["first_leaf"] = leaf_at[self.instances["first_leaf"]]
        self.watches, self.leaves = self.watches[watch_stays], self.leaves[leaf_stays]
        self.leaves["watch"] = watch_at[self.leaves["watch"]]
        self._free.extend(slots.tolist())

    def _take_slots(self, count: int) -> Ints:
        short = count - len(self._free)
        if short > 0:
            size = len(self.instances)
            room = max(short, size // 2)
            self.instances = np.concatenate([self.instances, _vacant(room)])
            self._free.extend(range(size, size + room))
        taken = self._free[:count]
        del self._free[:count]
        return np.array(taken, np.intp)

    def _index(self) -> None:
        """Number the series anew, and sort watches and comparisons by them."""
        ids = np.sort(self.watches["series"])
        ids = ids[np.append(ids[1:] != ids[:-1], True) & (ids >= 0)] if len(ids) else ids
        if not np.array_equal(ids, self.series.id):
            self.series = self.series.moved_to(ids)
        self._slot_table = _slot_table(ids)
        slot = self.slots_of(self.watches["series"])
        self.watches["slot"] = slot
        ends = np.arange(len(self.series.id) + 1)
        self.watch_order = np.argsort(slot, kind="stable")
        self.watch_starts = np.searchsorted(slot[self.watch_order], ends)
        leaf_slot = slot[self.leaves["watch"]]
        self.leaf_order = np.argsort(leaf_slot, kind="stable")
        self.leaf_starts = np.searchsorted(leaf_slot[self.leaf_order], ends)
        self._leaf_rank = _inverse(self.leaf_order)
        if len(self.series.id):
            holds = self.watches["hold_ms"][self.watch_order]
            self.series.hold_ms = np.minimum.reduceat(holds, self.watch_starts[:-1])
        is_running = self.instances["is_running"][self.watches["owner"]] & (slot >= 0)
        self.series.running = np.bincount(slot[is_running], minlength=len(self.series.id))
        is_stepped = self.instances["is_stepped"][self.watches["owner"]] & (slot >= 0)
        self.series.stepped = np.zeros(len(self.series.id), np.bool_)
        self.series.stepped[slot[is_stepped]] = True
        leaves = self.leaves[self.leaf_order]
        self.truth = leaves["truth"].copy()
        self.low, self.high = _intervals(leaves)


def expand(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Write out n ranges one after the other: which range each number comes from, and the numbers."""
    counts = ends - starts
    if len(counts) and counts.min() == counts.max():
        width = int(counts[0])
        if width == 1:
            return np.arange(len(starts)), starts
        return np.repeat(np.arange(len(starts)), width), (starts[:, None] + np.arange(width)).ravel()
    which = np.repeat(np.arange(len(starts)), counts)
    return which, np.arange(len(which)) + np.repeat(starts - np.cumsum(counts) + counts, counts)


def has_deadband(leaves: Table) -> Mask:
    """Return which comparisons must remember that they are true."""
    wider: Mask = (leaves["keep_low"] < leaves["low"]) | (leaves["keep_high"] > leaves["high"])
    return wider


def _intervals(leaves: Table) -> tuple[Floats, Floats]:
    """Return the interval in which each comparison is true now."""
    is_kept = leaves["truth"] & leaves["is_known"]
    low = np.where(is_kept, leaves["keep_low"], leaves["low"])
    high = np.where(is_kept, leaves["keep_high"], leaves["high"])
    # An unknown comparison that helps no rule by being true must be looked at closely on its first value, because
    # its deadband has to be remembered; an interval without any value sees to that.
    looks = leaves["is_negated"] & ~leaves["is_known"] & has_deadband(leaves)
    low[looks], high[looks] = np.inf, -np.inf
    return low, high


def _vacant(count: int) -> Table:
    rows = np.zeros(count, INSTANCE)
    rows["wake_ms"] = rows["drop_ms"] = NEVER
    return rows


def _positions(stays: Mask) -> Ints:
    """Return for each row where it stands once the others are gone; one entry more, for blocks that are empty."""
    return np.concatenate([[0], np.cumsum(stays)]).astype(np.intp)


def _inverse(order: Ints) -> Ints:
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return inverse


def _slot_table(ids: Int64s) -> Ints | None:
    """Return a table from series number to slot, its last entry -1; None where numbers are too sparse for one."""
    if len(ids) and int(ids[-1]) > 16 * len(ids) + 1_000_000:
        return None
    table = np.full((int(ids[-1]) if len(ids) else 0) + 2, -1, np.intp)
    table[ids] = np.arange(len(ids))
    return table
