"""The stored samples of one rule on one asset as columns, and where in them a comparison turns: for ``rules.replay``.

Between two turns every comparison keeps its answer, so a machine has nothing to decide there but what its streaks and
timers bring. Both are found for all samples at once.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rules.compiled import Compiled, Leaf

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]
Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]

MOST_METRICS = 62
"""Which metrics an instant brought is one number of 64 bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """The samples of one metric by time: ``ts_ms`` rises strictly, ``value`` is finite, or NaN where it says nothing.

    ``text``: what was said in words, where anything was: None for numbers. Texts that read as numbers are numbers.
    """

    ts_ms: Int64s
    value: Float64s
    text: tuple[str | None, ...] | None = None

    @classmethod
    def of(cls, ts_ms: Int64s, value: Float64s, text: Sequence[str | None] | None = None) -> "Samples":
        """Return samples in any order as they are evaluated: sorted, and of one instant the last."""
        usable = ~np.isinf(value)
        order = np.flatnonzero(usable)
        if len(ts_ms) > 1 and not (ts_ms[1:] > ts_ms[:-1]).all():
            order = order[np.argsort(ts_ms[order], kind="stable")]
            order = order[np.append(ts_ms[order][1:] != ts_ms[order][:-1], True)[: len(order)]]
        elif usable.all():
            return cls(ts_ms, value, None if text is None else tuple(text))
        words = None if text is None else tuple(text[row] for row in order.tolist())
        return cls(ts_ms[order], value[order], words)

    @classmethod
    def joined(cls, parts: Sequence["Samples"]) -> "Samples":
        """Return several columns of one metric as one, of one instant the last."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return NOTHING
        text = None
        if any(one.text is not None for one in parts):
            text = [said for one in parts for said in (one.text or [None] * len(one))]
        return cls.of(np.concatenate([one.ts_ms for one in parts]), np.concatenate([one.value for one in parts]), text)

    def __len__(self) -> int:
        return len(self.ts_ms)

    @property
    def is_numeric(self) -> bool:
        """Whether every sample is a number."""
        return self.text is None and not np.isnan(self.value).any()

    def until(self, at_ms: int) -> "Samples":
        """Return the samples up to an instant, that one included."""
        row = int(np.searchsorted(self.ts_ms, at_ms, "right"))
        return Samples(self.ts_ms[:row], self.value[:row], None if self.text is None else self.text[:row])

    def after(self, row: int) -> "Samples":
        """Return the samples from a row on."""
        return Samples(self.ts_ms[row:], self.value[row:], None if self.text is None else self.text[row:])


NOTHING = Samples(np.empty(0, np.int64), np.empty(0, np.float64))


class Tape:
    """All samples of one instance, instant by instant; metrics and comparisons are numbered as in ``Compiled``.

    ``ts_ms``: the instants at which any metric brought a sample. ``turns``: those at which an answer of a create
    comparison may differ from the one before; ``clear_turns``: the same for the clear rule.
    """

    def __init__(self, plan: Compiled, samples: Sequence[Samples], hold_ms: Sequence[int]) -> None:
        self._plan = plan
        self._hold_ms = hold_ms
        self.samples = samples
        self.ts_ms = _instants(samples)
        self._at = [_places(self.ts_ms, one.ts_ms) for one in samples]
        self._lone = next((m for m, one in enumerate(samples) if len(one) == len(self.ts_ms)), None)
        self._is_lone = sum(len(one) > 0 for one in samples) <= 1
        self._counted: dict[int, Int64s] = {}
        self.turns = self._turns(range(plan.create_leaves))
        self.clear_turns = self._turns(range(plan.create_leaves, len(plan.leaves)))

    def __len__(self) -> int:
        return len(self.ts_ms)

    def values_at(self, instant: int) -> list[tuple[int, float]]:
        """Return the (metric, value) pairs that an instant brought."""
        if self._is_lone:
            metric = self._lone or 0
            return [(metric, self.samples[metric].value.item(instant))]
        found = []
        for metric, one in enumerate(self.samples):
            at = self.last_of(metric, instant + 1)
            if at >= 0 and self._at[metric][at] == instant:
                found.append((metric, one.value.item(at)))
        return found

    def last_of(self, metric: int, end: int) -> int:
        """Return the number of a metric's last sample before instant number ``end``, -1 where there is none."""
        if self._is_lone:
            return end - 1 if len(self.samples[metric]) else -1
        return int(np.searchsorted(self._at[metric], end)) - 1

    def instant_of(self, ts_ms: int) -> int:
        """Return the number of the first instant that is not before a time."""
        return int(np.searchsorted(self.ts_ms, ts_ms))

    # What rules count -------------------------------------------------------------------------------------------

    def counted(self, metrics: int, begin: int, end: int) -> int:
        """Return how many instants brought a sample of some metrics (a bit mask)."""
        if self._is_lone:
            return end - begin if metrics >> (self._lone or 0) & 1 else 0
        total = self._total(metrics)
        return int(total[end] - total[begin])

    def nth(self, metrics: int, begin: int, count: int) -> int:
        """Return the number of the instant that brings the n-th sample of some metrics, from ``begin`` on."""
        if self._is_lone:
            return begin + count - 1 if metrics >> (self._lone or 0) & 1 else len(self)
        total = self._total(metrics)
        return int(np.searchsorted(total, total[begin] + count)) - 1

    def last_counted(self, metrics: int, end: int) -> int:
        """Return the number of the last instant before ``end`` that brought a sample of some metrics."""
        if self._is_lone:
            return end - 1
        total = self._total(metrics)
        return int(np.searchsorted(total, total[end])) - 1

    def fresh(self, metric: int, begin: int, end: int, *, beside: int | None = None) -> Float64s:
        """Return a metric's values in some instants, or in those which brought a sample of ``beside`` as well."""
        if self._is_lone:
            return self.samples[metric].value[begin:end] if len(self.samples[metric]) else np.empty(0)
        first, last = np.searchsorted(self._at[metric], (begin, end))
        values = self.samples[metric].value[first:last]
        if beside is None or beside >> metric & 1:
            return values
        chosen: Float64s = values[(self._bits[self._at[metric][first:last]] & beside) != 0]
        return chosen

    @cached_property
    def _bits(self) -> Int64s:
        bits = np.zeros(len(self.ts_ms), np.int64)
        for metric, at in enumerate(self._at):
            bits[at] |= 1 << metric
        return bits

    def _total(self, metrics: int) -> Int64s:
        if metrics not in self._counted:
            total = np.zeros(len(self.ts_ms) + 1, np.int64)
            np.cumsum((self._bits & metrics) != 0, out=total[1:])
            self._counted[metrics] = total
        return self._counted[metrics]

    # Where answers turn -----------------------------------------------------------------------------------------

    def _turns(self, leaves: range) -> list[int]:
        """Return the instants at which an answer of some comparisons may turn, the end of the tape the last."""
        is_create = leaves.start == 0
        found = [np.array([len(self.ts_ms)], np.intp)]
        for metric in {self._plan.leaves[leaf].metric for leaf in leaves}:
            one = self.samples[metric]
            if not len(one):
                continue
            ends_ms = one.ts_ms[:-1] + self._hold_ms[metric] + 1
            is_gap = one.ts_ms[1:] >= ends_ms
            changes = is_gap.copy()
            for leaf in leaves:
                known = self._plan.leaves[leaf]
                if known.metric == metric:
                    told = answers(known, one.value, is_gap) if is_create else _zones(known, one.value)
                    changes |= told[1:] != told[:-1]
            found.append(self._at[metric][:1])
            found.append(self._at[metric][1:][changes])
            # A value that stops speaking does so between two samples of its own.
            found.append(np.searchsorted(self.ts_ms, ends_ms[is_gap]))
            found.append(np.searchsorted(self.ts_ms, one.ts_ms[-1:] + self._hold_ms[metric] + 1))
        turns: list[int] = np.unique(np.concatenate(found)).tolist()
        return turns

    def next_turn(self, begin: int, *, with_clear: bool) -> int:
        """Return the first instant from ``begin`` on at which an answer may turn."""
        turn = self.turns[bisect_left(self.turns, begin)]
        return min(turn, self.clear_turns[bisect_left(self.clear_turns, begin)]) if with_clear else turn


