"""From a batch of messages to what is stored, evaluated, raised and committed: the data path, in five steps.

``process`` is the path. A batch is done when all of it is durable, and only then does the edge acknowledge it.
Every step may be repeated: readings are keyed by series and time, alarms of devices by their number, rule states
say what was evaluated, rejected messages are kept by their digest. So a redelivered batch has the effects of one,
wherever the first attempt ended (promises P1, P2, P7).
"""

import gc
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy.orm import Session, sessionmaker

from assets import command_post
from ingest import crash, device_alarms, fairuse, limits, newcomers, publisher, rejected, status, topics, webhooks
from ingest.batch import Batch
from ingest.books import Books
from ingest.changes import Changed
from ingest.claims import Moved
from ingest.decode import Decoder
from ingest.decoded import Decoded, Reason, Rejected
from ingest.following import Following
from ingest.ground import Ground
from ingest.judging import Judging
from ingest.late import Late
from ingest.licence import Deposed, Licence
from ingest.mapper import Mapper
from ingest.passing import Passing
from ingest.patience import TRANSIENT, Patience
from ingest.publisher import Outgoing
from ingest.registry import Registry
from ingest.replaying import Replaying
from ingest.resolve import Resolved, Resolver
from ingest.sparkplug.follow import Follower
from ingest.sparkplug.kept import Outrun
from ingest.stuck import Seen, Stuck
from kernel import clock, db, log
from rules import late
from rules.evaluation import Evaluator
from rules.marks import Marks
from rules.outcome import Outcome
from telemetry import quality, series
from telemetry.readings import Flag, Int64s, Latest, Readings
from telemetry.series import Pair
from telemetry.store import TelemetryStore

_log = log.of(__name__)


