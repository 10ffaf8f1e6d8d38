"""What an instance answers that looks at more than the numbers of its metrics: texts, views, other metrics, defaults.

As ``rules.values``, whose place it takes. Each comparison has a number at an instant, or none; a number is looked up
once for all samples of that instant, and kept until another sample of one of its metrics comes.
"""

import math
from collections.abc import Iterable, Sequence

from rules.compiled import Compiled, Leaf
from rules.histories import History
from rules.looks import Look, Past, Silence
from rules.outcome import LONG_AGO, NEVER, Sample
from rules.said import Value
from rules.values import Block, Latch, Values


class Computed(Values):
    """The values of one instance as time goes on. ``past``: by metric, its history where one is looked at.

    ``awake_ms``: server time since when we listen, before which silence does not count (A12).
    """

    __slots__ = ("_at_ms", "_awake_ms", "_by_default", "_fresh", "_heard", "_numbers", "_past", "_server_ms")

    def __init__(
        self,
        compiled: Compiled,
        block: Block,
        at_ms: int,
        latched: Iterable[Latch],
        past: Sequence[History | None] = (),
        awake_ms: int = LONG_AGO,
    ) -> None:
        self._awake_ms = self._server_ms = awake_ms
        self._heard = 0
        self._by_default: set[int] = set()
        self._at_ms = at_ms
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
        self._heard |= 1 << metric

    def hear(self, server_ms: int) -> None:
        """Take note of our own clock at the instant that is answered next."""
        self._server_ms = server_ms

    def expire(self, at_ms: int) -> None:
        """Answer every comparison for an instant."""
        for i, leaf in enumerate(self._compiled.leaves):
            if leaf.look is not None and leaf.look.silence is not None:
                was_true = self.truths[i] is True or i in self._early
                self._early.discard(i)
                self.truths[i] = self._is_silent(leaf.look.silence, was_true=was_true)
                continue
            if leaf.look is not None and leaf.look.formula is not None:
                number = self._numbers[i] = self._express(leaf.look, at_ms)
                self.truths[i] = None if number is None else leaf.holds(number, was_true=False)
                continue
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
                if self._has_default(leaf):
                    self._by_default.add(i)
                elif i in self._by_default:
                    # What was true of a default says nothing about a value.
                    self._by_default.discard(i)
                    was_true = False
                self.truths[i] = None if number is None else self._is_so(leaf, number, was_true=was_true)
        self._fresh = self._heard = 0
        self._at_ms = at_ms

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
            if truth is None or (leaf.look is not None and leaf.look.is_ageless):
                continue
            for metric in (leaf.metric,) if leaf.look is None else leaf.look.metrics:
                if self._ts_ms[metric] != LONG_AGO and self._holds(metric, self._at_ms):
                    stale = min(stale, self._ts_ms[metric] + self._holds_ms[metric] + 1)
        return stale

    def silent_ms(self, at_ms: int) -> int:
        """Return the next instant after ``at_ms`` at which a silence that is asked for is long enough."""
        due = NEVER
        for leaf, truth in zip(self._compiled.leaves, self.truths, strict=True):
            if leaf.look is None or leaf.look.silence is None or truth is not False:
                continue
            begins = self._silent_since(leaf.look.silence)
            if begins is not None:
                # The event clock runs with ours from the newest sample on.
                due = min(due, max(at_ms + 1, begins + leaf.look.silence.ms + at_ms - self.server_ms(at_ms)))
        return due

    def is_held(self, metric: int, at_ms: int) -> bool:
        """Return whether the value of a metric speaks at an instant; beside a silence, whatever its age (A8)."""
        if not self._compiled.hears_silence:
            return super().is_held(metric, at_ms)
        value = self._values[metric]
        return self._ts_ms[metric] != LONG_AGO and self._ts_ms[metric] <= at_ms and value == value  # noqa: PLR0124

    def samples(self, at_ms: int) -> tuple[Sample, ...]:
        """Return every value that speaks at an instant; of what is only listened to, none."""
        return tuple(one for one in super().samples(at_ms) if not one.metric.startswith("#"))

    def _is_silent(self, silence: Silence, *, was_true: bool) -> bool | None:
        heard = any(self._heard >> metric & 1 for group in silence.groups for metric in group)
        if was_true and not heard:
            return True
        begins = self._silent_since(silence)
        return None if begins is None else self._server_ms - begins >= silence.ms

    def _silent_since(self, silence: Silence) -> int | None:
        """Return our time since when nothing came, as far as we listened; None where nothing ever came."""
        newest = [
            max((self._arrived_ms[metric] for metric in group if self._ts_ms[metric] != LONG_AGO), default=None)
            for group in silence.groups
        ]
        known = [arrived for arrived in newest if arrived is not None]
        if not known:
            return None
        return max(self._awake_ms, max(known) if silence.of_all else min(known))

    def _speaks(self, leaf: Leaf, at_ms: int) -> bool:
        if leaf.look is None:
            return self._holds(leaf.metric, at_ms)
        first, *others = leaf.look.metrics
        speaks = self.is_held if leaf.look.is_ageless else self._holds
        return (self._has_default(leaf) or speaks(first, at_ms)) and all(speaks(other, at_ms) for other in others)

    def _holds(self, metric: int, at_ms: int) -> bool:
        return super().is_held(metric, at_ms)

    def _express(self, look: Look, at_ms: int) -> float | None:
        speaks = self.is_held if look.is_ageless else self._holds
        return look.answer([self._values[one] if speaks(one, at_ms) else None for one in look.metrics])

    def _has_default(self, leaf: Leaf) -> bool:
        """Return whether a default stands for a value that does not exist yet (A4)."""
        return leaf.look is not None and leaf.look.default is not None and self._ts_ms[leaf.metric] == LONG_AGO

    def _look_up(self, leaf: Leaf) -> float | None:
        look = leaf.look
        if look is None:
            number = self._number(leaf.metric)
            return None if math.isnan(number) else number
        if self._has_default(leaf):
            return look.placed(look.default or 0.0, self._held_by(look))
        return look.number(self._held_by(look), lambda: self._seen(leaf.metric))

    def _is_so(self, leaf: Leaf, number: float, *, was_true: bool) -> bool:
        """Compare a number, the deadband allowed for that another metric holds."""
        if was_true and leaf.look is not None and leaf.look.slack is not None:
            number = leaf.look.eased(number, self._held_by(leaf.look), upwards=leaf.high == math.inf)
        return leaf.holds(number, was_true=was_true)

    def _held_by(self, look: Look) -> tuple[Value, ...]:
        return tuple(self._values[metric] for metric in look.metrics)

    def _seen(self, metric: int) -> Past:
        history = self._past[metric]
        assert history is not None  # noqa: S101 - whoever looks back says so in its reach
        return Past(history, self._ts_ms[metric], self._number(metric), self._holds_ms[metric])

    def _note(self, metric: int) -> None:
        history = self._past[metric]
        if history is not None:
            history.note(self._ts_ms[metric], self._number(metric))
