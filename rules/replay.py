"""Rules over stored history: the samples of one rule on one asset in, the episodes that it makes of them out.

Pure. What comes out is exactly what the engine would have raised from the same samples in order, for a machine of the
same kind is led through them; it is carried over the stretches in which no comparison turns and nothing falls due
(``rules.tape`` finds them), and stepped at their edges. A plan the tape does not know is left to an engine.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from rules import compiled
from rules.compiled import Compiled
from rules.conditions import Severity
from rules.engine import Engine
from rules.histories import History, Recall, Wanted
from rules.machine import Machine
from rules.open_alarm import more_extreme
from rules.outcome import (
    LONG_AGO,
    Alarm,
    Cleared,
    Instance,
    Raised,
    State,
    Transition,
    Updated,
    Watched,
)
from rules.tape import MOST_METRICS, NOTHING, Float64s, Int64s, Samples, Tape

_WORTH: Final = 4
"""So many instants at least, or stepping them is as fast."""
_BATCH: Final = 20_000


@dataclass(frozen=True, slots=True)
class Episode:
    """One alarm from its raise to its end. ``last`` is how it stood then, or at the end of the history."""

    raised: Raised
    last: Alarm
    cleared: Cleared | None = None

    @property
    def began_ms(self) -> int:
        """When the streak that raised it began."""
        return self.last.began_ms

    @property
    def raised_ms(self) -> int:
        """When the rule became true."""
        return self.last.raised_ms

    @property
    def ended_ms(self) -> int | None:
        """When it ended; None while it stands."""
        return None if self.cleared is None else self.cleared.ended_ms

    @property
    def worst(self) -> Severity:
        """The worst severity it had."""
        return self.last.peak_severity


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a history comes to: its episodes in order, the machine's state after it, and what happened in between.

    ``transitions`` leave out those that only count. ``state`` is None when nothing has to be remembered.
    """

    episodes: tuple[Episode, ...]
    state: State | None
    transitions: tuple[Transition, ...]


def replay(
    instance: Instance,
    samples: Mapping[str, Samples],
    until_ms: int,
    *,
    state: State | None = None,
    cleared_ms: Iterable[int] = (),
    plan: Compiled | None = None,
) -> Replayed:
    """Lead a rule through stored samples by metric, and let its timers run to ``until_ms`` (device time, included).

    It begins at rest, or in ``state``, whose values the samples must not precede. ``cleared_ms``: when people cleared
    the alarm by hand, rising. ``plan``: the compiled definition, where the caller has many instances of it.
    """
    plan = plan or compiled.compile_definition(instance.definition, instance.context)
    if not knows(plan, samples):
        return _through_engine(instance, plan.metrics, samples, until_ms, state=state, cleared_ms=cleared_ms)
    columns = [samples.get(metric, NOTHING) for metric in plan.metrics]
    hold_ms = [hold_of(instance, metric) for metric in plan.metrics]
    machine = _machine(instance, plan, hold_ms, state)
    tape = Tape(plan, columns, hold_ms)
    at = 0
    for instant_ms in cleared_ms:
        end = tape.instant_of(instant_ms)
        _lead(machine, tape, at, end)
        at = max(at, end)
        _pass_time(machine, instant_ms)
        if machine.is_open:
            machine.clear_by_hand(instant_ms)
    _lead(machine, tape, at, len(tape))
    after = _pass_time(machine, until_ms)
    transitions = tuple(one for one in machine.transitions if not isinstance(one, Updated))
    return Replayed(episodes(transitions, after), after, transitions)


def is_plain(plan: Compiled) -> bool:
    """Return whether a plan compares samples and nothing else, so that a tape says where it may turn."""
    return plan.is_plain and not plan.quiet_ms and len(plan.metrics) <= MOST_METRICS


def knows(plan: Compiled, samples: Mapping[str, Samples]) -> bool:
    """Return whether a tape says where a plan may turn on these samples."""
    return is_plain(plan) and all(samples[name].is_numeric for name in plan.metrics if name in samples)


def episodes(transitions: Iterable[Transition], after: State | None) -> tuple[Episode, ...]:
    """Put together the episodes of one instance from what happened; ``after`` is its state in the end."""
    found: list[Episode] = []
    for one in transitions:
        match one:
            case Raised():
                found.append(Episode(one, one.alarm))
            case Cleared() if found:
                found[-1] = replace(found[-1], last=one.alarm, cleared=one)
            case _ if found:
                found[-1] = replace(found[-1], last=one.alarm)
    if found and found[-1].cleared is None and after is not None and after.alarm is not None:
        found[-1] = replace(found[-1], last=after.alarm)
    return tuple(found)


def hold_of(instance: Instance, metric: str) -> int:
    """Return for how long a sample of a metric speaks on an instance; 0 where it has no series."""
    watched = instance.metrics.get(metric)
    return 0 if watched is None else watched.hold_ms


