"""What an instance holds of each metric, and what its comparisons answer at an instant (A4, A8, A16).

A value speaks from its sample on, for as long as the metric's hold. Before and after that its comparisons are unknown,
and what their deadbands remembered is forgotten. So they are while the value is NaN, which says nothing.
"""

import math
from collections.abc import Iterable
from typing import cast

from rules.compiled import Compiled, Truth
from rules.outcome import LONG_AGO, NEVER, Held, Sample
from rules.said import Value, number_of

Latch = tuple[str, str, float]
"""A comparison that is true and has a deadband: metric, operator, limit."""
Block = tuple[list[int], list[int], list[float] | list[Value], list[int], list[int]]
"""By metric: series, device time (``LONG_AGO`` where nothing is held), value, arrival (server time), hold in ms."""


class Values:
    """The values of one instance as time goes on; metrics and comparisons are numbered as in ``Compiled``.

    ``truths`` holds the answers, by comparison. The lists of ``block`` become its own. This is for what only compares
    numbers that its metrics hold; ``rules.computed`` is for all else.
    """

    __slots__ = ("_arrived_ms", "_compiled", "_early", "_holds_ms", "_series", "_ts_ms", "_values", "truths")

    def __init__(self, compiled: Compiled, block: Block, at_ms: int, latched: Iterable[Latch]) -> None:
        self._compiled = compiled
        self._series, self._ts_ms, values, self._arrived_ms, self._holds_ms = block
        self._values = cast("list[Value]", values)
        # Comparisons latched on a value that a restart knew of beforehand, and that does not speak yet.
        self._early: set[int] = set()
        self.truths: list[Truth] = []
        self._begin(set(latched), at_ms)

    def _begin(self, remembered: set[Latch], at_ms: int) -> None:
        for i, leaf in enumerate(self._compiled.leaves):
            is_latched = leaf.key in remembered
            is_held = self.is_held(leaf.metric, at_ms)
            self.truths.append(leaf.holds(self._number(leaf.metric), was_true=is_latched) if is_held else None)
            if is_latched and self._ts_ms[leaf.metric] > at_ms:
                self._early.add(i)

    def take(self, metric: int, ts_ms: int, value: Value, arrived_ms: int) -> None:
        """Take a new sample; ``expire`` must have been called for its instant."""
        self._ts_ms[metric], self._values[metric], self._arrived_ms[metric] = ts_ms, value, arrived_ms
        number = self._number(metric)
        for i in self._compiled.leaves_of_metric[metric]:
            was_true = self.truths[i] is True or i in self._early
            self._early.discard(i)
            # What is no number is no more than itself.
            self.truths[i] = self._compiled.leaves[i].holds(number, was_true=was_true) if number == number else None  # noqa: PLR0124

    def expire(self, at_ms: int) -> None:
        """Make comparisons unknown whose value no longer speaks, and known those whose value now does."""
        for metric, leaves in enumerate(self._compiled.leaves_of_metric):
            if not leaves:
                continue
            is_held = self.is_held(metric, at_ms)
            if is_held and self.truths[leaves[0]] is None:
                for i in leaves:
                    was_true = i in self._early
                    self.truths[i] = self._compiled.leaves[i].holds(self._number(metric), was_true=was_true)
            elif not is_held:
                for i in leaves:
                    self.truths[i] = None

    def hold(self, metric: int, ts_ms: int, value: float, arrived_ms: int) -> None:
        """Take a sample that changes no answer."""
        self._ts_ms[metric], self._values[metric], self._arrived_ms[metric] = ts_ms, value, arrived_ms

    def answer_clear_comparisons(self, at_ms: int) -> None:
        """Answer those of the clear rule anew, as nothing remembered them while there was no alarm."""
        for i in range(self._compiled.create_leaves, len(self.truths)):
            leaf = self._compiled.leaves[i]
            is_held = self.is_held(leaf.metric, at_ms)
            self.truths[i] = leaf.holds(self._number(leaf.metric), was_true=False) if is_held else None

    def forget_clear_comparisons(self) -> None:
        """Let the memory of the clear rule's deadbands begin anew."""
        for i in range(self._compiled.create_leaves, len(self.truths)):
            leaf = self._compiled.leaves[i]
            if self.truths[i] is not None:
                self.truths[i] = leaf.holds(self._number(leaf.metric), was_true=False)

    def is_held(self, metric: int, at_ms: int) -> bool:
        """Return whether the value of a metric speaks at an instant."""
        ts_ms, value = self._ts_ms[metric], self._values[metric]
        if ts_ms == LONG_AGO or value != value:  # noqa: PLR0124 - NaN
            return False
        return 0 <= at_ms - ts_ms <= self._holds_ms[metric]

    def _number(self, metric: int) -> float:
        """Return the value of a metric as a number, NaN where it is none."""
        value = self._values[metric]
        if isinstance(value, float):
            return value
        number = number_of(value)
        return math.nan if number is None else number

    def speaks(self, metric: int, ts_ms: int, at_ms: int) -> bool:
        """Return whether a sample of a metric, if it is the newest, speaks at an instant."""
        return 0 <= at_ms - ts_ms <= self._holds_ms[metric]

    def stale_ms(self) -> int:
        """Return the next instant at which a value that is compared no longer speaks, ``NEVER`` when none does."""
        stale = NEVER
        for metric, leaves in enumerate(self._compiled.leaves_of_metric):
            if leaves and self.truths[leaves[0]] is not None:
                stale = min(stale, self._ts_ms[metric] + self._holds_ms[metric] + 1)
        return stale

    def hear(self, server_ms: int) -> None:
        """Take note of our own clock at the instant that is answered next, where silence is asked for."""

    def silent_ms(self, at_ms: int) -> int:
        """Return the next instant after ``at_ms`` at which a silence that is asked for is long enough."""
        del at_ms
        return NEVER

    def newest_ms(self, metrics: int) -> int:
        """Return the time of the newest sample of some metrics (a bit mask)."""
        return max((ts_ms for metric, ts_ms in enumerate(self._ts_ms) if metrics >> metric & 1), default=LONG_AGO)

    def lead(self) -> float:
        """Return the newest value of the leading metric, NaN where it is no number."""
        return self._number(self._compiled.lead)

    def event_clock(self, now_ms: int) -> int:
        """Return the device time that corresponds to server time ``now_ms`` (A7)."""
        newest_ms, arrived_ms = max(zip(self._ts_ms, self._arrived_ms, strict=True))
        return now_ms if newest_ms == LONG_AGO else newest_ms + max(0, now_ms - arrived_ms)

    def server_ms(self, at_ms: int) -> int:
        """Return the server time at which the event clock will show ``at_ms``, unless samples come in between."""
        newest_ms, arrived_ms = max(zip(self._ts_ms, self._arrived_ms, strict=True))
        return at_ms if newest_ms == LONG_AGO else at_ms - newest_ms + arrived_ms

    def latched(self, *, with_clear: bool) -> tuple[Latch, ...]:
        """Return what the deadbands of create rules remember, and those of the clear rule if wanted."""
        end = len(self.truths) if with_clear else self._compiled.create_leaves
        answered = zip(self._compiled.leaves[:end], self.truths, strict=False)
        return tuple(dict.fromkeys(leaf.key for leaf, truth in answered if truth and leaf.has_deadband))

    def create_latches(self) -> tuple[Truth, ...]:
        """Return the answers of the create comparisons as far as a deadband remembers them, others unknown."""
        create = zip(self._compiled.leaves[: self._compiled.create_leaves], self.truths, strict=False)
        return tuple(True if truth and leaf.has_deadband else None for leaf, truth in create)

    def samples(self, at_ms: int) -> tuple[Sample, ...]:
        """Return every value that speaks at an instant."""
        return tuple(
            Sample(name, self._ts_ms[metric], self._values[metric])
            for metric, name in enumerate(self._compiled.metrics)
            if self.is_held(metric, at_ms)
        )

    def stored(self) -> tuple[Held, ...]:
        """Return every value, to be remembered."""
        return tuple(
            Held(
                name,
                self._series[metric],
                self._ts_ms[metric],
                _kept(self._values[metric]),
                self._arrived_ms[metric],
            )
            for metric, name in enumerate(self._compiled.metrics)
            if self._ts_ms[metric] != LONG_AGO
        )


def _kept(value: Value) -> Value | None:
    return None if value != value else value  # noqa: PLR0124 - JSON knows no NaN
