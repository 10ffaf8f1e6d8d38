"""From what the engine finds to rows, and back again after a start: for ``ingest``, which feeds it.

An outcome is written in the transaction of its batch and committed to the engine after it; one that could not be
written is dropped and leaves no trace. Where the engine and the table differ, because a person cleared an alarm
that the engine holds open, the table is right and the engine is brought to it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy.orm import Session

from kernel import clock
from kernel.errors import Conflict, NotFound
from rules import alarms, bad_values, ended, late, passed, recall, resuming, roster, sightings, standing, stored_states
from rules.engine import Engine
from rules.episodes import Sighting
from rules.marks import Marks
from rules.outcome import Insight, Outcome, State, Transition
from rules.passed import Passed, Watchers
from rules.roster import Roster
from rules.shares import Share
from rules.standing import Standing
from telemetry.readings import Float64s, Int64s, Mask, Texts
from telemetry.store import TelemetryStore


@dataclass(frozen=True, slots=True)
class Changes:
    """Rules that came, went or were edited, and the stored states of those that came."""

    changed: list[Standing]
    gone: frozenset[int]
    states: list[State]
    waiting: frozenset[int] = frozenset()
    """Series of which something waits in the ledger: what the store holds of them is ahead of these rules."""
    bad: frozenset[int] = frozenset()
    """Series of which rules use bad values too; all of them, not only those that changed."""


class Evaluator:
    """The rules of one ingest process: the engine, and what its instances stand for. For one thread at a time."""

    def __init__(self, late_limit: timedelta = late.LIMIT, kept: Marks | None = None) -> None:
        self._late_limit_ms = int(late_limit.total_seconds() * 1000)
        self.late = 0
        """Readings for rules that were older than the newest of their series, since the start; …"""
        self.too_late = 0
        """… and those of them that were so old that no rule judges them."""
        self._engine = Engine()
        self._marks = kept or Marks(None)
        self._standing = Roster()
        self._adrift: set[int] = set()
        self._edited: set[int] = set()
        self._bad: frozenset[int] = frozenset()
        """Series of which rules use bad values too."""
        self._share = Share()
        self.abroad: Evaluator | None = None
        """Where assets are shared: the rules that look at other assets, which are evaluated out of the ledger."""
        self._watchers: Watchers | None = None

    def __len__(self) -> int:
        return len(self._standing)

    # Start and change -------------------------------------------------------------------------------------------

    def load(self, session: Session, store: TelemetryStore, *, now: datetime) -> None:
        """Take up all rules with their stored states and the newest readings they compare (A19)."""
        self.read(session)
        self.resume(session, store, now=now)

    def read(self, session: Session) -> None:
        """Read all rules; nothing of them is evaluated before ``resume``."""
        self._adrift.clear()
        self._edited.clear()
        self._standing = roster.load(session)
        self._watchers = None
        if self.abroad is not None:
            self.abroad._standing = self._standing  # noqa: SLF001 - one's own

    def reread(self, session: Session, *, alarm_type_ids: set[int], asset_ids: set[int]) -> None:
        """Read the rules of some alarm types, and those on some assets, anew, before ``resume``."""
        for chosen in ({"alarm_type_ids": alarm_type_ids}, {"asset_ids": asset_ids}):
            if any(chosen.values()):
                wanted, gone = self._look(session, **chosen)
                self._standing.drop(gone)
                self._standing.take(wanted.values())
                self._watchers = None
        self._bad = bad_values.used(session)
        if self.abroad is not None:
            self.abroad._bad = self._bad  # noqa: SLF001 - one's own

    def resume(self, session: Session, store: TelemetryStore, *, now: datetime) -> None:
        """Take up the stored states of all rules that were read, and the newest readings they compare."""
        self._engine = Engine(recall.from_store(store, lambda: self._bad))
        self._bad = bad_values.used(session)
        self._marks.open()
        self.listen_since(now)
        if self.abroad is not None:
            self.abroad.resume(session, store, now=now)
        if self._share.assets is not None:
            self._install(session, store, self._on(self._share.assets), now)
            return
        instances = self._standing.instances()
        self._engine.install_many(instances)
        singles = self._standing.singles()
        if singles:
            self._engine.install([one.instance for one in singles])
        self._engine.restore(stored_states.all_of(session, self._standing))
        self._seed(store, np.concatenate([instances.series, _watched_by(singles)]), now)

    # Where several evaluators share the assets ------------------------------------------------------------------

    def share(self) -> None:
        """Evaluate no asset from now on but those taken with ``adopt``; call it before ``resume``."""
        self._share = Share(leans=False)
        self.abroad = Evaluator(timedelta(milliseconds=self._late_limit_ms))
        self.abroad._share = Share(leans=True)  # noqa: SLF001 - one's own
        self.abroad._standing = self._standing  # noqa: SLF001 - one's own

    def adopt(self, session: Session, store: TelemetryStore, asset_ids: Iterable[int], *, now: datetime) -> None:
        """Take over assets from whoever evaluated them before, with their states as they are stored now."""
        taken = set(asset_ids)
        self._share.adopt(taken)
        found = self._on(taken)
        # What is held here may be from before the asset went elsewhere.
        self._engine.remove([one.instance.id for one in found])
        if self._share.leans:
            self._install_abroad(session, store, found, now)
        else:
            self._install(session, store, found, now)
        if self.abroad is not None:
            self.abroad.adopt(session, store, taken, now=now)

    def disown(self, asset_ids: Iterable[int]) -> None:
        """Forget the states of assets that another evaluates now."""
        gone = set(asset_ids)
        self._share.disown(gone)
        self._engine.remove(self._share.among(self._standing, gone))
        if self.abroad is not None:
            self.abroad.disown(gone)

    def _on(self, assets: set[int]) -> list[Standing]:
        return [self._standing[number] for number in self._share.among(self._standing, assets)]

    def _install(self, session: Session, store: TelemetryStore, rules: Sequence[Standing], now: datetime) -> None:
        self._engine.install([one.instance for one in rules])
        self._engine.restore(stored_states.of_some(session, [one.instance.id for one in rules]))
        self._seed(store, _watched_by(rules), now)

    def _install_abroad(
        self, session: Session, store: TelemetryStore, rules: Sequence[Standing], now: datetime
    ) -> None:
        """Go on exactly where the former owner was: with what it took out of the ledger, and not with what waits."""
        if not rules:
            return
        assets = {one.asset_id for one in rules}
        self._engine.install([one.instance for one in rules])
        self._engine.take_over(passed.taken_for(session, assets))
        self._engine.restore(stored_states.of_some(session, [one.instance.id for one in rules]))
        self._seed(store, _watched_by(rules), now, ahead=passed.waiting_for(session, assets))

    def watchers(self) -> Watchers:
        """Return which assets have rules that look at other assets, by the series that those rules look at."""
        if self._watchers is None:
            assets_of: dict[int, set[int]] = {}
            for one in self._standing.leaning():
                for watched in one.instance.metrics.values():
                    assets_of.setdefault(watched.series, set()).add(one.asset_id)
            self._watchers = Watchers(assets_of)
        return self._watchers

    def read_changes(
        self,
        session: Session,
        *,
        now: datetime,
        alarm_type_ids: Iterable[int] | None = None,
        asset_ids: Iterable[int] | None = None,
    ) -> Changes:
        """Read the rules of some alarm types or on some assets anew, and retell open alarms of edited ones.

        Nothing holds until ``take_up``, which belongs after the commit.
        """
        wanted, gone = self._look(session, alarm_type_ids=alarm_type_ids, asset_ids=asset_ids)
        changed = [one for number, one in wanted.items() if self._standing.get(number) != one]
        fresh = {one.instance.id for one in changed if one.instance.id not in self._standing}
        if changed:
            sightings.retell(session, changed, now)
        leaning = {one.asset_id for one in changed if one.leans_on} if self.abroad is not None else set()
        waiting = passed.waiting_for(session, leaning) if leaning else frozenset[int]()
        return Changes(changed, gone, stored_states.of_some(session, fresh), waiting, bad_values.used(session))

    def _look(
        self, session: Session, *, alarm_type_ids: Iterable[int] | None = None, asset_ids: Iterable[int] | None = None
    ) -> tuple[dict[int, Standing], frozenset[int]]:
        """Return the rules of some alarm types or on some assets as they are now, and which of them are no more."""
        kinds = None if alarm_type_ids is None else set(alarm_type_ids)
        things = None if asset_ids is None else set(asset_ids)
        if things:
            # What looks at an asset from elsewhere has to learn of its series too.
            things |= self._standing.leaning_on(things)
        wanted = {one.instance.id: one for one in standing.read(session, alarm_type_ids=kinds, asset_ids=things)}
        return wanted, frozenset(self._standing.concerned(kinds, things) - set(wanted))

    def take_up(self, changes: Changes, store: TelemetryStore, *, now: datetime) -> None:
        """Let changed rules hold; they wait for ``revisit``."""
        if self.abroad is not None:
            self.abroad.take_up(changes, store, now=now)
        self._watchers, self._bad = None, changes.bad
        self._engine.remove(changes.gone)
        self._standing.drop(changes.gone)
        self._edited -= changes.gone
        if not changes.changed:
            return
        self._standing.take(changes.changed)
        mine = [one for one in changes.changed if self._share.takes(one)]
        if self._share.leans is not None:
            # A rule that began or ceased to look at other assets is evaluated elsewhere now.
            self._engine.remove([one.instance.id for one in changes.changed if not self._share.takes(one)])
        self._engine.install([one.instance for one in mine])
        self._engine.restore(changes.states)
        self._seed(store, _watched_by(mine), now, ahead=changes.waiting if self._share.leans else frozenset())
        self._edited.update(one.instance.id for one in changes.changed)

    def asking(self) -> set[int]:
        """Return the assets on which a rule takes a value from an attribute."""
        return self._standing.asking()

    def watches(self, alarm_type_id: int, asset_id: int) -> bool:
        """Return whether an alarm type is evaluated on an asset."""
        return standing.instance_id(alarm_type_id, asset_id) in self._standing

    def _seed(
        self, store: TelemetryStore, series: Int64s, now: datetime, *, ahead: frozenset[int] = frozenset()
    ) -> None:
        """Tell the engine what it held of series, but of those of which newer readings are still to come."""
        if ahead:
            series = series[~np.isin(series, sorted(ahead))]
        # Sorting tells a million apart in a tenth of the time of ``np.unique``.
        ordered = np.sort(series[series >= 0])
        unique = ordered[np.append(ordered[1:] != ordered[:-1], True)] if len(ordered) else ordered
        held, mark_ms = resuming.known(store, unique, self._marks, bad=self._bad, now=now)
        self._engine.seed(held)
        self._engine.mark(held, mark_ms)

    # What happens -----------------------------------------------------------------------------------------------

    def evaluate(
        self,
        series: Int64s,
        ts_ms: Int64s,
        value: Float64s,
        now_ms: int,
        text: Texts | None = None,
        past: tuple[Int64s, Int64s] | None = None,
    ) -> Outcome:
        """Evaluate a batch of readings: columns of equal length, NaN where it is a text; see ``Engine.evaluate``.

        ``past``: series and times of readings that were sent as history, and are judged like late ones.

        Raises:
            kernel.errors.Unavailable: the store does not answer what windows hold; trying again is harmless.
        """
        outcome = self._engine.evaluate(series, ts_ms, value, now_ms, text)
        if not outcome.late and (past is None or not len(past[0])):
            return outcome
        late_series, late_ms = series[outcome.late_rows], ts_ms[outcome.late_rows]
        if past is not None:
            late_series, late_ms = np.concatenate([late_series, past[0]]), np.concatenate([late_ms, past[1]])
        spans, too_late = self._engine.late(late_series, late_ms, self._late_limit_ms)
        self.late += len(late_series)
        self.too_late += too_late
        return replace(outcome, late_spans={number: span for number, span in spans.items() if number in self._standing})

    def evaluate_passed(self, entries: Passed, now_ms: int) -> tuple[Outcome, Mask]:
        """Evaluate readings out of the ledger; return also which of them were taken, and not left to be judged late."""
        behind = entries.is_past | self._engine.behind(entries.series, entries.ts_ms)
        rows = np.flatnonzero(~behind)
        text = None if entries.text is None else [entries.text[row] for row in rows.tolist()]
        columns = entries.series[rows], entries.ts_ms[rows], entries.value[rows]
        past = entries.series[behind], entries.ts_ms[behind]
        return self.evaluate(*columns, now_ms, text, past), ~behind

    def listen_since(self, moment: datetime) -> None:
        """Count silence only from a moment on: until then we were down, or still read what had waited (A12)."""
        self._engine.listen_since(clock.to_ms(moment))
        if self.abroad is not None:
            self.abroad.listen_since(moment)

    def tick(self, now_ms: int) -> Outcome:
        """Run the timers that are due."""
        return self._engine.tick(now_ms)

    def revisit(self, now_ms: int) -> Outcome | None:
        """Evaluate the rules taken up since, on what is held (A21); None when there are none."""
        return self._engine.revisit(sorted(self._edited), now_ms) if self._edited else None

    def revisited(self) -> None:
        """Take note that what ``revisit`` found is committed."""
        self._edited.clear()

    def adrift(self) -> list[int]:
        """Return the instances whose alarm a person has ended, as far as ``write`` has noticed."""
        return sorted(self._adrift)

    def note_cleared(self, session: Session, alarm_ids: Iterable[int]) -> None:
        """Take note of alarms that people ended; where another has been raised since, that one stands."""
        numbers = ended.instances(session, alarm_ids)
        self._adrift.update(number for number in numbers if number in self._standing)
        if self.abroad is not None:
            self.abroad._adrift |= self._adrift  # noqa: SLF001 - one's own

    def let_go(self, instance: int, now_ms: int) -> Outcome | None:
        """Start an instance afresh whose alarm a person has ended (A20); None when it holds none."""
        self._adrift.discard(instance)
        try:
            return self._engine.clear_by_hand(instance, now_ms)
        except (NotFound, Conflict):
            return None

    def write(self, session: Session, outcome: Outcome, *, now: datetime) -> None:
        """Write what an outcome leads to: alarms with their events, and states. Call ``commit`` once it is through."""
        numbered = [(one.instance, seen) for one in outcome.transitions if (seen := self._seen(one)) is not None]
        taken = alarms.take(session, [seen for _, seen in numbered], now=now)
        self._adrift |= {
            number
            for (number, _), alarm_id in zip(numbered, taken, strict=True)
            if alarm_id is None and number in self._standing
        }
        stored_states.write(session, outcome)
        late.note(session, outcome.late_spans, now=now)

    def _seen(self, transition: Transition) -> Sighting | None:
        return sightings.of(self._standing[transition.instance], transition)

    # Late readings ----------------------------------------------------------------------------------------------

    def late_tasks(self, session: Session, *, now: datetime, limit: int = 1) -> list[late.Task]:
        """Return what came late and is to be judged now, of the assets that are evaluated here."""
        tasks: list[late.Task] = []
        gone = []
        for kind, asset, since_ms, revision in late.due(
            session, now=now, limit=limit if self._share.assets is None else 1000
        ):
            rule = self._standing.get(standing.instance_id(kind, asset))
            if rule is None:
                gone.append((kind, asset))
            elif self._share.takes(rule) and len(tasks) < limit:
                tasks.append(late.Task(rule, since_ms, revision))
        late.forget(session, gone)
        return tasks

    def judge_late(self, session: Session, found: late.History, *, now: datetime) -> Outcome | None:
        """Judge late readings, with all that was stored since; write what comes of it, and commit the outcome after.

        None when the rule changed, or more came late since it was read: then it is read again.
        """
        rule = found.task.rule
        number, now_ms = rule.instance.id, clock.to_ms(now)
        if self._share.leans:
            # What waits in the ledger is stored, and not evaluated yet.
            until_ms = self._engine.evaluated_until(number)
            if until_ms is not None:
                found = late.until(found, until_ms)
        else:
            until_ms = self._engine.clock_of(number, now_ms)
        is_same = until_ms is not None and self._standing.get(number) == rule
        verdict = late.judge(session, found, until_ms) if is_same and until_ms is not None else None
        if verdict is None:
            late.put_off(session, found.task, by=late.QUIET_FOR, now=now)
            return None
        told = {n: sightings.of_episode(rule, one) for n, one in enumerate(verdict.replayed.episodes)}
        late.write(session, found.task, verdict, told, now=now)
        outcome = self._engine.correct(number, verdict.replayed.state, now_ms)
        stored_states.write(session, outcome)
        return outcome

    def commit(self, outcome: Outcome) -> None:
        """Let an outcome hold, once it is written."""
        self._engine.commit(outcome)
        if outcome.held is not None:
            self._marks.advance(outcome.held.series, outcome.held.ts_ms)


def insight(session: Session, store: TelemetryStore, rule: Standing, *, now: datetime) -> Insight | None:
    """Return how a rule on an asset stands now, from what is stored: for whoever asks why."""
    alone = Evaluator()
    alone._bad = bad_values.used(session)  # noqa: SLF001 - one's own
    alone._engine = Engine(recall.from_store(store, lambda: alone._bad))  # noqa: SLF001 - one's own
    alone._install(session, store, [rule], now)  # noqa: SLF001 - one's own
    return alone._engine.insight(rule.instance.id, clock.to_ms(now))  # noqa: SLF001 - one's own


def _watched_by(rules: Iterable[Standing]) -> Int64s:
    series = {watched.series for one in rules for watched in one.instance.metrics.values()}
    return np.array(sorted(series), np.int64)
