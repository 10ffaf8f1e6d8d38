"""The life of one alarm type on one asset, instant by instant: who wins, what becomes of the alarm, when it clears.

Pure and sequential. A ``Machine`` is set up from a state, led through samples and timers in order of device time,
and read off as a new state; the engine makes one only for the few instances that a batch concerns.
"""

import math
from collections.abc import Iterable, Sequence

from rules.compiled import Compiled, Rule, Truth
from rules.computed import Computed
from rules.histories import History
from rules.open_alarm import OpenAlarm, more_extreme
from rules.outcome import (
    LONG_AGO,
    NEVER,
    Alarm,
    Cleared,
    Evidence,
    Raised,
    SeverityChanged,
    State,
    Streak,
    Transition,
    Updated,
)
from rules.said import Value
from rules.streaks import Running
from rules.values import Block, Values


class Machine:
    """One instance on its way from one state to the next.

    ``values`` is what it holds, ``past`` by metric what came before it, where the rule looks back; ``transitions``
    collects what happens. ``_roots``: the answers of the create trees at the last instant, empty before the first.
    ``_has_run``: something ran, counted or was open at some instant.
    """

    __slots__ = (
        "_alarm",
        "_clearing",
        "_compiled",
        "_has_run",
        "_id",
        "_is_update_due",
        "_needs_sample",
        "_peak",
        "_roots",
        "_streaks",
        "at_ms",
        "transitions",
        "values",
    )

    def __init__(
        self,
        number: int,
        compiled: Compiled,
        block: Block,
        at_ms: int,
        state: State | None,
        *,
        past: Sequence[History | None] = (),
        awake_ms: int = LONG_AGO,
    ) -> None:
        self._id = number
        self._compiled = compiled
        self.at_ms = at_ms
        latched = () if state is None else state.latched
        if compiled.is_plain:
            self.values = Values(compiled, block, at_ms, latched)
        else:
            self.values = Computed(compiled, block, at_ms, latched, past, awake_ms)
        self._streaks = [Running() for _ in compiled.creates]
        self._clearing = Running()
        self._alarm: OpenAlarm | None = None
        self._peak: float | None = None
        self._roots: list[Truth] = []
        self._is_update_due = False
        self._needs_sample = False
        self._has_run = False
        self.transitions: list[Transition] = []
        if state is not None:
            self._take_up(state)

    def _take_up(self, state: State) -> None:
        stored = {(streak.of, streak.kind): streak for streak in state.streaks}
        for create, streak in zip(self._compiled.creates, self._streaks, strict=True):
            if (create.of, create.length.kind) in stored:
                streak.take_up(stored[create.of, create.length.kind])
        clear = self._compiled.clear
        if clear is not None and ("clear", clear.length.kind) in stored:
            self._clearing.take_up(stored["clear", clear.length.kind])
        self._alarm = None if state.alarm is None else OpenAlarm.again(state.alarm)
        self._peak = state.peak if state.alarm is None else state.alarm.peak
        self._needs_sample = state.needs_sample
        self._has_run = state.is_running

    # Steps -----------------------------------------------------------------------------------------------------

    def sample(self, ts_ms: int, values: Iterable[tuple[int, Value]], now_ms: int) -> None:
        """Apply the values of one instant, (metric, value) each, together; timers due by then run first (A6)."""
        at_ms = max(ts_ms, self.at_ms)
        while self.run_next(at_ms, now_ms):
            pass
        fresh = 0
        for metric, value in values:
            fresh |= 1 << metric
            self.values.take(metric, ts_ms, value, now_ms)
        self.values.hear(now_ms)
        self._run(at_ms, fresh)

    def run_next(self, until_ms: int, now_ms: int = NEVER) -> bool:
        """Run the next instant that time alone brings, if it is not after ``until_ms``; return whether it was.

        ``now_ms``: our own clock, which silence is measured by, where device time runs ahead of it: in a backlog.
        """
        at_ms = min(self._due_ms(), self.values.stale_ms())
        if self._compiled.hears_silence:
            silent_ms = self.values.silent_ms(self.at_ms)
            if silent_ms < at_ms and self.values.server_ms(silent_ms) <= now_ms:
                at_ms = silent_ms
        if at_ms > until_ms:
            return False
        self.values.hear(min(self.values.server_ms(at_ms), now_ms))
        self._run(at_ms, 0)
        return True

    def revisit(self, now_ms: int) -> None:
        """Evaluate a saved rule on what is held; nothing is counted (A9, A21)."""
        at_ms = max(self.values.event_clock(now_ms), self.at_ms)
        while self.run_next(at_ms):
            pass
        self.values.hear(now_ms)
        self._run(at_ms, 0, is_edited=True)

    def look_again(self) -> None:
        """Evaluate the last instant once more, because what came before it is known better now (RUL-7)."""
        if self.at_ms != LONG_AGO:
            self._run(self.at_ms, 0)

    def clear_by_hand(self, now_ms: int) -> None:
        """Clear the open alarm; counters and timers restart (A20)."""
        self.at_ms = max(self.values.event_clock(now_ms), self.at_ms)
        self.values.expire(self.at_ms)
        self._roots = self._answers()
        if self._alarm is not None:
            self._clear(self._alarm, is_by_hand=True)

    # Reading off -----------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether there is an alarm."""
        return self._alarm is not None

    @property
    def is_steady(self) -> bool:
        """Whether further samples that change no comparison can only be counted (see ``open_alarm.count_steady``)."""
        if self._alarm is None or len(self._compiled.metrics) != 1:
            return False
        has_winner = False
        for create, streak, root in zip(self._compiled.creates, self._streaks, self._roots, strict=True):
            if create.length.window_ms:
                return False
            if root is True:
                if not streak.is_long(create.length, self.at_ms):
                    return False
                has_winner = True
        return has_winner

    def wake_ms(self) -> int:
        """Return the server time at which ``run_next`` may have something to tell, ``NEVER`` when not at all."""
        due = min(self._due_ms(), self.values.silent_ms(self.at_ms))
        if self._alarm is not None and (len(self._compiled.metrics) > 1 or self._compiled.quiet_ms):
            # A value that ages out can change the winner, or let a clear rule be asked.
            due = min(due, self.values.stale_ms())
        return NEVER if due >= NEVER else self.values.server_ms(due)

    def finish_updates(self) -> None:
        """Tell of the samples that only confirmed the open alarm, all in one."""
        if self._is_update_due and self._alarm is not None:
            self.transitions.append(Updated(self._id, self._alarm.last_seen_ms, self._frozen(self._alarm)))
        self._is_update_due = False

    def state(self, before: State | None, now_ms: int) -> State | None:
        """Return what must be remembered, None when nothing; ``before`` is what was remembered until now."""
        streaks = self._stored_streaks()
        latched = self.values.latched(with_clear=self._alarm is not None)
        needs_sample = self._waits_for_sample()
        is_running = self._alarm is not None or bool(streaks) or needs_sample
        if not is_running and not self._has_run and latched == (() if before is None else before.latched):
            return before
        return State(
            self._id,
            self.at_ms,
            self.values.stored(),
            latched,
            streaks,
            None if self._alarm is None else self._frozen(self._alarm),
            None if self._alarm is not None else self._peak,
            needs_sample,
            None if is_running or latched else now_ms,
        )

    def _stored_streaks(self) -> tuple[Streak, ...]:
        creates = zip(self._compiled.creates, self._streaks, strict=True)
        running = [streak.stored(create.of, create.length.kind) for create, streak in creates]
        if self._compiled.clear is not None:
            running.append(self._clearing.stored("clear", self._compiled.clear.length.kind))
        return tuple(streak for streak in running if streak is not None)

    def _waits_for_sample(self) -> bool:
        """Return whether a condition matches that runs no streak, since only a sample of its own may begin one."""
        if self._alarm is not None:
            return False
        if not self._roots:
            return self._needs_sample
        pairs = zip(self._roots, self._streaks, strict=True)
        return any(root is True and streak.began_ms is None for root, streak in pairs)

    def _due_ms(self) -> int:
        due = NEVER
        for create, streak in zip(self._compiled.creates, self._streaks, strict=True):
            if streak.began_ms is not None:
                due = min(due, streak.due_ms(create.length, self.at_ms))
        if self._clearing.began_ms is not None and self._compiled.clear is not None:
            due = min(due, self._clearing.due_ms(self._compiled.clear.length, self.at_ms))
        return min(due, self._next_edge_ms()) if self._compiled.is_scheduled else due

    def _next_edge_ms(self) -> int:
        """Return the next instant at which a schedule opens or closes."""
        edges = [one.openings.next_edge_ms(self.at_ms) for one in self._compiled.creates if one.openings is not None]
        clear = self._compiled.clear
        if self._alarm is not None and clear is not None and clear.openings is not None:
            edges.append(clear.openings.next_edge_ms(self.at_ms))
        return min(edges, default=NEVER)

    # One instant -----------------------------------------------------------------------------------------------

    def _run(self, at_ms: int, fresh: int, *, is_edited: bool = False) -> None:
        """Evaluate everything for one instant; ``fresh`` is the mask of metrics that brought a sample."""
        before_ms, self.at_ms = self.at_ms, at_ms
        self.values.expire(at_ms)
        if self._alarm is None and self._peak is not None:
            self._drop_old_peak()
        self._roots = self._answers()
        winner: int | None = None
        for i, (create, root) in enumerate(zip(self._compiled.creates, self._roots, strict=True)):
            is_counted = fresh & create.metrics != 0
            begins_ms = at_ms if is_counted else self._edited_ms(create.metrics) if is_edited else None
            if begins_ms is None and (create.begins_by_time or _opens(create, before_ms, at_ms)):
                begins_ms = at_ms
            if not create.is_open(at_ms):
                self._streaks[i].end()
                continue
            is_true = self._streaks[i].step(create.length, root, at_ms, is_counted=is_counted, begins_ms=begins_ms)
            if is_true and winner is None:
                winner = i
        if self._compiled.quiet_ms and self._alarm is not None and self._is_matched(fresh):
            self._clearing.began_ms = at_ms
        if self._alarm is None:
            self._watch(winner, fresh)
        elif winner is None:
            self._ask_to_clear(self._alarm, fresh)
        else:
            if not self._compiled.quiet_ms:
                self._clearing.end()
            self._keep(self._alarm, winner, fresh)

    def _answers(self) -> list[Truth]:
        """Return the answers of the create trees; outside its schedule a rule has none."""
        truths = self.values.truths
        if not self._compiled.is_scheduled:
            return [create.tree(truths) for create in self._compiled.creates]
        creates = self._compiled.creates
        return [create.tree(truths) if create.is_open(self.at_ms) else None for create in creates]

    def _is_matched(self, fresh: int) -> bool:
        """Return whether a sample matches a create rule at this instant."""
        pairs = zip(self._compiled.creates, self._roots, strict=True)
        return any(root is True and fresh & create.metrics != 0 for create, root in pairs)

    def _edited_ms(self, metrics: int) -> int:
        """Return since when an edited rule matches: the newest sample, or now where there are only defaults."""
        newest_ms = self.values.newest_ms(metrics)
        return self.at_ms if newest_ms == LONG_AGO or self._compiled.is_timed else newest_ms

    def _watch(self, winner: int | None, fresh: int) -> None:
        if all(streak.began_ms is None for streak in self._streaks):
            self._peak = None
            return
        self._has_run = True
        if True in self._roots:
            self._note_peak(fresh)
        if winner is not None:
            self._raise(winner, fresh)

    def _raise(self, winner: int, fresh: int) -> None:
        create, streak = self._compiled.creates[winner], self._streaks[winner]
        self._alarm = alarm = OpenAlarm()
        alarm.severity = alarm.peak_severity = create.severity
        alarm.began_ms = self.at_ms if streak.began_ms is None else streak.began_ms
        alarm.raised_ms = self.at_ms
        is_by_sample = fresh & create.metrics != 0
        alarm.last_seen_ms = self.at_ms if is_by_sample else max(alarm.began_ms, self.values.newest_ms(create.metrics))
        alarm.matched, alarm.repeats = max(1, streak.count), streak.count
        alarm.value = self._lead_value()
        if self._compiled.quiet_ms:
            self._clearing.began_ms = alarm.last_seen_ms
        self.values.forget_clear_comparisons()
        self.transitions.append(Raised(self._id, self.at_ms, self._frozen(alarm), self._evidence(winner)))

    def _keep(self, alarm: OpenAlarm, winner: int, fresh: int) -> None:
        create = self._compiled.creates[winner]
        is_match = self._roots[winner] is True and fresh & create.metrics != 0
        is_change = create.severity != alarm.severity
        if is_change:
            self.finish_updates()
        if is_match:
            alarm.matched += 1
            alarm.last_seen_ms = self.at_ms
            alarm.repeats = self._streaks[winner].count
            alarm.value = self._lead_value()
            self._note_peak(fresh)
        if not is_change:
            self._is_update_due |= is_match
            return
        before, alarm.severity = alarm.severity, create.severity
        alarm.peak_severity = max(alarm.peak_severity, alarm.severity)
        alarm.repeats = self._streaks[winner].count
        frozen, evidence = self._frozen(alarm), self._evidence(winner)
        self.transitions.append(SeverityChanged(self._id, self.at_ms, before, frozen, evidence))

    def _ask_to_clear(self, alarm: OpenAlarm, fresh: int) -> None:
        rule = self._compiled.clear
        if rule is None:
            return
        if self._compiled.quiet_ms:
            if True not in self._roots and self._clearing.is_long(rule.length, self.at_ms):
                self._clear(alarm, is_by_hand=False)
            return
        if not self._compiled.clear_automatically:
            root = rule.tree(self.values.truths) if rule.is_open(self.at_ms) else None
        elif True in self._roots:
            # A condition that matches again, though not yet for long enough, ends the off-delay (A17).
            root = False
        else:
            root = None if None in self._roots else True
        is_counted = fresh & rule.metrics != 0
        if self._clearing.step(rule.length, root, self.at_ms, is_counted=is_counted, begins_ms=self.at_ms):
            self._clear(alarm, is_by_hand=False)

    def _clear(self, alarm: OpenAlarm, *, is_by_hand: bool) -> None:
        self.finish_updates()
        recovered_ms = self._clearing.began_ms
        if is_by_hand or recovered_ms is None:
            recovered_ms = self.at_ms
        samples = self.values.samples(self.at_ms)
        self.transitions.append(Cleared(self._id, self.at_ms, recovered_ms, is_by_hand, self._frozen(alarm), samples))
        for streak in (*self._streaks, self._clearing):
            streak.end()
        self._alarm = None
        self._peak = None
        self._has_run = True

    def _drop_old_peak(self) -> None:
        for create, streak in zip(self._compiled.creates, self._streaks, strict=True):
            if create.length.window_ms:
                streak.drop_old(create.length, self.at_ms)
        if all(streak.began_ms is None for streak in self._streaks):
            self._peak = None

    def _note_peak(self, fresh: int) -> None:
        value = self.values.lead()
        if fresh >> self._compiled.lead & 1 and not math.isnan(value):
            self._peak = more_extreme(self._peak, value, self._compiled.peak_sign)

    def _lead_value(self) -> float | None:
        if not self.values.is_held(self._compiled.lead, self.at_ms):
            return None
        value = self.values.lead()
        return None if math.isnan(value) else value

    def _evidence(self, winner: int) -> Evidence:
        create = self._compiled.creates[winner]
        opening = None if create.openings is None else create.openings.opening(self.at_ms)
        return Evidence(self.values.samples(self.at_ms), create.limits, create.supplied, opening)

    def _frozen(self, alarm: OpenAlarm) -> Alarm:
        return alarm.frozen(self._compiled.metrics[self._compiled.lead], self._peak)


def _opens(rule: Rule, before_ms: int, at_ms: int) -> bool:
    """Return whether the schedule of a rule opened between two instants."""
    return rule.openings is not None and rule.openings.is_open(at_ms) and not rule.openings.is_open(before_ms)
