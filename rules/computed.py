"""What an instance answers that looks at more than the numbers of its metrics: texts, views, other metrics, defaults.

As ``rules.values``, whose place it takes. Each comparison has a number at an instant, or none; a number is looked up
once for all samples of that instant, and kept until another sample of one of its metrics comes.
"""

import math
from collections.abc import Iterable, Sequence

from rules.compiled import Compiled, Leaf
from rules.histories import History
from rules.looks import Past, Value
from rules.outcome import LONG_AGO, NEVER
from rules.values import Block, Latch, Values


class Computed(Values):
    """The values of one instance as time goes on. ``past``: by metric, its history where one is looked at."""

    __slots__ = ("_fresh", "_numbers", "_past")

    def __init__(
        self,
        compiled: Compiled,
        block: Block,
        at_ms: int,
        latched: Iterable[Latch],
        past: Sequence[History | None] = (),
    ) -> None:
        known = [*past, *[None] * (len(compiled.reach) - len(past))]
        self._past = [
            (History() if one is None else one) if reach else None
            for one, reach in zip(known, compiled.reach, strict=True)
        ]
        self._numbers: list[float | None] = [None] * len(compiled.leaves)
        # The metrics, as a bit mask, whose samples no number takes into account yet.
        self._fresh = (1 << len(compiled.metrics)) - 1
        super().__init__(compiled, block, at_ms, latched)

    def _begin(self, remembered: set[Latch], at_ms: int) -> None:
        for metric, ts_ms in enumerate(self._ts_ms):
            if ts_ms != LONG_AGO:
                self._note(metric)
        self._early = {i for i, leaf in enumerate(self._compiled.leaves) if leaf.key in remembered}
        self.truths = [None] * len(self._compiled.leaves)
        self.expire(at_ms)

    def take(self, metric: int, ts_ms: int, value: Value, arrived_ms: int) -> None:
        """Take a new sample; ``expire`` for its instant comes next."""
        self._ts_ms[metric], self._values[metric], self._arrived_ms[metric] = ts_ms, value, arrived_ms
        self._note(metric)
        self._fresh |= 1 << metric

    def expire(self, at_ms: int) -> None:
        """Answer every comparison for an instant."""
        for i, leaf in enumerate(self._compiled.leaves):
            is_held = self._speaks(leaf, at_ms)
            if not is_held:
                self.truths[i] = None
                continue
            metrics = (leaf.metric,) if leaf.look is None else leaf.look.metrics
            is_fresh = any(self._fresh >> metric & 1 for metric in metrics)
            if is_fresh or self.truths[i] is None:
                number = self._numbers[i] = self._look_up(leaf)
                was_true = self.truths[i] is True or i in self._early
                self._early.discard(i)
                self.truths[i] = None if number is None else leaf.holds(number, was_true=was_true)
        self._fresh = 0

    def forget_clear_comparisons(self) -> None:
        """Let the memory of the clear rule's deadbands begin anew."""
        for i in range(self._compiled.create_leaves, len(self.truths)):
            number = self._numbers[i]
            if self.truths[i] is not None and number is not None:
                self.truths[i] = self._compiled.leaves[i].holds(number, was_true=False)

    def stale_ms(self) -> int:
        """Return the next instant at which a value that is compared no longer speaks, ``NEVER`` when none does."""
        stale = NEVER
        for leaf, truth in zip(self._compiled.leaves, self.truths, strict=True):
            if truth is None:
                continue
            for metric in (leaf.metric,) if leaf.look is None else leaf.look.metrics:
                if self._ts_ms[metric] != LONG_AGO:
                    stale = min(stale, self._ts_ms[metric] + self._holds_ms[metric] + 1)
        return stale

    def _speaks(self, leaf: Leaf, at_ms: int) -> bool:
        if leaf.look is None:
            return self.is_held(leaf.metric, at_ms)
        first, *others = leaf.look.metrics
        is_first = self._has_default(leaf) or self.is_held(first, at_ms)
        return is_first and all(self.is_held(other, at_ms) for other in others)

    def _has_default(self, leaf: Leaf) -> bool:
        """Return whether a default stands for a value that does not exist yet (A4)."""
        return leaf.look is not None and leaf.look.default is not None and self._ts_ms[leaf.metric] == LONG_AGO

    def _look_up(self, leaf: Leaf) -> float | None:
        look = leaf.look
        if look is None:
            number = self._number(leaf.metric)
            return None if math.isnan(number) else number
        if self._has_default(leaf):
            number = look.default or 0.0
            others = [self._number(metric) for metric in look.metrics[1:]]
            number -= sum(others)
            return None if math.isnan(number) else number
        return look.number(tuple(self._values[metric] for metric in look.metrics), lambda: self._seen(leaf.metric))

    def _seen(self, metric: int) -> Past:
        history = self._past[metric]
        assert history is not None  # noqa: S101 - whoever looks back says so in its reach
        return Past(history, self._ts_ms[metric], self._number(metric), self._holds_ms[metric])

    def _note(self, metric: int) -> None:
        history = self._past[metric]
        if history is not None:
            history.note(self._ts_ms[metric], self._number(metric))