def _machine(instance: Instance, plan: Compiled, hold_ms: list[int], state: State | None) -> "_Led":
    held = {} if state is None else {one.metric: one for one in state.held}
    known = [held.get(metric) for metric in plan.metrics]
    block = (
        [-1 if one is None else one.series for one in known],
        [LONG_AGO if one is None else one.ts_ms for one in known],
        [one.value if one is not None and isinstance(one.value, float) else float("nan") for one in known],
        [0 if one is None else one.arrived_ms for one in known],
        hold_ms,
    )
    return _Led(instance.id, plan, block, LONG_AGO if state is None else state.at_ms, state)


def _lead(machine: "_Led", tape: Tape, begin: int, end: int) -> None:
    """Lead a machine through some instants of a tape."""
    at = begin
    while at < end:
        ts_ms = tape.ts_ms.item(at)
        machine.sample(ts_ms, tape.values_at(at), ts_ms)
        at += 1
        to = min(machine.reach(tape, at), end)
        if to - at >= _WORTH:
            machine.pass_over(tape, at, to)
            at = to


def _pass_time(machine: Machine, until_ms: int) -> State | None:
    """Run the timers due by an instant; return the state after the last one that told something, as ``tick`` does."""
    state, told = machine.state(None, machine.at_ms), len(machine.transitions)
    while machine.run_next(until_ms):
        if len(machine.transitions) > told:
            state, told = machine.state(None, machine.at_ms), len(machine.transitions)
    return state


class _Led(Machine):
    """A machine that can be carried over instants at which no answer turns, streaks only grow, and nothing falls due.

    The first instant of such a stretch has been stepped, so every streak that may begin has begun.
    """

    __slots__ = ()

    def reach(self, tape: Tape, begin: int) -> int:
        """Return the first instant from ``begin`` on that must be stepped."""
        end = tape.next_turn(begin, with_clear=self._alarm is not None)
        has_winner = False
        for create, streak, root in zip(self._compiled.creates, self._streaks, self._roots, strict=True):
            length = create.length
            if length.window_ms:
                if root is True or streak.began_ms is not None:
                    return begin
            elif root is True:
                if streak.began_ms is None:
                    return begin
                if streak.is_long(length, self.at_ms):
                    has_winner = True
                    continue
                if streak.count < length.times:
                    end = min(end, tape.nth(create.metrics, begin, length.times - streak.count))
                end = min(end, tape.instant_of(streak.due_ms(length, self.at_ms)))
        if self._alarm is None or has_winner or self._compiled.clear is None:
            return end
        return self._reach_clear(tape, begin, end)

    def _reach_clear(self, tape: Tape, begin: int, end: int) -> int:
        rule, streak = self._compiled.clear, self._clearing
        assert rule is not None  # noqa: S101 - asked by the caller
        if streak.began_ms is None:
            return begin if self._clear_root() is True else end
        if rule.length.window_ms:
            return begin
        if streak.count < rule.length.times:
            end = min(end, tape.nth(rule.metrics, begin, rule.length.times - streak.count))
        return min(end, tape.instant_of(streak.due_ms(rule.length, self.at_ms)))

    def pass_over(self, tape: Tape, begin: int, end: int) -> None:
        """Take the instants up to ``end`` all at once; ``reach`` said that it may be done."""
        winner = self._grow(tape, begin, end)
        if self._alarm is None:
            if True in self._roots:
                self._note_worst(tape, begin, end, beside=None)
        elif winner is not None:
            self._match(tape, begin, end, winner)
        elif self._compiled.clear is not None and self._clearing.began_ms is not None:
            self._clearing.count += tape.counted(self._compiled.clear.metrics, begin, end)
        for metric, one in enumerate(tape.samples):
            at = tape.last_of(metric, end)
            if at >= 0:
                ts_ms = one.ts_ms.item(at)
                self.values.hold(metric, ts_ms, one.value.item(at), ts_ms)
        self.at_ms = tape.ts_ms.item(end - 1)
        if self._alarm is None:
            self.values.answer_clear_comparisons(self.at_ms)

    def _grow(self, tape: Tape, begin: int, end: int) -> int | None:
        """Count what matches, and return whose rule is true."""
        winner: int | None = None
        for i, (create, streak, root) in enumerate(
            zip(self._compiled.creates, self._streaks, self._roots, strict=True)
        ):
            if root is True:
                streak.count += tape.counted(create.metrics, begin, end)
                if winner is None and streak.is_long(create.length, self.at_ms):
                    winner = i
        return winner

    def _match(self, tape: Tape, begin: int, end: int, winner: int) -> None:
        alarm, metrics = self._alarm, self._compiled.creates[winner].metrics
        assert alarm is not None  # noqa: S101 - asked by the caller
        matches = tape.counted(metrics, begin, end)
        if not matches:
            return
        last = tape.last_counted(metrics, end)
        alarm.matched += matches
        alarm.last_seen_ms = tape.ts_ms.item(last)
        alarm.repeats = self._streaks[winner].count
        lead = self._compiled.lead
        at = tape.last_of(lead, last + 1)
        if at >= 0:
            one = tape.samples[lead]
            is_held = self.values.speaks(lead, one.ts_ms.item(at), alarm.last_seen_ms)
            alarm.value = one.value.item(at) if is_held else None
        self._note_worst(tape, begin, end, beside=metrics)
        self._is_update_due = True

    def _note_worst(self, tape: Tape, begin: int, end: int, *, beside: int | None) -> None:
        values = tape.fresh(self._compiled.lead, begin, end, beside=beside)
        if len(values):
            sign = self._compiled.peak_sign
            worst = values.max() if sign > 0 else values.min() if sign < 0 else values[-1]
            self._peak = more_extreme(self._peak, float(worst), sign)

    def _clear_root(self) -> bool | None:
        if not self._compiled.clear_automatically:
            assert self._compiled.clear is not None  # noqa: S101 - asked by the caller
            return self._compiled.clear.tree(self.values.truths)
        return False if True in self._roots else None if None in self._roots else True