class Pipeline:
    """The data path of one process. For one thread at a time, and one more that only calls ``decode``.

    ``licence`` is the right to write, where several processes may take each other's place. A process that stands by
    calls ``prepare`` and ``keep_warm``, and ``open`` and ``resume`` when its time has come; any other one ``load``.
    """

    _store: TelemetryStore

    def __init__(
        self,
        sessions: sessionmaker[Session],
        store: TelemetryStore | None = None,
        *,
        patience: Patience | None = None,
        terms: fairuse.Terms | None = None,
        late_limit: timedelta = late.LIMIT,
        marks: Marks | None = None,
    ) -> None:
        self.registry = Registry()
        self.rules = Evaluator(late_limit, marks)
        self.patience = patience or Patience()
        self._sessions = sessions
        self._licence: Licence | None = None
        self.ground = Ground(sessions, self.patience, self.registry, self.rules)
        self.mapper = Mapper(self.registry.type_of)
        self._decoder = Decoder(self.mapper)
        self._newcomers = newcomers.Newcomers()
        self._decoding = threading.Lock()
        self._resolver = Resolver(self.registry, self._name)
        self._sparkplug = Follower(self.registry, self._newest)
        self._stuck = Stuck(self._newest_of)
        self._fairness = fairuse.FairUse(terms or fairuse.Terms(), self.registry, self._resolver)
        self._following = Following(sessions, self._writing, self.patience, self.registry, self.rules, self.mapper)
        self._late = Late(self._writing, self.patience)
        passing = Passing(sessions, self._settling, self.registry, self.rules, self.ground, self._following)
        self._passing = passing
        self.judging = Judging(
            sessions,
            self._writing,
            self._settling,
            rules=self.rules,
            ground=self.ground,
            passing=passing,
            following=self._following,
        )
        self.books = Books(self._resolver, self.mapper, self._writing)
        self.replaying = Replaying(sessions, self._writing, self._resolver, self._again)
        if store is not None:
            self.open(store)

    @property
    def over_limit(self) -> int:
        """Messages that were over a limit since the start."""
        return self._fairness.refused

    def load(self) -> None:
        """Read devices, series, rules and their states; run the timers that are overdue (A19)."""
        self.prepare()
        self.resume()

    def prepare(self) -> None:
        """Read what takes long and changes little: devices, series and rules."""
        # While a million objects come that stay, nobody looks for garbage among them.
        gc.disable()
        try:
            self.patience.until_done(self._following.begin, "database")
        finally:
            gc.enable()

    def keep_warm(self) -> None:
        """Follow what people and the leading worker change, while standing by."""
        self._following.keep_warm()

    def bind(self, licence: Licence) -> None:
        """Write from now on only as long as a licence stands."""
        self._licence = licence

    def open(self, store: TelemetryStore) -> None:
        """Give the path the store that it had to wait for."""
        self._store = store
        self._following.open(store)
        self.judging.open(store)
        self.ground.open(store)

    def resume(self) -> None:
        """Take up the states of the rules as whoever led before has left them, and run the timers that are overdue."""

        def read() -> None:
            with db.transaction(self._sessions) as session:
                self._sparkplug.load(session)
                self._fairness.take_up(limits.load(session))
                self.rules.resume(session, self._store, now=clock.now())

        self.patience.until_done(self.keep_warm, "database")
        # While a million objects come that stay, nobody looks for garbage among them.
        gc.disable()
        try:
            self.patience.until_done(read, "database")
        finally:
            gc.enable()
        if not self.ground.is_shared:
            self.patience.until_done(lambda: self._passing.take_in(clock.now()), "database")
        self.judging.run_timers(clock.now())

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        """Open a transaction that holds only as long as nobody has taken over."""
        with db.transaction(self._sessions) as session:
            if self._licence is not None:
                self._licence.hold(session)
            yield session

    @contextmanager
    def _settling(self) -> Iterator[Session]:
        """Open a transaction for what rules have found; it fails with ``Moved`` if any of it was another's ground."""
        with db.transaction(self._sessions) as session:
            if self._licence is not None:
                losses = self._licence.hold(session)
                self.ground.check(losses)
            yield session

    def share(self) -> None:
        """Evaluate only the assets that this worker has claimed; call it after ``bind`` and before ``resume``."""
        assert self._licence is not None  # noqa: S101 - ``bind`` comes first
        self.ground.share(self._licence)

    # The path ---------------------------------------------------------------------------------------------------

    def process(self, batch: Batch) -> list[Outgoing]:
        """Make a batch durable and return what to publish now that it is.

        Raises:
            Exception: it could not be made durable; nothing of it may be acknowledged.
        """
        return self.finish(batch, self.decode(batch))

    def decode(self, batch: Batch) -> Decoded:
        """Read a batch, perhaps while the one before it is being finished. Batches are finished in this order."""
        with self._decoding:
            return self._decoder.decode(batch)

    def finish(self, batch: Batch, decoded: Decoded) -> list[Outgoing]:
        """Make a batch durable that has been read; see ``process``."""
        try:
            while True:
                try:
                    return self._path(batch, decoded)
                except Outrun:
                    self._catch_up(decoded)
        except (*TRANSIENT, Deposed):
            raise
        except Exception as error:  # noqa: BLE001 - the edge of a batch: the one message at fault is set aside
            return self._apart(batch, error)

    def _path(self, batch: Batch, decoded: Decoded, replays: Sequence[int] = ()) -> list[Outgoing]:
        followed = None
        if decoded.sparkplug:
            if self.ground.is_shared:
                self._catch_up(decoded)
            followed = self._sparkplug.follow(batch, decoded, is_replay=bool(replays))
            decoded = followed.decoded
        resolved = self._resolver.resolve(batch, decoded, clock.now())
        if followed is not None:
            resolved.join(followed)
        if not replays:
            self._fairness.hold_back(resolved)
        seen = self._look_for_stuck(resolved)
        if resolved.fresh_assets:
            self._following.reload_rules(asset_ids=resolved.fresh_assets)
        # Before the readings are stored: what is taken up with an asset must not know the batch already.
        self.ground.own(resolved.part_device)
        crash.here("before_store")
        written = self.patience.until_done(lambda: self._store.write(resolved.readings), "telemetry store")
        crash.here("after_store")
        self._late.tell(resolved.readings)
        news = self._settled(resolved, replays)
        if resolved.attributes:
            self._following.hear(resolved.attributes)
        self._stuck.settle(seen)
        self.books.enter(resolved, written, news)
        if batch.fates is not None:
            batch.fates.note(resolved, written, news)
        crash.here("before_ack")
        if self._licence is not None:
            self._licence.require()
        answers = [
            publisher.alarm_acknowledgement(report.said.device, report.said.seq)
            for report in resolved.reports
            if report.is_acknowledged
        ]
        return answers if followed is None else answers + followed.asked

    def _again(self, batch: Batch, number: int) -> list[Outgoing]:
        """Lead a message along the path that was set aside under a number."""
        return self._path(batch, self.decode(batch), replays=[number])

    def _catch_up(self, decoded: Decoded) -> None:
        """Go on with edge nodes from where other workers have left them."""

        def read() -> None:
            with db.transaction(self._sessions) as session:
                self._sparkplug.catch_up(session, decoded.sparkplug)

        self.patience.until_done(read, "database")

    def _look_for_stuck(self, resolved: Resolved) -> Seen | None:
        """Mark the readings of sensors that have stopped moving."""
        if not self.registry.watches_stuck:
            return None
        flags, seen = self._stuck.judge(resolved.readings, self.registry.stuck_after)
        if flags is not None:
            resolved.readings = replace(resolved.readings, flags=flags)
        return seen

    def _settled(self, resolved: Resolved, replays: Sequence[int]) -> set[int]:
        """Evaluate a batch on assets that are ours, and write what comes of it; return the news."""
        while True:
            try:
                return self._commit(resolved, self._evaluate(resolved), replays)
            except Moved:
                self.ground.lose()
                self.ground.own(resolved.part_device)

    def _evaluate(self, resolved: Resolved) -> Outcome:
        readings, chosen = resolved.readings, resolved.for_rules
        columns, text = (readings.series, readings.ts_ms, readings.value), readings.text
        past = None
        if chosen is not None:
            # What is sent as history is never judged as if it happened now; it is at its own time.
            is_past = quality.has(readings.flags, Flag.HISTORICAL) & ~quality.has(readings.flags, Flag.BAD)
            past = readings.series[is_past], readings.ts_ms[is_past]
            columns = readings.series[chosen], readings.ts_ms[chosen], readings.value[chosen]
            text = None if text is None else [text[row] for row in chosen.nonzero()[0].tolist()]
        now_ms = int(resolved.batch.received_ms.max(initial=0))
        return self.patience.until_done(lambda: self.rules.evaluate(*columns, now_ms, text, past), "telemetry store")

    def _commit(self, resolved: Resolved, outcome: Outcome, replays: Sequence[int]) -> set[int]:
        """Write what the batch changes in the database, in one transaction, or open none; return the news."""

        def write() -> set[int]:
            with self._settling() as session:
                news = self._write(session, resolved, replays)
                self.rules.write(session, outcome, now=resolved.now)
                self._passing.enter(session, resolved)
                crash.here("before_commit")
            return news

        news: set[int] = set()
        is_shared = self.ground.is_shared
        if is_shared or resolved.is_more_than_readings or outcome.has_news or replays:
            news = self.patience.until_done(write, "database")
            crash.here("after_commit")
        self.rules.commit(outcome)
        if resolved.followed is not None:
            self._sparkplug.settle(resolved.followed)
        self.registry.stands(resolved.standing)
        if resolved.newcomers:
            now_ms = clock.to_ms(resolved.now)
            self._newcomers.proposed(self._newcomers.due(resolved.newcomers, now_ms), now_ms)
        return news

    def _write(self, session: Session, resolved: Resolved, replays: Sequence[int]) -> set[int]:
        now = resolved.now
        news = device_alarms.take(session, resolved.reports, now=now)
        status.tell(session, resolved.statuses, now=now, alone=resolved.alone)
        if resolved.followed is not None:
            self._sparkplug.write(session, resolved.followed, now=now)
        status.describe(session, resolved.attributes)
        resolved.stray(command_post.settle(session, [one for *_, one in resolved.answers], now=now))
        kept = webhooks.owned(session, self._resolver.kept(resolved.batch, [*resolved.rejects, *resolved.strays]))
        fresh = self._newcomers.due(resolved.newcomers, clock.to_ms(now))
        if fresh:
            newcomers.propose(session, fresh, now=now)
        if replays:
            refused = dict(reversed(kept))
            used = [number for message, number in enumerate(replays) if message not in refused]
            rejected.settle(session, used, [(replays[one], reject) for one, reject in refused.items()], now=now)
        else:
            rejected.keep(session, [reject for _, reject in kept] + resolved.over_kept)
        return news

    def _name(self, pairs: Sequence[Pair]) -> dict[Pair, int]:
        """Give pairs their series."""

        def ensure() -> dict[Pair, int]:
            with db.transaction(self._sessions) as session:
                return series.ensure(session, pairs, now=clock.now())

        return self.patience.until_done(ensure, "database")

    def _newest(self, numbers: Sequence[int]) -> dict[int, Latest]:
        return self.patience.until_done(lambda: self._store.latest(numbers), "telemetry store")

    def _newest_of(self, numbers: Int64s) -> Readings:
        return self.patience.until_done(lambda: self._store.newest(numbers), "telemetry store")

    def _apart(self, batch: Batch, error: Exception) -> list[Outgoing]:
        """Process the halves of a batch that fails for no fault of database or store, down to the message at fault."""
        if len(batch) > 1:
            middle = len(batch) // 2
            return self.process(batch.part(0, middle)) + self.process(batch.part(middle, len(batch)))
        _log.error("a message could not be processed and was set aside", topic=batch.topics[0], exc_info=error)
        detail = f"{type(error).__name__}: {error}"
        reject = Rejected(0, Reason.FAILED, detail, topics.parse(batch.topics[0]).device)

        def write() -> None:
            with self._writing() as session:
                rejected.keep(session, [one for _, one in self._resolver.kept(batch, [reject])])

        self.patience.until_done(write, "database")
        self.books.refuse(reject, int(batch.received_ms[0]))
        if batch.fates is not None:
            batch.fates.refuse(reject)
        return []

    # Time and change --------------------------------------------------------------------------------------------

    def see_who_was_not_born(self, now: datetime) -> None:
        """Take the Sparkplug devices offline that their node's new birth was not followed by."""
        missed = self._sparkplug.missed(now)
        if missed:
            with self._writing() as session:
                self._sparkplug.give_up(session, missed, now=now)
            self._sparkplug.given_up(missed)

    def _take_up_limits(self) -> None:
        """Follow what devices may send; it goes by their machines, too."""
        with db.transaction(self._sessions) as session:
            stated = limits.load(session)
        self._fairness.take_up(stated)

    def follow_changes(self, now: datetime) -> Changed:
        """Take up what people changed; return it, so that the edge can cut connections."""
        changed = self._following.follow()
        if changed.limits or changed.types or changed.devices or changed.assets:
            self._take_up_limits()
        if changed:
            self.ground.unsettle()
            self.judging.run_timers(now)
        return changed