def answers(leaf: Leaf, value: Float64s, is_gap: Mask) -> Mask:
    """Return what a comparison answers at each sample, its deadband and its gaps included (A8, A16)."""
    inside: Mask = (value >= leaf.low) & (value <= leaf.high)
    if not leaf.has_deadband:
        return inside
    decided = np.where(carried(leaf, value, is_gap), 0, np.arange(len(value)))
    told: Mask = inside[np.maximum.accumulate(decided)]
    return told


def carried(leaf: Leaf, value: Float64s, is_gap: Mask) -> Mask:
    """Return at which samples a comparison keeps the answer of the sample before, which its deadband remembers."""
    carries = in_band(leaf, value)
    carries[1:] &= ~is_gap
    carries[:1] = False
    return carries


def in_band(leaf: Leaf, value: Float64s) -> Mask:
    """Return which values a comparison answers only out of what its deadband remembers."""
    band: Mask = (value >= leaf.keep_low) & (value <= leaf.keep_high) & ((value < leaf.low) | (value > leaf.high))
    return band


def _zones(leaf: Leaf, value: Float64s) -> NDArray[np.int8]:
    """Return on which side of a comparison and its deadband each value lies.

    What a clear rule's deadband remembers begins anew with each alarm, so only a change of side says that it may turn.
    """
    inside = (value >= leaf.low) & (value <= leaf.high)
    return inside.astype(np.int8) + ((value >= leaf.keep_low) & (value <= leaf.keep_high))


def _instants(samples: Sequence[Samples]) -> Int64s:
    columns = [one.ts_ms for one in samples if len(one)]
    if not columns:
        return np.empty(0, np.int64)
    if all(len(one) == len(columns[0]) and np.array_equal(one, columns[0]) for one in columns[1:]):
        return columns[0]
    together = np.concatenate(columns)
    together.sort(kind="stable")
    instants: Int64s = together[np.append(together[1:] != together[:-1], True)]
    return instants


def _places(instants: Int64s, ts_ms: Int64s) -> Ints:
    if len(ts_ms) == len(instants):
        return np.arange(len(instants))
    return np.searchsorted(instants, ts_ms)
