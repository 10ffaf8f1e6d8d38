"""Who looks back at which series, and what is known of their past: for the engine, which hands it to its machines.

A past is recalled when an instance that looks back is stepped for the first time, held up to date by the rows that
come late, and cut to the furthest reach of those who look. Where nobody looks back, nothing is done a batch.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from rules import sifting
from rules.columns import Columns, Floats, Int64s, Ints
from rules.compiled import Compiled
from rules.histories import History, Reach, Recall, Wanted
from rules.outcome import LONG_AGO, HeldColumns, Instances
from rules.said import number_of


class Lookback:
    """The pasts of the series that instances of one engine look back at; ``columns`` are those of the engine."""

    def __init__(self, recall: Recall, columns: Columns) -> None:
        self._recall = recall
        self._columns = columns
        # Of the instances that look back, by slot: the series of each metric and how far back it is looked at.
        self._backs: dict[int, list[tuple[int, Reach]]] = {}
        self._lookers: dict[int, set[int]] = {}
        self._reaches: dict[int, Reach] = {}
        self._pasts: dict[int, History] = {}

    def install(self, instances: Instances, plans: Sequence[Compiled], slots: Sequence[int]) -> None:
        """Take note of what new instances look back at."""
        if not any(plan.looks_back for plan in plans):
            return
        counts = np.array([len(plan.metrics) for plan in plans], np.int64)[instances.which]
        ends = np.cumsum(counts).tolist()
        for slot, which, end in zip(slots, instances.which.tolist(), ends, strict=True):
            plan = plans[which]
            if plan.looks_back:
                series = instances.series[end - len(plan.metrics) : end].tolist()
                self._backs[slot] = [*zip(series, plan.reach, strict=True)]
                for number, reach in self._backs[slot]:
                    self._lookers.setdefault(number, set()).update({slot} if reach else ())
                    if reach | self._reaches.get(number, Reach()) != self._reaches.get(number):
                        self._reaches[number] = reach | self._reaches.get(number, Reach())
                        self._pasts.pop(number, None)

    def remove(self, slot: int) -> None:
        """Let an instance look back no more."""
        for number, _ in self._backs.pop(slot, ()):
            self._lookers[number].discard(slot)

    def pasts(self, slot: int) -> list[History | None]:
        """Return by metric what came before, None where nobody looks; none at all for one that does not look back."""
        return [self._pasts.get(number) for number, _ in self._backs.get(slot, ())]

    def remember(self, slots: Ints, rows: sifting.Rows | None = None) -> None:
        """Have the past recalled that some instances look back at and that is not known yet."""
        if not self._backs:
            return
        looked_at = {number for slot in slots.tolist() for number, reach in self._backs.get(slot, ()) if reach}
        missing = sorted(number for number in looked_at if number >= 0 and number not in self._pasts)
        if not missing:
            return
        held_ms = self._columns.series.held_ms[self._columns.slots_of(np.array(missing, np.int64))]
        since: dict[int, int] = dict(zip(missing, held_ms.tolist(), strict=True))
        if rows is not None:
            series, oldest_ms = self._columns.series.id[rows.slot[rows.first]], rows.ts_ms[rows.first]
            for number, first in zip(series.tolist(), oldest_ms.tolist(), strict=True):
                if number in since and (since[number] == LONG_AGO or first < since[number]):
                    since[number] = first
        wanted = {number: Wanted(self._reaches[number], at) for number, at in since.items() if at != LONG_AGO}
        found = self._recall(wanted) if wanted else {}
        self._pasts.update({number: found.get(number, History()) for number in missing})

    def note_late(self, rows: Ints, series: Int64s, ts_ms: Int64s, value: Floats, text: sifting.Texts) -> Ints:
        """Let what came late count in windows; return the instances that look back at it."""
        touched: set[int] = set()
        for row in rows.tolist() if self._lookers else ():
            number = int(series[row])
            touched |= self._lookers.get(number, set())
            past = self._pasts.get(number)
            if past is not None:
                said = None if text is None else text[row]
                read = float(value[row]) if said is None or not np.isnan(value[row]) else number_of(said)
                past.note(int(ts_ms[row]), np.nan if read is None else read)
        return np.array(sorted(touched), np.intp)

    def read_anew(self, series: Iterable[int]) -> None:
        """Have what windows hold of some series recalled again, because it is known better elsewhere."""
        for number in series:
            self._pasts.pop(number, None)

    def forget(self, held: HeldColumns) -> None:
        """Forget what nobody looks at any more, once the newest rows are committed."""
        if self._pasts:
            for number, ts_ms in zip(held.series.tolist(), held.ts_ms.tolist(), strict=True):
                if (past := self._pasts.get(number)) is not None:
                    past.forget(ts_ms, self._reaches[number])
