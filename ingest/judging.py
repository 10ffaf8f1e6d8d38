"""What rules find beside the path: time passes, people edit rules and end alarms, readings are derived, or came late.

Each step settles by itself, between two batches. What was found on assets that another worker has claimed meanwhile is
thrown away: it is found there.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime

from sqlalchemy.orm import Session, sessionmaker

from ingest import crash
from ingest.claims import Moved
from ingest.following import Following
from ingest.ground import Ground
from ingest.passing import Passing
from kernel import clock, db
from rules import late
from rules.evaluation import Evaluator
from rules.outcome import Outcome
from telemetry.readings import Readings
from telemetry.store import TelemetryStore


class Judging:
    """Leads the rules of one worker between its batches. For the thread of the path, but ``read_late``."""

    _store: TelemetryStore

    def __init__(
        self,
        sessions: sessionmaker[Session],
        writing: Callable[[], AbstractContextManager[Session]],
        settling: Callable[[], AbstractContextManager[Session]],
        *,
        rules: Evaluator,
        ground: Ground,
        passing: Passing,
        following: Following,
    ) -> None:
        self._sessions = sessions
        self._writing = writing
        self._settling = settling
        self._rules = rules
        self._ground = ground
        self._passing = passing
        self._following = following

    def open(self, store: TelemetryStore) -> None:
        """Take the store that late readings are judged by."""
        self._store = store

    def judge(self, readings: Readings, fresh_assets: set[int]) -> None:
        """Let rules see readings that are stored and came by no message; some assets have a series they had not."""
        if fresh_assets:
            self._following.reload_rules(asset_ids=fresh_assets)
        now = clock.now()
        if self._ground.is_shared:
            # Each of the assets is evaluated by whoever has it.
            with self._writing() as session:
                self._passing.enter_derived(session, readings, now)
            return
        try:
            columns = readings.series, readings.ts_ms, readings.value
            self._settle(self._rules, self._rules.evaluate(*columns, clock.to_ms(now)), now)
        except Moved:
            # What is lost is judged where it went, from its next value on.
            self._ground.lose()

    def run_timers(self, now: datetime) -> None:
        """Let rules see that time has passed, and that people ended alarms or edited rules."""
        try:
            self._run_timers(now)
        except Moved:
            # What is lost runs elsewhere; what is not runs again with the next tick.
            self._ground.lose()

    def _run_timers(self, now: datetime) -> None:
        self._passing.take_up(now)
        for rules in self._evaluators():
            self._run_timers_of(rules, now)

    def _run_timers_of(self, rules: Evaluator, now: datetime) -> None:
        now_ms = clock.to_ms(now)
        self._settle(rules, rules.tick(now_ms), now)
        for instance in rules.adrift():
            outcome = rules.let_go(instance, now_ms)
            if outcome is not None:
                self._settle(rules, outcome, now)
        edited = rules.revisit(now_ms)
        if edited is not None:
            self._settle(rules, edited, now)
            rules.revisited()

    def _evaluators(self) -> list[Evaluator]:
        return [self._rules] if self._rules.abroad is None else [self._rules, self._rules.abroad]

    # Late readings, judged at their own time -----------------------------------------------------------------------

    def late_task(self, now: datetime) -> late.Task | None:
        """Return a rule on an asset whose late readings are to be judged now; between two batches."""
        with db.transaction(self._sessions) as session:
            found = (task for rules in self._evaluators() for task in rules.late_tasks(session, now=now))
            return next(found, None)

    def read_late(self, task: late.Task) -> late.History:
        """Read the history it is judged by; beside the path."""
        return late.read(self._sessions, self._store, task)

    def judge_late(self, found: late.History, now: datetime) -> None:
        """Judge it, with what was stored since, and write what comes of it; between two batches."""
        found = late.catch_up(self._store, found)
        rules = (self._rules.abroad if found.task.rule.leans_on else None) or self._rules
        try:
            with self._settling() as session:
                outcome = rules.judge_late(session, found, now=now)
                crash.here("before_late_commit")
        except Moved:
            self._ground.lose()
            return
        if outcome is not None:
            rules.commit(outcome)

    def put_off_late(self, task: late.Task, now: datetime) -> None:
        """Try it again later, because it could not be judged."""
        with self._writing() as session:
            late.put_off(session, task, now=now)

    def _settle(self, rules: Evaluator, outcome: Outcome, now: datetime) -> None:
        if outcome.has_news:
            with self._settling() as session:
                rules.write(session, outcome, now=now)
        rules.commit(outcome)