# Through the engine itself ----------------------------------------------------------------------------------------


def _through_engine(
    instance: Instance,
    names: Sequence[str],
    samples: Mapping[str, Samples],
    until_ms: int,
    *,
    state: State | None,
    cleared_ms: Iterable[int],
) -> Replayed:
    """Do the same with an engine of its own, batch by batch; silence falls due between samples, as timers do."""
    watched = {name: Watched(number, hold_of(instance, name)) for number, name in enumerate(names) if name in samples}
    engine = Engine(_recalled(names, samples), is_past=True)
    engine.install([replace(instance, metrics=watched)])
    if state is not None:
        held = tuple(replace(one, series=names.index(one.metric)) for one in state.held)
        engine.restore([replace(state, held=held)])
    told: list[Transition] = []
    cuts = [*cleared_ms, None]
    begin_ms: int | None = None
    for cut in cuts:
        for series, ts_ms, value, text in _batches(names, samples, begin_ms, cut):
            outcome = engine.evaluate(series, ts_ms, value, int(ts_ms[-1]), text)
            engine.commit(outcome)
            told.extend(outcome.transitions)
        outcome = engine.tick(until_ms if cut is None else cut)
        engine.commit(outcome)
        told.extend(outcome.transitions)
        after = engine.state_of(instance.id)
        if cut is not None and after is not None and after.alarm is not None:
            outcome = engine.clear_by_hand(instance.id, cut)
            engine.commit(outcome)
            told.extend(outcome.transitions)
        begin_ms = cut
    after = engine.state_of(instance.id)
    transitions = tuple(one for one in told if not isinstance(one, Updated))
    return Replayed(episodes(transitions, after), after, transitions)


def _recalled(names: Sequence[str], samples: Mapping[str, Samples]) -> Recall:
    """Return what knows the past of a history: itself."""

    def recall(wanted: Mapping[int, Wanted]) -> dict[int, History]:
        known = {series: samples.get(names[series], NOTHING) for series in wanted}
        return {series: History(one.ts_ms, one.value) for series, one in known.items()}

    return recall


def _batches(
    names: Sequence[str],
    samples: Mapping[str, Samples],
    begin_ms: int | None,
    end_ms: int | None,
) -> Iterator[tuple[Int64s, Int64s, Float64s, list[str | None] | None]]:
    """Return columns of series, time, value and text in order of time, no instant cut in two."""
    parts = [(number, samples[name]) for number, name in enumerate(names) if name in samples]
    if not parts:
        return
    series = np.concatenate([np.full(len(one), number, np.int64) for number, one in parts])
    ts_ms = np.concatenate([one.ts_ms for _, one in parts])
    value = np.concatenate([one.value for _, one in parts])
    has_text = any(one.text is not None for _, one in parts)
    text = [said for _, one in parts for said in (one.text or [None] * len(one))] if has_text else []
    order = np.argsort(ts_ms, kind="stable")
    series, ts_ms, value = series[order], ts_ms[order], value[order]
    first = 0 if begin_ms is None else int(np.searchsorted(ts_ms, begin_ms))
    last = len(ts_ms) if end_ms is None else int(np.searchsorted(ts_ms, end_ms))
    while first < last:
        end = min(first + _BATCH, last)
        if end < last:
            end = min(int(np.searchsorted(ts_ms, ts_ms[end - 1], "right")), last)
        said = [text[row] for row in order[first:end].tolist()] if has_text else None
        yield series[first:end], ts_ms[first:end], value[first:end], said
        first = end
