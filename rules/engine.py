"""The rule engine: whole batches of samples in, transitions and states out, for whoever stores them.

Pure: no clock, no database. Most machines are well, so a batch is compared as columns (``rules.sifting``) and only the
few instances it concerns (``rules.installed``) are stepped one by one (``rules.machine``).

Nothing an ``evaluate``, ``tick``, ``revisit`` or ``clear_by_hand`` finds holds until its outcome is committed: the
caller writes the outcome in one transaction, and commits it here once that transaction is through. An outcome that is
dropped leaves no trace: the same call again gives the same outcome. After a restart from the stored states it gives the
same transitions and running states; a deadband that has aged out unseen may be found, and let go of, earlier.
"""

import dataclasses
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

import numpy as np

from kernel import errors
from rules import belated, histories, sifting
from rules.columns import Columns, Floats, Int64s, Ints, Mask
from rules.histories import Recall
from rules.installed import Installed
from rules.lookback import Lookback
from rules.open_alarm import count_steady, more_extreme
from rules.outcome import (
    LONG_AGO,
    NEVER,
    Held,
    HeldColumns,
    Insight,
    Instance,
    Instances,
    InstanceUpdate,
    Outcome,
    State,
    Transition,
)


class Engine:
    """All rule instances of one worker. Not safe for several threads at once.

    ``recall`` reads what series said before, for rules that look back; what it knows must hold every sample that was
    evaluated, and may hold more. ``is_past``: samples of history, each of which arrived when it was measured, however
    they are cut into batches.
    """

    def __init__(self, recall: Recall = histories.nothing, *, is_past: bool = False) -> None:
        self._is_past = is_past
        self._columns = Columns()
        self._lookback = Lookback(recall, self._columns)
        self._installed = Installed(self._columns, self._lookback)
        self._version = 0

    def __len__(self) -> int:
        return len(self._installed.slots)

    # What is watched -------------------------------------------------------------------------------------------

    def install(self, instances: Iterable[Instance]) -> None:
        """Add instances, or replace those whose id is known; state survives where the kind is unchanged (A21).

        Pass many at once: each call sorts the columns anew. A replaced rule is not evaluated until ``revisit``.

        Raises:
            ValueError: an id comes twice, or a series number is negative; nothing was changed.
        """
        wanted = list(instances)
        if any(watched.series < 0 for instance in wanted for watched in instance.metrics.values()):
            raise ValueError("a series number is negative")
        self.install_many(Instances.of(wanted))

    def install_many(self, instances: Instances) -> None:
        """Do the same for instances given as columns.

        Raises:
            ValueError: an id comes twice; nothing was changed.
        """
        self._installed.install(instances)
        self._version += 1

    def remove(self, ids: Iterable[int]) -> None:
        """Forget instances and their states; unknown ids are ignored. What is stored of them is the caller's."""
        if self._installed.remove(ids):
            self._version += 1

    def restore(self, states: Iterable[State]) -> list[int]:
        """Take up stored states after a start, once the instances are installed.

        Returns the ids of states whose instance is not installed, which may be deleted. Timers that are overdue run
        at the next ``tick``, which belongs before the first batch (A19).
        """
        stored = list(states)
        found = [state for state in stored if state.instance in self._installed.slots]
        self._columns.restore(HeldColumns.of(held for state in found for held in state.held))
        self._installed.take_up(found)
        self._version += 1
        return [state.instance for state in stored if state.instance not in self._installed.slots]

    def listen_since(self, server_ms: int) -> None:
        """Count silence only from an instant on: until then we were down, or still read what had waited (A12)."""
        self._installed.awake_ms = max(self._installed.awake_ms, server_ms)

    def held(self) -> HeldColumns:
        """Return the newest evaluated sample of every series, for ``hold`` at the next start or at another worker."""
        return self._columns.evaluated()

    def hold(self, held: HeldColumns) -> None:
        """Take over what was evaluated elsewhere: exactly what ``held`` returned there; other series are ignored."""
        self._columns.hold(held)
        self._version += 1

    def seed(self, known: HeldColumns) -> None:
        """Tell the engine, after ``restore``, the newest stored values, of which some may never have been evaluated.

        Each series once; those no rule uses are ignored. Rules over several metrics need the values; yet samples as
        old or older are evaluated when they come, because a crash may have come between storing and evaluating. A
        seed replaces nothing that the state of a running instance holds.
        """
        self._columns.seed(known)
        self._version += 1

    def mark(self, known: HeldColumns, mark_ms: Int64s) -> None:
        """Tell the engine, after ``seed``, up to when each of these series was evaluated; ``known`` as for ``seed``.

        Samples older than that are late from now on; those since then are evaluated when they come.
        """
        self._columns.mark(known, mark_ms)
        self._version += 1

    def state_of(self, instance_id: int) -> State | None:
        """Return what is remembered of an instance, None when it is at rest or unknown."""
        slot = self._installed.slots.get(instance_id)
        return None if slot is None else self._installed.states.get(slot)

    # What happens ----------------------------------------------------------------------------------------------

    def evaluate(
        self, series: Int64s, ts_ms: Int64s, value: Floats, now_ms: int, text: sifting.Texts = None
    ) -> Outcome:
        """Evaluate a batch: three columns of equal length; ``now_ms`` is when it arrived, server time.

        Rows may come in any order; the later of two with the same series and time holds. NaN is a value that says
        nothing, or what the row's ``text`` says. Infinite values, and samples older than the newest evaluated of their
        series, are counted and not evaluated.

        Raises:
            ValueError: the columns differ in length.
        """
        series, ts_ms = np.asarray(series, np.int64), np.asarray(ts_ms, np.int64)
        value = np.asarray(value, np.float64)
        if not len(series) == len(ts_ms) == len(value):
            raise ValueError("series, ts_ms and value differ in length")
        rows = sifting.admit(self._columns, series, ts_ms, value, text)
        concerned = sifting.concerned(self._columns, rows)
        again = self._lookback.note_late(rows.late_rows, series, ts_ms, value, text)
        stepped = np.union1d(concerned.stepped, again) if len(again) else concerned.stepped
        self._lookback.remember(stepped, rows)
        transitions, updates = self._step(rows, stepped, now_ms, text, again=set(again.tolist()))
        self._count(rows, concerned.steady, now_ms, transitions, updates)
        newest = rows.newest(self._columns, text, now_ms)
        return self._outcome(
            transitions,
            updates,
            evaluated=len(rows),
            comparisons=concerned.comparisons,
            late_rows=rows.late_rows,
            duplicates=rows.duplicates,
            unusable=rows.unusable,
            held=dataclasses.replace(newest, arrived_ms=newest.ts_ms) if self._is_past else newest,
        )

    def tick(self, now_ms: int) -> Outcome:
        """Run the timers that are due, in order, each once; and let go of states kept long enough."""
        if now_ms < self._installed.next_ms:
            return self._outcome([], [])
        instances = self._columns.instances
        due = np.flatnonzero(instances["wake_ms"] <= now_ms)
        due = due[np.argsort(instances["wake_ms"][due], kind="stable")]
        self._lookback.remember(due)
        transitions: list[Transition] = []
        updates: list[InstanceUpdate] = []
        for slot, machine in self._installed.machines(due):
            # Time that decides nothing leaves no trace: a sample that is still under way may be older than it.
            update = InstanceUpdate(slot, self._installed.states.get(slot), is_steady=False, wake_ms=NEVER, truths=None)
            told = 0
            until_ms = machine.values.event_clock(now_ms)
            while machine.run_next(until_ms):
                if len(machine.transitions) > told:
                    told = len(machine.transitions)
                    update = self._installed.update(slot, machine, now_ms)
            transitions.extend(machine.transitions)
            updates.append(dataclasses.replace(update, wake_ms=machine.wake_ms()))
        updates.extend(
            InstanceUpdate(slot, None, is_steady=False, wake_ms=NEVER, truths=None)
            for slot in np.flatnonzero(instances["drop_ms"] <= now_ms).tolist()
        )
        if not updates:
            ends = (instances[word].min(initial=NEVER) for word in ("wake_ms", "drop_ms"))
            self._installed.next_ms = int(min(ends))
        return self._outcome(transitions, updates)

    def revisit(self, ids: Iterable[int], now_ms: int) -> Outcome:
        """Evaluate instances on the values held, because their rule was saved (A9, A21); unknown ids are ignored."""
        slots = np.array([self._installed.slots[number] for number in ids if number in self._installed.slots], np.intp)
        self._lookback.remember(slots)
        transitions: list[Transition] = []
        updates: list[InstanceUpdate] = []
        for slot, machine in self._installed.machines(slots):
            machine.revisit(now_ms)
            transitions.extend(machine.transitions)
            updates.append(self._installed.update(slot, machine, now_ms))
        return self._outcome(transitions, updates)

    def clear_by_hand(self, instance_id: int, now_ms: int) -> Outcome:
        """Clear the open alarm of an instance; the next matching sample makes a new one (A20).

        Raises:
            errors.NotFound: there is no such instance.
            errors.Conflict: it has no open alarm.
        """
        if instance_id not in self._installed.slots:
            raise errors.NotFound("there is no such rule on this asset")
        chosen = np.array([self._installed.slots[instance_id]], np.intp)
        self._lookback.remember(chosen)
        [(slot, machine)] = self._installed.machines(chosen)
        if not machine.is_open:
            raise errors.Conflict("the alarm is not active")
        machine.clear_by_hand(now_ms)
        return self._outcome(list(machine.transitions), [self._installed.update(slot, machine, now_ms)])

    def insight(self, instance_id: int, now_ms: int) -> Insight | None:
        """Return how an instance stands at our time, None where it is unknown; nothing changes by it."""
        if instance_id not in self._installed.slots:
            return None
        slot = self._installed.slots[instance_id]
        chosen = np.array([slot], np.intp)
        self._lookback.remember(chosen)
        [(_, machine)] = self._installed.machines(chosen)
        clock_ms = max(int(machine.values.event_clock(now_ms)), machine.at_ms)
        while machine.run_next(clock_ms):
            pass
        machine.values.expire(clock_ms)
        state = machine.state(None, now_ms)
        return Insight(
            clock_ms,
            tuple(machine.values.truths),
            machine.values.stored(),
            () if state is None else state.streaks,
            None if state is None else state.alarm,
            frozenset(one.severity for one in self._installed.plans[slot].creates if one.is_open(clock_ms)),
        )

    def clock_of(self, instance_id: int, now_ms: int) -> int | None:
        """Return the event clock of an instance (A7), None where it is unknown."""
        if instance_id not in self._installed.slots:
            return None
        [(_, machine)] = self._installed.machines(np.array([self._installed.slots[instance_id]], np.intp))
        return int(machine.values.event_clock(now_ms))

    def correct(self, instance_id: int, state: State | None, now_ms: int) -> Outcome:
        """Go on from the state that an instance's corrected history came to, on the values it holds (A18).

        Raises:
            errors.NotFound: there is no such instance.
        """
        if instance_id not in self._installed.slots:
            raise errors.NotFound("there is no such rule on this asset")
        slot = self._installed.slots[instance_id]
        [(_, machine)] = self._installed.machines(np.array([slot], np.intp), {} if state is None else {slot: state})
        # As after a restart: what is not latched is left unknown, so that the first sample that helps is seen.
        truths = machine.values.create_latches() if self._installed.plans[slot].is_plain else ()
        update = InstanceUpdate(
            slot, machine.state(None, now_ms), is_steady=False, wake_ms=machine.wake_ms(), truths=truths
        )
        return self._outcome([], [update])

    def late(self, series: Int64s, ts_ms: Int64s, limit_ms: int) -> tuple[dict[int, tuple[int, int]], int]:
        """Return for each instance the first and last of some late samples, and how many are older than a limit.

        Those are more than ``limit_ms`` older than the newest evaluated of their series, and left out. So are rules
        that hear silence: that nothing came was true, whatever came later.
        """
        return belated.spans(self._installed, series, ts_ms, limit_ms)

    def behind(self, series: Int64s, ts_ms: Int64s) -> Mask:
        """Return which samples are older than what an instance that watches them has come to by another series.

        They may be judged like late ones, where their own series has been evaluated before and nobody hears silence.
        """
        found = belated.behind(self._installed, series, ts_ms)
        # What windows hold of them is read anew.
        self._lookback.read_anew(np.unique(series[found]).tolist())
        return found

    def evaluated_until(self, instance_id: int) -> int | None:
        """Return the time of the newest sample that an instance has evaluated, None where there is none."""
        slot = self._installed.slots.get(instance_id)
        newest_ms = LONG_AGO if slot is None else self._installed.evaluated_until(slot)
        return None if newest_ms == LONG_AGO else newest_ms

    def take_over(self, evaluated: HeldColumns) -> None:
        """Take over samples that were evaluated elsewhere, sorted by time, where nothing as new was evaluated here."""
        self._columns.restore(evaluated)
        self._version += 1

    def commit(self, outcome: Outcome) -> None:
        """Let an outcome hold, after the transaction that wrote it.

        Raises:
            errors.Stale: something else was committed, installed or restored since; evaluate again.
        """
        if outcome.version != self._version:
            raise errors.Stale("the rules have moved on since this was evaluated")
        if outcome.held is not None:
            self._columns.hold(outcome.held)
            self._lookback.forget(outcome.held)
        self._installed.apply(outcome.instance_updates)
        self._version += 1

    # How -------------------------------------------------------------------------------------------------------

    def _step(
        self, rows: sifting.Rows, stepped: Ints, now_ms: int, text: sifting.Texts, *, again: set[int]
    ) -> tuple[list[Transition], list[InstanceUpdate]]:
        """Lead instances (ascending slots) through their rows, one by one."""
        transitions: list[Transition] = []
        updates: list[InstanceUpdate] = []
        place, *columns = sifting.rows_of(self._columns, rows, stepped)
        metric, ts_ms, value, origin = (column.tolist() for column in columns)
        bounds = np.searchsorted(place, np.arange(len(stepped) + 1)).tolist()
        for i, (slot, machine) in enumerate(self._installed.machines(stepped)):
            row, end = bounds[i], bounds[i + 1]
            if slot in again:
                machine.look_again()
            if text is not None and not self._installed.plans[slot].is_plain:
                for at in range(row, end):
                    said = text[origin[at]]
                    value[at] = value[at] if said is None else said
            while row < end:
                same = row + 1
                while same < end and ts_ms[same] == ts_ms[row]:
                    same += 1
                values = zip(metric[row:same], value[row:same], strict=True)
                machine.sample(ts_ms[row], values, ts_ms[row] if self._is_past else now_ms)
                row = same
            machine.finish_updates()
            transitions.extend(machine.transitions)
            updates.append(self._installed.update(slot, machine, now_ms))
        return transitions, updates

    def _count(
        self,
        rows: sifting.Rows,
        steady: Ints,
        now_ms: int,
        transitions: list[Transition],
        updates: list[InstanceUpdate],
    ) -> None:
        """Count the rows of open alarms that nothing else can come of."""
        if not len(steady):
            return
        added = sifting.totals(self._columns, rows, steady)
        series = self._columns.series.id[added.slot]
        columns = (steady, series, added.count, added.ts_ms, added.value, added.least, added.greatest)
        for slot, number, count, ts_ms, value, least, greatest in zip(*(c.tolist() for c in columns), strict=True):
            plan, before = self._installed.plans[slot], self._installed.states[slot]
            assert before.alarm is not None  # noqa: S101 - what is steady has an alarm
            sign = plan.peak_sign
            worst = greatest if sign > 0 else least if sign < 0 else value
            peak = more_extreme(before.alarm.peak, worst, sign)
            held = Held(plan.metrics[0], number, ts_ms, value, now_ms)
            state, updated = count_steady(before, before.alarm, held, matches=count, peak=peak)
            transitions.append(updated)
            updates.append(InstanceUpdate(slot, state, is_steady=True, wake_ms=NEVER, truths=None))

    def _outcome(
        self,
        transitions: list[Transition],
        updates: list[InstanceUpdate],
        **counts: Any,  # noqa: ANN401
    ) -> Outcome:
        ids = self._columns.instances["id"][[update.slot for update in updates]].tolist() if updates else []
        changed = {
            number: update.state
            for number, update in zip(ids, updates, strict=True)
            if update.state is not self._installed.states.get(update.slot)
        }
        transitions.sort(key=attrgetter("at_ms", "instance"))
        return Outcome(tuple(transitions), changed, version=self._version, instance_updates=tuple(updates), **counts)
