"""Rules that need what several workers hear, evaluated by whoever has their asset, out of the ledger (OPS-8).

A worker of a group enters, with its batch, the readings that rules on other assets look at, and the eldest what it
derived. Each worker takes up what waits for its own assets a second later, in the order of device time, before it runs
its timers; ``rules.passed`` has the ledger. A lone reader has all it needs, and the ledger stays empty.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime

import numpy as np
from sqlalchemy.orm import Session, sessionmaker

from ingest import crash
from ingest.following import Following
from ingest.ground import Ground
from ingest.registry import Registry
from ingest.resolve import Resolved
from kernel import clock, db
from rules import passed
from rules.evaluation import Evaluator
from rules.outcome import Outcome
from rules.passed import Passed
from telemetry import quality
from telemetry.readings import Flag, Int64s, Mask, Readings


class Passing:
    """What one worker enters into the ledger and takes out of it. For the thread of the path."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        settling: Callable[[], AbstractContextManager[Session]],
        registry: Registry,
        rules: Evaluator,
        ground: Ground,
        following: Following,
    ) -> None:
        self._sessions = sessions
        self._settling = settling
        self._registry = registry
        self._rules = rules
        self._ground = ground
        self._following = following
        self._met: set[tuple[int, int]] = set()

    # Entered ----------------------------------------------------------------------------------------------------

    def enter(self, session: Session, resolved: Resolved) -> None:
        """Enter what a batch brings for rules that look at other assets, in the transaction of the batch."""
        readings, past = resolved.readings, None
        if not self._ground.is_shared or not len(rows := self._rules.watchers().among(readings.series)):
            return
        if resolved.for_rules is not None:
            past = quality.has(readings.flags, Flag.HISTORICAL) & ~quality.has(readings.flags, Flag.BAD)
            rows = rows[(resolved.for_rules | past)[rows]]
        self._enter(session, readings, rows, past, resolved.now)

    def enter_derived(self, session: Session, readings: Readings, now: datetime) -> None:
        """Enter values that were worked out of stored ones, for all rules that look at them."""
        passed.enter(session, passed.derived(session, readings.series, readings.ts_ms, readings.value), now=now)
        self._enter(session, readings, self._rules.watchers().among(readings.series), None, now)

    def _enter(self, session: Session, readings: Readings, rows: Int64s, past: Mask | None, now: datetime) -> None:
        text = None if readings.text is None else [readings.text[row] for row in rows.tolist()]
        columns = (readings.series[rows], readings.ts_ms[rows], readings.value[rows])
        passed.enter(
            session, self._rules.watchers().entries(*columns, text, None if past is None else past[rows]), now=now
        )

    # Taken ------------------------------------------------------------------------------------------------------

    def take_up(self, now: datetime) -> None:
        """Evaluate what has settled for the assets that are ours, and for those that are nobody's.

        Raises:
            ingest.claims.Moved: some of them are another's by now; nothing of it counts.
        """
        if not self._ground.is_shared:
            return
        while self._ground.adopt_waiting(now):
            pass
        while self._take_some(now):
            pass

    def _take_some(self, now: datetime) -> bool:
        abroad = self._rules.abroad
        assert abroad is not None  # noqa: S101 - there is one where assets are shared
        outcomes: list[tuple[Evaluator, Outcome]] = []
        with self._settling() as session:
            entries = passed.due(session, self._ground.claimed(), now=now)
            strange = set(zip(entries.asset.tolist(), entries.series.tolist(), strict=True)) - self._met
            if not strange and len(entries):
                derived = entries.is_derived
                outcome, some = abroad.evaluate_passed(entries.at(np.flatnonzero(~derived)), clock.to_ms(now))
                taken = np.zeros(len(entries), np.bool_)
                taken[np.flatnonzero(~derived)[some]] = True
                outcomes = [(abroad, outcome), (self._rules, self._evaluated(entries, derived, now))]
                for rules, found in outcomes:
                    rules.write(session, found, now=now)
                passed.settle(session, entries, taken, now=now)
                crash.here("before_passed_commit")
        for rules, found in outcomes:
            rules.commit(found)
        if strange:
            self._meet(strange)
        return bool(len(entries))

    def _evaluated(self, entries: Passed, chosen: Mask, now: datetime) -> Outcome:
        rows = np.flatnonzero(chosen)
        text = None if entries.text is None else [entries.text[row] for row in rows.tolist()]
        return self._rules.evaluate(
            entries.series[rows], entries.ts_ms[rows], entries.value[rows], clock.to_ms(now), text
        )

    def _meet(self, strange: set[tuple[int, int]]) -> None:
        """Let rules look at series that they may not know: another worker was the first to hear of them."""
        with db.transaction(self._sessions) as session:
            self._registry.learn_series(session)
        self._following.reload_rules(asset_ids={asset for asset, _ in strange})
        self._met |= strange

    def take_in(self, now: datetime) -> None:
        """Evaluate what a group has left in the ledger, now that one process evaluates everything."""
        while self._take_in_some(now):
            pass

    def _take_in_some(self, now: datetime) -> bool:
        outcome = None
        with self._settling() as session:
            entries = passed.due(session, None, now=now + passed.SETTLED)
            if len(entries):
                outcome = self._evaluated(entries, ~entries.is_past, now)
                self._rules.write(session, outcome, now=now)
                passed.settle(session, entries, np.zeros(len(entries), np.bool_), now=now)
            else:
                passed.clear(session)
        if outcome is not None:
            self._rules.commit(outcome)
        return outcome is not None
