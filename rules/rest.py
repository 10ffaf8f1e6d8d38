"""The last instant before a late sample at which a rule was at rest: from there its history can be led again (A18).

Pure. At rest no alarm is open, no create condition matches, no window reaches a match, and no deadband remembers more
than the values themselves say. So what a machine needs of the time before are the values held at that instant.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rules.compiled import Compiled, Truth
from rules.outcome import LONG_AGO, Instance
from rules.replay import hold_of, knows
from rules.tape import NOTHING, Mask, Samples, Tape, answers, carried, in_band

_HOUR_MS: Final = 3_600_000
_LONGEST_HOLD_MS: Final = 24 * _HOUR_MS


@dataclass(frozen=True, slots=True)
class Occupied:
    """From when until when an alarm was open; ``ended_ms`` None: it still is."""

    raised_ms: int
    ended_ms: int | None

    def covers(self, at_ms: int) -> bool:
        """Return whether it was open at an instant."""
        return self.raised_ms <= at_ms and (self.ended_ms is None or at_ms <= self.ended_ms)


def last_rest(
    plan: Compiled,
    instance: Instance,
    samples: Mapping[str, Samples],
    before_ms: int,
    occupied: Sequence[Occupied],
    *,
    from_ms: int | None,
) -> int | None:
    """Return the last instant of a sample before ``before_ms`` at which the rule was at rest, None where none is known.

    ``from_ms``: when the samples begin; None: with the history, so nothing can be remembered from before them.
    """
    if not knows(plan, samples):
        return None
    hold_ms = [hold_of(instance, metric) for metric in plan.metrics]
    tape = Tape(plan, [samples.get(metric, NOTHING) for metric in plan.metrics], hold_ms)
    end = tape.instant_of(before_ms)
    seen = _Seen(plan, tape, hold_ms, from_ms)
    window_ms = max((create.length.window_ms for create in plan.creates), default=0)
    quiet_since = _quiet_since(seen, tape, end) if window_ms else {}
    turns = [turn for turn in tape.turns if turn < end]
    while turns:
        begin = turns.pop()
        if not seen.matches(begin):
            least_ms = quiet_since[begin] + window_ms + 1 if window_ms else None
            found = _in_stretch(seen, tape, begin, end, occupied, least_ms)
            if found is not None:
                return found
        end = begin
    return None


def warm_up(plan: Compiled, instance: Instance, before_ms: int, occupied: Sequence[Occupied]) -> int:
    """Return from when on a rule that a tape does not know is led again: twice as far back as it can remember.

    A count of matches without a window may reach back further; it is then found later than it was.
    """
    rules = (*plan.creates, *(() if plan.clear is None else (plan.clear,)))
    lengths = [max(rule.length.ms, rule.length.window_ms) for rule in rules]
    holds = [min(hold_of(instance, metric), _LONGEST_HOLD_MS) for metric in plan.metrics]
    back_ms: int = 2 * max(*lengths, *holds, *(one.ms for one in plan.reach)) + _HOUR_MS
    begin_ms: int = before_ms - back_ms
    while covering := [one.raised_ms for one in occupied if one.covers(begin_ms)]:
        begin_ms = min(covering) - back_ms
    return begin_ms


def _in_stretch(
    seen: "_Seen", tape: Tape, begin: int, end: int, occupied: Sequence[Occupied], least_ms: int | None
) -> int | None:
    """Return the last instant of a stretch without a turn at which all else is at rest too."""
    at = end - 1
    while at >= begin:
        ts_ms = tape.ts_ms.item(at)
        if least_ms is not None and ts_ms < least_ms:
            return None
        open_ms = min((one.raised_ms for one in occupied if one.covers(ts_ms)), default=None)
        if open_ms is not None:
            at = min(tape.instant_of(open_ms), at) - 1
        elif seen.remembers(at):
            at -= 1
        else:
            return ts_ms
    return None


def _quiet_since(seen: "_Seen", tape: Tape, end: int) -> dict[int, int]:
    """Return, for each stretch, the last instant before it at which a condition matched, or might have."""
    last_ms = LONG_AGO if seen.from_ms is None else seen.from_ms
    found = {}
    turns = [turn for turn in tape.turns if turn < end]
    for begin, after in itertools.pairwise([*turns, end]):
        found[begin] = last_ms
        if seen.matches(begin):
            last_ms = tape.ts_ms.item(after - 1)
    return found


class _Seen:
    """What the create comparisons answered at each instant."""

    def __init__(self, plan: Compiled, tape: Tape, hold_ms: Sequence[int], from_ms: int | None) -> None:
        self._plan = plan
        self._tape = tape
        self._hold_ms = hold_ms
        self.from_ms = from_ms
        self._answers: list[Mask] = []
        self._carried: list[Mask] = []
        self._decided: list[int] = []
        for leaf in plan.leaves[: plan.create_leaves]:
            one = tape.samples[leaf.metric]
            is_gap = one.ts_ms[1:] - one.ts_ms[:-1] > hold_ms[leaf.metric]
            self._answers.append(answers(leaf, one.value, is_gap))
            self._carried.append(carried(leaf, one.value, is_gap))
            # Until a sample speaks for itself, a deadband may remember what came before the first one here.
            speaks = np.flatnonzero(~in_band(leaf, one.value[:1]) if len(one) else ~self._carried[-1])
            if not len(speaks):
                speaks = np.flatnonzero(~self._carried[-1][1:]) + 1
            self._decided.append(int(speaks[0]) if len(speaks) else len(one))

    def matches(self, instant: int) -> bool:
        """Return whether any create condition matched."""
        truths = self._truths(instant)
        return any(create.tree(truths) is True for create in self._plan.creates)

    def remembers(self, instant: int) -> bool:
        """Return whether a deadband remembers, or may remember, what the values alone do not say."""
        for i, leaf in enumerate(self._plan.leaves[: self._plan.create_leaves]):
            at = self._held(leaf.metric, instant)
            if at is None:
                if self._may_hold(leaf.metric, instant):
                    return True
            elif leaf.has_deadband:
                if self._carried[i][at] and self._answers[i][at]:
                    return True
                if self.from_ms is not None and at < self._decided[i]:
                    return True
        return False

    def _truths(self, instant: int) -> list[Truth]:
        truths: list[Truth] = []
        for i, leaf in enumerate(self._plan.leaves[: self._plan.create_leaves]):
            at = self._held(leaf.metric, instant)
            truths.append(None if at is None else bool(self._answers[i][at]))
        return truths

    def _may_hold(self, metric: int, instant: int) -> bool:
        """Return whether a sample from before the first one here may still speak."""
        if self.from_ms is None or self._tape.last_of(metric, instant + 1) >= 0:
            return False
        return self._tape.ts_ms.item(instant) - self.from_ms <= self._hold_ms[metric]

    def _held(self, metric: int, instant: int) -> int | None:
        at = self._tape.last_of(metric, instant + 1)
        if at < 0:
            return None
        age_ms = self._tape.ts_ms.item(instant) - self._tape.samples[metric].ts_ms.item(at)
        return at if age_ms <= self._hold_ms[metric] else None


def since(samples: Mapping[str, Samples], instance: Instance, rest_ms: int) -> dict[str, Samples]:
    """Return the samples from which a history is led again: those after a rest, and what was held at it."""
    found = {}
    for metric, one in samples.items():
        first = int(one.ts_ms.searchsorted(rest_ms, "right"))
        if first and rest_ms - one.ts_ms.item(first - 1) <= hold_of(instance, metric):
            first -= 1
        found[metric] = one.after(first)
    return found
